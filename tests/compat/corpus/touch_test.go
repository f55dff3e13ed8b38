//go:build e2e

package corpus

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/router/sql"
	"github.com/sluicedata/sluice/tests/testbed"
)

// TestTouched asks Spark how it parses each statement of the corpus, and of those that are hard to read, and compares the
// tables in its plan with what router/sql reads in the text.
func TestTouched(t *testing.T) {
	files, err := filepath.Glob("sql/*.sql")
	require.NoError(t, err)
	for _, hard := range []string{"hard.sql", "edge.sql"} {
		files = append(files, filepath.Join(testbed.Root(), "router", "sql", "testdata", hard))
	}
	g := testbed.StartGateway(t, "clusters: {local: {cores: 2}}")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{
		"set:spark.sql.maxPlanStringLength": "1000000",
		"set:spark.sql.codegen.wholeStage":  "false", // what runs once does not pay for compiling it
		"set:spark.sql.codegen.factoryMode": "NO_CODEGEN",
	})
	asked, compared, incomplete := map[string]bool{}, 0, 0
	for _, file := range files {
		for _, statement := range statements(t, file) {
			if asked[statement] {
				continue
			}
			asked[statement] = true
			plan, ok := parsed(c, statement)
			if !ok {
				continue
			}
			compared++
			got := sql.Read(statement, "", "")
			if !got.Complete {
				incomplete++
				t.Logf("not complete: %s: %s", statement, got.Why)
				continue
			}
			compareTouched(t, statement, got, plan)
		}
	}
	t.Logf("%d statements, Spark parsed %d of them; %d are not complete", len(asked), compared, incomplete)
	require.Greater(t, compared, 900)
	require.Less(t, float64(incomplete)/float64(compared), mostIncomplete)
}

// mostIncomplete is the share of statements that may stay unread.
const mostIncomplete = 0.05

// compareTouched compares the names of a statement as sets.
func compareTouched(t *testing.T, statement string, got sql.Facts, plan string) {
	t.Helper()
	var spark touched
	spark.walk(readPlan(plan), nil, recursive.MatchString(statement))
	var ours, writes []string
	for _, name := range got.Writes {
		writes = append(writes, partsOf(name))
	}
	for _, name := range slices.Concat(got.Reads, got.Writes) {
		if !strings.HasPrefix(name, "directory.`") { // no name of a table to Spark
			ours = append(ours, partsOf(name))
		}
	}
	if !slices.Equal(set(ours), set(spark.all)) {
		t.Errorf("%s\n  Spark: %v\n  ours:  %v\n%s", statement, set(spark.all), set(ours), plan)
	}
	for _, name := range spark.written {
		if !slices.Contains(writes, name) {
			t.Errorf("%s\n  is written, and we do not say so: %s", statement, name)
		}
	}
}

func set(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// parsed asks for the plan of a statement before it is analysed. It returns false for what Spark does not parse, and for
// statements whose plan hides that of the statement inside.
func parsed(c *testbed.HS2, statement string) (plan string, ok bool) {
	op, st := c.Exec("EXPLAIN EXTENDED " + statement)
	if st.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		return "", false
	}
	defer func() {
		_, _ = c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op})
	}()
	var rows []string
	for more := true; more; { // to the end: who closes before waits for the engine
		page := testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1000, 0).Results)
		for _, row := range page {
			rows = append(rows, row[0])
		}
		more = len(page) > 0
	}
	_, plan, ok = strings.Cut(strings.Join(rows, "\n"), "== Parsed Logical Plan ==\n")
	plan, _, _ = strings.Cut(plan, "\n\n== ")
	return plan, ok && !strings.HasPrefix(plan, "DescribeQueryCommand") && !strings.HasPrefix(plan, "ExplainCommand")
}

// statements reads a file of the corpus. Calls of the driver, and comments, are none.
func statements(t *testing.T, file string) (out []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	statement := ""
	for line := range strings.Lines(string(data)) {
		if statement == "" && (strings.HasPrefix(line, "--") || strings.HasPrefix(line, "@") || strings.TrimSpace(line) == "") {
			continue
		}
		statement += line
		if body, ended := strings.CutSuffix(statement, ";\n"); ended {
			out, statement = append(out, body), ""
		}
	}
	return out
}
