//go:build e2e

package local

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

func TestStatementsWithoutAnEngine(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "nobody", "x", nil)
	before := len(shared.Engines())
	require.Equal(t, [][]string{{"airflow.ctx.dag_id", "x"}}, c.All("SET airflow.ctx.dag_id=x"))
	require.Equal(t, [][]string{{"airflow.ctx.dag_id", "x"}}, c.All("SET airflow.ctx.dag_id"))
	require.Empty(t, c.All("USE default"))
	require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"))
	info, err := c.GetInfo(context.Background(), &tcli.TGetInfoReq{SessionHandle: c.Session, InfoType: tcli.TGetInfoType_CLI_DBMS_NAME})
	require.NoError(t, err)
	require.Equal(t, "Spark SQL", info.InfoValue.GetStringValue())
	require.Len(t, shared.Engines(), before, "no engine was needed for any of this")
}

func TestMissingInitialDatabase(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", map[string]string{"use:database": "no_such_db"})
	_, st := c.Exec("SELECT 2")
	require.Equal(t, tcli.TStatusCode_ERROR_STATUS, st.StatusCode)
	require.Contains(t, st.GetErrorMessage(), "[SCHEMA_NOT_FOUND]")
	require.Equal(t, "42704", st.GetSqlState())
}

func TestErrorsAreSparks(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	for name, tc := range map[string]struct{ sql, class, state string }{
		"syntax":           {"SELEC 1", "[PARSE_SYNTAX_ERROR]", "42601"},
		"missing table":    {"SELECT * FROM no_such_table", "[TABLE_OR_VIEW_NOT_FOUND]", "42P01"},
		"missing column":   {"SELECT nope FROM range(1)", "[UNRESOLVED_COLUMN", "42703"},
		"division by zero": {"SELECT 1/0", "[DIVIDE_BY_ZERO]", "22012"},
		"bad cast":         {"SELECT CAST('x' AS INT)", "[CAST_INVALID_INPUT]", "22018"},
		"raised":           {"SELECT raise_error('boom')", "boom", "P0001"},
	} {
		t.Run(name, func(t *testing.T) {
			_, st := c.Exec(tc.sql)
			require.Equal(t, tcli.TStatusCode_ERROR_STATUS, st.StatusCode)
			require.Contains(t, st.GetErrorMessage(), tc.class)
			require.Equal(t, tc.state, st.GetSqlState())
			require.NotContains(t, st.GetErrorMessage(), "\tat ", "no stack trace unless asked")

			op := c.Async(tc.sql)
			resp := c.WaitState(op, time.Minute)
			require.Equal(t, tcli.TOperationState_ERROR_STATE, resp.GetOperationState())
			require.Contains(t, resp.GetErrorMessage(), tc.class)
			require.Equal(t, tc.state, resp.GetSqlState())
		})
	}
	_, st := c.Exec("  ; ")
	require.Equal(t, "the statement is empty", st.GetErrorMessage())
}

func TestSessionsAreApart(t *testing.T) {
	a := testbed.DialHS2(t, shared.Thrift, "ann", "x", map[string]string{"set:hiveconf:spark.sql.shuffle.partitions": "3", "set:hivevar:who": "a"})
	b := testbed.DialHS2(t, shared.Thrift, "ann", "x", map[string]string{"spark.sql.shuffle.partitions": "5"})
	b.All("SET hivevar:who=b")
	a.All("CREATE DATABASE IF NOT EXISTS apart")
	a.All("USE apart")
	a.All("CREATE TEMPORARY VIEW mine AS SELECT 'a' AS v")
	require.Equal(t, [][]string{{"apart", "a", "a"}}, a.All("SELECT current_database(), '${who}', '${hivevar:who}'"))
	require.Equal(t, [][]string{{"default", "b", "b"}}, b.All("SELECT current_database(), '${who}', '${hivevar:who}'"))
	require.Equal(t, [][]string{{"spark.sql.shuffle.partitions", "3"}}, a.All("SET spark.sql.shuffle.partitions"))
	require.Equal(t, [][]string{{"spark.sql.shuffle.partitions", "5"}}, b.All("SET spark.sql.shuffle.partitions"))
	_, st := b.Exec("SELECT * FROM mine")
	require.Contains(t, st.GetErrorMessage(), "[TABLE_OR_VIEW_NOT_FOUND]")
	a.All("RESET spark.sql.shuffle.partitions")
	require.Equal(t, [][]string{{"spark.sql.shuffle.partitions", "200"}}, a.All("SET spark.sql.shuffle.partitions"))
	require.Equal(t, [][]string{{"spark.sql.shuffle.partitions", "5"}}, b.All("SET spark.sql.shuffle.partitions"))
}

func TestSettingsOfOneStatement(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", map[string]string{"who": "session"})
	op := c.Async("SELECT '${who}', '${other}'", func(r *tcli.TExecuteStatementReq) {
		r.ConfOverlay = map[string]string{"who": "statement", "hivevar:other": "o"}
	})
	require.Equal(t, tcli.TOperationState_FINISHED_STATE, c.WaitState(op, time.Minute).GetOperationState())
	require.Equal(t, [][]string{{"statement", "o"}}, testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results))
	require.Equal(t, [][]string{{"session", "${other}"}}, c.All("SELECT '${who}', '$' || '{other}'"))
}

func TestFetchFirstAndPages(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	op, st := c.Exec("SELECT id, IF(id % 3 = 0, NULL, id) AS n FROM range(0, 25000, 1, 4) ORDER BY id")
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, st.StatusCode)
	rows := 0
	for {
		page := c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1000, 0)
		got := testbed.Texts(page.Results)
		if len(got) == 0 {
			require.False(t, page.GetHasMoreRows())
			break
		}
		require.Equal(t, int64(rows), page.Results.StartRowOffset)
		if rows == 9000 { // rows 9000 to 9999: null in each third
			require.Equal(t, []string{"9000", "NULL"}, got[0])
			require.Equal(t, []string{"9001", "9001"}, got[1])
		}
		rows += len(got)
	}
	require.Equal(t, 25000, rows)
	require.Empty(t, testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1000, 0).Results), "still at the end")
	again := testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_FIRST, 2, 0).Results)
	require.Equal(t, [][]string{{"0", "NULL"}, {"1", "1"}}, again)
	require.Len(t, testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_FIRST, -1, 0).Results), 25000)
	bad := c.Fetch(op, tcli.TFetchOrientation_FETCH_LAST, 1, 0)
	require.Contains(t, bad.Status.GetErrorMessage(), "FETCH_LAST is not supported")
}

func TestResultsWithoutColumns(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	op, st := c.Exec("CREATE OR REPLACE TEMPORARY VIEW nothing AS SELECT 1 AS a WHERE false")
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, st.StatusCode)
	meta, err := c.GetResultSetMetadata(context.Background(), &tcli.TGetResultSetMetadataReq{OperationHandle: op})
	require.NoError(t, err)
	require.Len(t, meta.Schema.Columns, 1)
	require.Equal(t, "Result", meta.Schema.Columns[0].ColumnName)
	require.Len(t, c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results.Columns, 1)

	op, _ = c.Exec("SELECT * FROM nothing")
	meta, err = c.GetResultSetMetadata(context.Background(), &tcli.TGetResultSetMetadataReq{OperationHandle: op})
	require.NoError(t, err)
	require.Equal(t, "a", meta.Schema.Columns[0].ColumnName)
	require.Equal(t, tcli.TTypeId_INT_TYPE, meta.Schema.Columns[0].TypeDesc.Types[0].PrimitiveEntry.Type)
}

func TestTheLogShowsProgress(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	op := c.Async("SELECT count(DISTINCT id % 1000) FROM range(0, 60000000, 1, 8)")
	seen := false
	testbed.Until(t, 2*time.Minute, "the statement ends", func() bool {
		st := c.Status(op)
		seen = seen || len(st.ProgressUpdateResponse.Rows) > 0 && len(st.ProgressUpdateResponse.Rows[0]) == 9
		return st.GetOperationState() != tcli.TOperationState_RUNNING_STATE
	})
	log := strings.Join(c.Log(op), "\n")
	require.Contains(t, log, "Routed to cluster local")
	require.Regexp(t, `Stage \d+: \d+ of \d+ tasks`, log)
	require.True(t, seen, "the progress bar has rows while the statement runs")
	require.Equal(t, tcli.TJobExecutionStatus_NOT_AVAILABLE, c.Status(op).ProgressUpdateResponse.Status, "once complete the bar is not drawn again, over the rows")
	require.Empty(t, c.Log(op), "the log is read once")
	first := testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_FIRST, 1, 1).Results)
	require.Contains(t, first[0][0], "Routed")
}
