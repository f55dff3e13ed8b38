//go:build e2e

package local

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

func TestARestartedGatewayFindsItsEngines(t *testing.T) {
	g := testbed.StartGateway(t, "")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	id := engineID(c)
	pids := g.Engines()
	require.Len(t, pids, 1)
	g.Kill()

	n := g.Restart("")
	c = testbed.DialHS2(t, n.Thrift, "ann", "x", nil)
	testbed.Within(t, 10*time.Second, "the first statement", func() {
		require.Equal(t, id, engineID(c), "the same engine, found by listing")
	})
	require.Equal(t, pids, n.Engines(), "no other was started")
	require.Contains(t, n.Log(), "engine taken over")
	n.Stop()
	n.WaitNoProcess(10 * time.Second)
}

// Over HTTP a client notices a killed gateway only as a request that failed: its session, and the statement that ran, go
// on under the same handles, and it gets every row once.
func TestAClientOverHTTPGoesOnAfterAKill(t *testing.T) {
	ctx := context.Background()
	g := testbed.StartGateway(t, "")
	c := testbed.OverHTTP(t, g, "ann", nil)
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10, Configuration: map[string]string{"mark": "kept"}})
	require.NoError(t, err)
	run := func(sql string, async bool) *tcli.TOperationHandle {
		t.Helper()
		resp, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, Statement: sql, RunAsync: async})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode, resp.Status.GetErrorMessage())
		return resp.OperationHandle
	}
	fetch := func(op *tcli.TOperationHandle, kind int16) *tcli.TFetchResultsResp {
		t.Helper()
		resp, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: op, MaxRows: 700, FetchType: kind})
		require.NoError(t, err)
		return resp
	}
	run("CREATE DATABASE gone_on", false)
	run("USE gone_on", false)
	run("CREATE TEMPORARY VIEW mine AS SELECT 'v' AS v", false)
	ended := run("SELECT 'ended'", false)
	running := run("SELECT id FROM range(0, 5000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL", true)
	testbed.Until(t, 20*time.Second, "the job runs", func() bool {
		return strings.Contains(fmt.Sprint(testbed.Texts(fetch(running, 1).Results)), "Stage ")
	})
	pids := g.Engines()
	g.Kill()

	n := g.Restart("", "SLUICE_LISTEN_HTTP="+g.HTTP)
	c = testbed.OverHTTP(t, n, "ann", nil)
	next := 0
	for {
		page := fetch(running, 0)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, page.Status.StatusCode, page.Status.GetErrorMessage())
		rows := testbed.Texts(page.Results)
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			require.Equal(t, fmt.Sprint(next), r[0])
			next++
		}
	}
	require.Equal(t, 5000, next, "every row once")
	require.Contains(t, fetch(ended, 0).Status.GetErrorMessage(), "its rows were lost with the gateway that held them: run it again")
	require.Equal(t, [][]string{{"v", "gone_on", "kept"}}, testbed.Texts(fetch(run("SELECT v, current_database(), '${mark}' FROM mine", false), 0).Results))
	require.Equal(t, pids, n.Engines(), "the same engine")
	n.Stop()
	n.WaitNoProcess(10 * time.Second)
}
