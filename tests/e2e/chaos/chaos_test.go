//go:build e2e

// Package chaos kills gateways and engines at random moments under load, and counts every row.
package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/chaos")
	s := &testbed.Suite{}
	testbed.SparkHome(s)
	code := m.Run()
	s.End()
	os.Exit(code)
}

// field is what the clients and the killer share.
type field struct {
	t       *testing.T
	mu      sync.Mutex
	gateway *testbed.Gateway
	stop    atomic.Bool
	ended   atomic.Int64 // statements that came to an end, good or bad
	good    atomic.Int64
	lost    [5]atomic.Int64 // statements that failed because of a kill, by the class below
	fetched atomic.Int64    // rows
}

// told are the failures that a kill explains: the client knows where it stands.
var told = []string{"The engine was lost", "its rows were lost with the gateway", "was killed before its engine saw it", "its engine no longer holds all of them", "the engine ended before it was ready: its process ended: signal: killed"}

func (f *field) now() *testbed.Gateway {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gateway
}

// client is a client over HTTP that keeps its session whatever happens to the gateway.
type client struct {
	f       *field
	rpc     *tcli.TCLIServiceClient
	session *tcli.TSessionHandle
}

// call repeats a call until the gateway answers. again is false if the call must not be repeated when nobody knows whether
// it was heard.
func call[T any](c *client, again bool, f func(*tcli.TCLIServiceClient) (T, error)) (T, error) {
	var out T
	var err error
	deadline := time.Now().Add(2 * time.Minute)
	for tick := time.Tick(50 * time.Millisecond); ; <-tick {
		if c.rpc == nil {
			c.rpc = testbed.OverHTTP(c.f.t, c.f.now(), "ann", nil)
		}
		if out, err = f(c.rpc); err == nil || !again || time.Now().After(deadline) {
			return out, err
		}
		c.rpc = nil
	}
}

func (c *client) open() error {
	resp, err := call(c, true, func(rpc *tcli.TCLIServiceClient) (*tcli.TOpenSessionResp, error) {
		return rpc.OpenSession(context.Background(), &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10})
	})
	if err != nil || resp.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		return fmt.Errorf("open a session: %v %w", resp, err)
	}
	c.session = resp.SessionHandle
	return nil
}

func (c *client) execute(sql string, again bool) (*tcli.TOperationHandle, error) {
	resp, err := call(c, again, func(rpc *tcli.TCLIServiceClient) (*tcli.TExecuteStatementResp, error) {
		return rpc.ExecuteStatement(context.Background(), &tcli.TExecuteStatementReq{SessionHandle: c.session, Statement: sql, RunAsync: true})
	})
	if err != nil {
		return nil, err
	}
	return resp.OperationHandle, statusError(resp.Status)
}

func statusError(st *tcli.TStatus) error {
	if st.StatusCode == tcli.TStatusCode_SUCCESS_STATUS {
		return nil
	}
	return fmt.Errorf("%w: %s", errTold, st.GetErrorMessage())
}

var errTold = fmt.Errorf("the gateway says")

// read reads the numbers from 0 on, and returns how many there were. A page that was sent twice because the first answer
// was lost is known by where it begins; one that begins too late would be rows that nobody got.
func (c *client) read(op *tcli.TOperationHandle) (int64, error) {
	next := int64(0)
	for {
		page, err := call(c, true, func(rpc *tcli.TCLIServiceClient) (*tcli.TFetchResultsResp, error) {
			return rpc.FetchResults(context.Background(), &tcli.TFetchResultsReq{OperationHandle: op, MaxRows: 5000})
		})
		if err != nil {
			return next, err
		}
		if err := statusError(page.Status); err != nil {
			return next, err
		}
		rows := testbed.Texts(page.Results)
		if page.Results.StartRowOffset > next {
			return next, fmt.Errorf("rows %d to %d were lost", next, page.Results.StartRowOffset)
		}
		skip := next - page.Results.StartRowOffset
		if len(rows) == 0 && skip == 0 {
			return next, nil
		}
		for _, r := range rows[min(skip, int64(len(rows))):] {
			if r[0] != strconv.FormatInt(next, 10) {
				return next, fmt.Errorf("row %d is %s", next, r[0])
			}
			next++
		}
	}
}

func (c *client) close(op *tcli.TOperationHandle) {
	_, _ = call(c, true, func(rpc *tcli.TCLIServiceClient) (*tcli.TCloseOperationResp, error) {
		return rpc.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op})
	})
}

// account counts how a statement ended; what no kill explains is a failure of the test.
func (f *field) account(what string, err error) {
	f.ended.Add(1)
	if err == nil {
		f.good.Add(1)
		return
	}
	for i, text := range told {
		if strings.Contains(err.Error(), text) {
			f.lost[i].Add(1)
			return
		}
	}
	f.t.Errorf("%s: %v", what, err)
}

// reader runs queries of changing size, some that stay in memory and some that go to disk.
func (f *field) reader(n uint64) {
	c := &client{f: f}
	if err := c.open(); err != nil {
		f.t.Error(err)
		return
	}
	sizes := []int64{1, 1000, 50_000, 1_000_000}
	for r := rand.New(rand.NewPCG(n, 0)); !f.stop.Load(); {
		size := sizes[r.IntN(len(sizes))]
		what := fmt.Sprintf("%d rows", size)
		op, err := c.execute(fmt.Sprintf("SELECT id, repeat('x', 20) FROM range(0, %d, 1, 4)", size), true)
		if err == nil {
			var got int64
			got, err = c.read(op)
			f.fetched.Add(got)
			if err == nil && got != size {
				err = fmt.Errorf("%d rows came", got)
			}
			c.close(op)
		}
		f.account(what, err)
	}
}

// writer inserts one number after the other and remembers what it was told of each.
func (f *field) writer() (done, unknown map[string]bool) {
	done, unknown = map[string]bool{}, map[string]bool{}
	c := &client{f: f}
	if err := c.open(); err != nil {
		f.t.Error(err)
		return done, unknown
	}
	for i := 0; !f.stop.Load(); i++ {
		n := strconv.Itoa(i)
		op, err := c.execute("INSERT INTO written VALUES ("+n+")", false)
		if err == nil {
			err = c.wait(op)
			c.close(op)
		}
		if err == nil {
			done[n] = true
		} else {
			unknown[n] = true
			c.rpc = nil
		}
		if err == nil || strings.Contains(err.Error(), errTold.Error()) {
			f.account("insert "+n, err)
		}
	}
	return done, unknown
}

func (c *client) wait(op *tcli.TOperationHandle) error {
	for {
		resp, err := call(c, true, func(rpc *tcli.TCLIServiceClient) (*tcli.TGetOperationStatusResp, error) {
			return rpc.GetOperationStatus(context.Background(), &tcli.TGetOperationStatusReq{OperationHandle: op})
		})
		if err != nil {
			return err
		}
		if err := statusError(resp.Status); err != nil {
			return err
		}
		switch resp.GetOperationState() {
		case tcli.TOperationState_FINISHED_STATE:
			return nil
		case tcli.TOperationState_RUNNING_STATE, tcli.TOperationState_PENDING_STATE, tcli.TOperationState_INITIALIZED_STATE:
		default:
			return fmt.Errorf("%w: %s", errTold, resp.GetErrorMessage())
		}
	}
}

// kills is how often something is killed; SLUICE_CHAOS_KILLS changes it.
func kills(t *testing.T) int {
	if text := os.Getenv("SLUICE_CHAOS_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	if testing.Short() {
		return 20
	}
	return 50
}

func TestKillsUnderLoad(t *testing.T) {
	env := []string{"SLUICE_ENGINE_LEASE=30s", "SLUICE_LIMITS_OPERATIONS_PER_SESSION=0"}
	g := testbed.StartGateway(t, "", env...)
	testbed.DialHS2(t, g.Thrift, "ann", "x", nil).All("CREATE TABLE written (n INT) USING parquet")
	f := &field{t: t, gateway: g}
	var clients sync.WaitGroup
	for n := range 3 {
		clients.Go(func() { f.reader(uint64(n)) })
	}
	var done, unknown map[string]bool
	clients.Go(func() { done, unknown = f.writer() })

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	gateways, engines := 0, 0
	for range kills(t) {
		before := f.ended.Load()
		testbed.Until(t, 2*time.Minute, "work goes on after the last kill", func() bool { return f.ended.Load() > before+2 || t.Failed() })
		if t.Failed() {
			break
		}
		<-time.After(time.Duration(r.IntN(1500)) * time.Millisecond) // a random moment
		if pids := f.now().Engines(); r.IntN(10) < 3 && len(pids) > 0 {
			engines++
			require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
			continue
		}
		gateways++
		old := f.now()
		old.Kill()
		n := old.Restart("", append(env, "SLUICE_LISTEN_HTTP="+old.HTTP)...)
		f.mu.Lock()
		f.gateway = n
		f.mu.Unlock()
	}
	f.stop.Store(true)
	clients.Wait()
	t.Logf("%d gateways and %d engines were killed; %d statements, %d rows fetched; %d went well", gateways, engines, f.ended.Load(), f.fetched.Load(), f.good.Load())
	for i, text := range told {
		t.Logf("%d failed with %q", f.lost[i].Load(), text)
	}
	seen := map[string]int{}
	for _, row := range testbed.DialHS2(t, f.now().Thrift, "ann", "x", nil).All("SELECT n FROM written") {
		seen[row[0]]++
	}
	for n, times := range seen {
		require.Equal(t, 1, times, "%s was written more than once", n)
		require.True(t, done[n] || unknown[n], "%s was never asked for", n)
	}
	for n := range done {
		require.Equal(t, 1, seen[n], "%s was acknowledged, and is not there", n)
	}
	t.Logf("%d inserts were acknowledged, of %d nobody knew", len(done), len(unknown))
}
