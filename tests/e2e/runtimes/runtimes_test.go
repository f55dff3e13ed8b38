//go:build e2e

package runtimes

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

const endless = testbed.Endless

func open(t *testing.T, conf map[string]string) *testbed.HS2 {
	return testbed.DialHS2(t, shared.Thrift, "ann", "x", conf)
}

// onlyEngine is the JVM of the one engine of a version.
func onlyEngine(t *testing.T, version string) int {
	t.Helper()
	pids := shared.EnginesOf(version)
	require.Len(t, pids, 1)
	return pids[0]
}

func TestTheNetworkIsClosed(t *testing.T) {
	all, err := net.Interfaces()
	require.NoError(t, err)
	require.Len(t, all, 1, "nothing but loopback")
	require.NotZero(t, all[0].Flags&net.FlagLoopback)
}

func TestTwoSparksAtOnce(t *testing.T) {
	var wait sync.WaitGroup
	versions := make([]string, 2)
	for i, conf := range []map[string]string{nil, old} {
		c := open(t, conf)
		wait.Add(1)
		go func() { defer wait.Done(); versions[i] = c.All("SELECT version()")[0][0] }()
	}
	wait.Wait()
	require.True(t, strings.HasPrefix(versions[0], testbed.SparkVersion+" "), versions[0])
	require.True(t, strings.HasPrefix(versions[1], testbed.OldSpark+" "), versions[1])
	onlyEngine(t, testbed.SparkVersion)
	onlyEngine(t, testbed.OldSpark)
}

// There is one catalogue: what one Spark has made the other reads, writes anew and changes.
func TestTablesBelongToBoth(t *testing.T) {
	const columns = "(id BIGINT, name STRING, price DECIMAL(10,2), at TIMESTAMP, tags ARRAY<STRING>, day DATE)"
	const row = "VALUES (1, 'a', 1.50, TIMESTAMP'2024-05-06 07:08:09', array('x', 'y'), DATE'2024-05-06')"
	for name, tc := range map[string]struct{ maker, other map[string]string }{
		"made_by_new": {nil, old},
		"made_by_old": {old, nil},
	} {
		t.Run(name, func(t *testing.T) {
			maker, other := open(t, tc.maker), open(t, tc.other)
			maker.All("CREATE DATABASE " + name)
			maker.All("CREATE TABLE " + name + ".t " + columns + " PARTITIONED BY (day) COMMENT 'shared'") // no USING: not a Hive table
			maker.All("INSERT INTO " + name + ".t " + row)
			maker.All("CREATE VIEW " + name + ".v AS SELECT id + 1 AS next FROM " + name + ".t")

			want := [][]string{{"1", "a", "1.50", "2024-05-06 07:08:09", `["x","y"]`, "2024-05-06"}}
			require.Equal(t, want, other.All("SELECT * FROM "+name+".t"))
			require.Equal(t, [][]string{{"2"}}, other.All("SELECT * FROM "+name+".v"))
			other.All("INSERT OVERWRITE " + name + ".t VALUES (11, 'b', 3.00, TIMESTAMP'2024-06-07 08:09:10', array(), DATE'2024-06-07')")
			other.All("ALTER TABLE " + name + ".t ADD COLUMNS (more INT)")
			maker.All("REFRESH TABLE " + name + ".t") // as between any two engines: a session remembers the schema of what it has used
			require.Equal(t, [][]string{{"11", "3.00", "2024-06-07", "NULL"}}, maker.All("SELECT id, price, day, more FROM "+name+".t"))
			require.Equal(t, [][]string{{"12"}}, maker.All("SELECT * FROM "+name+".v"))
			maker.All("DROP DATABASE " + name + " CASCADE")
			_, st := other.Exec("SELECT * FROM " + name + ".t")
			require.Contains(t, st.GetErrorMessage(), "[TABLE_OR_VIEW_NOT_FOUND]")
		})
	}
}

func TestTheSessionOfAnOldSpark(t *testing.T) {
	// Of these settings the server refuses two: they belong to the start of an engine.
	c := open(t, map[string]string{"sluice.runtime": "old", "spark.driver.cores": "1", "spark.sql.warehouse.dir": "/nowhere", "spark.sql.shuffle.partitions": "7", "v": "x"})
	require.Equal(t, [][]string{{"spark.sql.shuffle.partitions", "7"}}, c.All("SET spark.sql.shuffle.partitions"))
	c.All("CREATE TEMPORARY VIEW mine AS SELECT 3 AS n")
	require.Equal(t, [][]string{{"3", "x"}}, c.All("SELECT n, '${v}' FROM mine"))
	require.Equal(t, [][]string{{"NULL"}}, c.All("SELECT CAST('x' AS INT)"), "ANSI is off before 4.0")
	_, st := open(t, old).Exec("SELECT * FROM mine")
	require.Contains(t, st.GetErrorMessage(), "[TABLE_OR_VIEW_NOT_FOUND]", "the view is its session's")

	c.All("CREATE TABLE described (a INT COMMENT 'first', b VARCHAR(5))")
	resp, err := c.GetColumns(context.Background(), &tcli.TGetColumnsReq{SessionHandle: c.Session, SchemaName: ident("default"), TableName: ident("described")})
	require.NoError(t, err)
	rows := testbed.Texts(c.Fetch(resp.OperationHandle, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results)
	require.Len(t, rows, 2)
	require.Equal(t, []string{"a", "INT", "first"}, []string{rows[0][3], rows[0][5], rows[0][11]})
	require.Equal(t, []string{"b", "VARCHAR(5)"}, []string{rows[1][3], rows[1][5]})
	c.All("DROP TABLE described")
}

func ident(name string) *tcli.TPatternOrIdentifier {
	id := tcli.TPatternOrIdentifier(name)
	return &id
}

func TestErrorsOfAnOldSpark(t *testing.T) {
	c := open(t, old)
	for sql, want := range map[string]string{
		"SELECT * FROM nowhere":      "[TABLE_OR_VIEW_NOT_FOUND] The table or view `nowhere` cannot be found",
		"SELEC 1":                    "[PARSE_SYNTAX_ERROR] Syntax error at or near 'SELEC'",
		"SELECT raise_error('boom')": "java.lang.RuntimeException: boom",
	} {
		_, st := c.Exec(sql)
		require.Equal(t, tcli.TStatusCode_ERROR_STATUS, st.StatusCode)
		require.Contains(t, st.GetErrorMessage(), want)
		require.NotContains(t, st.GetErrorMessage(), "\n\tat ", "no stack")
	}
}

func TestCancelStopsTheJobOfAnOldSpark(t *testing.T) {
	c := open(t, old)
	c.All("SELECT 2")
	pid := onlyEngine(t, testbed.OldSpark)
	op := c.Async(endless)
	testbed.Until(t, time.Minute, "the job runs", func() bool { return testbed.Busy(pid) > 0.8 })
	resp, err := c.CancelOperation(context.Background(), &tcli.TCancelOperationReq{OperationHandle: op})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode)
	require.Equal(t, tcli.TOperationState_CANCELED_STATE, c.WaitState(op, 5*time.Second).GetOperationState())
	testbed.Until(t, 10*time.Second, "the job has stopped", func() bool { return testbed.Busy(pid) < 0.5 })
	require.Equal(t, [][]string{{"2"}}, c.All("SELECT 2"))

	c.Async(endless) // a session cannot be closed there; what runs in it ends all the same
	testbed.Until(t, time.Minute, "the job runs", func() bool { return testbed.Busy(pid) > 0.8 })
	_, err = c.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: c.Session})
	require.NoError(t, err)
	testbed.Until(t, 10*time.Second, "the job has stopped", func() bool { return testbed.Busy(pid) < 0.5 })
}

func TestAKilledEngineOfAnOldSpark(t *testing.T) {
	c := open(t, old)
	c.All("CREATE TABLE survivors AS SELECT 7 AS n")
	c.All("CREATE TEMPORARY VIEW mine AS SELECT n + 1 AS m FROM survivors")
	pid := onlyEngine(t, testbed.OldSpark)
	op := c.Async(endless)
	testbed.Until(t, time.Minute, "the job runs", func() bool { return testbed.Busy(pid) > 0.8 })
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	resp := c.WaitState(op, 15*time.Second)
	require.Equal(t, tcli.TOperationState_ERROR_STATE, resp.GetOperationState())
	require.Contains(t, resp.GetErrorMessage(), "The engine was lost while the statement ran")
	require.Contains(t, resp.GetErrorMessage(), "killed")
	require.Equal(t, [][]string{{"7", "8"}}, c.All("SELECT n, m FROM survivors, mine"), "the next statement has a new engine, the table and the view")
	require.NotEqual(t, pid, onlyEngine(t, testbed.OldSpark))
	require.True(t, strings.HasPrefix(c.All("SELECT version()")[0][0], testbed.OldSpark), "of the same runtime")
	c.All("DROP TABLE survivors")
}

func TestWhereAnOldSparkIsRefused(t *testing.T) {
	const refusal = "has no token and listens on every interface"
	t.Run("on a cluster that is not said to be closed", func(t *testing.T) {
		c := open(t, map[string]string{"sluice.runtime": "old", "sluice.cluster": "open"})
		_, st := c.Exec("SELECT 2")
		require.Equal(t, tcli.TStatusCode_ERROR_STATUS, st.StatusCode)
		require.Contains(t, st.GetErrorMessage(), "start an engine on cluster open: plan a Spark engine: Spark 3.5.7 "+refusal)
		require.Contains(t, st.GetErrorMessage(), "set clusters.NAME.closed_network: true")
	})
	t.Run("by a gateway that has no closed cluster", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "sluice.yaml")
		require.NoError(t, os.WriteFile(file, []byte("runtimes: {old: {version: 3.5.7}}\n"), 0o600))
		for _, args := range [][]string{{"config", "check"}, {"gateway"}} {
			cmd := exec.Command(testbed.Binary(t), append(args, "--config", file)...)
			cmd.Env = append(os.Environ(), "SLUICE_DATA_DIR="+t.TempDir(), "SLUICE_LISTEN_THRIFT=127.0.0.1:0", "SLUICE_LISTEN_HTTP=127.0.0.1:0")
			out, err := cmd.CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), "runtimes.old.version: Spark 3.5.7 "+refusal)
		}
	})
	t.Run("an unknown runtime", func(t *testing.T) {
		c, err := testbed.TryDialHS2(t, shared.Thrift, "ann", "x")
		require.NoError(t, err)
		defer func() { _ = c.Conn.Close() }()
		resp, err := c.OpenSession(context.Background(), &tcli.TOpenSessionReq{Configuration: map[string]string{"sluice.runtime": "odl"}})
		require.NoError(t, err)
		require.Contains(t, resp.Status.GetErrorMessage(), `sluice.runtime: there is no runtime "odl"; runtimes are old`)
	})
}

// Metadata calls tell the same of a table whichever Spark answers them.
func TestMetadataOfBoth(t *testing.T) {
	ctx := context.Background()
	name := func(s string) *tcli.TPatternOrIdentifier { return (*tcli.TPatternOrIdentifier)(&s) }
	open(t, nil).All("CREATE DATABASE IF NOT EXISTS meta")
	open(t, nil).All("CREATE OR REPLACE VIEW meta.v COMMENT 'a view' AS SELECT 1 AS one")
	open(t, nil).All("CREATE TABLE IF NOT EXISTS meta.t (id BIGINT COMMENT 'key', price DECIMAL(10,2), code CHAR(3)) USING parquet COMMENT 'words'")
	for runtime, conf := range map[string]map[string]string{"new": nil, "old": old} {
		t.Run(runtime, func(t *testing.T) {
			c := open(t, conf)
			rows := func(op *tcli.TOperationHandle, st *tcli.TStatus, err error) [][]string {
				t.Helper()
				require.NoError(t, err)
				require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, st.StatusCode, st.GetErrorMessage())
				return testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1000, 0).Results)
			}
			tables, err := c.GetTables(ctx, &tcli.TGetTablesReq{SessionHandle: c.Session, SchemaName: name("meta")})
			all := rows(tables.GetOperationHandle(), tables.GetStatus(), err)
			require.Len(t, all, 2)
			require.Equal(t, []string{"", "meta", "t", "TABLE", "words"}, all[0][:5])
			require.Equal(t, []string{"", "meta", "v", "VIEW", "a view"}, all[1][:5])
			columns, err := c.GetColumns(ctx, &tcli.TGetColumnsReq{SessionHandle: c.Session, SchemaName: name("meta"), TableName: name("t")})
			all = rows(columns.GetOperationHandle(), columns.GetStatus(), err)
			require.Len(t, all, 3)
			require.Equal(t, []string{"id", "-5", "BIGINT"}, all[0][3:6])
			require.Equal(t, "key", all[0][11])
			require.Equal(t, []string{"code", "1", "CHAR(3)", "3"}, all[2][3:7])
			functions, err := c.GetFunctions(ctx, &tcli.TGetFunctionsReq{SessionHandle: c.Session, SchemaName: name("meta"), FunctionName: "abs"})
			all = rows(functions.GetOperationHandle(), functions.GetStatus(), err)
			require.Equal(t, []string{"", "meta", "abs"}, all[0][:3])
			require.Equal(t, "org.apache.spark.sql.catalyst.expressions.Abs", all[0][5])
			catalogs, err := c.GetCatalogs(ctx, &tcli.TGetCatalogsReq{SessionHandle: c.Session})
			require.Empty(t, rows(catalogs.GetOperationHandle(), catalogs.GetStatus(), err))
		})
	}
}
