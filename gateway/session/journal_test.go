package session

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJournal(t *testing.T) {
	for name, tc := range map[string]struct{ said, kept []string }{
		"nothing to keep":         {[]string{"SELECT 1", "CREATE TABLE t AS SELECT 1", "CREATE VIEW v AS SELECT 1", "INSERT INTO t VALUES (1)"}, nil},
		"a view":                  {[]string{"CREATE TEMPORARY VIEW v AS SELECT 1"}, []string{"view v"}},
		"in other words":          {[]string{"-- hi\ncreate or replace global temp view `My V` as select 1"}, []string{"view my v"}},
		"order":                   {[]string{"CREATE TEMP VIEW a AS SELECT 1", "CREATE TEMP VIEW b AS SELECT * FROM a"}, []string{"view a", "view b"}},
		"made again":              {[]string{"CREATE TEMP VIEW a AS SELECT 1", "CREATE TEMP VIEW b AS SELECT 2", "CREATE OR REPLACE TEMP VIEW A AS SELECT 3"}, []string{"view b", "view a"}},
		"dropped":                 {[]string{"CREATE TEMP VIEW a AS SELECT 1", "DROP VIEW IF EXISTS a"}, nil},
		"another one was dropped": {[]string{"CREATE TEMP VIEW a AS SELECT 1", "DROP VIEW ab"}, []string{"view a"}},
		"functions and jars": {[]string{"CREATE TEMPORARY FUNCTION f AS 'a.B' USING JAR '/x.jar'", "ADD JAR /y.jar", "ADD FILE /z", "DROP TEMPORARY FUNCTION f"},
			[]string{"jar /y.jar", "file /z"}},
		"variables": {[]string{"DECLARE VARIABLE v INT DEFAULT 1", "DECLARE w = 2", "SET VAR v = 3", "SET VARIABLE w = 4", "SET VAR v = 5", "DECLARE OR REPLACE VARIABLE w = 6"},
			[]string{"variable v", "value of v", "variable w"}},
		"a variable was dropped": {[]string{"DECLARE v = 1", "SET VAR v = 2", "DROP TEMPORARY VARIABLE IF EXISTS v"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var j journal
			for _, text := range tc.said {
				j, _ = j.after(text, "", "db")
			}
			var kept []string
			for _, e := range j {
				kept = append(kept, e.Thing)
				require.Equal(t, "db", e.Database)
			}
			require.Equal(t, tc.kept, kept)
		})
	}
}
