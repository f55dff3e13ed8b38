package launch_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/store"
)

func acquire(t *testing.T, l *launch.Launcher, req launch.Request) *launch.Lease {
	t.Helper()
	lease, err := l.Acquire(t.Context(), req, nil)
	require.NoError(t, err)
	return lease
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 10*time.Second, time.Millisecond, what)
}

// gone takes over from a replica that beats no more.
func gone(t *testing.T, st *store.Store, dead, heir *replica.Replica) {
	t.Helper()
	ok, err := st.TakeOver(t.Context(), dead.ID(), heir.ID(), 0)
	require.NoError(t, err)
	require.True(t, ok)
}

func live(t *testing.T, st *store.Store) []store.Engine {
	t.Helper()
	all, err := st.LiveEngines(t.Context())
	require.NoError(t, err)
	return all
}

func TestManyOnTwoGatewaysWantOneEngine(t *testing.T) {
	st, f := newStore(t), &fake{}
	launchers := []*launch.Launcher{startAs(t, member(t, st), f), startAs(t, member(t, st), f)}
	var wait sync.WaitGroup
	ids := make(chan string, 50)
	for i := range cap(ids) {
		wait.Go(func() {
			lease, err := launchers[i%2].Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
			if err != nil {
				ids <- err.Error()
				return
			}
			ids <- lease.EngineID()
			lease.Release()
		})
	}
	wait.Wait()
	first := <-ids
	for range cap(ids) - 1 {
		require.Equal(t, first, <-ids)
	}
	require.Equal(t, 1, f.count("submit"))
}

// The owner of an engine sees nobody on its own gateway, and another one uses it: it is not ended.
func TestAnEngineThatAnotherGatewayUsesIsNotEnded(t *testing.T) {
	st, f := newStore(t), &fake{}
	short := func(o *launch.Options) { o.IdleTimeout = 50 * time.Millisecond }
	owner, user := startAs(t, member(t, st), f, short), startAs(t, member(t, st), f, short)
	acquire(t, owner, launch.Request{Key: annsKey}).Release()
	lease := acquire(t, user, launch.Request{Key: annsKey})
	require.Never(t, func() bool { return f.count("kill") > 0 }, 700*time.Millisecond, 10*time.Millisecond)
	lease.Release()
	eventually(t, "nobody uses it any more", func() bool { return f.count("kill") == 1 && len(live(t, st)) == 0 })
	<-lease.Done()
	require.ErrorIs(t, lease.Err(), engines.ErrLost)
}

func TestADeadGatewaysEnginesAreTakenOver(t *testing.T) {
	st, f := newStore(t), &fake{}
	dead, heir := member(t, st), member(t, st)
	owner := startAs(t, dead, f)
	id := acquire(t, owner, launch.Request{Key: annsKey}).EngineID()
	f.mu.Lock()
	f.listed = []engines.App{{Tag: engines.Tag(id), State: engines.Running, Address: id}, {Tag: "unknown", State: engines.Running, Address: "h:8"}}
	f.mu.Unlock()
	l := startAs(t, heir, f, func(o *launch.Options) { o.IdleTimeout = 100 * time.Millisecond })
	gone(t, st, dead, heir)
	lease := acquire(t, l, launch.Request{Key: annsKey})
	require.Equal(t, id, lease.EngineID(), "the same engine")
	require.Equal(t, 1, f.count("submit"))
	eventually(t, "it is the heir's", func() bool { all := live(t, st); return len(all) == 1 && all[0].Replica == heir.ID() })
	require.Zero(t, f.count("kill"), "what is not known is left alone")
	lease.Release()
	eventually(t, "the heir ends it when nobody wants it", func() bool { return f.count("kill") == 1 && len(live(t, st)) == 0 })
}

// The engine of one connection that was taken over waits for its session, and is not ended because nobody has it yet.
func TestTheEngineOfOneConnectionIsTakenOver(t *testing.T) {
	st, f := newStore(t), &fake{}
	dead, heir := member(t, st), member(t, st)
	req := launch.Request{Key: launch.Key{Cluster: "c", Kind: "spark", Level: launch.Connection, Owner: "s1"}}
	id := acquire(t, startAs(t, dead, f), req).EngineID()
	gone(t, st, dead, heir)
	l := startAs(t, heir, f)
	require.Never(t, func() bool { return f.count("kill") > 0 }, 500*time.Millisecond, 10*time.Millisecond)
	lease := acquire(t, l, req)
	require.Equal(t, id, lease.EngineID())
	lease.Release()
	eventually(t, "it ends with its session", func() bool { return f.count("kill") == 1 })
}

// A gateway that was stopped past its time, and wakes, finds an engine of its own that has been idle for long. It is not
// its own any more, and it must not end it.
func TestAPausedOwnerCannotActWhenItWakes(t *testing.T) {
	st, f := newStore(t), &fake{}
	paused, heir := member(t, st), member(t, st)
	owner := startAs(t, paused, f, func(o *launch.Options) { o.IdleTimeout = 400 * time.Millisecond })
	acquire(t, owner, launch.Request{Key: annsKey}).Release()
	gone(t, st, paused, heir)
	before := live(t, st)
	require.Never(t, func() bool { return f.count("kill") > 0 }, time.Second, 10*time.Millisecond)
	require.Equal(t, before, live(t, st), "nothing that it tried has changed anything")
}

// One that was paused between its claim and its submission does not submit any more.
func TestAPausedStarterDoesNotSubmit(t *testing.T) {
	st, f := newStore(t), &fake{}
	paused, heir := member(t, st), member(t, st)
	f.platform = func() { gone(t, st, paused, heir) }
	_, err := startAs(t, paused, f).Acquire(t.Context(), launch.Request{Key: annsKey}, nil)
	require.ErrorIs(t, err, launch.ErrFenced)
	require.Zero(t, f.count("submit"))
	require.Zero(t, f.count("kill"))
	f.platform = nil
	lease := acquire(t, startAs(t, heir, f), launch.Request{Key: annsKey})
	require.Equal(t, 1, f.count("submit"), "the heir gives up what was never submitted, and starts one")
	lease.Release()
}

func TestAnEmptyOrFailedListingStopsNothing(t *testing.T) {
	for name, failure := range map[string]error{"empty": nil, "failed": errors.New("the cluster is away")} {
		t.Run(name, func(t *testing.T) {
			st, f := newStore(t), &fake{}
			dead, heir := member(t, st), member(t, st)
			id := acquire(t, startAs(t, dead, f), launch.Request{Key: annsKey}).EngineID()
			f.mu.Lock()
			f.failList = failure
			f.mu.Unlock()
			gone(t, st, dead, heir)
			l := startAs(t, heir, f)
			lease := acquire(t, l, launch.Request{Key: annsKey})
			require.Equal(t, id, lease.EngineID(), "the engine answers, whatever the listing says")
			require.Zero(t, f.count("kill"))
			require.Len(t, live(t, st), 1)
			lease.Release()
		})
	}
}

func TestAnEngineThatIsGoneWithItsGateway(t *testing.T) {
	st, f := newStore(t), &fake{}
	dead, heir := member(t, st), member(t, st)
	id := acquire(t, startAs(t, dead, f), launch.Request{Key: annsKey}).EngineID()
	gone(t, st, dead, heir)
	f.mu.Lock()
	f.silent = true // and it is not listed
	f.mu.Unlock()
	l := startAs(t, heir, f)
	eventually(t, "it is given up", func() bool { return len(live(t, st)) == 0 })
	f.mu.Lock()
	f.silent = false
	f.mu.Unlock()
	lease := acquire(t, l, launch.Request{Key: annsKey})
	require.NotEqual(t, id, lease.EngineID(), "and locks nobody out")
	require.Zero(t, f.count("kill"))
	lease.Release()
}

func TestAnOldEngineDrains(t *testing.T) {
	st, f := newStore(t), &fake{}
	l := startAs(t, member(t, st), f, func(o *launch.Options) { o.MaxLifetime = 200 * time.Millisecond })
	old := acquire(t, l, launch.Request{Key: annsKey})
	eventually(t, "it is too old", old.Draining)
	require.NoError(t, old.Err(), "who has it may go on")
	next := acquire(t, l, launch.Request{Key: annsKey})
	require.NotEqual(t, old.EngineID(), next.EngineID(), "who comes gets another one")
	old.Release()
	<-old.Done()
	require.ErrorContains(t, old.Err(), "nobody uses it any more")
	next.Release()
}

// An engine that takes its time to end is not taken over from ourselves meanwhile.
func TestAnEngineThatEndsSlowly(t *testing.T) {
	f := &fake{}
	release := make(chan struct{})
	defer close(release)
	f.kill = func() { <-release }
	l := start(t, f, func(o *launch.Options) { o.IdleTimeout = 50 * time.Millisecond })
	acquire(t, l, launch.Request{Key: annsKey}).Release()
	eventually(t, "it is being ended", func() bool { return f.count("kill") == 1 })
	before := len(f.heard())
	<-time.After(500 * time.Millisecond) // several rounds
	require.Len(t, f.heard(), before, "nothing is asked of it any more")
}

func TestADrainThatTakesTooLong(t *testing.T) {
	l := start(t, &fake{}, func(o *launch.Options) { o.MaxLifetime, o.DrainTimeout = 200*time.Millisecond, 300*time.Millisecond })
	lease := acquire(t, l, launch.Request{Key: annsKey})
	<-lease.Done()
	require.ErrorContains(t, lease.Err(), "engine.drain_timeout")
	lease.Release()
}

func TestTheNextSessionOfAFullEngineGetsAnother(t *testing.T) {
	st, f := newStore(t), &fake{max: 2}
	l, other := startAs(t, member(t, st), f), startAs(t, member(t, st), f)
	count := map[string]int{}
	var leases []*launch.Lease
	for i := range 5 {
		lease := acquire(t, []*launch.Launcher{l, other}[i%2], launch.Request{Key: annsKey})
		count[lease.EngineID()]++
		leases = append(leases, lease)
	}
	require.Len(t, count, 3)
	for _, n := range count {
		require.LessOrEqual(t, n, 2)
	}
	left := leases[0].EngineID()
	leases[0].Release()
	eventually(t, "there is room where somebody left", func() bool {
		lease := acquire(t, l, launch.Request{Key: annsKey})
		defer lease.Release()
		return lease.EngineID() == left
	})
	for _, lease := range leases[1:] {
		lease.Release()
	}
}

func TestWarmEnginesAreShared(t *testing.T) {
	st, f := newStore(t), &fake{}
	req := launch.Request{Key: launch.Key{Cluster: "c", Kind: "spark", Level: launch.Server, Profile: "bi"}, User: launch.ServiceUser, Pool: 2}
	l := launch.New(launch.Options{Clusters: map[string]engines.Cluster{"c": f}, Drivers: map[engines.Kind]engines.Driver{"spark": f},
		Store: replica.Engines{Replica: member(t, st)}, StartTimeout: time.Minute, IdleTimeout: time.Millisecond, Lease: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	f.submit = running
	l.KeepWarm(req)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	eventually(t, "two engines are ready before anybody asks", func() bool { _, ready, _ := l.Counts(); return ready == 2 })
	one, two := acquire(t, l, req), acquire(t, l, req)
	require.NotEqual(t, one.EngineID(), two.EngineID(), "the one with fewer users is taken")
	one.Release()
	two.Release()
	require.Never(t, func() bool { return f.count("kill") > 0 }, 500*time.Millisecond, 10*time.Millisecond, "they do not idle out")
	f.emit(engines.App{Tag: engines.Tag(one.EngineID()), State: engines.Ended, Reason: "killed"})
	eventually(t, "another one takes its place", func() bool { return f.count("submit") == 3 })
	cancel()
	require.NoError(t, <-done)
}

// A gateway that stops in order leaves its engines to the others.
func TestEnginesAreLeftToTheOthers(t *testing.T) {
	st, f := newStore(t), &fake{}
	leaves, stays := member(t, st), member(t, st)
	l := launch.New(launch.Options{Clusters: map[string]engines.Cluster{"c": f}, Drivers: map[engines.Kind]engines.Driver{"spark": f},
		Store: replica.Engines{Replica: leaves}, StartTimeout: time.Minute, IdleTimeout: time.Hour, Lease: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	f.submit = running
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	lease := acquire(t, l, launch.Request{Key: annsKey})
	other := acquire(t, startAs(t, stays, f), launch.Request{Key: annsKey})
	lease.Release()
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, leaves.Leave(t.Context()))
	require.NoError(t, st.Inherit(t.Context(), stays.ID()))
	require.Zero(t, f.count("kill"))
	require.NoError(t, other.Err())
	eventually(t, "it is the other's", func() bool { all := live(t, st); return len(all) == 1 && all[0].Replica == stays.ID() })
	other.Release()
}
