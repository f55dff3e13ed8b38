//go:build e2e

package hs2

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// Two hundred connections at once, half of them over HTTP, on a gateway that was built with the race detector: all get their own
// rows, and the detector has nothing to say. Ten statements run in one session at the same time.
func TestManyConnectionsWithoutARace(t *testing.T) {
	const clients = 200
	g := testbed.StartRaceGateway(t)
	warm := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	warm.All("SELECT 2")

	var all sync.WaitGroup
	failed := make(chan error, 2*clients)
	for i := range clients {
		all.Go(func() {
			if err := visit(t, g, i); err != nil {
				failed <- fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	for i := range 10 {
		all.Go(func() {
			c, err := testbed.TryDialHS2(t, g.Thrift, "ann", "x")
			if err != nil {
				failed <- err
				return
			}
			defer func() { _ = c.Conn.Close() }()
			c.Session = warm.Session
			if got := fmt.Sprint(c.All(fmt.Sprintf("SELECT sum(id) + %d FROM range(1000)", i))); got != fmt.Sprintf("[[%d]]", 499500+i) {
				failed <- fmt.Errorf("statement %d of one session gave %s", i, got)
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
	testbed.Until(t, 30*time.Second, "the sessions are closed", func() bool { return metric(t, g, "sluice_sessions") == 1 })
	require.NotContains(t, g.Log(), "DATA RACE")
	require.NotContains(t, strings.ToLower(g.Log()), "panic")
}

// visit is what one of them does.
func visit(t *testing.T, g *testbed.Gateway, i int) error {
	ctx := context.Background()
	c := testbed.OverHTTP(t, g, "ann", nil)
	if i%2 == 0 {
		over, err := testbed.TryDialHS2(t, g.Thrift, "ann", "x")
		if err != nil {
			return err
		}
		defer func() { _ = over.Conn.Close() }()
		c = over.TCLIServiceClient
	}
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: v10, Configuration: map[string]string{"mine": fmt.Sprint(i)}})
	if err != nil {
		return err
	}
	if open.SessionHandle == nil {
		return fmt.Errorf("open a session: %s", open.Status.GetErrorMessage())
	}
	for _, sql := range []string{"SET mine", "SELECT 'mine', '${mine}'"} {
		exec, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, Statement: sql, RunAsync: i%3 == 0})
		if err != nil {
			return err
		}
		rows, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: exec.OperationHandle, MaxRows: 10})
		if err != nil {
			return err
		}
		if rows.Results == nil {
			return fmt.Errorf("%s: %s%s", sql, exec.Status.GetErrorMessage(), rows.Status.GetErrorMessage())
		}
		if got := fmt.Sprint(testbed.Texts(rows.Results)); got != fmt.Sprintf("[[mine %d]]", i) {
			return fmt.Errorf("%s gave %s", sql, got)
		}
		if _, err := c.GetOperationStatus(ctx, &tcli.TGetOperationStatusReq{OperationHandle: exec.OperationHandle}); err != nil {
			return err
		}
	}
	tables, err := c.GetTables(ctx, &tcli.TGetTablesReq{SessionHandle: open.SessionHandle, SchemaName: pattern("default")})
	if err != nil {
		return err
	}
	if tables.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		return fmt.Errorf("tables: %s", tables.Status.GetErrorMessage())
	}
	closed, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: open.SessionHandle})
	if err == nil && closed.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		err = fmt.Errorf("close: %s", closed.Status.GetErrorMessage())
	}
	return err
}
