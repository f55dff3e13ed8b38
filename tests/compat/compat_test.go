//go:build e2e

// Package compat runs stock clients, fetched from their registries, against a gateway with a real Spark.
package compat

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

var gateway *testbed.Gateway

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/compat")
	s := &testbed.Suite{}
	gateway = testbed.StartGateway(s, "")
	code := m.Run()
	s.End()
	os.Exit(code)
}

// endless keeps both cores busy for minutes.
const endless = "SELECT count(*) FROM range(0, 100000000000, 1, 16) WHERE hash(id) = 1 AND hash(id + 1) = 2"

// everyType has a value of each type in the first row and nulls in the second.
const everyType = `SELECT true AS b, CAST(-7 AS TINYINT) AS i8, CAST(-300 AS SMALLINT) AS i16, 70000 AS i32, 5000000000 AS i64,
  CAST(0.1 AS FLOAT) AS f, CAST(2.5 AS DOUBLE) AS d, CAST('12345678901234567890.123456789012345678' AS DECIMAL(38,18)) AS dec, 'käse' AS s,
  X'00FF10' AS bin, DATE'2026-02-28' AS day, TIMESTAMP'2026-02-28 13:14:15.123456' AS ts, TIMESTAMP_NTZ'1999-12-31 23:59:59' AS ntz,
  array(1, NULL, 3) AS arr, map('k', 1.5D) AS m, named_struct('x', 1, 'y', 'z') AS st,
  INTERVAL '1-2' YEAR TO MONTH AS ym, INTERVAL '1 02:03:04' DAY TO SECOND AS dt, NULL AS n
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL`

func beeline(t *testing.T, url string, args ...string) testbed.Result {
	return testbed.Beeline(t, gateway, url, "ann", append([]string{"--outputformat=csv2", "--silent=true", "--showHeader=false"}, args...)...)
}

// values are Beeline's rows without the prompt that it prints before the first one.
func values(r testbed.Result) []string {
	rows := r.Rows()
	for i, row := range rows {
		if _, after, ok := strings.Cut(row, "> "); ok && strings.HasPrefix(row, "0: jdbc:") {
			rows[i] = after
		}
	}
	return rows
}

func TestBeeline(t *testing.T) {
	t.Run("query and banner", func(t *testing.T) {
		r := testbed.Beeline(t, gateway, "/default", "ann", "-e", "SELECT 40 + 2 AS answer")
		require.Zero(t, r.Code, r.Err)
		require.Contains(t, r.Err, "Connected to: Spark SQL (version 4.3.0)")
		require.Contains(t, r.Out, "| 42      |")
	})
	t.Run("variables, settings and database of the URL", func(t *testing.T) {
		r := beeline(t, "/default", "-e", "CREATE DATABASE IF NOT EXISTS compat")
		require.Zero(t, r.Code, r.Err)
		r = beeline(t, "/compat?spark.sql.shuffle.partitions=11#who=link", "--hivevar", "other=cli",
			"-e", "SELECT current_database(), '${who}', '${hivevar:other}'; SET spark.sql.shuffle.partitions")
		require.Zero(t, r.Code, r.Err)
		require.Equal(t, []string{"compat,link,cli", "spark.sql.shuffle.partitions,11"}, values(r))
	})
	t.Run("a script of statements", func(t *testing.T) {
		r := beeline(t, "/compat", "-e", `DROP TABLE IF EXISTS t; CREATE TABLE t (id INT COMMENT 'the key', name VARCHAR(10), code CHAR(4)) USING parquet;
			INSERT INTO t VALUES (1, 'one', 'a'), (2, NULL, 'b'); SELECT * FROM t ORDER BY id; USE default; SELECT current_database()`)
		require.Zero(t, r.Code, r.Err)
		require.Equal(t, []string{"1,one,a   ", "2,NULL,b   ", "default"}, values(r))
	})
	t.Run("an error", func(t *testing.T) {
		r := beeline(t, "/default", "-e", "SELECT * FROM no_such_table")
		require.NotZero(t, r.Code)
		require.Contains(t, r.Err, "[TABLE_OR_VIEW_NOT_FOUND] The table or view `no_such_table` cannot be found")
		require.Contains(t, r.Err, "(state=42P01,code=0)")
		require.NotContains(t, r.Err, "\tat org.apache.spark")
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		args := testbed.BeelineArgs(t, gateway, "/default", "ann", "-e", endless)
		c := testbed.Start(t, args[0], args[1:]...)
		testbed.Until(t, time.Minute, "Beeline shows the job's progress", func() bool { return strings.Contains(c.Err(), "Stage ") })
		engines := gateway.Engines()
		require.Len(t, engines, 1)
		require.NoError(t, c.Cmd.Process.Signal(syscall.SIGINT))
		testbed.Within(t, 10*time.Second, "ending Beeline", func() { c.Wait() })
		before := testbed.CPUSeconds(engines[0])
		<-time.After(time.Second) // the span of the measurement
		require.Less(t, testbed.CPUSeconds(engines[0])-before, 0.5, "the job on Spark has stopped")
	})
}

func jdbc(t *testing.T, url, mode string, sql ...string) testbed.Result {
	t.Helper()
	driver := testbed.Jar(t, "org.apache.hive:hive-jdbc:3.1.3:jar:standalone")
	args := append([]string{"-cp", driver + ":" + testbed.SparkHome(t) + "/jars/*", filepath.Join(testbed.Root(), "tests", "compat", "Jdbc.java"),
		"jdbc:hive2://" + gateway.Thrift + url, "ann", mode}, sql...)
	return testbed.Run(t, testbed.Java(t), args...)
}

func TestHiveJDBC3(t *testing.T) {
	t.Run("types", func(t *testing.T) {
		r := jdbc(t, "/default?spark.sql.session.timeZone=UTC", "query", everyType)
		require.Zero(t, r.Code, r.Err)
		require.Equal(t, []string{
			"b:boolean|i8:tinyint|i16:smallint|i32:int|i64:bigint|f:float|d:double|dec:decimal|s:string|bin:binary|day:date|ts:timestamp|ntz:timestamp|arr:array|m:map|st:struct|ym:interval_year_month|dt:interval_day_time|n:void",
			`true|-7|-300|70000|5000000000|0.1|2.5|12345678901234567890.123456789012345678|käse|bytes[0, -1, 16]|2026-02-28|2026-02-28 13:14:15.123456|1999-12-31 23:59:59.0|[1,null,3]|{"k":1.5}|{"x":1,"y":"z"}|1-2|1 02:03:04.000000000|NULL`,
			strings.Repeat("NULL|", 18) + "NULL",
		}, r.Rows())
	})
	t.Run("errors, pages and statements without a result", func(t *testing.T) {
		r := jdbc(t, "/default", "query", "SELEC 1", "SELECT 1/0", "CREATE DATABASE IF NOT EXISTS compat", "SELECT count(*), max(id) FROM range(50)", "SELECT id FROM range(20) ORDER BY id")
		require.Zero(t, r.Code, r.Err)
		rows := r.Rows()
		require.Regexp(t, `^error 42601 .*`, rows[0])
		require.Regexp(t, `^error 22012 .*\[DIVIDE_BY_ZERO\]`, rows[1])
		require.Equal(t, []string{"Result:string", "count(1):bigint|max(id):bigint", "50|49", "id:bigint"}, rows[2:6])
		for i := range 20 {
			require.Equal(t, fmt.Sprint(i), rows[6+i])
		}
		require.Len(t, rows, 26)
	})
	t.Run("cancel", func(t *testing.T) {
		r := jdbc(t, "/default", "cancel", endless)
		require.Zero(t, r.Code, r.Err)
		require.Regexp(t, `^error 01000 Query was cancelled`, r.Rows()[0])
		require.Equal(t, []string{"two:int", "2"}, r.Rows()[1:])
	})
	t.Run("timeout", func(t *testing.T) {
		r := jdbc(t, "/default", "timeout", endless)
		require.Zero(t, r.Code, r.Err)
		require.Regexp(t, `^timeout Query timed out after 2 seconds`, r.Rows()[0])
	})
	t.Run("metadata, as DBeaver asks for it", func(t *testing.T) {
		beeline(t, "/default", "-e", "CREATE DATABASE IF NOT EXISTS compat; DROP TABLE IF EXISTS compat.t; CREATE TABLE compat.t (id INT, name VARCHAR(10)) USING parquet")
		r := jdbc(t, "/compat", "metadata")
		require.Zero(t, r.Code, r.Err)
		for _, line := range []string{"Spark SQL 4.3.0 valid=true", "schemas compat", "schemas default", "tables t|TABLE", "columns id|INT|1", "columns name|VARCHAR(10)|2", "types TABLE", "types VIEW"} {
			require.Contains(t, r.Rows(), line)
		}
		require.Contains(t, r.Out, "schema=compat")
	})
}

func pyhive(t *testing.T, args ...string) []string {
	t.Helper()
	// pure-sasl in place of the C library that PyHive names; thrift-sasl speaks to either.
	python := testbed.Python(t, "PyHive==0.7.0", "thrift==0.21.0", "thrift-sasl==0.4.3", "pure-sasl==0.6.2")
	host, port, err := net.SplitHostPort(gateway.Thrift)
	require.NoError(t, err)
	r := testbed.Run(t, python, append([]string{filepath.Join(testbed.Root(), "tests", "compat", "pyhive_client.py"), host, port}, args...)...)
	require.Zero(t, r.Code, r.Err)
	return r.Rows()
}

func TestPyHive(t *testing.T) {
	beeline(t, "/default", "-e", "CREATE DATABASE IF NOT EXISTS compat")
	t.Run("types", func(t *testing.T) {
		rows := pyhive(t, "types", everyType)
		require.Equal(t, `[('b', 'BOOLEAN_TYPE'), ('i8', 'TINYINT_TYPE'), ('i16', 'SMALLINT_TYPE'), ('i32', 'INT_TYPE'), ('i64', 'BIGINT_TYPE'), ('f', 'FLOAT_TYPE'), ('d', 'DOUBLE_TYPE'), ('dec', 'DECIMAL_TYPE'), ('s', 'STRING_TYPE'), ('bin', 'BINARY_TYPE'), ('day', 'DATE_TYPE'), ('ts', 'TIMESTAMP_TYPE'), ('ntz', 'TIMESTAMP_TYPE'), ('arr', 'ARRAY_TYPE'), ('m', 'MAP_TYPE'), ('st', 'STRUCT_TYPE'), ('ym', 'STRING_TYPE'), ('dt', 'STRING_TYPE'), ('n', 'NULL_TYPE')]`, rows[0])
		require.Equal(t, `(True, -7, -300, 70000, 5000000000, 0.1, 2.5, Decimal('12345678901234567890.123456789012345678'), 'käse', b'\x00\xff\x10', '2026-02-28', datetime.datetime(2026, 2, 28, 13, 14, 15, 123456), datetime.datetime(1999, 12, 31, 23, 59, 59), '[1,null,3]', '{"k":1.5}', '{"x":1,"y":"z"}', '1-2', '1 02:03:04.000000000', None)`, rows[1])
		require.Equal(t, "("+strings.Repeat("None, ", 18)+"None)", rows[2])
	})
	t.Run("a session", func(t *testing.T) {
		require.Equal(t, []string{
			"[('compat', 'py')]", "[('spark.sql.shuffle.partitions', '6')]", "[]", "[(5,)]", "1001", "42P01 [TABLE_OR_VIEW_NOT_FOUND]",
		}, pyhive(t, "session"))
	})
	t.Run("asynchronous, with its log, and cancel", func(t *testing.T) {
		require.Equal(t, []string{"['FINISHED_STATE', 'RUNNING_STATE'] [(1000,)] True", "CANCELED_STATE True"}, pyhive(t, "async", endless))
	})
}
