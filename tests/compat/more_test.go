//go:build e2e

package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

func TestGohive(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "gohive")
	r := testbed.Run(t, "go", "build", "-C", file("gohive"), "-o", binary, ".")
	require.Zero(t, r.Code, r.Err)
	out := program(t, binary)
	can := func(what string, f func(t *testing.T, said []string)) {
		t.Helper()
		record.Can(t, "gohive 2.1", what, func(t *testing.T) { f(t, out.lines(t, what)) })
	}
	linked := []string{"compat go", "spark.sql.shuffle.partitions 6"}
	can("connect", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("HTTP", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("types", func(t *testing.T, said []string) {
		require.Equal(t, []string{}, said)
	})
	can("pages", func(t *testing.T, said []string) { require.Equal(t, []string{"2501 3121251 2 row 2500"}, said) })
	can("errors", func(t *testing.T, said []string) { requireCauses(t, said) })
	can("timeout", func(t *testing.T, said []string) {
		require.Equal(t, []string{""}, said)
		idle(t)
	})
}

func TestHiveDriver(t *testing.T) {
	modules := testbed.NodeModules(t, "hive-driver@1.0.0")
	require.NoError(t, os.Setenv("NODE_PATH", modules))
	out := program(t, "node", file("node", "hive_driver.js"))
	can := func(what string, f func(t *testing.T, said []string)) {
		t.Helper()
		record.Can(t, "hive-driver 1.0", what, func(t *testing.T) { f(t, out.lines(t, what)) })
	}
	linked := []string{`[{"db":"compat","who":"js"}]`, `[{"key":"spark.sql.shuffle.partitions","value":"6"}]`, `"4.3.0"`}
	can("connect", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("HTTP", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("types", func(t *testing.T, said []string) {
		require.Equal(t, []string{}, said)
	})
	can("pages", func(t *testing.T, said []string) { require.Equal(t, []string{`[2501,3121251,2,"row 2500"]`}, said) })
	can("errors", func(t *testing.T, said []string) {
		requireCauses(t, said[:len(causes)])
		require.Equal(t, []string{`[{"x":"goes on"}]`}, said[len(causes):])
	})
	can("cancel", func(t *testing.T, said []string) {
		require.Equal(t, []string{"The operation was canceled by a client", `[{"two":2}]`}, said)
	})
	can("log", func(t *testing.T, said []string) {
		require.Contains(t, strings.Join(said, "\n"), "STAGES")
	})
	can("metadata", func(t *testing.T, said []string) {
		require.Equal(t, []string{`["compat","default"]`, `["looked","seen"]`, `["id INT","name VARCHAR(10)","price DECIMAL(10,2)","tags ARRAY<STRING>"]`, "true", `["TABLE","VIEW"]`}, said)
	})
	idle(t)
}
