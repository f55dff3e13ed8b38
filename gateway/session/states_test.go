package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	return serveOn(t, map[string]engines.Cluster{"c": w}, w, dir, change...)
}

// serveOn starts a gateway with several clusters; the driver of one of them plays all engines.
func serveOn(t *testing.T, clusters map[string]engines.Cluster, w engines.Driver, dir string, change ...func(*session.Options)) *gateway {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), filepath.Join(dir, "s.db"))
	require.NoError(t, err)
	r, err := replica.Join(t.Context(), replica.Options{Store: st, Only: true, Timeout: time.Minute, Log: log})
	require.NoError(t, err)
	l := launch.New(launch.Options{Clusters: clusters, Drivers: map[engines.Kind]engines.Driver{"spark": w},
		Store: replica.Engines{Replica: r}, Memory: "1g", StartTimeout: time.Minute, IdleTimeout: time.Hour, Lease: time.Minute, Log: log})
	opt := session.Options{Store: st, Replica: r.ID, Engines: l, Kind: "spark", ShareLevel: launch.User, LogLines: 100,
		IdleTimeout: 6 * time.Hour, OperationIdleTimeout: 3 * time.Hour, Log: log,
		Spool:  spool.Limits{Dir: dir, Memory: 1 << 20, Disk: 1 << 20, TotalMemory: 1 << 20, TotalDisk: 1 << 20},
		Router: sim.NewRouter(slices.Sorted(maps.Keys(clusters))...)}
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
					if ev.state == session.Closed {
						<-time.After(time.Second) // the rest of a result is waited for a little
					}
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

// A statement that only reads, and of which nobody has had a row, is run again when its engine is lost, if its session
// says so.
func TestReadsAreRunAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		text  string
		retry string
		read  bool // the client has had a row when the engine is lost
		again bool
	}{
		"a query":                    {"SELECT ROWS 2", "true", false, true},
		"a list":                     {"SHOW TABLES", "true", false, true},
		"a common table expression":  {"WITH a AS (SELECT 1) SELECT * FROM a", "true", false, true},
		"nobody asked for it":        {"SELECT ROWS 2", "", false, false},
		"not wanted":                 {"SELECT ROWS 2", "false", false, false},
		"it has been read":           {"SELECT ROWS 2", "true", true, false},
		"it writes":                  {"INSERT INTO t SELECT 1", "true", false, false},
		"it writes by an expression": {"WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "true", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, lose := sim.New(), make(chan struct{})
				reached := make(chan struct{})
				first := true
				w.Script = func(_ context.Context, m sim.Message) error {
					if m.String() == "next 1" && first { // the first row is there
						first = false
						close(reached)
						<-lose
						return fmt.Errorf("%w: killed", engines.ErrLost)
					}
					return nil
				}
				g := serve(t, w, t.TempDir())
				defer g.stop()
				conf := map[string]string{}
				if tc.retry != "" {
					conf[session.RetryKey] = tc.retry
				}
				o := execute(t, g.open(t, conf), tc.text)
				<-reached
				synctest.Wait()
				if tc.read {
					b, _, err := o.Rows(t.Context(), 0, 1, 1<<20, func(arrow.RecordBatch, int, int) int { return 1 })
					require.NoError(t, err)
					require.Len(t, b, 1)
					b[0].Release()
				}
				close(lose)
				snap := ended(t, o)
				if !tc.again {
					require.Equal(t, session.Failed, snap.State)
					require.Len(t, w.Heard("start"), 1)
					return
				}
				require.Equal(t, session.Finished, snap.State, "%v", snap.Failure)
				require.Len(t, w.Heard("start"), 2)
				got, err := rows(t, o)
				require.NoError(t, err)
				want := []int64{0}
				if tc.text == "SELECT ROWS 2" {
					want = []int64{0, 1}
				}
				require.Equal(t, want, got, "every row once")
			})
		})
	}
}

func TestLimits(t *testing.T) {
	w := sim.New()
	hold := make(chan struct{})
	w.Script = func(ctx context.Context, m sim.Message) error {
		if m.Kind == "submit" {
			select {
			case <-hold:
			case <-ctx.Done():
			}
		}
		return nil
	}
	g := serve(t, w, t.TempDir(), func(o *session.Options) {
		o.Limits = session.Limits{Sessions: 5, SessionsPerUser: 3, SessionsPerAddress: 4, OperationsPerSession: 2, Waiting: 1}
	})
	defer g.stop()
	open := func(user, address string) (*session.Session, error) {
		return g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: user}, ClientAddr: address})
	}
	var all []*session.Session
	for range 3 {
		s, err := open("ann", "10.0.0.1:1")
		require.NoError(t, err)
		all = append(all, s)
	}
	_, err := open("ann", "10.0.0.2:1")
	require.ErrorContains(t, err, "ann has too many; close some: limits.sessions_per_user (3) is reached")
	_, err = open("bob", "10.0.0.1:2")
	require.NoError(t, err)
	_, err = open("carl", "10.0.0.1:3")
	require.ErrorContains(t, err, "too many from 10.0.0.1; close some: limits.sessions_per_address (4) is reached")
	_, err = open("carl", "10.0.0.2:3")
	require.NoError(t, err)
	_, err = open("dora", "10.0.0.3:3")
	require.ErrorContains(t, err, "limits.sessions (5) is reached")
	require.NoError(t, g.Close(t.Context(), all[2], "test"))
	_, err = open("ann", "10.0.0.2:1")
	require.NoError(t, err, "one that is closed makes room")

	first := execute(t, all[0], "SELECT ROWS 1")
	require.Eventually(t, func() bool { return len(w.Heard("submit")) == 1 }, 5*time.Second, time.Millisecond)
	second := execute(t, all[1], "SELECT ROWS 1")
	for !second.Wait(t.Context(), time.Second).State.Terminal() {
	}
	require.Equal(t, "SLUICE_LIMIT", second.Snapshot().Failure.Class)
	require.Equal(t, "53400", second.Snapshot().Failure.SQLState)
	require.Contains(t, second.Snapshot().Failure.Message, "limits.waiting (1) is reached")
	execute(t, all[0], "SET a=b")
	_, err = all[0].Execute(t.Context(), session.ExecuteRequest{Text: "SET a=c"})
	require.ErrorContains(t, err, "limits.operations_per_session (2) is reached")
	close(hold)
	for !first.Wait(t.Context(), time.Second).State.Terminal() {
	}
	require.Equal(t, session.Finished, first.Snapshot().State)
	require.NoError(t, first.Close(t.Context()))
	execute(t, all[0], "SET a=c")
}

// A gateway that another one has taken over from can change nothing any more, whatever answers it still gets.
func TestATakenOverGatewayChangesNothing(t *testing.T) {
	w, dir := sim.New(), t.TempDir()
	gate, reached := make(chan struct{}), make(chan struct{})
	first := true
	w.Script = func(_ context.Context, m sim.Message) error {
		if m.String() == "next 1" && first {
			first = false
			close(reached)
			<-gate
		}
		return nil
	}
	paused := serve(t, w, dir)
	s := paused.open(t, map[string]string{"k": "v"})
	o := execute(t, s, "SELECT ROWS 3")
	<-reached
	heir := serve(t, w, dir)
	adopted, err := heir.Adopt(t.Context())
	require.NoError(t, err)
	require.Len(t, adopted, 1)
	next, err := heir.Operation(o.ID, o.Secret[:], func(*session.Session) bool { return true })
	require.NoError(t, err)
	for !next.Wait(t.Context(), time.Second).State.Terminal() {
	}
	require.Equal(t, session.Finished, next.Snapshot().State, "%v", next.Snapshot().Failure)
	got, err := rows(t, next)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 1, 2}, got)
	require.NoError(t, next.Close(t.Context()))
	require.NoError(t, heir.Close(t.Context(), adopted[0], "test"))

	close(gate)
	for !o.Wait(t.Context(), time.Second).State.Terminal() {
	}
	require.NoError(t, func() error { _, err := paused.store.Operation(t.Context(), o.ID); return err }())
	rec, err := paused.store.Operation(t.Context(), o.ID)
	require.NoError(t, err)
	require.Equal(t, string(session.Closed), rec.State, "the late answer is not recorded")
	require.ErrorIs(t, paused.Close(t.Context(), s, "late"), store.ErrFenced)
	heir.stop()
	paused.stop()
	require.Empty(t, w.Heard("kill")[1:], "the engine is ended once, by who owns it")
}

func TestProfiles(t *testing.T) {
	w := sim.New()
	g := serve(t, w, t.TempDir(), func(o *session.Options) {
		o.Profiles = map[string]session.Profile{"bi": {ShareLevel: "server", Conf: map[string]string{"spark.a": "profile", "spark.b": "profile"},
			InitSQL: "SET x = 'a;b' ; -- a comment; with a semicolon\nCREATE TEMP VIEW v AS SELECT ';' ;"}}
	})
	defer g.stop()
	s := g.open(t, map[string]string{"kyuubi.session.conf.profile": "bi", "spark.b": "own", "kyuubi.operation.query.timeout": "PT1H"})
	o := execute(t, s, "SELECT ROWS 1")
	for !o.Wait(t.Context(), time.Second).State.Terminal() {
	}
	require.Equal(t, session.Finished, o.Snapshot().State, "%v", o.Snapshot().Failure)
	require.Equal(t, []string{"start SET x = 'a;b'", "start -- a comment; with a semicolon\nCREATE TEMP VIEW v AS SELECT ';'", "start SELECT ROWS 1"}, w.Heard("start"))
	require.Equal(t, map[string]string{"spark.a": "profile", "spark.b": "own"}, w.Opened[0].Conf)
	recs, err := g.store.LiveEngines(t.Context())
	require.NoError(t, err)
	require.Equal(t, "c/spark/server////bi", recs[0].ShareKey)
	for name, conf := range map[string]map[string]string{
		`there is no profile "none"; profiles are: bi`: {"sluice.profile": "none"},
		`sluice.query_timeout: "soon" is no time`:      {"kyuubi.operation.query.timeout": "soon"},
		`sluice.retry_reads: "maybe" is neither true`:  {"sluice.retry_reads": "maybe"},
	} {
		_, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "ann"}, Conf: conf})
		require.ErrorContains(t, err, name)
	}
}

// A statement that was accepted and had not reached an engine when its gateway was killed is run by the next one, with its
// own settings; one that its engine has not seen is run again if it only reads.
func TestWhatWasAcceptedIsNotLost(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		at   string // where the gateway is killed
		want session.State
	}{
		"a query that waited":              {"SELECT ROWS 2", "submit", session.Finished},
		"a command that waited":            {"INSERT INTO t SELECT 1", "submit", session.Finished},
		"a query that was not seen":        {"SELECT ROWS 2", "start", session.Finished},
		"a command that was not seen":      {"INSERT INTO t SELECT 1", "start", session.Failed},
		"a query that ran":                 {"SELECT ROWS 2", "next 1", session.Finished},
		"a command that ran":               {"INSERT INTO t SELECT 1", "next 1", session.Finished},
		"a query that was on its way":      {"SELECT ROWS 2", "open", session.Finished},
		"a command whose engine was there": {"INSERT INTO t SELECT 1", "open", session.Finished},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := sim.New(), t.TempDir()
			reached, never := make(chan struct{}), make(chan struct{})
			first := true
			w.Script = func(ctx context.Context, m sim.Message) error {
				if first && (m.Kind == tc.at || m.String() == tc.at) {
					first = false
					close(reached)
					<-never // as far as the test goes, the gateway is dead
					return errors.New("the gateway is gone")
				}
				return nil
			}
			dead := serve(t, w, dir)
			o, err := dead.open(t, nil).Execute(t.Context(), session.ExecuteRequest{Text: tc.text, Overlay: map[string]string{"k": "v"}})
			require.NoError(t, err)
			<-reached
			heir := serve(t, w, dir)
			_, err = heir.Adopt(t.Context())
			require.NoError(t, err)
			next, err := heir.Operation(o.ID, o.Secret[:], func(*session.Session) bool { return true })
			require.NoError(t, err)
			for !next.Wait(t.Context(), time.Second).State.Terminal() {
			}
			require.Equal(t, tc.want, next.Snapshot().State, "%v", next.Snapshot().Failure)
			if tc.want == session.Failed {
				require.Contains(t, next.Snapshot().Failure.Message, "before its engine saw it: run it again")
			} else {
				got, err := rows(t, next)
				require.NoError(t, err)
				require.Equal(t, []int64{0, 1}[:len(got)], got)
				require.NotEmpty(t, w.Sets, "its own settings go with it")
			}
			close(never)
			heir.stop()
			dead.stop()
		})
	}
}
