package session

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]statement{
		"SELECT 1":                         {text: "SELECT 1", verb: ping, name: "1"},
		"/* dbt */\nselect 1 as id":        {text: "/* dbt */\nselect 1 as id", verb: ping, name: "id"},
		"SELECT 1 AS id, 2":                {text: "SELECT 1 AS id, 2", verb: query},
		" select 1 ;; ":                    {text: "select 1", verb: ping, name: "1"},
		"SELECT 12":                        {text: "SELECT 12", verb: query},
		"(SELECT 1)":                       {text: "(SELECT 1)", verb: query},
		"-- hi\nSELECT a FROM t":           {text: "-- hi\nSELECT a FROM t", verb: query},
		"/* a /* b */ c */ VALUES (1)":     {text: "/* a /* b */ c */ VALUES (1)", verb: query},
		"TABLE t":                          {text: "TABLE t", verb: query},
		"SELECTED":                         {text: "SELECTED"},
		"WITH a AS (SELECT 1) INSERT INTO": {text: "WITH a AS (SELECT 1) INSERT INTO"},
		"FROM t INSERT INTO u SELECT *":    {text: "FROM t INSERT INTO u SELECT *"},
		"INSERT INTO t SELECT 1":           {text: "INSERT INTO t SELECT 1"},
		"/* open SELECT 1":                 {text: "/* open SELECT 1"},
		"SET a.b=c d":                      {text: "SET a.b=c d", verb: setValue, key: "a.b", value: "c d"},
		"set a.b = 1 ;":                    {text: "set a.b = 1", verb: setValue, key: "a.b", value: "1"},
		"SET a=":                           {text: "SET a=", verb: setValue, key: "a"},
		"SET a=b=c":                        {text: "SET a=b=c", verb: setValue, key: "a", value: "b=c"},
		"SET hivevar:x=1":                  {text: "SET hivevar:x=1", verb: setValue, key: "x", value: "1", shown: "hivevar:x"},
		"SET hiveconf:x.y=1":               {text: "SET x.y=1", verb: setValue, key: "x.y", value: "1"},
		"SET `a.b`=`c`":                    {text: "SET a.b=c", verb: setValue, key: "a.b", value: "c"},
		"SET a.b":                          {text: "SET a.b", verb: setShow, key: "a.b"},
		"SET":                              {text: "SET"},
		"SET -v":                           {text: "SET -v"},
		"SET TIME ZONE 'UTC'":              {text: "SET TIME ZONE 'UTC'"},
		"SET VAR x = 1":                    {text: "SET VAR x = 1"},
		"SET CATALOG c":                    {text: "SET CATALOG c", verb: useCatalog, name: "c"},
		"RESET":                            {text: "RESET", verb: reset},
		"RESET a.b":                        {text: "RESET a.b", verb: reset, key: "a.b"},
		"USE db":                           {text: "USE db", verb: useSchema, name: "db"},
		"use `my db`;":                     {text: "use `my db`", verb: useSchema, name: "`my db`"},
		"USE c.db":                         {text: "USE c.db", verb: useSchema, name: "c.db"},
		"USE DATABASE db":                  {text: "USE DATABASE db", verb: useSchema, name: "db"},
		"USE CATALOG c":                    {text: "USE CATALOG c", verb: useCatalog, name: "c"},
		"USE IDENTIFIER(:x)":               {text: "USE IDENTIFIER(:x)"},
		";":                                {},
	} {
		t.Run(text, func(t *testing.T) { require.Equal(t, want, parse(text)) })
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"SELECT 1", "SET a=b", "/*/**/", "((((", "USE `a", "--", "SET `"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		st := parse(text)
		if again := parse(st.text); st.verb != setValue && again.text != st.text {
			t.Errorf("trimming twice is not trimming once: %q, %q", st.text, again.text)
		}
	})
}

func TestLog(t *testing.T) {
	l := &Log{limit: 10}
	lines, next := l.Read(0, 5)
	require.Empty(t, lines)
	require.Zero(t, next)
	for range 9 {
		l.Say("x")
	}
	lines, next = l.Read(0, 5)
	require.Len(t, lines, 5)
	lines, next = l.Read(next, 100)
	require.Len(t, lines, 4)
	require.Equal(t, int64(9), next)
	for range 20 {
		l.Say("y")
	}
	lines, next = l.Read(next, 100)
	require.Contains(t, lines[0], "earlier lines were dropped; session.log_lines")
	require.LessOrEqual(t, len(lines), 11)
	require.Equal(t, int64(29), next)
}
