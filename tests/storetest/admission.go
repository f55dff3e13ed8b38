package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/admission"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router/rules"
)

func testSettings(t *testing.T, s *store.Store) {
	require.NoError(t, s.Set(t.Context(), store.Setting{Name: "b", Value: "1", SaidBy: "ann", SaidAt: at(0)}))
	require.NoError(t, s.Set(t.Context(), store.Setting{Name: "a", Value: "x", SaidBy: "ann", SaidAt: at(1)}))
	require.NoError(t, s.Set(t.Context(), store.Setting{Name: "b", Value: "2", SaidBy: "bob", SaidAt: at(2)}))
	all, err := s.Settings(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.Setting{{Name: "a", Value: "x", SaidBy: "ann", SaidAt: at(1)}, {Name: "b", Value: "2", SaidBy: "bob", SaidAt: at(2)}}, all)
	require.NoError(t, s.Set(t.Context(), store.Setting{Name: "a"}))
	all, err = s.Settings(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func testRules(t *testing.T, s *store.Store) {
	for i, r := range []store.Rules{{Version: "v1", Name: "first", Text: "rules: \"ü\"\n", LoadedAt: at(0)}, {Version: "v2", Text: "x", LoadedAt: at(1)}, {Version: "v1", Name: "again", Text: "y", LoadedAt: at(2)}} {
		require.NoError(t, s.AddRules(t.Context(), r), i)
	}
	all, err := s.AllRules(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.Rules{{Version: "v2", Text: "x", LoadedAt: at(1)}, {Version: "v1", Name: "first", Text: "rules: \"ü\"\n", LoadedAt: at(0)}}, all)
}

func join(t *testing.T, s *store.Store, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, s.Join(t.Context(), store.Replica{ID: id, StartedAt: start}))
	}
}

func testPortions(t *testing.T, s *store.Store) {
	join(t, s, "r1", "r2", "r3")
	lease := func(replica string, want, limit int) int {
		t.Helper()
		held, err := s.LeasePortion(t.Context(), "running/user/ann", replica, want, limit)
		require.NoError(t, err)
		return held
	}
	wanted := func(replica string) []string {
		t.Helper()
		_, names, err := s.Portions(t.Context(), replica)
		require.NoError(t, err)
		return names
	}
	require.Equal(t, 6, lease("r1", 6, 10))
	require.Empty(t, wanted("r1"))
	require.Equal(t, 4, lease("r2", 5, 10), "the rest")
	require.Equal(t, []string{"running/user/ann"}, wanted("r1"))
	require.Empty(t, wanted("r2"), "its own wish")
	require.Equal(t, 2, lease("r1", 2, 10), "given back")
	require.Equal(t, 5, lease("r2", 5, 10))
	require.Empty(t, wanted("r1"))
	require.Equal(t, 5, lease("r2", 7, 4), "of a limit that became smaller nothing is taken away, and nothing is added")
	require.Equal(t, 0, lease("r3", 1, 4))

	// What a dead one held goes to its heir, and counts before that has taken it in.
	taken, err := s.TakeOver(t.Context(), "r2", "r1", 0)
	require.NoError(t, err)
	require.True(t, taken)
	_, err = s.LeasePortion(t.Context(), "running/user/ann", "r2", 1, 100)
	require.ErrorIs(t, err, store.ErrFenced, "who is dead gets nothing")
	require.Equal(t, 3, lease("r3", 9, 10))
	require.Equal(t, 2, lease("r1", 9, 10), "what it has inherited is not its own yet")
	more, err := s.SettlePortions(t.Context(), "r1")
	require.NoError(t, err)
	require.Equal(t, map[string]int{"running/user/ann": 5}, more)
	require.Equal(t, 7, lease("r1", 9, 10))
	more, err = s.SettlePortions(t.Context(), "r1")
	require.NoError(t, err)
	require.Empty(t, more)
	require.NoError(t, s.Leave(t.Context(), "r1"))
	require.Equal(t, 10, lease("r3", 12, 10), "who leaves in order leaves nothing behind")
}

// one is a gateway of testGates.
type one struct {
	id   string
	gate *admission.Gate
	stop context.CancelFunc
	mu   sync.Mutex
	runs map[int]func() // statements that run, with how they leave
	dead bool
}

// testGates has gateways let in statements at random, kills some of them in the middle, and has others take over: never do
// more run than the limit says, and everybody is let in at last.
func testGates(t *testing.T, s *store.Store) {
	const limit, statements, workers = 5, 160, 8
	var runningNow, most, done atomic.Int64
	ids := 0
	start := func() *one {
		ids++
		o := &one{id: fmt.Sprint("g", ids), runs: map[int]func(){}}
		join(t, s, o.id)
		o.gate = admission.New(admission.Options{Limits: func() []rules.Limit {
			return []rules.Limit{{Scope: rules.PerQueue, Name: "etl", Running: limit, Waiting: 1000}}
		},
			Store: s, Replica: func() string { return o.id }, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = o.gate.Run(ctx) }()
		o.stop = func() { cancel(); <-ended }
		return o
	}
	all := []*one{start(), start(), start()}
	var mu sync.Mutex // of all
	ask := admission.Ask{User: "ann", Queue: "etl", Priority: 5}
	var wait sync.WaitGroup
	var next atomic.Int64
	for worker := range workers {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(9, uint64(worker)))
			for n := int(next.Add(1)); n <= statements; n = int(next.Add(1)) {
				runOne(n, rnd, func() *one { mu.Lock(); defer mu.Unlock(); return all[rnd.IntN(len(all))] }, ask, &runningNow, &most)
				done.Add(1)
			}
		})
	}
	killed := 0
	for rnd := rand.New(rand.NewPCG(9, 99)); done.Load() < statements*3/4; {
		<-time.After(30 * time.Millisecond)
		mu.Lock()
		dead, heir := all[0], all[1+rnd.IntN(2)]
		all = append(all[1:], start())
		mu.Unlock()
		kill(t, s, dead, heir, ask)
		killed++
	}
	wait.Wait()
	for _, o := range all {
		o.stop()
	}
	require.LessOrEqual(t, most.Load(), int64(limit), "more ran than the limit allows")
	require.GreaterOrEqual(t, most.Load(), int64(limit-1), "the limit was hardly used: the test shows nothing")
	require.Positive(t, killed)
}

// runOne runs a statement on some gateway; should that die before it is let in, on another one.
func runOne(n int, rnd *rand.Rand, pick func() *one, ask admission.Ask, now, most *atomic.Int64) {
	for {
		o := pick()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		leave, err := o.gate.Statement(ctx, ask, func(string) {})
		cancel()
		if err != nil {
			continue
		}
		o.mu.Lock()
		if o.dead { // it was let in by somebody who was dead already, and would hear that before its engine did
			o.mu.Unlock()
			leave()
			continue
		}
		o.runs[n] = leave
		running := now.Add(1)
		o.mu.Unlock()
		for before := most.Load(); running > before && !most.CompareAndSwap(before, running); before = most.Load() {
		}
		<-time.After(time.Duration(rnd.IntN(8)) * time.Millisecond)
		o.mu.Lock()
		defer o.mu.Unlock()
		now.Add(-1)
		o.runs[n]() // at whoever has it now
		delete(o.runs, n)
		return
	}
}

// kill ends a gateway, and has its heir go on with what ran there.
func kill(t *testing.T, s *store.Store, dead, heir *one, ask admission.Ask) {
	dead.stop()
	dead.mu.Lock()
	defer dead.mu.Unlock()
	dead.dead = true
	taken, err := s.TakeOver(context.Background(), dead.id, heir.id, 0)
	if err != nil || !taken {
		t.Errorf("take over %s: %v %v", dead.id, taken, err)
	}
	for n := range dead.runs {
		dead.runs[n] = heir.gate.Running(ask)
	}
	if err := heir.gate.Adopted(context.Background()); err != nil {
		t.Errorf("adopt: %v", err)
	}
}

// testRates: a bucket lets no more through than its rate, whoever asks.
func testRates(t *testing.T, s *store.Store) {
	var waits []time.Duration
	for range 5 {
		d, err := s.TakeToken(t.Context(), "rate/user/ann", 10, 2, time.Minute)
		require.NoError(t, err)
		waits = append(waits, d)
	}
	require.Zero(t, waits[0])
	require.Zero(t, waits[1], "the burst")
	require.Greater(t, waits[4], 200*time.Millisecond)
	require.LessOrEqual(t, waits[4], 300*time.Millisecond)
	d, err := s.TakeToken(t.Context(), "rate/user/bob", 0.001, 1, time.Minute)
	require.NoError(t, err)
	require.Zero(t, d)
	for range 3 {
		d, err = s.TakeToken(t.Context(), "rate/user/bob", 0.001, 1, time.Minute)
		require.NoError(t, err)
		require.Greater(t, d, time.Minute, "what is refused takes nothing")
		require.Less(t, d, 17*time.Minute)
	}
}
