//go:build e2e

package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

func TestGohive(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "gohive")
	r := testbed.Run(t, "go", "build", "-C", file("gohive"), "-o", binary, ".")
	require.Zero(t, r.Code, r.Err)
	out := program(t, binary)
	can := out.can(t, "gohive 2.1", "")
	linked := []string{"compat go", "spark.sql.shuffle.partitions 6"}
	can("connect", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("HTTP", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("types", func(t *testing.T, said []string) {
		require.Equal(t, []string{"b i8 i16 i32 i64 f d dec s bin day ts ntz arr m st ym dt n",
			"BOOLEAN TINYINT SMALLINT INT BIGINT FLOAT DOUBLE DECIMAL STRING BINARY DATE TIMESTAMP TIMESTAMP ARRAY MAP STRUCT STRING STRING NULL ",
			`true|-7|-300|70000|5000000000|0.1|2.5|12345678901234567890.123456789012345678|käse|[0 255 16]|2026-02-28|2026-02-28 13:14:15.123456|1999-12-31 23:59:59|[1,null,3]|{"k":1.5}|{"x":1,"y":"z"}|1-2|1 02:03:04.000000000|<nil>`,
			strings.Repeat("<nil>|", 18) + "<nil>"}, said)
	})
	can("pages", func(t *testing.T, said []string) { require.Equal(t, []string{"2501 3121251 2 row 2500"}, said) })
	can("errors", func(t *testing.T, said []string) {
		// of an error that comes with a page the driver keeps no word, only that it is one
		require.Contains(t, said[len(causes)-1], "ERROR_STATUS")
		for i, cause := range causes[:len(causes)-1] {
			_, class, _ := strings.Cut(cause, " ")
			require.Contains(t, said[i], class)
		}
	})
	can("timeout", func(t *testing.T, said []string) { requireTimeout(t, said, "") })
	can("TLS", func(t *testing.T, said []string) { require.Equal(t, []string{"1", "refused", "1", "refused"}, said) })
	idle(t)
}

func TestHiveDriver(t *testing.T) {
	modules := testbed.NodeModules(t, "hive-driver@1.0.0")
	require.NoError(t, os.Setenv("NODE_PATH", modules))
	out := program(t, "node", file("node", "hive_driver.js"))
	can := out.can(t, "hive-driver 1.0", "")
	linked := []string{`[{"db":"compat","who":"js"}]`, `[{"key":"spark.sql.shuffle.partitions","value":"6"}]`, `"4.3.0"`}
	can("connect", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("HTTP", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("types", func(t *testing.T, said []string) {
		require.Equal(t, []string{ // the driver makes a decimal a number
			`{"b":true,"i8":-7,"i16":-300,"i32":70000,"i64":5000000000,"f":0.1,"d":2.5,"dec":12345678901234567000,"s":"käse","bin":{"type":"Buffer","data":[0,255,16]},"day":"2026-02-28","ts":"2026-02-28 13:14:15.123456","ntz":"1999-12-31 23:59:59","arr":[1,null,3],"m":{"k":1.5},"st":{"x":1,"y":"z"},"ym":"1-2","dt":"1 02:03:04.000000000","n":null}`,
			`{"b":null,"i8":null,"i16":null,"i32":null,"i64":null,"f":null,"d":null,"dec":null,"s":null,"bin":null,"day":null,"ts":null,"ntz":null,"arr":null,"m":null,"st":null,"ym":null,"dt":null,"n":null}`}, said)
	})
	can("pages", func(t *testing.T, said []string) { require.Equal(t, []string{`[2501,3121251,2,"row 2500"]`}, said) })
	can("errors", func(t *testing.T, said []string) {
		requireClasses(t, said[:len(causes)])
		require.Equal(t, []string{`[{"x":"goes on"}]`}, said[len(causes):])
	})
	can("timeout", func(t *testing.T, said []string) { requireTimeout(t, said, "") })
	can("TLS", func(t *testing.T, said []string) { require.Equal(t, []string{`[{"one":1}]`, `[{"one":1}]`}, said) })
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
