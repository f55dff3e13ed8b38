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

// member is a gateway of testGates.
type member struct {
	id   string
	gate *admission.Gate
	stop context.CancelFunc
	dead bool
}

// group is gateways on one store, and the statements that run.
type group struct {
	t     *testing.T
	store *store.Store
	limit int

	mu     sync.Mutex
	n      int // gateways so far
	live   []*member
	runs   map[*run]struct{}
	most   int
	killed int
}

// run is a statement that runs, where it is counted now.
type run struct {
	at    *member
	leave func()
}

var etl = admission.Ask{User: "ann", Queue: "etl", Priority: 5}

// join adds a gateway. The caller holds g.mu.
func (g *group) join() {
	g.n++
	m := &member{id: fmt.Sprint("g", g.n)}
	if err := g.store.Join(context.Background(), store.Replica{ID: m.id, StartedAt: start}); err != nil {
		g.t.Errorf("join: %v", err)
	}
	m.gate = admission.New(admission.Options{Limits: func() []rules.Limit {
		return []rules.Limit{{Scope: rules.PerQueue, Name: "etl", Running: g.limit, Waiting: 1000}}
	},
		Store: g.store, Replica: func() string { return m.id }, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = m.gate.Run(ctx) }()
	m.stop = func() { cancel(); <-ended }
	g.live = append(g.live, m)
}

// testGates has gateways let in statements at random, kills some of them in the middle, and has others take over: never do
// more run than the limit says, and everybody is let in at last.
func testGates(t *testing.T, s *store.Store) {
	const statements, workers = 160, 8
	g := &group{t: t, store: s, limit: 5, runs: map[*run]struct{}{}}
	for range 3 {
		g.join()
	}
	var wait sync.WaitGroup
	var begun, done atomic.Int64
	for worker := range workers {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(9, uint64(worker)))
			for begun.Add(1) <= statements {
				g.statement(rnd)
				done.Add(1)
			}
		})
	}
	for rnd := rand.New(rand.NewPCG(9, 99)); done.Load() < statements*3/4; {
		<-time.After(30 * time.Millisecond)
		g.kill(rnd)
	}
	wait.Wait()
	for _, m := range g.live {
		m.stop()
	}
	require.LessOrEqual(t, g.most, g.limit, "more ran than the limit allows")
	require.GreaterOrEqual(t, g.most, g.limit-1, "the limit was hardly used: the test shows nothing")
	require.Positive(t, g.killed)
}

// statement runs one on some gateway; should that die before it is let in, on another one.
func (g *group) statement(rnd *rand.Rand) {
	for {
		g.mu.Lock()
		m := g.live[rnd.IntN(len(g.live))]
		g.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		leave, err := m.gate.Statement(ctx, etl, func(string) {})
		cancel()
		if err != nil {
			continue
		}
		r := &run{m, leave}
		g.mu.Lock()
		dead := m.dead // it was let in by somebody who would hear that he is dead before its engine hears of the statement
		if !dead {
			g.runs[r] = struct{}{}
			g.most = max(g.most, len(g.runs))
		}
		g.mu.Unlock()
		if !dead {
			<-time.After(time.Duration(rnd.IntN(8)) * time.Millisecond)
		}
		g.mu.Lock()
		delete(g.runs, r)
		r.leave() // at whoever has it now
		g.mu.Unlock()
		if !dead {
			return
		}
	}
}

// kill ends a gateway, and has an heir go on with what ran there.
func (g *group) kill(rnd *rand.Rand) {
	g.mu.Lock()
	defer g.mu.Unlock()
	dead, heir := g.live[0], g.live[1+rnd.IntN(2)]
	g.live = g.live[1:]
	dead.stop()
	dead.dead = true
	taken, err := g.store.TakeOver(context.Background(), dead.id, heir.id, 0)
	if err != nil || !taken {
		g.t.Errorf("take over %s: %v %v", dead.id, taken, err)
	}
	for r := range g.runs {
		if r.at == dead {
			r.at, r.leave = heir, heir.gate.Running(etl)
		}
	}
	if err := heir.gate.Adopted(context.Background()); err != nil {
		g.t.Errorf("adopt: %v", err)
	}
	g.join()
	g.killed++
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
