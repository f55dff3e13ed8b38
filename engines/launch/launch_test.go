package launch_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a cluster, a driver and an engine whose behaviour a test sets.
type fake struct {
	mu       sync.Mutex
	order    []string // what was asked, in order
	watchers []chan engines.Event
	submit   func(engines.Launch) (engines.App, error)
	identity func(engines.Tag) engines.Identity
	tag      engines.Tag
	renewed  int
	listed   []engines.App
	failList error
	platform func()
	kill     func()
	silent   bool
	max      int // sessions that an engine takes
}

func (f *fake) note(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = append(f.order, s)
}

func (f *fake) count(what string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.order {
		if s == what {
			n++
		}
	}
	return n
}

func (f *fake) Name() string       { return "c" }
func (f *fake) Kind() engines.Kind { return "spark" }
func (f *fake) Platform(context.Context, string, func(string)) (engines.Platform, error) {
	if f.platform != nil {
		f.platform()
	}
	return engines.Platform{}, nil
}
func (f *fake) Plan(s engines.Spec, _ engines.Platform) (engines.Launch, error) {
	f.tag = engines.Tag(s.ID)
	return engines.Launch{Tag: f.tag, Conf: s.Conf}, nil
}
func (f *fake) Submit(_ context.Context, l engines.Launch) (engines.App, error) {
	f.note("submit")
	return f.submit(l)
}
func (f *fake) List(context.Context) ([]engines.App, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listed, f.failList
}
func (f *fake) Watch(ctx context.Context) (<-chan engines.Event, error) {
	out := make(chan engines.Event, 100)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers = append(f.watchers, out)
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watchers = slices.DeleteFunc(f.watchers, func(c chan engines.Event) bool { return c == out })
		close(out)
	})
	return out, nil
}

// emit tells every gateway of a change.
func (f *fake) emit(app engines.App) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		w <- engines.Event{App: app}
	}
}

func (f *fake) Kill(context.Context, engines.Tag) error {
	f.note("kill")
	if f.kill != nil {
		f.kill()
	}
	return nil
}

func (f *fake) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.order)
}
func (f *fake) Renew(context.Context, engines.Tag) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed++
	return nil
}
func (f *fake) Log(context.Context, engines.Tag, int) (string, error) { return "the log", nil }
func (f *fake) Close() error                                          { return nil }
func (f *fake) RootCause(log string) string                           { return "root cause in " + log }
func (f *fake) Dial(_ context.Context, at engines.Endpoint) (engines.Engine, error) {
	f.note("dial " + at.Address)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return nil, errors.New("nobody answers at " + at.Address)
	}
	return &fakeEngine{f, engines.Tag(at.Address)}, nil
}

type fakeEngine struct {
	*fake
	tag engines.Tag // its address, too
}

func (e *fakeEngine) Identify(context.Context) (engines.Identity, error) {
	if e.identity != nil {
		return e.identity(e.tag), nil
	}
	return engines.Identity{Tag: e.tag, Version: "4", MaxSessions: e.max}, nil
}
func (e *fakeEngine) OpenSession(context.Context, engines.SessionSpec) (engines.Session, error) {
	return nil, io.EOF
}

func running(l engines.Launch) (engines.App, error) {
	return engines.App{Tag: l.Tag, State: engines.Running, Address: string(l.Tag)}, nil
}

// member is one gateway of several on a store.
func member(t *testing.T, st *store.Store) *replica.Replica {
	r, err := replica.Join(t.Context(), replica.Options{Store: st, Timeout: time.Hour, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return r
}

func newStore(t *testing.T) *store.Store {
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

func start(t *testing.T, f *fake, change ...func(*launch.Options)) *launch.Launcher {
	return startAs(t, member(t, newStore(t)), f, change...)
}

func startAs(t *testing.T, r *replica.Replica, f *fake, change ...func(*launch.Options)) *launch.Launcher {
	if f.submit == nil {
		f.submit = running
	}
	opt := launch.Options{Clusters: map[string]engines.Cluster{"c": f}, Drivers: map[engines.Kind]engines.Driver{"spark": f}, Store: replica.Engines{Replica: r},
		Secret: []byte("secret"), StartTimeout: 10 * time.Second, IdleTimeout: time.Hour, Lease: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&opt)
	}
	l := launch.New(opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return l
}

var annsKey = launch.Key{Cluster: "c", Kind: "spark", Level: launch.User, Owner: "ann"}

func TestManyWantOneEngine(t *testing.T) {
	f := &fake{}
	release := make(chan struct{})
	st := newStore(t)
	f.submit = func(l engines.Launch) (engines.App, error) {
		<-release
		stored, err := st.Engine(context.Background(), string(l.Tag))
		require.NoError(t, err, "it is stored before its cluster hears of it")
		require.Equal(t, "PENDING", stored.State)
		return running(l)
	}
	l := startAs(t, member(t, st), f)
	var wait sync.WaitGroup
	ids := make(chan string, 20)
	for range 20 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			lease, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
			if err != nil {
				ids <- err.Error()
				return
			}
			ids <- lease.EngineID()
			lease.Release()
		}()
	}
	close(release)
	wait.Wait()
	first := <-ids
	for range 19 {
		require.Equal(t, first, <-ids)
	}
	require.Equal(t, 1, f.count("submit"))
	require.Equal(t, []string{"submit", "dial " + first}, f.order[:2])

	other, err := l.Acquire(context.Background(), launch.Request{Key: launch.Key{Cluster: "c", Kind: "spark", Level: launch.User, Owner: "bob"}}, nil)
	require.NoError(t, err)
	require.NotEqual(t, first, other.EngineID())
	other.Release()
}

func TestTheWaitIsTold(t *testing.T) {
	f := &fake{}
	f.submit = func(l engines.Launch) (engines.App, error) {
		return engines.App{Tag: l.Tag, State: engines.Pending, Reason: "the queue is full"}, nil
	}
	l := start(t, f)
	told := make(chan string, 100)
	go func() {
		for text := range told {
			if strings.Contains(text, "the queue is full") {
				f.emit(engines.App{Tag: f.tag, State: engines.Running, Address: string(f.tag)})
				return
			}
		}
	}()
	lease, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, func(s string) { told <- s })
	require.NoError(t, err)
	require.Equal(t, "4", lease.Version())
	lease.Release()
}

func TestFailedStarts(t *testing.T) {
	for name, tc := range map[string]struct {
		fake *fake
		err  string
	}{
		"refused by the cluster": {&fake{submit: func(engines.Launch) (engines.App, error) { return engines.App{}, errors.New("no quota") }},
			"start an engine on cluster c: no quota"},
		"ended before it was ready": {&fake{submit: func(l engines.Launch) (engines.App, error) {
			return engines.App{Tag: l.Tag, State: engines.Ended, Reason: "exit status 1", Log: "/log"}, nil
		}}, "start an engine on cluster c: the engine ended before it was ready: exit status 1: root cause in the log (its log: /log)"},
		"somebody else answers": {&fake{identity: func(engines.Tag) engines.Identity { return engines.Identity{Tag: "other"} }}, "the engine is not ours"},
		"too slow": {&fake{submit: func(l engines.Launch) (engines.App, error) {
			return engines.App{Tag: l.Tag, State: engines.Starting}, nil
		}}, "did not start within engine.start_timeout (100ms)"},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t, tc.fake, func(o *launch.Options) {
				if name == "too slow" {
					o.StartTimeout = 100 * time.Millisecond
				}
			})
			_, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
			require.ErrorContains(t, err, tc.err)
			if name != "ended before it was ready" {
				require.Eventually(t, func() bool { return tc.fake.count("kill") > 0 }, 5*time.Second, time.Millisecond, "nothing is left behind")
			}
			tc.fake.mu.Lock()
			tc.fake.submit, tc.fake.identity = running, nil
			tc.fake.mu.Unlock()
			lease, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
			require.NoError(t, err, "the next one starts anew")
			lease.Release()
		})
	}
}

func TestAnEngineThatDies(t *testing.T) {
	f := &fake{}
	l := start(t, f)
	lease, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
	require.NoError(t, err)
	require.NoError(t, lease.Err())
	f.emit(engines.App{Tag: engines.Tag(lease.EngineID()), State: engines.Ended, Reason: "killed"})
	<-lease.Done()
	require.ErrorIs(t, lease.Err(), engines.ErrLost)
	require.ErrorContains(t, lease.Err(), "killed")
	next, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
	require.NoError(t, err)
	require.NotEqual(t, lease.EngineID(), next.EngineID())
	next.Release()
	lease.Release()
}

func TestLeasesAreRenewedAndIdleEnginesEnd(t *testing.T) {
	f := &fake{}
	l := start(t, f, func(o *launch.Options) { o.IdleTimeout = 200 * time.Millisecond })
	lease, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.renewed > 3 }, 5*time.Second, time.Millisecond)
	require.NoError(t, lease.Err(), "in use it lives, however long")
	lease.Release()
	<-lease.Done()
	require.ErrorContains(t, lease.Err(), "engine.idle_timeout")
}

func TestACallerThatGoesLeavesTheStartToTheOthers(t *testing.T) {
	f := &fake{}
	release := make(chan struct{})
	f.submit = func(l engines.Launch) (engines.App, error) { <-release; return running(l) }
	l := start(t, f)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := l.Acquire(ctx, launch.Request{Key: annsKey}, nil)
	require.ErrorIs(t, err, context.Canceled)
	close(release)
	lease, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
	require.NoError(t, err)
	require.Equal(t, 1, f.count("submit"))
	lease.Release()
}

func TestAnEngineOfOneConnectionEndsWithIt(t *testing.T) {
	f := &fake{}
	l := start(t, f)
	lease, err := l.Acquire(context.Background(), launch.Request{Key: launch.Key{Cluster: "c", Kind: "spark", Level: launch.Connection, Owner: "s1"}}, nil)
	require.NoError(t, err)
	lease.Release()
	<-lease.Done()
	require.ErrorContains(t, lease.Err(), "its session ended")
	require.Eventually(t, func() bool { return f.count("kill") == 1 }, 5*time.Second, time.Millisecond)
}
