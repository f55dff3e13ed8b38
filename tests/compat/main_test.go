//go:build e2e

// Package compat runs stock clients, fetched from their registries, against a gateway with a real Spark. The clients'
// programs print sections, one for each capability; the tests here say what must stand in them.
package compat

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

// gateway has the engine; secured, with TLS on both ports, answers only what needs none.
var (
	gateway, secured *testbed.Gateway
	authority        *testbed.Authority
	trustStore       string
)

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/compat")
	s := &testbed.Suite{}
	gateway = testbed.StartGateway(s, "", "SLUICE_SPOOL_DISK=16MiB")
	dir, err := os.MkdirTemp("", "sluice-compat-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	authority = testbed.NewAuthority(s, dir)
	trustStore = authority.TrustStore()
	pair := authority.Issue("gateway", "localhost", "127.0.0.1")
	secured = testbed.StartGateway(s, "", "SLUICE_TLS_CERT="+pair.Cert, "SLUICE_TLS_KEY="+pair.Key)
	code := record.All(m, "compat")
	s.End()
	os.Exit(code)
}

const endless = testbed.Endless

// busy runs for some seconds, in stages.
const busy = "SELECT count(DISTINCT id % 1000) FROM range(0, 100000000, 1, 32)"

// everyType has a value of each type in the first row and nulls in the second.
const everyType = `SELECT true AS b, CAST(-7 AS TINYINT) AS i8, CAST(-300 AS SMALLINT) AS i16, 70000 AS i32, 5000000000 AS i64,
  CAST(0.1 AS FLOAT) AS f, CAST(2.5 AS DOUBLE) AS d, CAST('12345678901234567890.123456789012345678' AS DECIMAL(38,18)) AS dec, 'käse' AS s,
  X'00FF10' AS bin, DATE'2026-02-28' AS day, TIMESTAMP'2026-02-28 13:14:15.123456' AS ts, TIMESTAMP_NTZ'1999-12-31 23:59:59' AS ntz,
  array(1, NULL, 3) AS arr, map('k', 1.5D) AS m, named_struct('x', 1, 'y', 'z') AS st,
  INTERVAL '1-2' YEAR TO MONTH AS ym, INTERVAL '1 02:03:04' DAY TO SECOND AS dt, NULL AS n
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL`

// pages has rows for several pages, and nulls at the last of them.
const pages = "SELECT IF(k >= 2499, NULL, k) AS id, CONCAT('row ', k) AS name FROM (SELECT id AS k FROM range(2501)) ORDER BY k"

// failures are statements that fail, each for another cause, and tooMuch is more than the gateway keeps of a result.
const (
	syntaxError  = "SELEC 1"
	noTable      = "SELECT * FROM no_such_table"
	divideByZero = "SELECT 1/0"
	tooMuch      = "SELECT repeat('x', 1000000) AS x FROM range(60)"
)

// causes are the failures with their SQLSTATE and class.
var causes = []string{"42601 [PARSE_SYNTAX_ERROR]", "42P01 [TABLE_OR_VIEW_NOT_FOUND]", "22012 [DIVIDE_BY_ZERO]", "54000 spool.disk"}

// file is one of the clients' programs.
func file(parts ...string) string {
	return filepath.Join(append([]string{testbed.Root(), "tests", "compat"}, parts...)...)
}

// statements tells a program what to run, through its environment.
func statements() []string {
	host, port, _ := net.SplitHostPort(gateway.Thrift)
	_, httpPort, _ := net.SplitHostPort(gateway.HTTP)
	_, tlsPort, _ := net.SplitHostPort(secured.Thrift)
	_, httpsPort, _ := net.SplitHostPort(secured.HTTP)
	return []string{"PYTHONDONTWRITEBYTECODE=1", "TLS_PORT=" + tlsPort, "TLS_HTTP_PORT=" + httpsPort, "TLS_CA=" + authority.CA(), "TLS_STORE=" + trustStore, "SSL_CERT_FILE=" + authority.CA(),
		"HS2_HOST=" + host, "HS2_PORT=" + port, "HS2_HTTP_PORT=" + httpPort, "SQL_TYPES=" + everyType, "SQL_PAGES=" + pages, "SQL_ENDLESS=" + endless,
		"SQL_BUSY=" + busy, "SQL_ERRORS=" + strings.Join([]string{syntaxError, noTable, divideByZero, tooMuch}, ";")}
}

// prepare makes the database that the clients look at.
var prepared bool

func prepare(t *testing.T) {
	t.Helper()
	if prepared {
		return
	}
	c := testbed.DialHS2(t, gateway.Thrift, "ann", "x", nil)
	for _, sql := range []string{"CREATE DATABASE IF NOT EXISTS compat", "CREATE TABLE IF NOT EXISTS compat.seen (id INT COMMENT 'the key', name VARCHAR(10), price DECIMAL(10,2), tags ARRAY<STRING>) USING parquet",
		"CREATE OR REPLACE VIEW compat.looked AS SELECT id FROM compat.seen", "INSERT INTO compat.seen VALUES (1, 'one', 1.50, array('a'))"} {
		c.All(sql)
	}
	prepared = true
}

// sections are what a program has printed: "## NAME" begins each.
type sections struct {
	by     map[string][]string
	result testbed.Result
}

// program runs a client's program to its end.
func program(t *testing.T, name string, args ...string) sections {
	t.Helper()
	prepare(t)
	return ended(t, testbed.StartEnv(t, statements(), name, args...), 5*time.Minute)
}

// ended waits for a program for so long; what it has said until then is shown.
func ended(t *testing.T, c *testbed.Client, most time.Duration) sections {
	t.Helper()
	limit := time.AfterFunc(most, func() { _ = c.Cmd.Process.Kill() })
	defer limit.Stop()
	return split(t, c.Wait())
}

func split(t *testing.T, r testbed.Result) sections {
	t.Helper()
	out := sections{by: map[string][]string{}, result: r}
	at := ""
	for _, line := range r.Rows() {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			at = name
			out.by[at] = []string{}
			continue
		}
		out.by[at] = append(out.by[at], line)
	}
	require.Zero(t, r.Code, "%s\n%s", r.Out, r.Err)
	return out
}

func (s sections) lines(t *testing.T, name string) []string {
	t.Helper()
	got, ok := s.by[name]
	require.True(t, ok, "the program said nothing of %s:\n%s\n%s", name, s.result.Out, s.result.Err)
	for _, l := range got {
		require.False(t, strings.HasPrefix(l, "FAILED "), "%s\n%s", l, s.result.Err)
	}
	return got
}

// can runs the tests of a client's capabilities, each on the section of that name, which a program for several clients
// begins with a prefix.
func (s sections) can(t *testing.T, client, prefix string) func(what string, f func(t *testing.T, said []string)) {
	return func(what string, f func(t *testing.T, said []string)) {
		t.Helper()
		record.Can(t, client, what, func(t *testing.T) { f(t, s.lines(t, prefix+what)) })
	}
}

// idle fails if a statement that was stopped still runs on Spark.
func idle(t *testing.T) {
	t.Helper()
	engines := gateway.Engines()
	require.NotEmpty(t, engines)
	for _, pid := range engines {
		testbed.Until(t, 10*time.Second, "the job on Spark has stopped", func() bool { return testbed.Busy(pid) < 0.5 })
	}
}
