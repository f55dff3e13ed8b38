//go:build e2e

package hs2

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// run executes a statement that must succeed.
func run(t *testing.T, c *testbed.HS2, sql string) *tcli.TOperationHandle {
	t.Helper()
	op, st := c.Exec(sql)
	requireOK(t, st, nil)
	return op
}

func schemaOf(t *testing.T, c *testbed.HS2, op *tcli.TOperationHandle) []*tcli.TColumnDesc {
	t.Helper()
	meta, err := c.GetResultSetMetadata(context.Background(), &tcli.TGetResultSetMetadataReq{OperationHandle: op})
	requireOK(t, meta.GetStatus(), err)
	return meta.Schema.Columns
}

// Types that came with a later version of the protocol are described by an older one to older clients.
func TestTypesByVersion(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("CREATE DATABASE IF NOT EXISTS versions")
	c.All("CREATE TABLE IF NOT EXISTS versions.t (c CHAR(3), v VARCHAR(4), d DECIMAL(5,2)) USING parquet")
	for v, want := range map[tcli.TProtocolVersion]string{0: "7 7 15 7 7 8", 2: "7 18 15 7 7 8", 3: "19 18 15 7 7 8", 5: "19 18 15 7 7 8", 7: "19 18 15 20 21 8", 10: "19 18 15 20 21 8"} {
		c.Session = open(t, c, v, nil).SessionHandle
		var got []string
		for _, col := range schemaOf(t, c, run(t, c, "SELECT c, v, d, INTERVAL '1' MONTH AS ym, INTERVAL '1' DAY AS dt, TIMESTAMP_LTZ'2026-01-01' AS ts FROM versions.t")) {
			require.Len(t, col.TypeDesc.Types, 1)
			got = append(got, fmt.Sprint(int64(col.TypeDesc.Types[0].PrimitiveEntry.Type)))
		}
		require.Equal(t, want, strings.Join(got, " "), "V%d", v+1)
	}
}

// Before V6 rows are rows, from V6 on columns; the other is empty.
func TestRowsByVersion(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		for v := range tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V11 + 1 {
			c.Session = open(t, c, v, nil).SessionHandle
			set := c.Fetch(run(t, c, "SELECT id, IF(id = 1, NULL, 'x') AS s FROM range(0, 3, 1, 1)"), next, 10, 0).Results
			if v < tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V6 {
				require.Empty(t, set.Columns)
				require.Len(t, set.Rows, 3)
				require.Equal(t, int64(2), set.Rows[2].ColVals[0].I64Val.GetValue())
				require.Nil(t, set.Rows[1].ColVals[1].StringVal.Value)
				continue
			}
			require.NotNil(t, set.Rows)
			require.Empty(t, set.Rows)
			require.Equal(t, [][]string{{"0", "x"}, {"1", "NULL"}, {"2", "x"}}, testbed.Texts(set))
			require.Equal(t, []byte{2}, set.Columns[1].StringVal.Nulls)
			require.Len(t, set.Columns[0].I64Val.Nulls, 1)
		}
	})
}

// A statement without rows has columns all the same, as many as it says.
func TestEmptyResults(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		for _, sql := range []string{"SELECT 1 AS a, 'x' AS b, array(1) AS c WHERE false", "CREATE OR REPLACE TEMPORARY VIEW e AS SELECT 1", "USE default", "SET a=b", "CREATE DATABASE IF NOT EXISTS empty"} {
			for _, async := range []bool{true, false} {
				op := c.Async(sql, func(r *tcli.TExecuteStatementReq) { r.RunAsync = async })
				require.Equal(t, tcli.TOperationState_FINISHED_STATE, c.WaitState(op, time.Minute).GetOperationState())
				require.Equal(t, op.HasResultSet, c.Status(op).GetHasResultSet())
				require.True(t, c.Status(op).IsSetHasResultSet(), "Hive JDBC waits for it")
				schema := schemaOf(t, c, op)
				require.NotEmpty(t, schema)
				for range 10 {
					page := c.Fetch(op, next, 10, 0)
					requireOK(t, page.Status, nil)
					require.Len(t, page.Results.Columns, len(schema))
					if sql != "SET a=b" {
						require.Empty(t, testbed.Texts(page.Results))
					}
					require.False(t, page.GetHasMoreRows())
				}
			}
		}
	})
}

func TestOrientationsAndSizes(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		op := run(t, c, "SELECT id FROM range(0, 25000, 1, 3) ORDER BY id")
		texts := func(o tcli.TFetchOrientation, max int64) [][]string {
			page := c.Fetch(op, o, max, 0)
			requireOK(t, page.Status, nil)
			return testbed.Texts(page.Results)
		}
		for i := range 3 {
			require.Equal(t, fmt.Sprint(i*100), texts(next, 100)[0][0])
		}
		require.Equal(t, "200", texts(tcli.TFetchOrientation_FETCH_PRIOR, 100)[0][0])
		require.Equal(t, "0", texts(first, 1)[0][0])
		for len(texts(next, 10_000)) > 0 {
		}
		for _, max := range []int64{-1, 0, 1_000_000_000} { // all that is there
			require.Len(t, texts(first, max), 25000)
		}
		require.Len(t, texts(first, 1), 1)
		for _, o := range []tcli.TFetchOrientation{tcli.TFetchOrientation_FETCH_RELATIVE, tcli.TFetchOrientation_FETCH_ABSOLUTE, tcli.TFetchOrientation_FETCH_LAST, 77} {
			requireFailed(t, c.Fetch(op, o, 1, 0).Status, nil, "is not supported")
		}
		require.Equal(t, "1", texts(next, 1)[0][0], "an error moves nothing")
	})
}

// Rows of a mebibyte each come a few at a time: a reply stays below what clients take (gohive: 16 MB).
func TestLargeRows(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		op := run(t, c, "SELECT id, repeat('x', 1024 * 1024) AS s FROM range(50)")
		rows := 0
		for {
			page := c.Fetch(op, next, 10000, 0)
			requireOK(t, page.Status, nil)
			got := page.Results.Columns[1].StringVal.Values
			if len(got) == 0 {
				break
			}
			size := 0
			for _, s := range got {
				size += len(s)
			}
			require.Less(t, size, 16_000_000)
			rows += len(got)
		}
		require.Equal(t, 50, rows)
	})
}

// Rows may be asked for while a statement runs: the fetch waits for them and never says that there are none.
func TestFetchWaitsForRows(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		c.All("SELECT 2")
		op := c.Async("SELECT count(DISTINCT id % 1000) FROM range(0, 20000000, 1, 4)")
		require.Equal(t, [][]string{{"1000"}}, testbed.Texts(c.Fetch(op, next, 10, 0).Results))
	})
}

func TestLogsAtAnyTime(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		c.All("SELECT 2")
		check := func(op *tcli.TOperationHandle) {
			for _, o := range []tcli.TFetchOrientation{next, next, first} {
				page := c.Fetch(op, o, 1000, 1)
				requireOK(t, page.Status, nil)
				require.Len(t, page.Results.Columns, 1)
				require.NotNil(t, page.Results.Columns[0].StringVal)
				for _, line := range page.Results.Columns[0].StringVal.Values {
					require.NotContains(t, line, "\n")
				}
			}
		}
		op := c.Async(endless)
		check(op)
		testbed.Until(t, time.Minute, "the log tells of the job", func() bool {
			return strings.Contains(strings.Join(c.Log(op), "\n"), "Stage")
		})
		check(op)
		_, err := c.CancelOperation(context.Background(), &tcli.TCancelOperationReq{OperationHandle: op})
		require.NoError(t, err)
		require.Equal(t, tcli.TOperationState_CANCELED_STATE, c.WaitState(op, 10*time.Second).GetOperationState())
		check(op)
		failed := c.Async("SELECT 1/0")
		c.WaitState(failed, time.Minute)
		check(failed)
		require.NotEmpty(t, testbed.Texts(c.Fetch(failed, first, 1000, 1).Results))
	})
}

// Clients poll without pausing, so an answer waits a while; but never longer than a client's patience.
func TestPollsAreFew(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		c.All("SELECT 2")
		op := c.Async(endless, func(r *tcli.TExecuteStatementReq) { r.QueryTimeout = 10 })
		polls, began := 0, time.Now()
		var last *tcli.TGetOperationStatusResp
		for {
			asked := time.Now()
			last = c.Status(op)
			polls++
			require.Less(t, time.Since(asked), 6*time.Second)
			p := last.ProgressUpdateResponse
			require.NotNil(t, p)
			require.Len(t, p.HeaderNames, 9)
			for _, row := range p.Rows {
				require.Len(t, row, 9)
			}
			if last.GetOperationState() != tcli.TOperationState_RUNNING_STATE {
				break
			}
		}
		require.Equal(t, tcli.TOperationState_TIMEDOUT_STATE, last.GetOperationState())
		require.Contains(t, last.GetErrorMessage(), "time limit of 10s")
		require.Equal(t, "HYT00", last.GetSqlState())
		require.InDelta(t, 10, time.Since(began).Seconds(), 3)
		require.Less(t, polls, 40)
	})
}

// A synchronous statement that fails has no handle: there is nothing to ask it for.
func TestErrorsOfSynchronousStatements(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		op, st := c.Exec("SELECT 1 +")
		requireFailed(t, st, nil, "[PARSE_SYNTAX_ERROR]")
		require.Nil(t, op)
		require.Contains(t, st.GetErrorMessage(), "line 1, pos")
		require.Equal(t, "42601", st.GetSqlState())
	})
}

func TestTextsOfStatements(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		for sql, want := range map[string]string{
			"select 7;": "7", " select 7 ; ;\n": "7", "-- c\nselect 7": "7", "/* c; */ select /* d */ 7 -- e": "7",
			"select ';' as `a;b`": ";", "select 'grün 𝄞' as `ä`": "grün 𝄞", "(select 7)": "7", "with a as (select 7 as b) select * from a": "7",
			"select '--x'": "--x", "\tSELECT\n7": "7", "values (7)": "7",
		} {
			require.Equal(t, [][]string{{want}}, c.All(sql), sql)
		}
	})
}

// Two requests that are sent at once are answered in order, each with its own number.
func TestPipelinedRequests(t *testing.T) {
	conn := shared.Connect()
	defer func() { _ = conn.Close() }()
	require.NoError(t, testbed.Login(conn, "ann", "x"))
	call := func(seq uint32) []byte {
		msg := append([]byte("\x80\x01\x00\x01\x00\x00\x00\x0bNoSuchThing"), binary.BigEndian.AppendUint32(nil, seq)...)
		msg = append(msg, 0)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...)
	}
	_, err := conn.Write(append(call(7), call(8)...))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	for _, seq := range []uint32{7, 8} {
		var head [4]byte
		_, err := io.ReadFull(conn, head[:])
		require.NoError(t, err)
		reply := make([]byte, binary.BigEndian.Uint32(head[:]))
		_, err = io.ReadFull(conn, reply)
		require.NoError(t, err)
		require.Equal(t, []byte{0x80, 1, 0, 3}, reply[:4], "an exception")
		require.Equal(t, seq, binary.BigEndian.Uint32(reply[8+len("NoSuchThing"):]))
	}
}
