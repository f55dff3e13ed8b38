package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/spool"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/tests/sim"
)

// world is a cluster with engines that a test plays: what they were asked, and what they answer.
type world struct {
	store  *store.Store
	events chan engines.Event
	mu     sync.Mutex
	tag    engines.Tag
	opened []engines.SessionSpec
	ran    []string
	sets   []map[string]string
	// answer decides what a statement does; block makes it run until it is cancelled.
	answer    func(sql string) error
	cancelled chan string
	check     func(engines.OperationID)
	attach    func(engines.Position) (engines.Execution, error)
	start     func() engines.Execution // instead of answer
}

const block = "BLOCK"

func (w *world) Name() string                            { return "c" }
func (w *world) Kind() engines.Kind                      { return "spark" }
func (w *world) RootCause(string) string                 { return "" }
func (w *world) Kill(context.Context, engines.Tag) error { return nil }
func (w *world) Renew(context.Context, engines.Tag) error {
	return nil
}
func (w *world) Close() error                                          { return nil }
func (w *world) List(context.Context) ([]engines.App, error)           { return nil, nil }
func (w *world) Log(context.Context, engines.Tag, int) (string, error) { return "", nil }
func (w *world) Identify(context.Context) (engines.Identity, error) {
	return engines.Identity{Tag: w.tag}, nil
}
func (w *world) Dial(context.Context, engines.Endpoint) (engines.Engine, error) { return w, nil }
func (w *world) Platform(context.Context, string, func(string)) (engines.Platform, error) {
	return engines.Platform{}, nil
}
func (w *world) Plan(s engines.Spec, _ engines.Platform) (engines.Launch, error) {
	w.tag = engines.Tag(s.ID)
	return engines.Launch{Tag: w.tag}, nil
}
func (w *world) Submit(_ context.Context, l engines.Launch) (engines.App, error) {
	return engines.App{Tag: l.Tag, State: engines.Running, Address: "h:1"}, nil
}
func (w *world) Watch(ctx context.Context) (<-chan engines.Event, error) {
	context.AfterFunc(ctx, func() { close(w.events) })
	return w.events, nil
}

func (w *world) OpenSession(_ context.Context, s engines.SessionSpec) (engines.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened = append(w.opened, s)
	return &remote{w}, nil
}

type remote struct{ w *world }

func (r *remote) Close(context.Context) error { return nil }
func (r *remote) TableSchema(context.Context, ...string) ([]engines.TableColumn, error) {
	return nil, nil
}
func (r *remote) Attach(_ context.Context, _ engines.OperationID, at engines.Position) (engines.Execution, error) {
	return r.w.attach(at)
}
func (r *remote) Set(_ context.Context, conf map[string]*string) (map[string]*string, error) {
	told, before := map[string]string{}, map[string]*string{}
	for k, v := range conf {
		before[k] = nil
		if told[k] = "-"; v != nil {
			told[k] = *v
		}
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.w.sets = append(r.w.sets, told)
	return before, nil
}
func (r *remote) Start(_ context.Context, id engines.OperationID, q engines.Query) (engines.Execution, error) {
	r.w.mu.Lock()
	r.w.ran = append(r.w.ran, q.SQL)
	check := r.w.check
	r.w.mu.Unlock()
	if check != nil {
		check(id)
	}
	if r.w.start != nil {
		return r.w.start(), nil
	}
	return &execution{w: r.w, sql: q.SQL}, nil
}

type execution struct {
	w    *world
	sql  string
	done bool
}

func (e *execution) Schema() *arrow.Schema { return nil }
func (e *execution) Next(ctx context.Context) (arrow.RecordBatch, engines.Position, error) {
	if e.sql == block {
		<-ctx.Done()
		return nil, engines.Position{}, context.Cause(ctx)
	}
	if e.w.answer != nil {
		if err := e.w.answer(e.sql); err != nil {
			return nil, engines.Position{}, err
		}
	}
	if e.done {
		return nil, engines.Position{}, io.EOF
	}
	e.done = true
	return one("1"), engines.Position{Rows: 1}, nil
}
func (e *execution) Durable(engines.Position)      {}
func (e *execution) Cancel(context.Context) error  { e.w.cancelled <- e.sql; return nil }
func (e *execution) Release(context.Context) error { return nil }

// awaitRun waits until the engine has a statement: an operation is called running a little earlier.
func (w *world) awaitRun(t *testing.T, sql string) {
	t.Helper()
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Contains(w.ran, sql)
	}, 5*time.Second, time.Millisecond)
}

func play(t *testing.T, change ...func(*Options)) (*world, *Manager) {
	t.Helper()
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	require.NoError(t, err)
	w := &world{store: st, events: make(chan engines.Event), cancelled: make(chan string, 10)}
	log := slog.New(slog.DiscardHandler)
	r, err := replica.Join(t.Context(), replica.Options{Store: st, Timeout: time.Hour, Log: log})
	require.NoError(t, err)
	l := launch.New(launch.Options{Clusters: map[string]engines.Cluster{"c": w}, Drivers: map[engines.Kind]engines.Driver{"spark": w}, Store: replica.Engines{Replica: r},
		StartTimeout: time.Minute, IdleTimeout: time.Hour, Lease: time.Minute, Log: log})
	opt := Options{Store: st, Replica: r.ID, Engines: l, Kind: "spark", ShareLevel: launch.User, LogLines: 100, IdleTimeout: time.Hour, OperationIdleTimeout: time.Hour, Log: log,
		Spool:  spool.Limits{Dir: t.TempDir(), Memory: 1 << 20, Disk: 1 << 20, TotalMemory: 1 << 20, TotalDisk: 1 << 20},
		Router: sim.NewRouter("c")}
	for _, c := range change {
		c(&opt)
	}
	m := NewManager(opt)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	engineCtx, stopEngines := context.WithCancel(context.Background())
	wait.Add(2)
	go func() { defer wait.Done(); _ = m.Run(ctx); stopEngines() }()
	go func() { defer wait.Done(); _ = l.Run(engineCtx) }()
	t.Cleanup(func() { cancel(); wait.Wait(); require.NoError(t, st.Close()) })
	return w, m
}

func open(t *testing.T, m *Manager, conf map[string]string) *Session {
	t.Helper()
	s, err := m.Open(t.Context(), OpenRequest{Identity: auth.Identity{User: "ann"}, Conf: conf})
	require.NoError(t, err)
	return s
}

func exec(t *testing.T, s *Session, text string) (*Operation, Snapshot) {
	t.Helper()
	o, err := s.Execute(t.Context(), ExecuteRequest{Text: text})
	require.NoError(t, err)
	<-o.done
	return o, o.Snapshot()
}

func TestIdsAreStoredBeforeTheEngineHearsOfThem(t *testing.T) {
	w, m := play(t)
	s := open(t, m, map[string]string{"k": "v"})
	asked := false
	w.check = func(id engines.OperationID) {
		asked = true
		ops, err := w.store.OperationsOf(context.Background(), s.ID)
		require.NoError(t, err)
		require.Len(t, ops, 1)
		require.Equal(t, id, ops[0].EngineOp)
		rec, err := w.store.Session(context.Background(), s.ID)
		require.NoError(t, err)
		require.Equal(t, w.opened[0].ID, rec.EngineSession)
		require.Equal(t, rec.EngineID, ops[0].EngineID)
	}
	o, snap := exec(t, s, "SELECT a FROM t")
	require.True(t, asked)
	require.Equal(t, Finished, snap.State)
	rec, err := w.store.Operation(t.Context(), o.ID)
	require.NoError(t, err)
	require.Equal(t, "FINISHED", rec.State)
	require.Equal(t, int64(1), rec.Rows)
	require.NoError(t, o.Close(t.Context()))
	rec, err = w.store.Operation(t.Context(), o.ID)
	require.NoError(t, err)
	require.Equal(t, "CLOSED", rec.State)
}

func TestWhatNeedsNoEngineStartsNone(t *testing.T) {
	w, m := play(t)
	s := open(t, m, nil)
	for _, text := range []string{"SET a=b", "SET a", "USE db", "SELECT 1", "RESET a"} {
		_, snap := exec(t, s, text)
		require.Equal(t, Finished, snap.State, text)
	}
	require.Empty(t, w.opened)
	_, _ = exec(t, s, "SET a=c")
	_, _ = exec(t, s, "SHOW TABLES")
	require.Equal(t, []string{"SHOW TABLES"}, w.ran)
	require.Equal(t, "db", w.opened[0].Database)
	require.Equal(t, map[string]string{"a": "c"}, w.opened[0].Conf, "the engine hears what was set before it was there")
	_, _ = exec(t, s, "SELECT 1")
	require.Equal(t, []string{"SHOW TABLES", "SELECT 1"}, w.ran, "with an engine, a ping asks it")
}

func TestAnEnginesEndIsSurvived(t *testing.T) {
	w, m := play(t)
	s := open(t, m, map[string]string{"hive.server2.x": "1", "sluice.cluster": "c", "kept": "yes"})
	_, _ = exec(t, s, "USE db")
	_, snap := exec(t, s, "SELECT a FROM t")
	require.Equal(t, Finished, snap.State)
	o, err := s.Execute(t.Context(), ExecuteRequest{Text: block})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return o.Snapshot().State == Running }, 5*time.Second, time.Millisecond)
	w.events <- engines.Event{App: engines.App{Tag: w.tag, State: engines.Ended, Reason: "killed"}}
	<-o.done
	require.Equal(t, Failed, o.Snapshot().State)
	require.Equal(t, "SLUICE_ENGINE_LOST", o.Snapshot().Failure.Class)
	require.Contains(t, o.Snapshot().Failure.Message, "killed")
	_, snap = exec(t, s, "SELECT b FROM t")
	require.Equal(t, Finished, snap.State)
	require.Len(t, w.opened, 2)
	require.NotEqual(t, w.opened[0].ID, w.opened[1].ID)
	require.Equal(t, "db", w.opened[1].Database)
	require.Equal(t, map[string]string{"kept": "yes"}, w.opened[1].Conf, "what is said to us or to Hive stays here")
}

func TestASessionThatTheEngineForgot(t *testing.T) {
	w, m := play(t)
	s := open(t, m, nil)
	lost := true
	w.answer = func(string) error {
		if lost {
			lost = false
			return engines.ErrLost
		}
		return nil
	}
	_, snap := exec(t, s, "SELECT a FROM t")
	require.Equal(t, Failed, snap.State)
	_, snap = exec(t, s, "SELECT a FROM t")
	require.Equal(t, Finished, snap.State)
	require.Len(t, w.opened, 2)
}

func TestStops(t *testing.T) {
	for name, tc := range map[string]struct {
		stop    func(*Manager, *Operation)
		timeout time.Duration
		state   State
		code    string
	}{
		"cancelled":      {func(_ *Manager, o *Operation) { o.Cancel() }, 0, Canceled, "HY008"},
		"time limit":     {func(*Manager, *Operation) {}, time.Second, TimedOut, "HYT00"},
		"session closed": {func(m *Manager, o *Operation) { _ = m.Close(context.Background(), o.Session, "test") }, 0, Closed, "HY008"},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := play(t)
			o, err := open(t, m, nil).Execute(t.Context(), ExecuteRequest{Text: block, Timeout: tc.timeout})
			require.NoError(t, err)
			w.awaitRun(t, block)
			tc.stop(m, o)
			<-o.done
			require.Equal(t, block, <-w.cancelled, "the engine is told")
			require.Equal(t, tc.state, o.Snapshot().State)
			require.Equal(t, tc.code, o.Snapshot().Failure.SQLState)
			_, _, err = o.Rows(t.Context(), 0, 10, 1000, func(arrow.RecordBatch, int, int) int { return 1 })
			require.Error(t, err, "there are no rows, and no end of rows")
		})
	}
}

func TestFailures(t *testing.T) {
	w, m := play(t)
	w.answer = func(string) error {
		return &engines.Error{Class: "DIVIDE_BY_ZERO", SQLState: "22012", Message: "[DIVIDE_BY_ZERO] no", Stack: "at x"}
	}
	o, snap := exec(t, open(t, m, nil), "SELECT 1/0")
	require.Equal(t, Failed, snap.State)
	require.Equal(t, &Failure{Class: "DIVIDE_BY_ZERO", SQLState: "22012", Message: "[DIVIDE_BY_ZERO] no", Stack: "at x"}, snap.Failure)
	_, err := o.Schema(t.Context())
	require.ErrorContains(t, err, "[DIVIDE_BY_ZERO] no")
	_, err = open(t, m, nil).Execute(t.Context(), ExecuteRequest{Text: " ;"})
	require.ErrorContains(t, err, "empty")
	_, err = m.Open(t.Context(), OpenRequest{Identity: auth.Identity{User: "ann"}, Conf: map[string]string{ClusterKey: "nope"}})
	require.ErrorContains(t, err, `there is no cluster "nope"`)
}

func TestSettingsOfAStatementArePutBack(t *testing.T) {
	w, m := play(t)
	o, err := open(t, m, nil).Execute(t.Context(), ExecuteRequest{Text: "SELECT a", Overlay: map[string]string{"k": "v", "hive.server2.x": "y"}})
	require.NoError(t, err)
	<-o.done
	require.Equal(t, []map[string]string{{"k": "v"}, {"k": "-"}}, w.sets)
}

func TestHandlesBelongToTheirOwner(t *testing.T) {
	_, m := play(t)
	s := open(t, m, nil)
	o, _ := exec(t, s, "SELECT 1")
	mine := func(user string) func(*Session) bool { return func(s *Session) bool { return s.Identity.User == user } }
	for name, tc := range map[string]struct {
		user   string
		id     uuid.UUID
		secret []byte
		ok     bool
	}{
		"the owner":    {"ann", s.ID, s.Secret[:], true},
		"another user": {"eve", s.ID, s.Secret[:], false},
		"no secret":    {"ann", s.ID, nil, false},
		"wrong secret": {"ann", s.ID, make([]byte, 16), false},
		"unknown":      {"ann", uuid.New(), s.Secret[:], false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.Session(tc.id, tc.secret, mine(tc.user))
			require.Equal(t, tc.ok, err == nil)
			if !tc.ok {
				require.ErrorIs(t, err, ErrNoSession)
			}
		})
	}
	_, err := m.Operation(o.ID, o.Secret[:], mine("eve"))
	require.ErrorIs(t, err, ErrNoOperation)
	_, err = m.Operation(o.ID, o.Secret[:], mine("ann"))
	require.NoError(t, err)
}

func TestIdleSessionsAndOperationsAreClosed(t *testing.T) {
	_, m := play(t, func(o *Options) { o.IdleTimeout, o.OperationIdleTimeout = 300*time.Millisecond, 50*time.Millisecond })
	s := open(t, m, nil)
	_, _ = exec(t, s, "SELECT 1")
	require.Eventually(t, func() bool { _, ops := m.Counts(); return ops == 0 }, 5*time.Second, time.Millisecond)
	sessions, _ := m.Counts()
	require.Equal(t, 1, sessions)
	require.Eventually(t, func() bool { n, _ := m.Counts(); return n == 0 }, 5*time.Second, time.Millisecond)
	_, err := s.Execute(t.Context(), ExecuteRequest{Text: "SELECT 1"})
	require.ErrorIs(t, err, ErrNoSession)
}

func TestDrain(t *testing.T) {
	_, m := play(t)
	s := open(t, m, nil)
	o, err := s.Execute(t.Context(), ExecuteRequest{Text: block})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	m.Drain(ctx)
	require.True(t, errors.Is(ctx.Err(), context.DeadlineExceeded), "it waits for what runs")
	_, err = s.Execute(t.Context(), ExecuteRequest{Text: "SELECT 1"})
	require.ErrorContains(t, err, "stopping")
	o.Cancel()
	m.Drain(t.Context())
	require.Equal(t, Canceled, o.Snapshot().State)
}
