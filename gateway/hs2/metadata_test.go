package hs2

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/session"
)

func TestLike(t *testing.T) {
	every := []string{"", "a", "a_b", "anything at all\nover lines", "[", `\`}
	for name, tc := range map[string]struct {
		pattern  *string
		yes, not []string
	}{
		"none":                          {nil, every, nil},
		"empty":                         {ptr(""), every, nil},
		"%":                             {ptr("%"), every, nil},
		"*":                             {ptr("*"), every, nil},
		".*, of impyla":                 {ptr(".*"), every, nil},
		"a name":                        {ptr("ab"), []string{"ab", "AB", "aB"}, []string{"", "a", "abc", "xab", "ab\n"}},
		"_ is one sign":                 {ptr("a_b"), []string{"a_b", "axb", "aüb", "a\nb"}, []string{"ab", "axxb", "a_bc"}},
		"_ with its meaning taken away": {ptr(`a\_b`), []string{"a_b", "A_B"}, []string{"axb", `a\_b`, `a\xb`}},
		"% with its meaning taken away": {ptr(`a\%`), []string{"a%"}, []string{"a", "ab", `a\`}},
		"a backslash itself":            {ptr(`a\\b`), []string{`a\b`}, []string{"ab", `a\\b`}},
		"% at the end":                  {ptr("A%"), []string{"a", "abc", "A_1"}, []string{"", "ba"}},
		"% in the middle":               {ptr("a%z"), []string{"az", "abcz"}, []string{"a", "azb"}},
		"* in the middle":               {ptr("a*z"), []string{"az", "abcz"}, []string{"a", "azb"}},
		"alternatives":                  {ptr("a|b"), []string{"a", "B"}, []string{"ab", "a|b", "ax", "xb", ""}},
		"alternatives, any":             {ptr("a%|b"), []string{"a", "axx", "b"}, []string{"bx", "xa"}},
		"a bracket":                     {ptr("["), []string{"["}, []string{"", "a"}},
		"a parenthesis":                 {ptr("("), []string{"("}, []string{"", "a"}},
		"signs of expressions":          {ptr("a.b+?$^{1}"), []string{"a.b+?$^{1}"}, []string{"axb+?$^{1}", "a.bb"}},
		"not in ASCII":                  {ptr("tür%"), []string{"tür", "TÜREN"}, []string{"tur"}},
		"not in UTF-8":                  {ptr("\xff"), nil, []string{"a", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			match := like(tc.pattern)
			for _, s := range tc.yes {
				require.True(t, match(s), "%q", s)
			}
			for _, s := range tc.not {
				require.False(t, match(s), "%q", s)
			}
		})
	}
}

func FuzzLike(f *testing.F) {
	f.Add(`a\_b%|*[(`, "a_b")
	f.Add(`\`, "")
	f.Fuzz(func(_ *testing.T, pattern, name string) { like(&pattern)(name) }) // no pattern of a client may panic
}

func TestKindOf(t *testing.T) {
	type kind struct {
		name                string
		jdbc                int
		size, digits, radix any
	}
	for text, want := range map[string]kind{
		"VOID":                      {"VOID", 0, 1, nil, nil},
		"BOOLEAN":                   {"BOOLEAN", 16, 1, 0, nil},
		"TINYINT":                   {"TINYINT", -6, 1, nil, 10},
		"SMALLINT":                  {"SMALLINT", 5, 2, nil, 10},
		"INT":                       {"INT", 4, 4, 0, 10},
		"BIGINT":                    {"BIGINT", -5, 8, nil, 10},
		"FLOAT":                     {"FLOAT", 6, 4, 7, 10},
		"DOUBLE":                    {"DOUBLE", 8, 8, 15, 10},
		"DECIMAL(10,2)":             {"DECIMAL", 3, 8, 2, 10},
		"DECIMAL(18,0)":             {"DECIMAL", 3, 8, 0, 10},
		"DECIMAL(19,19)":            {"DECIMAL", 3, 16, 19, 10},
		"DECIMAL(38,18)":            {"DECIMAL", 3, 16, 18, 10},
		"STRING":                    {"STRING", 12, nil, nil, nil},
		"VARCHAR(20)":               {"VARCHAR", 12, nil, nil, nil},
		"CHAR(5)":                   {"CHAR", 1, 5, nil, nil},
		"BINARY":                    {"BINARY", -2, nil, nil, nil},
		"DATE":                      {"DATE", 91, 4, nil, nil},
		"TIMESTAMP":                 {"TIMESTAMP", 93, 8, 6, nil},
		"TIMESTAMP_NTZ":             {"TIMESTAMP", 93, 8, 6, nil},
		"INTERVAL":                  {"INTERVAL", 1111, 16, nil, nil},
		"INTERVAL YEAR":             {"INTERVAL_YEAR_MONTH", 1111, 4, nil, nil},
		"INTERVAL MONTH":            {"INTERVAL_YEAR_MONTH", 1111, 4, nil, nil},
		"INTERVAL YEAR TO MONTH":    {"INTERVAL_YEAR_MONTH", 1111, 4, nil, nil},
		"INTERVAL DAY":              {"INTERVAL_DAY_TIME", 1111, 8, nil, nil},
		"INTERVAL DAY TO SECOND":    {"INTERVAL_DAY_TIME", 1111, 8, nil, nil},
		"INTERVAL MINUTE TO SECOND": {"INTERVAL_DAY_TIME", 1111, 8, nil, nil},
		"ARRAY<INT>":                {"ARRAY", 2003, nil, nil, nil},
		"ARRAY<DECIMAL(10,2)>":      {"ARRAY", 2003, nil, nil, nil},
		"MAP<STRING, CHAR(5)>":      {"MAP", 2000, nil, nil, nil},
		"STRUCT<a: DECIMAL(38,2)>":  {"STRUCT", 2002, nil, nil, nil},
		"VARIANT":                   {"VARIANT", 1111, nil, nil, nil},
		"":                          {"", 1111, nil, nil, nil},
	} {
		t.Run(text, func(t *testing.T) {
			k := kindOf(text)
			require.Equal(t, want, kind{k.name, k.jdbc, k.size, k.digits, k.radix})
		})
	}
}

// Clients read columns by their place, so a row must have just as many values as there are columns.
func TestRowsOfColumnsFit(t *testing.T) {
	var b arrow.RecordBatch
	tb := newTable(columnColumns, func(all arrow.RecordBatch) error { b = all; return nil })
	defer tb.b.Release()
	for _, k := range sqlKinds {
		require.NoError(t, addColumn(tb, session.Table{Schema: "s", Name: "t"}, session.Column{Name: "c", Type: k.name, Nullable: true}, 1))
	}
	require.NoError(t, tb.flush())
	defer b.Release()
	require.EqualValues(t, len(sqlKinds), b.NumRows())
	require.EqualValues(t, 23, b.NumCols())
	for i, c := range b.Columns() {
		require.Equal(t, len(sqlKinds), c.Len(), b.ColumnName(i))
	}
}
