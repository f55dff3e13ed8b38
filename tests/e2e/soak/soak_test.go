//go:build e2e

// Package soak keeps a gateway busy for a long time: what grows without end shows.
package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

const (
	idle    = 10_000           // sessions that nobody uses
	active  = 1000             // sessions that each run a statement now and then
	pause   = 50 * time.Second // between the statements of one, about: one engine on two cores runs 50 a second
	coming  = 4                // clients that come, run a statement and go, one after the other
	vanish  = 5                // one in so many of them without a word
	sampled = 5 * time.Second
)

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/soak")
	s := &testbed.Suite{}
	testbed.SparkHome(s)
	code := m.Run()
	s.End()
	os.Exit(code)
}

// A thousand active and ten thousand idle sessions while others come and go: no error, and in the last third the gateway
// holds as much memory and as many goroutines and files as in the first one.
func TestSoak(t *testing.T) {
	span := 20 * time.Minute
	if text := os.Getenv("SLUICE_TEST_SOAK"); text != "" {
		var err error
		span, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	g := testbed.StartGateway(t, "engine: {memory: 2g}", "SLUICE_HS2_MAX_CONNECTIONS=20000", "SLUICE_HS2_DISCONNECT_GRACE=5s", "SLUICE_LOG_LEVEL=warn")
	f := &field{t: t, g: g, end: make(chan struct{})}
	first := f.open(t)
	require.NoError(t, first.query(10))
	empty := f.sample()

	f.clients(idle, func(*client) { <-f.end })
	f.clients(active, f.work)
	testbed.Until(t, 5*time.Minute, "all sessions are open", func() bool { return f.opened.Load() == idle+active || len(f.failures()) > 0 })
	for range coming {
		f.all.Go(f.comeAndGo)
	}
	var samples []sample
	tick := time.NewTicker(sampled)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < span && len(f.failures()) == 0; {
		<-tick.C
		samples = append(samples, f.sample())
	}
	close(f.end)
	f.all.Wait()
	for _, err := range f.failures() {
		t.Error(err)
	}
	require.NoError(t, first.query(10))
	first.close()

	third := len(samples) / 3
	for _, s := range series {
		before, after := median(samples[:third], s.read), median(samples[len(samples)-third:], s.read)
		t.Logf("%s: %.0f at first, %.0f in the end (%.0f before the clients came)", s.what, before, after, s.read(empty))
		if s.flat {
			require.LessOrEqual(t, after, 1.1*before, "%s grow", s.what)
		}
	}
	t.Logf("%d statements, %d visits, %d rows in %s", f.statements.Load(), f.visits.Load(), f.rows.Load(), span)
	require.Greater(t, f.statements.Load(), int64(active)*int64(span)/int64(pause)/2, "the sessions were not active")
	testbed.Until(t, time.Minute, "all sessions are closed", func() bool { return f.metric("sluice_sessions") == 0 })
	testbed.Until(t, time.Minute, "their goroutines are gone", func() bool { return f.metric("go_goroutines") < goroutines(empty)+20 })
}

// field is what all clients share.
type field struct {
	t   *testing.T
	g   *testbed.Gateway
	all sync.WaitGroup
	end chan struct{} // closed when it is over

	opened, statements, visits, rows atomic.Int64

	mu   sync.Mutex
	errs []error
}

func (f *field) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) < 10 {
		f.errs = append(f.errs, err)
	}
}

func (f *field) failures() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.errs)
}

// clients opens sessions, a few at a time, and lets each do something until the end.
func (f *field) clients(n int, do func(*client)) {
	turns := make(chan struct{}, 16)
	for range n {
		turns <- struct{}{}
		f.all.Go(func() {
			c, err := f.dial()
			<-turns
			if err != nil {
				f.fail(err)
				return
			}
			defer c.close()
			f.opened.Add(1)
			do(c)
		})
	}
}

// work runs statements in a session until the end.
func (f *field) work(c *client) {
	for {
		wait := time.NewTimer(time.Duration(rand.Float64() * 2 * float64(pause)))
		select {
		case <-wait.C:
		case <-f.end:
			wait.Stop()
			return
		}
		rows := int64(rand.IntN(100))
		if rand.IntN(20) == 0 {
			rows = 20_000
		}
		if err := c.query(rows); err != nil {
			f.fail(err)
			return
		}
	}
}

func (f *field) comeAndGo() {
	for i := 1; ; i++ {
		select {
		case <-f.end:
			return
		default:
		}
		c, err := f.dial()
		if err == nil {
			err = c.query(int64(i % 50))
		}
		if err != nil {
			f.fail(err)
			return
		}
		if i%vanish == 0 {
			_ = c.Conn.Close()
		} else {
			c.close()
		}
		f.visits.Add(1)
	}
}

// client is one connection with one session.
type client struct {
	*testbed.HS2
	f *field
}

func (f *field) open(t *testing.T) *client {
	t.Helper()
	c, err := f.dial()
	require.NoError(t, err)
	return c
}

func (f *field) dial() (*client, error) {
	c, err := testbed.TryDialHS2(f.t, f.g.Thrift, "ann", "x")
	if err != nil {
		return nil, err
	}
	resp, err := c.OpenSession(context.Background(), &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10})
	if err != nil || resp.SessionHandle == nil {
		return nil, fmt.Errorf("open a session: %v %w", resp, err)
	}
	c.Session = resp.SessionHandle
	return &client{c, f}, nil
}

// query reads so many rows from the engine and looks at each.
func (c *client) query(rows int64) error {
	ctx := context.Background()
	sql := fmt.Sprintf("SELECT id FROM range(0, %d, 1, 1)", rows)
	exec, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: c.Session, Statement: sql, RunAsync: true})
	if err != nil || exec.OperationHandle == nil {
		return fmt.Errorf("%s: %v %w", sql, exec, err)
	}
	next := int64(0)
	for {
		page, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: exec.OperationHandle, MaxRows: 5000})
		if err != nil || page.Results == nil {
			return fmt.Errorf("%s: %v %w", sql, page, err)
		}
		values := page.Results.Columns[0].I64Val.Values
		for _, v := range values {
			if v != next {
				return fmt.Errorf("%s: row %d is %d", sql, next, v)
			}
			next++
		}
		if len(values) == 0 {
			break
		}
	}
	if next != rows {
		return fmt.Errorf("%s gave %d rows", sql, next)
	}
	c.f.statements.Add(1)
	c.f.rows.Add(rows)
	closed, err := c.CloseOperation(ctx, &tcli.TCloseOperationReq{OperationHandle: exec.OperationHandle})
	if err != nil || closed.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		return fmt.Errorf("close an operation: %v %w", closed, err)
	}
	return nil
}

func (c *client) close() {
	resp, err := c.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: c.Session})
	if err != nil || resp.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		c.f.fail(fmt.Errorf("close a session: %v %w", resp, err))
	}
	_ = c.Conn.Close()
}

// sample is the gateway at one moment.
type sample struct {
	metrics string
	memory  int64
	engine  int64
}

func (f *field) sample() sample {
	_, metrics := f.g.Get("/metrics")
	s := sample{metrics: metrics, memory: testbed.Memory(f.g.Cmd.Process.Pid)}
	for _, pid := range f.g.Engines() {
		s.engine += testbed.Memory(pid)
	}
	return s
}

func goroutines(s sample) float64 { return value(s.metrics, "go_goroutines") }

// series is what a sample tells.
var series = []struct {
	what string
	read func(sample) float64
	flat bool // it must not grow
}{
	{"MiB of the gateway", func(s sample) float64 { return float64(s.memory) / (1 << 20) }, true},
	{"goroutines", goroutines, true},
	{"files of the gateway", func(s sample) float64 { return value(s.metrics, "process_open_fds") }, true},
	{"MiB of the engine", func(s sample) float64 { return float64(s.engine) / (1 << 20) }, false}, // a JVM takes its heap in time
}

func median(samples []sample, read func(sample) float64) float64 {
	var all []float64
	for _, s := range samples {
		all = append(all, read(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (f *field) metric(name string) float64 { return value(f.sample().metrics, name) }

func value(metrics, name string) float64 {
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics)
	if m == nil {
		return -1
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}
