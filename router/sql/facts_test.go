package sql

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/facts.txt anew")

// statements reads a file of statements: each ends with a semicolon at the end of a line.
func statements(t testing.TB, file string) (out []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	statement := ""
	for line := range strings.Lines(string(data)) {
		if statement == "" && (strings.HasPrefix(line, "--") || strings.TrimSpace(line) == "") {
			continue
		}
		statement += line
		if body, ended := strings.CutSuffix(statement, ";\n"); ended {
			out = append(out, body)
			statement = ""
		}
	}
	require.Empty(t, statement)
	return out
}

// describe writes facts as the golden file has them.
func describe(f Facts) string {
	out := "  " + f.Kind
	if len(f.Reads) > 0 {
		out += "\n  reads " + strings.Join(f.Reads, ", ")
	}
	if len(f.Writes) > 0 {
		out += "\n  writes " + strings.Join(f.Writes, ", ")
	}
	if !f.Complete {
		out += "\n  not complete: " + f.Why
	}
	return out + "\n"
}

// files hold statements. Spark is asked about the first two as well, in tests/compat/corpus.
var files = []string{"testdata/hard.sql", "testdata/edge.sql", "testdata/unsure.sql"}

// The golden file holds what is made of all of them: `go test -update` writes it.
func TestFacts(t *testing.T) {
	var got strings.Builder
	var all []string
	for _, file := range files {
		all = append(all, statements(t, file)...)
	}
	require.Greater(t, len(all), 400)
	for _, s := range all {
		got.WriteString(s + ";\n" + describe(Read(s, "", "")) + "\n")
	}
	if *update {
		require.NoError(t, os.WriteFile("testdata/facts.txt", []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile("testdata/facts.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

// Names are in one form, whatever the current catalogue and database are called.
func TestNames(t *testing.T) {
	for name, test := range map[string]struct{ from, catalog, database, want string }{
		"one part":             {"T", "", "", "spark_catalog.default.t"},
		"in a database":        {"t", "", "Sales", "spark_catalog.sales.t"},
		"in a catalogue":       {"t", "Lake", "sales", "lake.sales.t"},
		"two parts":            {"a.t", "lake", "sales", "lake.a.t"},
		"three parts":          {"Prod.A.T", "lake", "sales", "prod.a.t"},
		"nested namespaces":    {"c.n1.n2.n3.t", "lake", "sales", "c.n1.n2.n3.t"},
		"many":                 {"a.b.c.d.e.f.g.h", "", "", "a.b.c.d.e.f.g.h"},
		"quotes not needed":    {"`A`.`t`", "", "", "spark_catalog.a.t"},
		"quotes needed":        {"`a.b`.`t-1`", "", "", "spark_catalog.`a.b`.`t-1`"},
		"a quote in a name":    {"`a``b`", "", "", "spark_catalog.default.`a``b`"},
		"another alphabet":     {"`Größe`", "", "", "spark_catalog.default.`größe`"},
		"current is odd":       {"t", "my-lake", "a.b", "`my-lake`.`a.b`.t"},
		"files":                {"Parquet.`/Data/X`", "", "", "parquet.`/Data/X`"},
		"a database of a name": {"parquet.x", "", "", "spark_catalog.parquet.x"},
		"words":                {"order.date", "", "", "spark_catalog.order.date"},
		"digits":               {"2020_sales", "", "", "spark_catalog.default.2020_sales"},
	} {
		t.Run(name, func(t *testing.T) {
			f := Read("SELECT * FROM "+test.from, test.catalog, test.database)
			require.True(t, f.Complete, f.Why)
			require.Equal(t, []string{test.want}, f.Reads)
		})
	}
}

// FuzzRead: no text makes the reader fail, say two things, or name what is no name.
func FuzzRead(f *testing.F) {
	for _, file := range files {
		for _, s := range statements(f, file) {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Read(text, "", "")
		require.Equal(t, got, Read(text, "", ""))
		require.NotEmpty(t, got.Kind)
		require.Equal(t, got.Complete, got.Why == "", got.Why)
		for _, name := range slices.Concat(got.Reads, got.Writes) {
			wellFormed(t, name)
		}
	})
}

// wellFormed requires a name that can be taken apart into its parts, at the points that are in no quotes.
func wellFormed(t *testing.T, name string) {
	body, _ := strings.CutSuffix(name, ".*")
	require.Regexp(t, "^(([a-z0-9_]+|`([^`]|``)*`)\\.)+([a-z0-9_]+|`([^`]|``)*`)$", strings.ReplaceAll(body, "\n", " "))
}

func BenchmarkRead(b *testing.B) {
	for name, statement := range map[string]string{
		"usual": "SELECT o.id, c.name, sum(o.amount) AS total FROM sales.orders o JOIN crm.customers c ON o.customer = c.id " +
			"WHERE o.day BETWEEN '2024-01-01' AND '2024-01-31' GROUP BY o.id, c.name ORDER BY total DESC LIMIT 10",
		"ping": "SELECT 1",
		"long": "SELECT * FROM t WHERE id IN (" + strings.Repeat("12345, ", 5000) + "0)",
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(statement)))
			b.ReportAllocs()
			for b.Loop() {
				Read(statement, "", "")
			}
		})
	}
}
