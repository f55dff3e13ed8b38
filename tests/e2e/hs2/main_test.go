//go:build e2e

// Package hs2 proves the HiveServer2 front end on a real Spark, call by call, over both of its transports.
package hs2

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// shared is a gateway that most tests use, with one engine: its user is "ann".
var shared *testbed.Gateway

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/hs2")
	s := &testbed.Suite{}
	testbed.SparkHome(s)
	shared = testbed.StartGateway(s, "", "SLUICE_HS2_DISCONNECT_GRACE=2s")
	code := m.Run()
	s.End()
	os.Exit(code)
}

const endless = testbed.Endless

const (
	next  = tcli.TFetchOrientation_FETCH_NEXT
	first = tcli.TFetchOrientation_FETCH_FIRST
	v10   = tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10
)

// overBoth runs a test with a client of each transport.
func overBoth(t *testing.T, f func(t *testing.T, c *testbed.HS2)) {
	t.Run("binary", func(t *testing.T) { f(t, testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)) })
	t.Run("http", func(t *testing.T) { f(t, testbed.DialHTTP(t, shared, "ann", nil)) })
}

func requireOK(t *testing.T, st *tcli.TStatus, err error) {
	t.Helper()
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, st.GetStatusCode(), st.GetErrorMessage())
}

func requireFailed(t *testing.T, st *tcli.TStatus, err error, text string) {
	t.Helper()
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_ERROR_STATUS, st.GetStatusCode())
	require.Contains(t, st.GetErrorMessage(), text)
	require.Len(t, st.GetSqlState(), 5)
	require.Empty(t, st.InfoMessages, "Java clients read them as a stack trace")
}

// open opens a session as a client of that version does.
func open(t *testing.T, c *testbed.HS2, v tcli.TProtocolVersion, conf map[string]string) *tcli.TOpenSessionResp {
	t.Helper()
	resp, err := c.OpenSession(context.Background(), &tcli.TOpenSessionReq{ClientProtocol: v, Configuration: conf})
	require.NoError(t, err)
	return resp
}
