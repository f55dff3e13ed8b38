//go:build e2e

package local

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/event"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// lines reads a file of audit records; one that is not there is empty.
func lines(t *testing.T, file string) []event.Record {
	t.Helper()
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	var out []event.Record
	for line := range strings.Lines(string(data)) {
		var r event.Record
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		out = append(out, r)
	}
	return out
}

func audited(t *testing.T, g *testbed.Gateway) []event.Record {
	t.Helper()
	rows, err := g.Store(t).Audit(context.Background(), time.Time{}, time.Now().Add(time.Hour), 10_000)
	require.NoError(t, err)
	for i := range rows {
		rows[i].Time = rows[i].Time.UTC()
	}
	return rows
}

func of(records []event.Record, kind string, match func(event.Record) bool) (out []event.Record) {
	for _, r := range records {
		if r.Kind == kind && match(r) {
			out = append(out, r)
		}
	}
	return out
}

// only returns the one record of a kind that matches.
func only(t *testing.T, records []event.Record, kind string, match func(event.Record) bool) event.Record {
	t.Helper()
	out := of(records, kind, match)
	require.Len(t, out, 1, kind)
	return out[0]
}

func idOf(t *testing.T, h *tcli.THandleIdentifier) string {
	t.Helper()
	id, err := uuid.FromBytes(h.GUID)
	require.NoError(t, err)
	return id.String()
}

func closeOperation(t *testing.T, c *testbed.HS2, op *tcli.TOperationHandle) {
	t.Helper()
	_, err := c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op})
	require.NoError(t, err)
}

// everyOutcome runs statements that end in every way, and closes their session. It returns their ids.
func everyOutcome(t *testing.T, c *testbed.HS2) map[string]string {
	t.Helper()
	ctx := context.Background()
	ops := map[string]string{}
	run := func(name, sql string, change ...func(*tcli.TExecuteStatementReq)) *tcli.TOperationHandle {
		op := c.Async(sql, change...)
		ops[name] = idOf(t, op.OperationId)
		return op
	}
	complete := func(op *tcli.TOperationHandle) { // FINISHED comes with the first rows; who closes before the last ones interrupts
		testbed.Until(t, 2*time.Minute, "the operation is complete", func() bool { return c.Status(op).GetOperationCompleted() != 0 })
	}
	end := func(op *tcli.TOperationHandle) {
		complete(op)
		closeOperation(t, c, op)
	}
	end(run("here", "SET a.b=c"))
	read := run("finished", "SELECT id, 'password' AS secret FROM range(0, 1500, 1, 1)")
	complete(read)
	require.Len(t, testbed.Texts(c.Fetch(read, tcli.TFetchOrientation_FETCH_NEXT, 1000, 0).Results), 1000)
	closeOperation(t, c, read)
	end(run("failed", "SELECT 1/0 FROM range(5)"))
	end(run("wrong", "/* who */ SELEC 1"))
	end(run("timed out", endless, func(r *tcli.TExecuteStatementReq) { r.QueryTimeout = 2 }))
	cancelled := run("cancelled", endless)
	testbed.Until(t, time.Minute, "the job runs", func() bool { return started(c, cancelled) })
	_, err := c.CancelOperation(ctx, &tcli.TCancelOperationReq{OperationHandle: cancelled})
	require.NoError(t, err)
	end(cancelled)
	end(run("long", "SELECT '"+strings.Repeat("ü", 300)+"'"))
	schemas, err := c.GetSchemas(ctx, &tcli.TGetSchemasReq{SessionHandle: c.Session})
	require.NoError(t, err)
	ops["metadata"] = idOf(t, schemas.OperationHandle.OperationId)
	complete(schemas.OperationHandle)
	left := run("left open", "SELECT 2")
	complete(left)
	_, err = c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: c.Session})
	require.NoError(t, err)
	return ops
}

// Statements of every outcome, refusals and closed sessions: the lines and the table say the same of each, once.
func TestAuditTrail(t *testing.T) {
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "logs", "audit.jsonl")
	g := proxying(t, "SLUICE_AUDIT_FILE="+file, "SLUICE_AUDIT_MAX_STATEMENT=300", "SLUICE_SESSION_IDLE_TIMEOUT=30s", "SLUICE_HS2_DISCONNECT_GRACE=500ms")

	_, err := testbed.TryDialHS2(t, g.Thrift, "ann", "wrong")
	require.ErrorIs(t, err, testbed.ErrRefused)
	_, err = testbed.TryDialHS2From(t, "", g.Thrift, "dora", "hue", "x")
	require.ErrorIs(t, err, testbed.ErrRefused)
	_, err = testbed.OverHTTP(t, g, "eve", nil).OpenSession(ctx, openReq(nil))
	require.Error(t, err)

	idle := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.idle_timeout": "1s"})
	c := testbed.DialHS2(t, g.Thrift, "hue", "x", map[string]string{forUser: "bob", "use:database": "default"})
	resp, err := c.OpenSession(ctx, openReq(map[string]string{forUser: "dora"}))
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_ERROR_STATUS, resp.Status.StatusCode)

	ops := everyOutcome(t, c)
	gone := testbed.DialHS2(t, g.Thrift, "carl", "x", nil)
	require.NoError(t, gone.Conn.Close())
	testbed.Until(t, 30*time.Second, "sessions whose clients are silent or gone are closed", func() bool {
		return len(of(lines(t, file), event.SessionClosed, func(event.Record) bool { return true })) == 3
	})
	_, metrics := g.Get("/metrics")
	g.Stop()

	records, table := lines(t, file), audited(t, g)
	byID := map[uuid.UUID]event.Record{}
	for _, r := range records {
		require.NotContains(t, byID, r.ID, "no record twice")
		byID[r.ID] = r
	}
	require.Len(t, table, len(records))
	for _, r := range table {
		require.Equal(t, byID[r.ID], r)
	}

	testAuditedRefusals(t, records)
	testAuditedSessions(t, records, idOf(t, idle.Session.SessionId), idOf(t, c.Session.SessionId), idOf(t, gone.Session.SessionId))
	testAuditedOperations(t, records, ops, idOf(t, c.Session.SessionId))

	var sent int64
	for _, r := range records {
		sent += r.Bytes
	}
	require.Contains(t, metrics, "sluice_hs2_row_bytes_sent_total "+jsonNumber(sent), "the bytes of all operations are those that were sent")
	require.Contains(t, metrics, `sluice_audit_dropped_total{to="store"} 0`)
}

func testAuditedRefusals(t *testing.T, records []event.Record) {
	t.Helper()
	login := only(t, records, event.LoginRefused, func(r event.Record) bool { return r.User == "ann" })
	require.Equal(t, []string{"SLUICE_LOGIN", "28000", "hs2", ""}, []string{login.ErrorClass, login.SQLState, login.FrontEnd, login.RealUser})
	require.True(t, strings.HasPrefix(login.Address, "127.0.0.1:"), login.Address)
	login = only(t, records, event.LoginRefused, func(r event.Record) bool { return r.User == "dora" })
	require.Equal(t, []string{"SLUICE_PROXY_DENIED", "08S01", "hue"}, []string{login.ErrorClass, login.SQLState, login.RealUser})
	login = only(t, records, event.LoginRefused, func(r event.Record) bool { return r.User == "eve" })
	require.Equal(t, "hs2-http", login.FrontEnd)
	refused := only(t, records, event.SessionRefused, func(event.Record) bool { return true })
	require.Equal(t, []string{"dora", "hue", "SLUICE_PROXY_DENIED"}, []string{refused.User, refused.RealUser, refused.ErrorClass})
	require.Contains(t, refused.Error, "Failed to validate proxy privilege of hue for dora: ")
}

func jsonNumber(n int64) string { data, _ := json.Marshal(n); return string(data) }

func testAuditedSessions(t *testing.T, records []event.Record, idle, closed, gone string) {
	t.Helper()
	for id, tc := range map[string]struct{ user, real, reason string }{
		idle:   {"ann", "", "nobody has used it for 1s"},
		closed: {"bob", "hue", "its client closed it"},
		gone:   {"carl", "", "its client is gone for hs2.disconnect_grace"},
	} {
		mine := func(r event.Record) bool { return r.Session == id }
		opened, ended := only(t, records, event.SessionOpened, mine), only(t, records, event.SessionClosed, mine)
		for _, r := range []event.Record{opened, ended} {
			require.Equal(t, []string{tc.user, tc.real, "hs2"}, []string{r.User, r.RealUser, r.FrontEnd})
		}
		require.Contains(t, ended.Reason, tc.reason)
		require.InDelta(t, ended.Time.Sub(opened.Time).Milliseconds(), ended.RanMS, 100)
	}
}

func testAuditedOperations(t *testing.T, records []event.Record, ops map[string]string, session string) {
	t.Helper()
	require.Len(t, of(records, event.OperationEnded, func(event.Record) bool { return true }), len(ops), "one for each, and no other")
	for name, want := range map[string]struct {
		kind, statement, state, class, sqlState, message string
		rows, fetched                                    int64
		engine                                           bool
	}{
		"here":      {"SET", "SET a.b=c", "FINISHED", "", "", "", 1, 0, false},
		"finished":  {"SELECT", "SELECT id, 'password' AS secret FROM range(0, 1500, 1, 1)", "FINISHED", "", "", "", 1500, 1000, true},
		"failed":    {"SELECT", "SELECT 1/0 FROM range(5)", "ERROR", "DIVIDE_BY_ZERO", "22012", "[DIVIDE_BY_ZERO] Division by zero.", 0, 0, true},
		"wrong":     {"SELEC", "/* who */ SELEC 1", "ERROR", "PARSE_SYNTAX_ERROR", "42601", "[PARSE_SYNTAX_ERROR] Syntax error", 0, 0, true},
		"timed out": {"SELECT", endless, "TIMEDOUT", "SLUICE_TIMEOUT", "HYT00", "time limit of 2s", 0, 0, true},
		"cancelled": {"SELECT", endless, "CANCELED", "OPERATION_CANCELED", "HY008", "the statement was cancelled", 0, 0, true},
		"long":      {"SELECT", "SELECT '" + strings.Repeat("ü", 146) + "… (609 bytes)", "FINISHED", "", "", "", 1, 0, true},
		"metadata":  {"GetSchemas", "", "FINISHED", "", "", "", 2, 0, true},
		"left open": {"SELECT", "SELECT 2", "FINISHED", "", "", "", 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := only(t, records, event.OperationEnded, func(r event.Record) bool { return r.Operation == ops[name] })
			require.Equal(t, []string{session, "bob", "hue", "hs2", want.kind, want.statement}, []string{r.Session, r.User, r.RealUser, r.FrontEnd, r.StatementKind, r.Statement})
			require.Equal(t, []string{want.state, want.class, want.sqlState}, []string{r.State, r.ErrorClass, r.SQLState}, r.Error)
			require.Contains(t, r.Error, want.message)
			require.NotContains(t, r.Error, "\n")
			require.Equal(t, []int64{want.rows, want.fetched}, []int64{r.Rows, r.RowsFetched})
			require.Equal(t, want.fetched > 0, r.Bytes > want.fetched*8, "bytes: %d", r.Bytes)
			if want.engine {
				require.Equal(t, []string{"local", "local/spark/user/bob///"}, []string{r.Cluster, r.ShareKey})
				require.NotEmpty(t, r.Engine)
				require.NotEmpty(t, r.Route)
			} else {
				require.Empty(t, r.Engine+r.Cluster+r.ShareKey+r.Route)
			}
			switch name {
			case "timed out":
				require.InDelta(t, 2000, r.WaitedMS+r.RanMS, 900)
			case "finished": // the first one that needed an engine
				require.Greater(t, r.WaitedMS, int64(1000), "it waited for the engine to start")
			}
		})
	}
}

// A statement that another process goes on with, or cannot, is recorded once, by the one that ends it.
func TestAuditAfterAKill(t *testing.T) {
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	env := []string{"SLUICE_AUDIT_FILE=" + file, "SLUICE_ENGINE_LEASE=9s"} // of the catalogue too, which outlives its engine here
	g := testbed.StartGateway(t, "", env...)
	c := testbed.OverHTTP(t, g, "ann", nil)
	open, err := c.OpenSession(ctx, openReq(nil))
	require.NoError(t, err)
	begin := func(sql string) *tcli.TOperationHandle {
		t.Helper()
		resp, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, Statement: sql, RunAsync: true})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode, resp.Status.GetErrorMessage())
		jobRuns(t, c, resp.OperationHandle)
		return resp.OperationHandle
	}
	restart := func() {
		t.Helper()
		g = g.Restart("", append(env, "SLUICE_LISTEN_HTTP="+g.HTTP)...)
		c = testbed.OverHTTP(t, g, "ann", nil)
	}

	goesOn := begin("SELECT id FROM range(0, 5000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL")
	g.Kill()
	restart()
	require.Equal(t, 5000, readAll(t, c, goesOn))
	_, err = c.CloseOperation(ctx, &tcli.TCloseOperationReq{OperationHandle: goesOn})
	require.NoError(t, err)
	isDone := func(op *tcli.TOperationHandle) func(event.Record) bool {
		return func(r event.Record) bool { return r.Operation == idOf(t, op.OperationId) }
	}
	testbed.Until(t, 10*time.Second, "the record is in the store", func() bool { return len(of(audited(t, g), event.OperationEnded, isDone(goesOn))) == 1 })

	lost := begin("SELECT count(*) FROM range(0, 100000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL")
	pids := g.Engines()
	g.Kill()
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	restart()
	_, err = c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: open.SessionHandle})
	require.NoError(t, err)
	g.Stop()

	for where, records := range map[string][]event.Record{"lines": lines(t, file), "table": audited(t, g)} {
		require.Len(t, records, 4, where)
		only(t, records, event.SessionOpened, func(event.Record) bool { return true })
		only(t, records, event.SessionClosed, func(event.Record) bool { return true })
		r := only(t, records, event.OperationEnded, isDone(goesOn))
		require.Equal(t, []any{"FINISHED", int64(5000), int64(5000)}, []any{r.State, r.Rows, r.RowsFetched}, where)
		r = only(t, records, event.OperationEnded, isDone(lost))
		require.NotEqual(t, "FINISHED", r.State, where)
		require.NotEmpty(t, r.ErrorClass, where)
	}
}

func jobRuns(t *testing.T, c *tcli.TCLIServiceClient, op *tcli.TOperationHandle) {
	t.Helper()
	testbed.Until(t, 2*time.Minute, "the job runs", func() bool {
		log, err := c.FetchResults(context.Background(), &tcli.TFetchResultsReq{OperationHandle: op, MaxRows: 1000, FetchType: 1})
		require.NoError(t, err)
		return strings.Contains(strings.Join(flat(testbed.Texts(log.Results)), "\n"), "Stage ")
	})
}

// readAll reads to the end and returns how many rows there were.
func readAll(t *testing.T, c *tcli.TCLIServiceClient, op *tcli.TOperationHandle) (rows int) {
	t.Helper()
	for {
		page, err := c.FetchResults(context.Background(), &tcli.TFetchResultsReq{OperationHandle: op, MaxRows: 1000})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, page.Status.StatusCode, page.Status.GetErrorMessage())
		n := len(testbed.Texts(page.Results))
		if rows += n; n == 0 {
			return rows
		}
	}
}

func flat(rows [][]string) (out []string) {
	for _, r := range rows {
		out = append(out, r...)
	}
	return out
}
