//go:build e2e

package hs2

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

func TestVersions(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		for v := range tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V11 + 1 {
			resp := open(t, c, v, nil)
			requireOK(t, resp.Status, nil)
			require.Equal(t, v, resp.ServerProtocolVersion)
			require.Len(t, resp.SessionHandle.SessionId.GUID, 16)
			require.Len(t, resp.SessionHandle.SessionId.Secret, 16)
			require.Regexp(t, `^[1-9]\d*$`, resp.Configuration["hive.server2.thrift.resultset.default.fetch.size"])
			closed, err := c.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: resp.SessionHandle})
			requireOK(t, closed.Status, err)
		}
		for _, v := range []tcli.TProtocolVersion{-7, 99, 0xA501, 0xA509} { // of Databricks' clients, and of nobody
			resp, err := c.OpenSession(context.Background(), &tcli.TOpenSessionReq{ClientProtocol: v, ClientProtocolI64: ptr(int64(0xA508))})
			requireOK(t, resp.GetStatus(), err)
			require.Equal(t, v10, resp.ServerProtocolVersion)
		}
	})
}

func TestConfigurationsOfSessions(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		for _, conf := range []map[string]string{nil, {}, {"no.such.key": "x"}, {"X-CSRF-TOKEN": "x", "X-Forwarded-For": "10.0.0.1"}, {"use:database": "default"},
			{"set:hiveconf:hive.server2.thrift.resultset.default.fetch.size": "7", "set:hivevar:wmpool": "x"}} {
			requireOK(t, open(t, c, v10, conf).Status, nil)
		}
		failed := open(t, c, v10, map[string]string{"sluice.engine.share": "nobody"})
		requireFailed(t, failed.Status, nil, "sluice.engine.share")
		require.Equal(t, v10, failed.ServerProtocolVersion, "without it clients tell of a wrong version in place of the cause")

		c.Session = open(t, c, v10, map[string]string{"set:hiveconf:spark.sql.shuffle.partitions": "13", "set:hivevar:x": "42"}).SessionHandle
		require.Contains(t, c.All("SET"), []string{"spark.sql.shuffle.partitions", "13"})
		require.Equal(t, [][]string{{"42", "42"}}, c.All("SELECT ${x}, ${hivevar:x}"))

		c.Session = open(t, c, v10, map[string]string{"use:database": "no_such_schema"}).SessionHandle
		_, st := c.Exec("SELECT 2")
		requireFailed(t, st, nil, "[SCHEMA_NOT_FOUND]")
	})
}

func TestUnknownCalls(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		for _, method := range []string{"GetLog", "CloseImpalaOperation", "PingImpalaHS2Service", "UploadData"} {
			var result tcli.TCLIServiceCloseSessionResult
			_, err := c.Client_().Call(context.Background(), method, &tcli.TCLIServiceCloseSessionArgs{Req: &tcli.TCloseSessionReq{SessionHandle: c.Session}}, &result)
			var unknown thrift.TApplicationException
			require.ErrorAs(t, err, &unknown, method)
			require.EqualValues(t, thrift.UNKNOWN_METHOD, unknown.TypeId())
			require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"), "the next call works")
		}
	})
}

func TestSmallCalls(t *testing.T) {
	ctx := context.Background()
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		op, _ := c.Exec("SELECT 1")
		id, err := c.GetQueryId(ctx, &tcli.TGetQueryIdReq{OperationHandle: op})
		require.NoError(t, err)
		require.NotEmpty(t, id.QueryId)
		_, err = c.CloseOperation(ctx, &tcli.TCloseOperationReq{OperationHandle: op})
		require.NoError(t, err)
		id, err = c.GetQueryId(ctx, &tcli.TGetQueryIdReq{OperationHandle: op})
		require.NoError(t, err)
		require.Empty(t, id.QueryId)

		for _, conf := range []map[string]string{nil, {"ApplicationName": "x"}} {
			info, err := c.SetClientInfo(ctx, &tcli.TSetClientInfoReq{SessionHandle: c.Session, Configuration: conf})
			requireOK(t, info.GetStatus(), err)
		}
		get, err := c.GetDelegationToken(ctx, &tcli.TGetDelegationTokenReq{SessionHandle: c.Session, Owner: "ann", Renewer: "ann"})
		requireFailed(t, get.GetStatus(), err, "Delegation token is not supported")
		cancel, err := c.CancelDelegationToken(ctx, &tcli.TCancelDelegationTokenReq{SessionHandle: c.Session, DelegationToken: "x"})
		requireFailed(t, cancel.GetStatus(), err, "not supported")
		renew, err := c.RenewDelegationToken(ctx, &tcli.TRenewDelegationTokenReq{SessionHandle: c.Session, DelegationToken: "x"})
		requireFailed(t, renew.GetStatus(), err, "not supported")
	})
}

func TestGetInfo(t *testing.T) {
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		info := func(kind tcli.TGetInfoType) *tcli.TGetInfoResp {
			resp, err := c.GetInfo(context.Background(), &tcli.TGetInfoReq{SessionHandle: c.Session, InfoType: kind})
			require.NoError(t, err, "%s", kind)
			require.NotNil(t, resp.InfoValue)
			return resp
		}
		for kind := range tcli.TGetInfoType(131) {
			info(kind)
		}
		for kind := tcli.TGetInfoType(10000); kind < 10010; kind++ {
			info(kind)
		}
		require.Equal(t, "Spark SQL", info(tcli.TGetInfoType_CLI_DBMS_NAME).InfoValue.GetStringValue())
		require.Equal(t, "Spark SQL", info(tcli.TGetInfoType_CLI_SERVER_NAME).InfoValue.GetStringValue())
		require.Equal(t, testbed.SparkVersion, info(tcli.TGetInfoType_CLI_DBMS_VER).InfoValue.GetStringValue())
		for _, kind := range []tcli.TGetInfoType{tcli.TGetInfoType_CLI_MAX_COLUMN_NAME_LEN, tcli.TGetInfoType_CLI_MAX_SCHEMA_NAME_LEN, tcli.TGetInfoType_CLI_MAX_TABLE_NAME_LEN} {
			require.EqualValues(t, 128, info(kind).InfoValue.GetLenValue())
		}
		require.Contains(t, info(tcli.TGetInfoType_CLI_ODBC_KEYWORDS).InfoValue.GetStringValue(), "LATERAL")
		requireFailed(t, info(tcli.TGetInfoType_CLI_XOPEN_CLI_YEAR).Status, nil, "Unrecognized GetInfoType value")
	})
}

// Everything that runs in a session ends with it, and the connection can be used for another one.
func TestCloseSessionEndsWhatRuns(t *testing.T) {
	ctx := context.Background()
	overBoth(t, func(t *testing.T, c *testbed.HS2) {
		c.All("SELECT 2")
		pid := shared.Engines()[0]
		var ops []*tcli.TOperationHandle
		for range 3 {
			ops = append(ops, c.Async(endless))
		}
		testbed.Until(t, time.Minute, "a job runs", func() bool { return strings.Contains(strings.Join(c.Log(ops[0]), "\n"), "Stage") })
		closed, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: c.Session})
		requireOK(t, closed.GetStatus(), err)
		for _, op := range ops {
			requireFailed(t, c.Status(op).Status, nil, "Invalid OperationHandle")
		}
		again, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: c.Session})
		requireFailed(t, again.GetStatus(), err, "Invalid SessionHandle")
		_, st := c.Exec("SELECT 1")
		requireFailed(t, st, nil, "Invalid SessionHandle")
		testbed.Until(t, 10*time.Second, "Spark has stopped", func() bool { return testbed.Busy(pid) < 0.5 })
		c.Session = c.Open(nil)
		require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"))
	})
}

// impyla opens a session for each cursor on one connection: all are closed when it drops. Over HTTP there is none.
func TestSessionsOfOneConnection(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	sessions := []*tcli.TSessionHandle{c.Session, c.Open(nil)}
	kept := testbed.DialHTTP(t, shared, "ann", nil)
	require.NoError(t, c.Conn.Close())
	over := testbed.OverHTTP(t, shared, "ann", nil)
	testbed.Until(t, 20*time.Second, "both are closed", func() bool {
		for _, s := range sessions {
			info, err := over.GetInfo(context.Background(), &tcli.TGetInfoReq{SessionHandle: s, InfoType: tcli.TGetInfoType_CLI_DBMS_NAME})
			if err != nil || info.Status.StatusCode == tcli.TStatusCode_SUCCESS_STATUS {
				return false
			}
		}
		return true
	})
	require.Equal(t, [][]string{{"1"}}, kept.All("SELECT 1"))
}

func TestIdleSessionsAndOperationsEnd(t *testing.T) {
	g := testbed.StartGateway(t, "", "SLUICE_SESSION_IDLE_TIMEOUT=3s", "SLUICE_SESSION_OPERATION_IDLE_TIMEOUT=1s")
	idle := testbed.DialHTTP(t, g, "ann", nil)
	busy := testbed.DialHTTP(t, g, "ann", nil)
	op, st := busy.Exec("SELECT 1")
	requireOK(t, st, nil)
	asks := func() *tcli.TStatus { // as pools do, to keep a session
		info, err := busy.GetInfo(context.Background(), &tcli.TGetInfoReq{SessionHandle: busy.Session, InfoType: tcli.TGetInfoType_CLI_DBMS_NAME})
		require.NoError(t, err)
		return info.Status
	}
	for began := time.Now(); time.Since(began) < 5*time.Second; { // to ask for the others would keep them, too
		requireOK(t, asks(), nil)
		<-time.After(200 * time.Millisecond) // how often a pool asks
	}
	_, st = idle.Exec("SELECT 1")
	requireFailed(t, st, nil, "Invalid SessionHandle")
	requireFailed(t, busy.Status(op).Status, nil, "Invalid OperationHandle")
	requireOK(t, asks(), nil)
}
