package hs2

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFromKyuubi(t *testing.T) {
	for name, tc := range map[string]struct {
		text    string
		overlay map[string]string
		want    string
		err     string
	}{
		"a statement":           {"SELECT 1", map[string]string{"spark.a": "b"}, "SELECT 1", ""},
		"SQL":                   {"SELECT 1", map[string]string{"spark.a": "b", kyuubiLanguage: "sql"}, "SELECT 1", ""},
		"Scala":                 {"1 + 1", map[string]string{"spark.a": "b", kyuubiLanguage: "SCALA"}, "", "statements in SCALA cannot be run here"},
		"the catalogue":         {"_GET_CATALOG", map[string]string{"spark.a": "b", kyuubiGetCatalog: ""}, "SELECT current_catalog()", ""},
		"another catalogue":     {"_SET_CATALOG", map[string]string{"spark.a": "b", kyuubiSetCatalog: "a`b"}, "SET CATALOG `a``b`", ""},
		"the database, as text": {"use x", map[string]string{"spark.a": "b", "kyuubi.operation.set.current.database": "x"}, "use x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fromKyuubi(tc.text, tc.overlay)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, tc.want, got)
			require.Equal(t, map[string]string{"spark.a": "b"}, tc.overlay)
		})
	}
}
