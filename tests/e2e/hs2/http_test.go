//go:build e2e

package hs2

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// A trace that begins in a client's HTTP headers is found in the tags of the Spark jobs that its statement made.
func TestATraceReachesSparksJobs(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	ctx := context.Background()
	events := t.TempDir()
	c := testbed.OverHTTP(t, shared, "tina", map[string]string{"traceparent": "00-" + trace + "-00f067aa0ba902b7-01"})
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10,
		Configuration: map[string]string{"spark.eventLog.enabled": "true", "spark.eventLog.dir": "file://" + events, "spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false"}})
	require.NoError(t, err)
	exec, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, Statement: "SELECT count(*) FROM range(0, 1000, 1, 2)"})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, exec.Status.StatusCode, exec.Status.GetErrorMessage())
	rows, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: exec.OperationHandle, MaxRows: 10})
	require.NoError(t, err)
	require.Equal(t, [][]string{{"1000"}}, testbed.Texts(rows.Results))
	testbed.Until(t, 30*time.Second, "the event log tells of the job", func() bool {
		files, _ := filepath.Glob(filepath.Join(events, "*"))
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err == nil && strings.Contains(string(data), "traceparent=00-"+trace+"-") {
				return true
			}
		}
		return false
	})
	closed, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: open.SessionHandle})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, closed.Status.StatusCode)
}

func TestHTTPRefusesWhatIsNoCall(t *testing.T) {
	for name, tc := range map[string]struct {
		method, body string
		code         int
	}{
		"another method": {http.MethodGet, "", http.StatusMethodNotAllowed},
		"no thrift":      {http.MethodPost, "hello", http.StatusBadRequest},
		"an empty body":  {http.MethodPost, "", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+shared.HTTP+"/cliservice", strings.NewReader(tc.body))
			require.NoError(t, err)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, tc.code, resp.StatusCode)
		})
	}
	resp, err := testbed.OverHTTP(t, shared, "eve", nil).CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: testbed.DialHS2(t, shared.Thrift, "ann", "x", nil).Session})
	require.NoError(t, err)
	require.Contains(t, resp.Status.GetErrorMessage(), "Invalid SessionHandle")
}
