//go:build e2e

package local

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

const endless = testbed.Endless

// busy says how many cores a process uses at the moment.
func busy(pid int) float64 { return testbed.Busy(pid) }

// engineOf returns the process of a user's engine.
func engineOf(t *testing.T, g *testbed.Gateway, user string) int {
	for _, pid := range g.Engines() {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && strings.Contains(string(data), "spark.app.name=sluice-"+user+"\x00") {
			return pid
		}
	}
	t.Fatalf("no engine of %s runs", user)
	return 0
}

func TestCancelStopsTheJob(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("SELECT 2")
	pid := engineOf(t, shared, "ann")
	op := c.Async(endless)
	testbed.Until(t, time.Minute, "the job runs", func() bool { return busy(pid) > 0.8 })
	testbed.Within(t, 2*time.Second, "cancel", func() {
		resp, err := c.CancelOperation(context.Background(), &tcli.TCancelOperationReq{OperationHandle: op})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode)
		require.Equal(t, tcli.TOperationState_CANCELED_STATE, c.WaitState(op, 2*time.Second).GetOperationState())
	})
	require.Less(t, busy(pid), 0.5, "the job on Spark has stopped")
	again, err := c.CancelOperation(context.Background(), &tcli.TCancelOperationReq{OperationHandle: op})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, again.Status.StatusCode, "cancelling twice is no error")
	require.Equal(t, [][]string{{"2"}}, c.All("SELECT 2"))
}

// A statement that is cancelled while Spark still plans it leaves no job behind that nobody can stop.
func TestAnEarlyCancelStopsTheJob(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("SELECT 2")
	for i := range 10 {
		op := c.Async(endless)
		<-time.After(time.Duration(i) * 10 * time.Millisecond) // from the first message to the running job
		resp, err := c.CancelOperation(context.Background(), &tcli.TCancelOperationReq{OperationHandle: op})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode)
		require.Equal(t, tcli.TOperationState_CANCELED_STATE, c.WaitState(op, 5*time.Second).GetOperationState())
	}
	pid := engineOf(t, shared, "ann")
	testbed.Until(t, 5*time.Second, "no job runs", func() bool { return busy(pid) < 0.5 })
}

func TestTimeLimit(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("SELECT 2")
	op := c.Async(endless, func(r *tcli.TExecuteStatementReq) { r.QueryTimeout = 2 })
	resp := c.WaitState(op, 10*time.Second)
	require.Equal(t, tcli.TOperationState_TIMEDOUT_STATE, resp.GetOperationState())
	require.Equal(t, "HYT00", resp.GetSqlState())
	require.Contains(t, resp.GetErrorMessage(), "time limit of 2s")
	require.Less(t, busy(engineOf(t, shared, "ann")), 0.5)
}

func TestCloseStopsTheJob(t *testing.T) {
	ctx := context.Background()
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("SELECT 2")
	pid := engineOf(t, shared, "ann")
	op := c.Async(endless)
	testbed.Until(t, time.Minute, "the job runs", func() bool { return busy(pid) > 0.8 })
	resp, err := c.CloseOperation(ctx, &tcli.TCloseOperationReq{OperationHandle: op})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode)
	require.Less(t, busy(pid), 0.5)
	resp, err = c.CloseOperation(ctx, &tcli.TCloseOperationReq{OperationHandle: op})
	require.NoError(t, err)
	require.Contains(t, resp.Status.GetErrorMessage(), "Invalid OperationHandle")

	closed, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: c.Session})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, closed.Status.StatusCode)
	_, st := c.Exec("SELECT 1")
	require.Contains(t, st.GetErrorMessage(), "Invalid SessionHandle")
	c.Session = c.Open(nil)
	require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"), "the connection goes on")
}

func TestAVanishedClientLeavesNothing(t *testing.T) {
	for name, sync := range map[string]bool{"asynchronous": false, "synchronous": true} {
		t.Run(name, func(t *testing.T) {
			c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
			c.All("SELECT 2")
			pid := engineOf(t, shared, "ann")
			if sync {
				go func() {
					_, _ = c.ExecuteStatement(context.Background(), &tcli.TExecuteStatementReq{SessionHandle: c.Session, Statement: endless})
				}()
			} else {
				c.Async(endless)
			}
			testbed.Until(t, time.Minute, "the job runs", func() bool { return busy(pid) > 0.8 })
			require.NoError(t, c.Conn.Close())
			testbed.Until(t, 15*time.Second, "the job ends", func() bool { return busy(pid) < 0.5 })
			id, err := uuid.FromBytes(c.Session.SessionId.GUID)
			require.NoError(t, err)
			testbed.Until(t, 15*time.Second, "the session is closed", func() bool {
				return regexp.MustCompile(`session closed.*session=` + id.String() + `.*its client is gone`).MatchString(shared.Log())
			})
		})
	}
}

func TestASessionOutlivesItsConnection(t *testing.T) {
	a := testbed.DialHS2(t, shared.Thrift, "nobody", "x", map[string]string{"k": "v"})
	b := testbed.DialHS2(t, shared.Thrift, "nobody", "x", nil)
	b.Session = a.Session
	require.Equal(t, [][]string{{"k", "v"}}, b.All("SET k"))
	require.NoError(t, a.Conn.Close())
	<-time.After(3 * time.Second) // longer than the grace time
	require.Equal(t, [][]string{{"k", "v"}}, b.All("SET k"), "another connection still uses it")
}

func TestForeignHandlesDoNotExist(t *testing.T) {
	ctx := context.Background()
	ann := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	op, _ := ann.Exec("SELECT 1")
	eve := testbed.DialHS2(t, shared.Thrift, "eve", "x", nil)
	own := eve.Session
	eve.Session = ann.Session
	_, st := eve.Exec("SELECT 1")
	require.Contains(t, st.GetErrorMessage(), "Invalid SessionHandle")
	require.Contains(t, eve.Status(op).Status.GetErrorMessage(), "Invalid OperationHandle")
	require.Contains(t, eve.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1, 0).Status.GetErrorMessage(), "Invalid OperationHandle")
	cancel, err := eve.CancelOperation(ctx, &tcli.TCancelOperationReq{OperationHandle: op})
	require.NoError(t, err)
	require.Contains(t, cancel.Status.GetErrorMessage(), "Invalid OperationHandle")
	closed, err := eve.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: ann.Session})
	require.NoError(t, err)
	require.Contains(t, closed.Status.GetErrorMessage(), "Invalid SessionHandle")

	ann.Session.SessionId.Secret[3] ^= 1
	_, st = ann.Exec("SELECT 1")
	require.Contains(t, st.GetErrorMessage(), "Invalid SessionHandle", "the secret is looked at")
	eve.Session = own
	require.Equal(t, [][]string{{"1"}}, eve.All("SELECT 1"))
}

func TestMalformedBytes(t *testing.T) {
	frame := func(data string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
	}
	for name, tc := range map[string]struct {
		login bool
		bytes []byte
	}{
		"http":                   {false, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		"bare thrift":            {false, []byte("\x80\x01\x00\x01\x00\x00\x00\x0bOpenSession\x00\x00\x00\x01")},
		"huge negotiation":       {false, []byte("\x01\xff\xff\xff\xff")},
		"unknown mechanism":      {false, testbed.Message(1, "GSSAPI")},
		"empty password":         {false, append(testbed.Message(1, "PLAIN"), testbed.Message(5, "\x00ann\x00")...)},
		"no separators":          {false, append(testbed.Message(1, "PLAIN"), testbed.Message(5, "ann")...)},
		"huge frame":             {true, []byte("\xff\xff\xff\xff")},
		"garbage":                {true, frame("this is no thrift message")},
		"a list without end":     {true, frame("\x80\x01\x00\x01\x00\x00\x00\x0aGetColumns\x00\x00\x00\x01\x0f\x00\x01\x0c\x7f\xff\xff\xff")},
		"a string of 2 GiB":      {true, frame("\x80\x01\x00\x01\x7f\xff\xff\xff")},
		"a struct that is open":  {true, frame("\x80\x01\x00\x01\x00\x00\x00\x0bOpenSession\x00\x00\x00\x01\x0c\x00\x01")},
		"the beginning of frame": {true, []byte("\x00\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			conn := shared.Connect()
			defer func() { _ = conn.Close() }()
			if tc.login {
				require.NoError(t, testbed.Login(conn, "ann", "x"))
			}
			_, err := conn.Write(tc.bytes)
			require.NoError(t, err)
			if c, ok := conn.(*net.TCPConn); ok {
				require.NoError(t, c.CloseWrite())
			}
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			_, err = io.Copy(io.Discard, conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server ends the connection")
		})
	}
	require.Equal(t, [][]string{{"1"}}, testbed.DialHS2(t, shared.Thrift, "ann", "x", nil).All("SELECT 1"))
}

func TestAKilledEngine(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "bob", "x", map[string]string{"kept": "yes"})
	c.All("CREATE DATABASE IF NOT EXISTS killed")
	c.All("USE killed")
	c.All("CREATE TABLE IF NOT EXISTS t USING parquet AS SELECT 7 AS n")
	c.All("CREATE TABLE IF NOT EXISTS u USING parquet AS SELECT 8 AS n")
	c.All("SET spark.sql.shuffle.partitions=9")
	c.All("CREATE TEMPORARY VIEW kept_view AS SELECT n + 1 AS m FROM t")
	c.All("CREATE TEMPORARY VIEW gone_view AS SELECT * FROM u")
	c.All("DROP TABLE u")
	c.All("USE default")
	pid := engineOf(t, shared, "bob")
	op := c.Async(endless)
	testbed.Until(t, time.Minute, "the job runs", func() bool { return busy(pid) > 0.8 })
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	var resp *tcli.TGetOperationStatusResp
	testbed.Within(t, 15*time.Second, "hearing of it", func() { resp = c.WaitState(op, 15*time.Second) })
	require.Equal(t, tcli.TOperationState_ERROR_STATE, resp.GetOperationState())
	require.Contains(t, resp.GetErrorMessage(), "The engine was lost while the statement ran")
	require.Contains(t, resp.GetErrorMessage(), "killed")
	require.Contains(t, resp.GetErrorMessage(), "engine.log")

	op = c.Async("SELECT n, current_database(), '${kept}', m FROM killed.t, kept_view")
	require.Equal(t, tcli.TOperationState_FINISHED_STATE, c.WaitState(op, time.Minute).GetOperationState())
	require.Equal(t, [][]string{{"7", "default", "yes", "8"}}, testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results),
		"the next statement has a new engine, the table, the session's settings and its temporary view")
	log := strings.Join(c.Log(op), "\n")
	require.Contains(t, log, "Made again on the new engine: view kept_view")
	require.Contains(t, log, "Could not be made again on the new engine: view gone_view: [TABLE_OR_VIEW_NOT_FOUND]")
	require.Equal(t, [][]string{{"spark.sql.shuffle.partitions", "9"}}, c.All("SET spark.sql.shuffle.partitions"))
	require.NotEqual(t, pid, engineOf(t, shared, "bob"))
}

func TestAnEngineThatDoesNotStart(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "carl", "x", map[string]string{"spark.serializer": "no.such.Serializer"})
	_, st := c.Exec("SELECT 2")
	require.Equal(t, tcli.TStatusCode_ERROR_STATUS, st.StatusCode)
	require.Contains(t, st.GetErrorMessage(), "ClassNotFoundException: no.such.Serializer", "the engine's own root cause")
	require.Contains(t, st.GetErrorMessage(), "engine.log", "and where its log is")
	c.All("RESET spark.serializer")
	op := c.Async("SELECT 2") // the next statement gets an engine, and its log says how
	require.Equal(t, tcli.TOperationState_FINISHED_STATE, c.WaitState(op, time.Minute).GetOperationState())
	log := strings.Join(c.Log(op), "\n")
	require.Contains(t, log, "Routed to cluster local")
	require.Contains(t, log, "Starting a spark engine on cluster local")
	require.Contains(t, log, "is ready: Spark 4.3.0")
}

func TestAResultAboveTheLimitOfTheDriver(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "dora", "x", map[string]string{"spark.driver.maxResultSize": "1m"})
	op, st := c.Exec("SELECT id, repeat('x', 100) FROM range(0, 200000, 1, 4)")
	if st.StatusCode == tcli.TStatusCode_SUCCESS_STATUS { // the first rows came before the limit was met
		for {
			page := c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10000, 0)
			if st = page.Status; st.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
				break
			}
			require.NotEmpty(t, testbed.Texts(page.Results), "the rows end without an error")
		}
	}
	require.Contains(t, st.GetErrorMessage(), "spark.driver.maxResultSize")
}
