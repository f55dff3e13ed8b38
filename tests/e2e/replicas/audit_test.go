//go:build e2e

package replicas

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/tests/testbed"
)

// ended returns the records of operations that the store has.
func ended(t *testing.T, g *testbed.Gateway) (out []store.Audit) {
	t.Helper()
	all, err := g.Store(t).Audit(context.Background(), time.Time{}, time.Now().Add(time.Hour), 10_000)
	if err != nil {
		return nil // it is not there at the moment
	}
	for _, r := range all {
		if r.Kind == "operation_ended" {
			r.Time = r.Time.UTC()
			out = append(out, r)
		}
	}
	return out
}

// While the store is away statements go on, their records are in the lines at once, and in the table when it is back.
func TestAuditWhileTheStoreIsAway(t *testing.T) {
	own := testbed.StartPostgres(t)
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	g := testbed.StartReplicas(t, 1, own.URL, "SLUICE_AUDIT_FILE="+file)[0]
	written := func() int {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		return bytes.Count(data, []byte(`"kind":"operation_ended"`))
	}
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"))
	testbed.Until(t, 10*time.Second, "the first record is in the table", func() bool { return len(ended(t, g)) == 1 })
	own.Stop()
	const n = 500
	began := time.Now()
	for range n {
		c.All("SELECT 1")
	}
	took := time.Since(began)
	t.Logf("%d statements in %s while the store was away", n, took)
	require.Less(t, took, 30*time.Second, "nobody waits for the store")
	testbed.Until(t, 10*time.Second, "the lines tell of all of them", func() bool { return written() == n+1 })
	_, metrics := g.Get("/metrics")
	require.Contains(t, metrics, "sluice_audit_waiting 500")
	own.Start()
	testbed.Until(t, 30*time.Second, "the table does, too", func() bool { return len(ended(t, g)) == n+1 })
	_, metrics = g.Get("/metrics")
	require.Contains(t, metrics, "sluice_audit_waiting 0")
	require.Contains(t, metrics, `sluice_audit_dropped_total{to="store"} 0`)

	inLines := map[string]store.Audit{}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		var r store.Audit
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		inLines[r.ID.String()] = r
	}
	for _, r := range ended(t, g) {
		require.Equal(t, inLines[r.ID.String()], r)
	}
}

// An operation that another gateway takes over is recorded once, by that one.
func TestAuditOfWhatWasTakenOver(t *testing.T) {
	ctx := context.Background()
	a, b := pair(t)
	c := testbed.OverHTTP(t, a, "ann", nil)
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10})
	require.NoError(t, err)
	resp, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, RunAsync: true,
		Statement: "SELECT id FROM range(0, 4000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL"})
	require.NoError(t, err)
	page, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: resp.OperationHandle, MaxRows: 10})
	require.NoError(t, err)
	require.NotEmpty(t, testbed.Texts(page.Results))
	a.Kill()

	c = testbed.OverHTTP(t, b, "ann", nil)
	rows := len(testbed.Texts(page.Results))
	testbed.Until(t, 2*time.Minute, "the other gateway has given all rows", func() bool {
		page, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: resp.OperationHandle, MaxRows: 1000})
		require.NoError(t, err)
		if page.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
			require.Contains(t, page.Status.GetErrorMessage(), "Invalid OperationHandle", "not taken over yet")
			return false
		}
		n := len(testbed.Texts(page.Results))
		// A gateway that is killed before it has stored that a page was sent leaves it to the next one to send it again.
		rows = max(rows, int(page.Results.StartRowOffset)+n)
		return n == 0
	})
	require.Equal(t, 4000, rows)
	closed, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: open.SessionHandle})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, closed.Status.StatusCode)
	testbed.Until(t, 10*time.Second, "the record is in the store", func() bool { return len(ended(t, b)) > 0 })
	b.Stop()
	list := ended(t, b)
	require.Len(t, list, 1)
	require.Equal(t, []any{"FINISHED", int64(4000), int64(4000)}, []any{list[0].State, list[0].Rows, list[0].RowsFetched})
	replicas := list[0].Gateway
	all, err := b.Store(t).Audit(ctx, time.Time{}, time.Now().Add(time.Hour), 100)
	require.NoError(t, err)
	for _, r := range all {
		require.Equal(t, r.Kind == "session_opened", r.Gateway != replicas, "the session was opened by the one, and the rest was written by the other")
	}
}
