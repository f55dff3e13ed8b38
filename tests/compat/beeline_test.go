//go:build e2e

package compat

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

// beelines are the versions of Beeline, with the jars of those that Spark does not have. Of Hive 4's the registry has none.
func beelines(t *testing.T) map[string][]string {
	return map[string][]string{
		"Beeline 2.3": nil,
		"Beeline 3.1": {testbed.Jar(t, "org.apache.hive:hive-beeline:3.1.3:jar"), testbed.Jar(t, "org.apache.hive:hive-jdbc:3.1.3:jar:standalone")},
	}
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
	prepare(t)
	for name, jars := range beelines(t) {
		t.Run(name, func(t *testing.T) { testBeeline(t, name, jars) })
	}
}

func testBeeline(t *testing.T, name string, jars []string) {
	can := func(what string, f func(t *testing.T)) { t.Helper(); record.Can(t, name, what, f) }
	beelineTo := func(t *testing.T, url string, args ...string) testbed.Result {
		all := testbed.BeelineArgs(t, url, "ann", jars, append([]string{"--outputformat=csv2", "--silent=true", "--showHeader=false"}, args...)...)
		return testbed.Run(t, all[0], all[1:]...)
	}
	beeline := func(t *testing.T, url string, args ...string) testbed.Result {
		return beelineTo(t, gateway.Thrift+url, args...)
	}
	can("connect", func(t *testing.T) { // variables, settings and database of the URL
		r := beeline(t, "/compat?spark.sql.shuffle.partitions=11#who=link", "--hivevar", "other=cli",
			"-e", "SELECT current_database(), '${who}', '${hivevar:other}'; SET spark.sql.shuffle.partitions")
		require.Zero(t, r.Code, r.Err)
		require.Equal(t, []string{"compat,link,cli", "spark.sql.shuffle.partitions,11"}, values(r))
	})
	can("HTTP", func(t *testing.T) {
		r := beelineTo(t, gateway.HTTP+"/compat;transportMode=http;httpPath=cliservice#who=link", "-e", "SELECT current_database(), '${who}'")
		require.Zero(t, r.Code, r.Err)
		require.Equal(t, []string{"compat,link"}, values(r))
	})
	can("TLS", func(t *testing.T) {
		store := ";ssl=true;sslTrustStore=" + trustStore + ";trustStorePassword=" + testbed.TrustStorePassword
		for at, mode := range map[string]string{secured.Thrift: "", secured.HTTP: ";transportMode=http;httpPath=cliservice"} {
			r := beelineTo(t, at+"/default"+mode+store, "-e", "SELECT 1")
			require.Zero(t, r.Code, r.Err)
			require.Equal(t, []string{"1"}, values(r))
		}
	})
	can("timeout", func(t *testing.T) {
		r := beeline(t, "/default?sluice.query_timeout=2s", "-e", endless)
		require.NotZero(t, r.Code)
		require.Contains(t, r.Err, "Query timed out")
	})
	can("types", func(t *testing.T) {
		r := beeline(t, "/default?spark.sql.session.timeZone=UTC", "-e", strings.ReplaceAll(everyType, "\n", " "))
		require.Zero(t, r.Code, r.Err)
		require.Equal(t, `true,-7,-300,70000,5000000000,0.1,2.5,12345678901234567890.123456789012345678,käse,`, values(r)[0][:len(`true,-7,-300,70000,5000000000,0.1,2.5,12345678901234567890.123456789012345678,käse,`)])
		require.Contains(t, values(r)[0], `2026-02-28,2026-02-28 13:14:15.123456,1999-12-31 23:59:59.0,`)
		require.Equal(t, strings.Repeat("NULL,", 18)+"NULL", values(r)[1])
	})
	can("pages", func(t *testing.T) { // a script of statements, and a long result
		r := beeline(t, "/compat", "-e", `DROP TABLE IF EXISTS t; CREATE TABLE t (id INT COMMENT 'the key', name VARCHAR(10), code CHAR(4)) USING parquet;
			INSERT INTO t VALUES (1, 'one', 'a'), (2, NULL, 'b'); SELECT * FROM t ORDER BY id; USE default; SELECT current_database(); `+pages)
		require.Zero(t, r.Code, r.Err)
		rows := values(r)
		require.Equal(t, []string{"1,one,a   ", "2,NULL,b   ", "default", "0,row 0"}, rows[:4])
		require.Len(t, rows, 3+2501)
		require.Equal(t, "NULL,row 2500", rows[len(rows)-1])
	})
	can("errors", func(t *testing.T) {
		r := beeline(t, "/default", "--force=true", "-e", syntaxError, "-e", noTable, "-e", divideByZero, "-e", tooMuch, "-e", "SELECT 'goes on'")
		for i, cause := range causes {
			state, class, _ := strings.Cut(cause, " ")
			require.Contains(t, r.Err, class)
			if i < len(causes)-1 { // of an error that comes with a page Beeline shows the message only
				require.Contains(t, r.Err, "(state="+state)
			}
		}
		require.NotContains(t, r.Err, "\tat org.apache.spark")
		require.Contains(t, r.Out, "goes on")
		require.NotZero(t, beeline(t, "/default", "-e", noTable).Code, "a script that fails says so by its exit code")
	})
	can("metadata", func(t *testing.T) {
		r := beeline(t, "/compat", "-e", "!tables", "-e", "!columns seen", "-e", "!dbinfo", "-e", "!primarykeys seen")
		require.Zero(t, r.Code, r.Err)
		for _, want := range []string{"looked,VIEW", "seen,TABLE", "the key", "Spark SQL", "4.3.0"} {
			require.Contains(t, r.Out+r.Err, want)
		}
	})
	can("cancel", func(t *testing.T) { // Ctrl-C
		args := testbed.BeelineArgs(t, gateway.Thrift+"/default", "ann", jars, "-e", endless)
		c := testbed.Start(t, args[0], args[1:]...)
		testbed.Until(t, time.Minute, "Beeline shows the job's progress", func() bool { return strings.Contains(c.Err(), "Stage ") })
		record.Can(t, name, "log", func(t *testing.T) {
			require.Regexp(t, `INFO  : Total jobs = 1\n.*INFO  : Stage \d+: \d+ of 16 tasks`, c.Err())
		})
		require.NoError(t, c.Cmd.Process.Signal(syscall.SIGINT))
		testbed.Within(t, 10*time.Second, "ending Beeline", func() { c.Wait() })
		idle(t)
	})
	t.Run("a bar", func(t *testing.T) { // drawn over the log lines while the statement runs
		args := testbed.BeelineArgs(t, gateway.Thrift+"/default", "ann", jars, "-e", busy)
		r := testbed.Run(t, args[0], args[1:]...)
		require.Zero(t, r.Code, r.Err)
		require.Regexp(t, `STAGES +ATTEMPT +STATUS +TOTAL +COMPLETED +RUNNING +PENDING +FAILED`, r.Err)
		require.Regexp(t, `Stage-\d+ \.* +0 +RUNNING +\d+ +\d+`, r.Err)
		require.Regexp(t, `STAGES: \d\d/\d\d +\[[=>-]+\] +\d+%`, r.Err)
		require.Regexp(t, `\| 1000 +\|`, r.Out)
	})
}
