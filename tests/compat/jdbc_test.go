//go:build e2e

package compat

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

// driver is a JDBC driver from Maven's registry.
type driver struct{ name, class, scheme, jar string }

const hiveDriver = "org.apache.hive.jdbc.HiveDriver"

var drivers = []driver{
	{"Hive JDBC 2.3.9", hiveDriver, "jdbc:hive2://", "org.apache.hive:hive-jdbc:2.3.9:jar:standalone"},
	{"Hive JDBC 3.1.3", hiveDriver, "jdbc:hive2://", "org.apache.hive:hive-jdbc:3.1.3:jar:standalone"},
	{"Hive JDBC 4.0.1", hiveDriver, "jdbc:hive2://", "org.apache.hive:hive-jdbc:4.0.1:jar:standalone"},
	{"Hive JDBC 4.1.0", hiveDriver, "jdbc:hive2://", "org.apache.hive:hive-jdbc:4.1.0:jar:standalone"},
	{"Kyuubi JDBC 1.9.2", "org.apache.kyuubi.jdbc.KyuubiHiveDriver", "jdbc:kyuubi://", "org.apache.kyuubi:kyuubi-hive-jdbc-shaded:1.9.2:jar"},
}

// spec is what the program is told of a driver. Hive's standalone jars lack Hadoop's and the logging classes.
func (d driver) spec(t *testing.T) string {
	t.Helper()
	jars := []string{testbed.Jar(t, d.jar)}
	for _, pattern := range []string{"hadoop-client-*", "slf4j-api-*", "jcl-over-slf4j-*", "log4j-1.2-api-*"} {
		found, err := filepath.Glob(filepath.Join(testbed.SparkHome(t), "jars", pattern+".jar"))
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		jars = append(jars, found...)
	}
	return strings.Join([]string{d.name, d.class, d.scheme, strings.Join(jars, ":")}, "=")
}

func jdbc(t *testing.T, mode string, of ...driver) []string {
	t.Helper()
	args := []string{testbed.Java(t), file("java", "Jdbc.java"), mode}
	for _, d := range of {
		args = append(args, d.spec(t))
	}
	return args
}

func TestJDBC(t *testing.T) {
	args := jdbc(t, "all", drivers...)
	out := program(t, args[0], args[1:]...)
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			can := out.can(t, d.name, d.name+"/")
			can("connect", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
			can("HTTP", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
			can("TLS", func(t *testing.T, said []string) {
				require.Equal(t, []string{"1:int", "1", "refused", "1:int", "1", "refused"}, said)
			})
			can("types", func(t *testing.T, said []string) { require.Equal(t, javaTypes, said) })
			can("pages", func(t *testing.T, said []string) {
				require.Equal(t, []string{"2501 rows, sum 3121251, nulls 2, row 2500", "at most 7", "it's|42"}, said)
			})
			can("errors", func(t *testing.T, said []string) {
				requireCauses(t, said[:len(causes)])
				require.Equal(t, []string{"goes on:string", "goes on"}, said[len(causes):])
			})
			can("cancel", func(t *testing.T, said []string) {
				require.Regexp(t, `^01000 Query was cancelled`, said[0])
				require.Equal(t, []string{"within a minute true", "two:int", "2"}, said[1:])
			})
			can("timeout", func(t *testing.T, said []string) {
				require.Regexp(t, `^SQLTimeoutException .*timed out after 2 seconds`, said[0])
				require.Equal(t, "in time true", said[1])
			})
			can("log", func(t *testing.T, said []string) {
				require.Regexp(t, `^INFO  : Total jobs = 1`, said[0])
				require.Regexp(t, `^INFO  : Stage \d+: \d+ of 16 tasks`, said[1])
			})
			can("metadata", func(t *testing.T, said []string) { requireWalk(t, said) })
		})
	}
	idle(t)
}

var linked = []string{"db:string|who:string", "compat|link",
	"key:string|value:string", "spark.sql.shuffle.partitions|11", "valid true"}

var javaTypes = []string{
	"b:boolean|i8:tinyint|i16:smallint|i32:int|i64:bigint|f:float|d:double|dec:decimal|s:string|bin:binary|day:date|ts:timestamp|ntz:timestamp|arr:array|m:map|st:struct|ym:interval_year_month|dt:interval_day_time|n:void",
	`true|-7|-300|70000|5000000000|0.1|2.5|12345678901234567890.123456789012345678|käse|bytes[0, -1, 16]|2026-02-28|2026-02-28 13:14:15.123456|1999-12-31 23:59:59.0|[1,null,3]|{"k":1.5}|{"x":1,"y":"z"}|1-2|1 02:03:04.000000000|NULL`,
	strings.Repeat("NULL|", 18) + "NULL",
}

// requireCauses wants each failure to be what it is: its SQLSTATE, and its class or the limit's key.
func requireCauses(t *testing.T, lines []string) {
	t.Helper()
	requireClasses(t, lines)
	for i, cause := range causes {
		state, _, _ := strings.Cut(cause, " ")
		require.Contains(t, lines[i], state)
	}
}

// requireClasses wants them of a client that drops the SQLSTATE.
func requireClasses(t *testing.T, lines []string) {
	t.Helper()
	require.Len(t, lines, len(causes))
	for i, cause := range causes {
		_, class, _ := strings.Cut(cause, " ")
		require.Contains(t, lines[i], class)
	}
}

// requireWalk wants what DBeaver's tree shows.
func requireWalk(t *testing.T, lines []string) {
	t.Helper()
	for _, want := range []string{"product Spark SQL 4.3.0", "schema compat", "schema default", "table type TABLE", "table type VIEW", "type INT|4", "type DECIMAL|3",
		"table seen|TABLE", "table looked|VIEW", "view looked", "column id|INT|4|1|the key", "column name|VARCHAR(10)|12|2|", "column price|DECIMAL(10,2)|3|3|", "column tags|ARRAY<STRING>|2003|4|", "function upper"} {
		require.Contains(t, lines, want)
	}
	require.NotContains(t, lines, "view seen")
	require.Equal(t, "schema default", lines[len(lines)-1], "setSchema")
}

// TestEngineLost kills the engine under running statements of all drivers.
func TestEngineLost(t *testing.T) {
	args := jdbc(t, "lost", drivers...)
	before := gateway.Engines()
	c := testbed.StartEnv(t, statements(), args[0], args[1:]...)
	testbed.Until(t, 2*time.Minute, "every statement runs", func() bool { return strings.Contains(c.Err(), "all statements run") })
	killed := 0
	for _, pid := range gateway.Engines() {
		if !slices.Contains(before, pid) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			killed++
		}
	}
	require.Equal(t, 1, killed)
	out := ended(t, c, 2*time.Minute)
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			record.Can(t, d.name, "engine lost", func(t *testing.T) {
				lines := out.lines(t, d.name+"/engine lost")
				require.Regexp(t, `^HY000 The engine was lost while the statement ran`, lines[0])
				require.Equal(t, []string{"key:string|value:string", "spark.sql.shuffle.partitions|13", "count(1):bigint", "5"}, lines[1:], "the session goes on, with its settings")
			})
		})
	}
}
