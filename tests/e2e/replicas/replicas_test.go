//go:build e2e

// Package replicas proves several gateways on one PostgreSQL, with real engines that they share.
package replicas

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

var pg *testbed.Postgres

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/replicas")
	s := &testbed.Suite{}
	testbed.SparkHome(s)
	pg = testbed.StartPostgres(s)
	code := m.Run()
	s.End()
	os.Exit(code)
}

// pair is two gateways on a database of their own, of which one hears soon when the other is silent.
func pair(t *testing.T, env ...string) (a, b *testbed.Gateway) {
	t.Helper()
	all := testbed.StartReplicas(t, 2, pg.Database(t), append([]string{"SLUICE_STORE_REPLICA_TIMEOUT=3s", "SLUICE_ENGINE_LEASE=9s", "SLUICE_HS2_DISCONNECT_GRACE=2s"}, env...)...)
	return all[0], all[1]
}

func engineID(c *testbed.HS2) string { return c.All("SET spark.sluice.engine")[0][1] }

func TestFiftySessionsOnTwoGatewaysGetOneEngine(t *testing.T) {
	a, b := pair(t)
	ids := make([]string, 50)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() {
			c := testbed.DialHS2(t, []string{a.Thrift, b.Thrift}[i%2], "ann", "x", nil)
			ids[i] = engineID(c)
		})
	}
	wait.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	require.Len(t, a.Engines(), 1, "one JVM")
	live, err := a.Store(t).LiveEngines(context.Background())
	require.NoError(t, err)
	require.Len(t, live, 1)
	require.GreaterOrEqual(t, live[0].Opened, int64(2), "both gateways hold it")

	// The one that stops leaves the engine to the other.
	a.Stop()
	c := testbed.DialHS2(t, b.Thrift, "ann", "x", nil)
	require.Equal(t, ids[0], engineID(c))
}

// A gateway that is killed leaves sessions, a running statement and an engine; the other one goes on with them under the
// same handles, and the client gets every row once.
func TestAnotherGatewayGoesOnAfterAKill(t *testing.T) {
	ctx := context.Background()
	a, b := pair(t)
	c := testbed.OverHTTP(t, a, "ann", nil)
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10, Configuration: map[string]string{"mark": "kept"}})
	require.NoError(t, err)
	run := func(sql string, async bool) *tcli.TOperationHandle {
		t.Helper()
		resp, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, Statement: sql, RunAsync: async})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode, resp.Status.GetErrorMessage())
		return resp.OperationHandle
	}
	run("CREATE TEMPORARY VIEW mine AS SELECT 'v' AS v", false)
	running := run("SELECT id FROM range(0, 15000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL", true)
	testbed.Until(t, 20*time.Second, "the job runs", func() bool {
		resp, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: running, MaxRows: 700, FetchType: 1})
		require.NoError(t, err)
		return strings.Contains(fmt.Sprint(testbed.Texts(resp.Results)), "Stage ")
	})
	pids := a.Engines()
	a.Kill()

	c = testbed.OverHTTP(t, b, "ann", nil)
	var page *tcli.TFetchResultsResp
	testbed.Until(t, 20*time.Second, "the other gateway has taken over", func() bool {
		page, err = c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: running, MaxRows: 700})
		require.NoError(t, err)
		return page.Status.StatusCode == tcli.TStatusCode_SUCCESS_STATUS
	})
	next := 0
	for {
		rows := testbed.Texts(page.Results)
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			require.Equal(t, fmt.Sprint(next), r[0])
			next++
		}
		page, err = c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: running, MaxRows: 700})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, page.Status.StatusCode, page.Status.GetErrorMessage())
	}
	require.Equal(t, 15000, next, "every row once")
	op := run("SELECT v, '${mark}' FROM mine", false)
	page, err = c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: op, MaxRows: 10})
	require.NoError(t, err)
	require.Equal(t, [][]string{{"v", "kept"}}, testbed.Texts(page.Results))
	require.Equal(t, pids, b.Engines(), "the same engine")
}

// An owner that is stopped past its claim has lost it when it wakes. It must not end the engine that another gateway uses,
// however long it thinks nobody has wanted it.
func TestAPausedOwnerCannotActWhenItWakes(t *testing.T) {
	a, b := pair(t, "SLUICE_ENGINE_IDLE_TIMEOUT=4s")
	owner := testbed.DialHS2(t, a.Thrift, "ann", "x", nil)
	id := engineID(owner)
	_, err := owner.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: owner.Session})
	require.NoError(t, err)
	bystander := testbed.DialHS2(t, a.Thrift, "bob", "x", map[string]string{"k": "v"})
	a.Pause()
	user := testbed.DialHS2(t, b.Thrift, "ann", "x", nil)
	require.Equal(t, id, engineID(user))
	testbed.Until(t, 20*time.Second, "the other gateway owns the engine", func() bool {
		rec, err := b.Store(t).Engine(context.Background(), id)
		require.NoError(t, err)
		return rec.Fence == 2
	})
	a.Resume()
	testbed.Until(t, 20*time.Second, "it finds that it was taken for dead", func() bool { return strings.Contains(a.Log(), "others took it for dead") })
	_, st := bystander.Exec("SET k")
	require.Contains(t, st.GetErrorMessage(), "Invalid SessionHandle", "the session went to the other gateway")
	require.Equal(t, [][]string{{"2"}}, testbed.DialHS2(t, a.Thrift, "ann", "x", nil).All("SELECT 2"), "it goes on, with the same engine")
	for range 20 { // through several of its rounds
		require.Equal(t, id, engineID(user))
		<-time.After(500 * time.Millisecond)
	}
	require.Len(t, b.Engines(), 1)
}

// While the store is away, who is inside goes on, who comes is refused clearly; what happened meanwhile is recorded
// afterwards, and nobody has taken anybody for dead.
func TestTheStoreIsGoneForAWhile(t *testing.T) {
	testbed.Long(t)
	own := testbed.StartPostgres(t)
	all := testbed.StartReplicas(t, 2, own.URL, "SLUICE_STORE_REPLICA_TIMEOUT=10s", "SLUICE_HS2_DISCONNECT_GRACE=1h")
	a, b := all[0], all[1]
	inA, inB := testbed.DialHS2(t, a.Thrift, "ann", "x", nil), testbed.DialHS2(t, b.Thrift, "ann", "x", nil)
	id := engineID(inA)
	require.Equal(t, id, engineID(inB))
	own.Stop()
	away := time.Now()
	op := inA.Async("SELECT id FROM range(0, 20000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL")
	statements := 0
	for time.Since(away) < time.Minute {
		require.Equal(t, [][]string{{"3"}}, inB.All("SELECT 1 + 2"))
		inA.All("SET k" + fmt.Sprint(statements) + "=v")
		statements++
		if statements%20 == 1 {
			late, err := testbed.TryDialHS2(t, a.Thrift, "ann", "x")
			require.NoError(t, err)
			resp, err := late.OpenSession(context.Background(), &tcli.TOpenSessionReq{})
			require.NoError(t, err)
			require.Equal(t, "08004", resp.Status.GetSqlState())
			require.Contains(t, resp.Status.GetErrorMessage(), "no new session can be opened, because it could not be recorded")
			require.NoError(t, late.Conn.Close())
		}
	}
	t.Logf("%d statements in each session while the store was away", statements)
	require.Equal(t, 20000, countRows(t, inA, op))
	code, text := a.Get("/readyz")
	require.NotEqual(t, 200, code, text)
	own.Start()
	testbed.Until(t, 30*time.Second, "new sessions can be opened again", func() bool {
		c, err := testbed.TryDialHS2(t, a.Thrift, "ann", "x")
		require.NoError(t, err)
		defer func() { _ = c.Conn.Close() }()
		resp, err := c.OpenSession(context.Background(), &tcli.TOpenSessionReq{})
		require.NoError(t, err)
		return resp.Status.StatusCode == tcli.TStatusCode_SUCCESS_STATUS
	})
	opID, err := uuid.FromBytes(op.OperationId.GUID)
	require.NoError(t, err)
	testbed.Until(t, 30*time.Second, "what happened meanwhile is recorded", func() bool {
		rec, err := a.Store(t).Operation(context.Background(), opID)
		return err == nil && rec.State == "FINISHED" && rec.Rows == 20000
	})
	sessID, err := uuid.FromBytes(inA.Session.SessionId.GUID)
	require.NoError(t, err)
	testbed.Until(t, 30*time.Second, "and what was set", func() bool {
		rec, err := a.Store(t).Session(context.Background(), sessID)
		return err == nil && rec.Conf["k"+fmt.Sprint(statements-1)] == "v"
	})
	require.Equal(t, id, engineID(inA))
	require.Len(t, a.Engines(), 1)
	for _, g := range all {
		require.NotContains(t, g.Log(), "taken over")
		require.NotContains(t, g.Log(), "took it for dead")
	}
}

// A gateway with a secret of its own could not reach the others' engines, and says so before it does any harm.
func TestASecretThatIsNotTheOthers(t *testing.T) {
	at := pg.Database(t)
	testbed.StartReplicas(t, 1, at)
	cmd := exec.Command(testbed.Binary(t), "gateway")
	cmd.Env = append(os.Environ(), "SLUICE_STORE_URL="+at, "SLUICE_SECRET="+strings.Repeat("another!", 4), "SLUICE_DATA_DIR="+t.TempDir(),
		"SLUICE_LISTEN_THRIFT=127.0.0.1:0", "SLUICE_LISTEN_HTTP=127.0.0.1:0")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "secret: it is not the one that the gateways on store.url have: set the same on each of them")
}

func countRows(t *testing.T, c *testbed.HS2, op *tcli.TOperationHandle) int {
	t.Helper()
	n := 0
	for {
		page := c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 5000, 0)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, page.Status.StatusCode, page.Status.GetErrorMessage())
		got := len(testbed.Texts(page.Results))
		if got == 0 {
			return n
		}
		n += got
	}
}

// Two gateways share a limit: of ten statements that are sent at once to both never more than three run, all run in the end,
// and who waits is told his place. A gateway that is killed takes nothing of the limit with it.
func TestALimitIsSharedAndNeverExceeded(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte("rules: [{to: local}]\nlimits: [{user: \"*\", running: 3}]\n"), 0o600))
	a, b := pair(t, "SLUICE_ROUTE_FILE="+rules, "SLUICE_CLUSTERS_LOCAL_CORES=8", "SLUICE_HS2_DISCONNECT_GRACE=1m")
	testbed.DialHS2(t, a.Thrift, "ann", "x", nil).All("SELECT 1 FROM range(1)") // starts the engine
	most, said := spans(t, a, b)
	require.Equal(t, 3, most)
	require.Contains(t, said, "Waits, because the limit on running of user ann (3) is reached: number ")

	c := testbed.DialHS2(t, a.Thrift, "ann", "x", nil)
	op := c.Async(sleeping(60_000))
	testbed.Until(t, 20*time.Second, "it runs", func() bool { return strings.Contains(strings.Join(c.Log(op), "\n"), "Total jobs") })
	a.Kill()
	testbed.Until(t, 20*time.Second, "the other one has its session", func() bool { return strings.Contains(b.Log(), "session taken over") })
	most, _ = spans(t, b, b)
	require.Equal(t, 2, most, "what runs at the heir since before counts")
}

// sleeping is a statement that sleeps in one row, and says when it began and ended.
func sleeping(ms int) string {
	const now = "java_method('java.lang.System', 'currentTimeMillis')"
	return fmt.Sprintf("SELECT %s, java_method('java.lang.Thread', 'sleep', %dL), %[1]s FROM range(1)", now, ms)
}

// spans sends ten statements at once, and returns how many of them ran at a time at most, and what was said to them.
func spans(t *testing.T, gateways ...*testbed.Gateway) (most int, said string) {
	t.Helper()
	var mu sync.Mutex
	var ends []span
	var wait sync.WaitGroup
	for i := range 10 {
		c := testbed.DialHS2(t, gateways[i%len(gateways)].Thrift, "ann", "x", nil)
		wait.Go(func() {
			op := c.Async(sleeping(700))
			st := c.WaitState(op, time.Minute)
			rows := testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1, 0).Results)
			mu.Lock()
			defer mu.Unlock()
			said += strings.Join(c.Log(op), "\n")
			if len(rows) != 1 {
				t.Errorf("no row: %s", st.GetErrorMessage())
				return
			}
			ends = append(ends, span{rows[0][0], rows[0][2]})
		})
	}
	wait.Wait()
	require.Len(t, ends, 10)
	for _, one := range ends {
		n := 0
		for _, other := range ends {
			if other.begin <= one.begin && one.begin < other.end {
				n++
			}
		}
		most = max(most, n)
	}
	return most, said
}

// span is when a statement ran, in milliseconds as texts of one length.
type span struct{ begin, end string }
