package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/session"
	"github.com/sluicedata/sluice/gateway/spool"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/tests/sim"
)

// gateway is a manager and a launcher over a played cluster, with a real store.
type gateway struct {
	*session.Manager
	store    *store.Store
	launcher *launch.Launcher
	stop     func()
}

// serve starts a gateway whose store is in dir. A test that ends must call stop.
func serve(t *testing.T, w *sim.World, dir string, change ...func(*session.Options)) *gateway {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), filepath.Join(dir, "s.db"))
	require.NoError(t, err)
	r, err := replica.Join(t.Context(), replica.Options{Store: st, Only: true, Timeout: time.Minute, Log: log})
	require.NoError(t, err)
	l := launch.New(launch.Options{Clusters: map[string]engines.Cluster{"c": w}, Drivers: map[engines.Kind]engines.Driver{"spark": w},
		Store: replica.Engines{Replica: r}, StartTimeout: time.Minute, IdleTimeout: time.Hour, Lease: time.Minute, Log: log})
	opt := session.Options{Store: st, Replica: r.ID, Engines: l, Kind: "spark", ShareLevel: launch.User, LogLines: 100,
		IdleTimeout: 6 * time.Hour, OperationIdleTimeout: 3 * time.Hour, Log: log,
		Spool: spool.Limits{Dir: dir, Memory: 1 << 20, Disk: 1 << 20},
		Route: func(user, wish string) (router.Decision, error) {
			return router.Named{Default: "c"}.Pick(router.Request{User: user, Cluster: wish}, []router.State{{Name: "c"}})
		}}
	for _, c := range change {
		c(&opt)
	}
	m := session.NewManager(opt)
	ctx, cancel := context.WithCancel(context.Background())
	engineCtx, stopEngines := context.WithCancel(context.Background())
	ended, enginesEnded := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); _ = m.Run(ctx) }()
	go func() { defer close(enginesEnded); _ = l.Run(engineCtx) }()
	return &gateway{m, st, l, func() {
		cancel()
		<-ended
		stopEngines()
		<-enginesEnded
		require.NoError(t, st.Close())
	}}
}

func (g *gateway) open(t *testing.T, conf map[string]string) *session.Session {
	t.Helper()
	s, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "ann"}, ClientAddr: "10.0.0.1:7", Conf: conf})
	require.NoError(t, err)
	return s
}

func execute(t *testing.T, s *session.Session, text string) *session.Operation {
	t.Helper()
	o, err := s.Execute(t.Context(), session.ExecuteRequest{Text: text})
	require.NoError(t, err)
	return o
}

// ended waits for the end of an operation and everything that follows from it.
func ended(t *testing.T, o *session.Operation) session.Snapshot {
	t.Helper()
	for !o.Wait(t.Context(), time.Hour).State.Terminal() {
	}
	synctest.Wait()
	return o.Snapshot()
}

// rows reads the rows of an operation to their end.
func rows(t *testing.T, o *session.Operation) ([]int64, error) {
	t.Helper()
	var out []int64
	for {
		batches, _, err := o.Rows(t.Context(), int64(len(out)), 100, 1<<20, func(arrow.RecordBatch, int, int) int { return 1 })
		if err != nil || len(batches) == 0 {
			return out, err
		}
		for _, b := range batches {
			out = append(out, b.Column(0).(*array.Int64).Int64Values()...)
			b.Release()
		}
	}
}

// Every event that can end an operation comes while each of its messages is on its way, and the answer comes too late.
func TestALateAnswerChangesNothing(t *testing.T) {
	type event struct {
		fire  func(*gateway, *sim.World, *session.Operation)
		state session.State
		code  string
	}
	events := map[string]event{
		"cancel": {func(_ *gateway, _ *sim.World, o *session.Operation) { o.Cancel() }, session.Canceled, "HY008"},
		"close": {func(_ *gateway, _ *sim.World, o *session.Operation) {
			go func() { _ = o.Close(context.Background()) }()
		}, session.Closed, "HY008"},
		"session close": {func(g *gateway, _ *sim.World, o *session.Operation) {
			go func() { _ = g.Close(context.Background(), o.Session, "test") }()
		}, session.Closed, "HY008"},
		"time limit":  {func(*gateway, *sim.World, *session.Operation) { time.Sleep(2 * time.Minute) }, session.TimedOut, "HYT00"}, //nolint:forbidigo // the clock of the bubble
		"engine lost": {func(_ *gateway, w *sim.World, _ *session.Operation) { w.End("killed") }, session.Failed, "HY000"},
	}
	for _, at := range []string{"platform", "submit", "dial", "identify", "open", "start", "next 0", "next 1", "next 2"} {
		for name, ev := range events {
			t.Run(name+" at "+at, func(t *testing.T) {
				if name == "engine lost" && slices.Index([]string{"platform", "submit", "dial", "identify"}, at) >= 0 {
					t.Skip("there is no engine yet that could be lost")
				}
				synctest.Test(t, func(t *testing.T) {
					w, gate, reached := sim.New(), make(chan struct{}), make(chan struct{})
					first := true
					w.Script = func(_ context.Context, m sim.Message) error {
						if first && (m.String() == at || m.Kind == at) {
							first = false
							close(reached)
							<-gate
						}
						return nil
					}
					g := serve(t, w, t.TempDir())
					defer g.stop()
					o, err := g.open(t, nil).Execute(t.Context(), session.ExecuteRequest{Text: "SELECT ROWS 2", Timeout: time.Minute})
					require.NoError(t, err)
					<-reached
					ev.fire(g, w, o)
					synctest.Wait()
					close(gate)
					snap := ended(t, o)
					for snap.State != ev.state && ev.state == session.Closed {
						synctest.Wait()
						snap = o.Snapshot()
					}
					if name == "engine lost" && at == "open" {
						require.Equal(t, session.Finished, snap.State, "nothing had reached the engine: another one runs the statement")
						return
					}
					require.Equal(t, ev.state, snap.State)
					require.Equal(t, ev.code, snap.Failure.SQLState)
					started := w.Heard("start")
					if !strings.HasPrefix(at, "next") && at != "start" {
						require.Empty(t, started, "what was stopped before it began is not begun")
					}
					if name != "engine lost" && len(started) > 0 {
						require.Equal(t, []string{"cancel SELECT ROWS 2"}, w.Heard("cancel"), "what ran is interrupted")
						require.Equal(t, []string{"release SELECT ROWS 2"}, w.Heard("release"), "and released once")
					}
					got, err := rows(t, o)
					require.Error(t, err, "rows that are not complete have no end: %v", got)
					rec, err := g.store.Operation(t.Context(), o.ID)
					require.NoError(t, err)
					require.Equal(t, string(ev.state), rec.State)
					require.Equal(t, snap, o.Snapshot(), "nothing changes afterwards")
				})
			})
		}
	}
}

// Each message fails in each way that it can. The statement says why it failed, or finishes; the session goes on; nothing
// is left behind.
func TestEveryMessageMayFail(t *testing.T) {
	failures := map[string]error{
		"lost":   fmt.Errorf("%w: connection reset", engines.ErrLost),
		"denied": fmt.Errorf("%w: invalid token", engines.ErrDenied),
		"error":  &engines.Error{Class: "SOME_CLASS", SQLState: "42000", Message: "[SOME_CLASS] it does not want to"},
		"other":  errors.New("disk on fire"),
	}
	for _, at := range []string{"platform", "submit", "dial", "identify", "open", "start", "next 0", "next 1", "next 2", "release", "close", "kill"} {
		for name, failure := range failures {
			t.Run(name+" at "+at, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, broken := sim.New(), false
					w.Script = func(_ context.Context, m sim.Message) error {
						if !broken && (m.String() == at || m.Kind == at) {
							broken = true
							return failure
						}
						return nil
					}
					g := serve(t, w, t.TempDir())
					defer g.stop()
					s := g.open(t, nil)
					o := execute(t, s, "SELECT ROWS 2")
					snap := ended(t, o)
					got, err := rows(t, o)
					if at == "release" || at == "close" || at == "kill" || at == "open" && name == "lost" { // it can go on
						require.Equal(t, session.Finished, snap.State)
						require.Equal(t, []int64{0, 1}, got)
						require.NoError(t, err)
					} else {
						require.Equal(t, session.Failed, snap.State)
						require.NotEmpty(t, snap.Failure.Message)
						require.NotEmpty(t, snap.Failure.SQLState)
						require.Error(t, err)
					}
					next := execute(t, s, "SELECT ROWS 3")
					require.Equal(t, session.Finished, ended(t, next).State, "the next statement works: %v", next.Snapshot().Failure)
					got, err = rows(t, next)
					require.NoError(t, err)
					require.Equal(t, []int64{0, 1, 2}, got)
					require.NoError(t, g.Close(t.Context(), s, "test"))
					synctest.Wait()
					_, _, used := g.launcher.Counts()
					require.Zero(t, used, "no lease is left")
					sessions, ops := g.Counts()
					require.Zero(t, sessions+ops)
				})
			})
		}
	}
}
