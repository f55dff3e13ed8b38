package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
)

func newEngine(id, key string) store.Engine {
	return store.Engine{
		ID: id, ShareKey: key, Claimed: true, Replica: "r1", Fence: 1, Cluster: "local", Kind: "spark", Tag: "sluice-" + id, User: "ann",
		AppID: "app-1", Address: "127.0.0.1:1", State: "PENDING", Reason: "asked for", CreatedAt: start,
	}
}

// claim stores a new engine with its claim.
func claim(t *testing.T, s *store.Store, id, key string) store.Engine {
	t.Helper()
	e := newEngine(id, key)
	ok, err := s.ClaimEngine(t.Context(), e)
	require.NoError(t, err)
	require.True(t, ok)
	return e
}

func testClaims(t *testing.T, s *store.Store) {
	ctx := t.Context()
	first := claim(t, s, "a", "k")
	got, err := s.ClaimedEngine(ctx, "k", 0)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), got.IdleSince, time.Minute, "by the database's clock")
	first.IdleSince = got.IdleSince
	require.Equal(t, first, got)

	ok, err := s.ClaimEngine(ctx, newEngine("b", "k"))
	require.NoError(t, err)
	require.False(t, ok, "there is one already")
	_, err = s.Engine(ctx, "b")
	require.ErrorIs(t, err, store.ErrNotFound, "and nothing is stored of the other")
	beside := newEngine("c", "k")
	beside.Slot = 1
	ok, err = s.ClaimEngine(ctx, beside)
	require.NoError(t, err)
	require.True(t, ok, "another slot of the key has a claim of its own")

	ended := first
	ended.State, ended.EndedAt = "ENDED", ptr(at(1))
	require.NoError(t, s.UpdateEngine(ctx, ended))
	ok, err = s.ClaimEngine(ctx, newEngine("b", "k"))
	require.NoError(t, err)
	require.True(t, ok, "an engine that ended gives up its claim")
	got, err = s.ClaimedEngine(ctx, "k", 0)
	require.NoError(t, err)
	require.Equal(t, "b", got.ID)
}

// Fifty ask at once for one engine: one of them gets the claim, and nobody fails.
func testOneClaim(t *testing.T, s *store.Store) {
	var won atomic.Int32
	var wait sync.WaitGroup
	errs := make(chan error, 50)
	for i := range cap(errs) {
		wait.Go(func() {
			ok, err := s.ClaimEngine(t.Context(), newEngine(fmt.Sprint(i), "k"))
			if ok {
				won.Add(1)
			}
			errs <- err
		})
	}
	wait.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.Equal(t, int32(1), won.Load())
}

// A limit counts live engines that have a value; what is refused leaves nothing behind, and is no failure of the store.
func testEngineLimits(t *testing.T, s *store.Store) {
	ctx := t.Context()
	engine := func(id, user, cluster, queue string) store.Engine {
		e := newEngine(id, "key of "+id)
		e.User, e.Cluster, e.Queue = user, cluster, queue
		return e
	}
	for i, tc := range []struct {
		user, cluster, queue string
		limits               []store.EngineLimit
		err                  error
	}{
		{"ann", "yarn1", "root.etl", []store.EngineLimit{{Column: "user_name", Value: "ann", Max: 2}, {Column: "queue", Value: "root.etl", Max: 2}}, nil},
		{"ann", "yarn1", "root.etl", []store.EngineLimit{{Column: "user_name", Value: "ann", Max: 1}}, store.ErrTooMany},
		{"ann", "yarn1", "", []store.EngineLimit{{Column: "user_name", Value: "ann", Max: 2}, {Column: "queue", Value: "", Max: 1}}, nil},
		{"ann", "k8s1", "", []store.EngineLimit{{Column: "user_name", Value: "ann", Max: 2}}, store.ErrTooMany},
		{"bob", "k8s1", "", []store.EngineLimit{{Column: "user_name", Value: "bob", Max: 1}, {Column: "cluster", Value: "k8s1", Max: 1}}, nil},
		{"eve", "k8s1", "", []store.EngineLimit{{Column: "user_name", Value: "eve", Max: 5}, {Column: "cluster", Value: "k8s1", Max: 1}}, store.ErrTooMany},
		{"eve", "yarn1", "root.etl", []store.EngineLimit{{Column: "queue", Value: "root.etl", Max: 1}}, store.ErrTooMany},
		{"eve", "yarn1", "root.etl", []store.EngineLimit{{Max: 3}}, store.ErrTooMany},
		{"eve", "yarn1", "root.etl", []store.EngineLimit{{Max: 4}}, nil},
		{"zoe", "yarn1", "root.etl", nil, nil},
	} {
		id := fmt.Sprint(i)
		ok, err := s.ClaimEngine(ctx, engine(id, tc.user, tc.cluster, tc.queue), tc.limits...)
		require.Equal(t, tc.err == nil, ok, "engine %d: %v", i, err)
		if tc.err != nil {
			require.ErrorIs(t, err, tc.err, i)
			require.NotErrorIs(t, err, store.ErrUnavailable, "others must not be told that the store is away")
			_, err = s.Engine(ctx, id)
			require.ErrorIs(t, err, store.ErrNotFound)
		}
	}
	for range 10 { // who waits asks again and again
		_, err := s.ClaimEngine(ctx, engine("again", "ann", "k8s1", ""), store.EngineLimit{Column: "user_name", Value: "ann", Max: 2})
		require.ErrorIs(t, err, store.ErrTooMany)
	}
	require.NoError(t, s.Ping(ctx))
	ok, err := s.ClaimEngine(ctx, newEngine("other", "key of 0"), store.EngineLimit{Column: "user_name", Value: "ann", Max: 1})
	require.NoError(t, err, "there is one already, which may be had whatever the limit")
	require.False(t, ok)
	ended := engine("0", "ann", "yarn1", "root.etl")
	ended.State, ended.EndedAt = "ENDED", ptr(at(1))
	require.NoError(t, s.UpdateEngine(ctx, ended))
	ok, err = s.ClaimEngine(ctx, engine("again", "ann", "k8s1", ""), store.EngineLimit{Column: "user_name", Value: "ann", Max: 2})
	require.NoError(t, err)
	require.True(t, ok, "one that has ended makes room")
}

// Thirty ask at once for an engine each, of which there may be three.
func testEngineLimitsForMany(t *testing.T, s *store.Store) {
	var won atomic.Int32
	var wait sync.WaitGroup
	errs := make(chan error, 30)
	limits := []store.EngineLimit{{Column: "", Max: 20}, {Column: "cluster", Value: "local", Max: 3}}
	for i := range cap(errs) {
		wait.Go(func() {
			ok, err := s.ClaimEngine(t.Context(), newEngine(fmt.Sprint(i), fmt.Sprint("key ", i)), limits...)
			if ok {
				won.Add(1)
			}
			errs <- err
		})
	}
	wait.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			require.ErrorIs(t, err, store.ErrTooMany)
		}
	}
	require.Equal(t, int32(3), won.Load())
	all, err := s.LiveEngines(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
}

func testEngines(t *testing.T, s *store.Store) {
	ctx := t.Context()
	r, other := claim(t, s, "a", "k"), claim(t, s, "b", "l")
	r.AppID, r.Address, r.State, r.Reason = "app-2", "h:2", "RUNNING", "as it was told"
	require.NoError(t, s.UpdateEngine(ctx, r))
	got, err := s.Engine(ctx, "a")
	require.NoError(t, err)
	r.IdleSince = got.IdleSince
	require.Equal(t, r, got)
	late := r
	late.Fence = 0
	require.ErrorIs(t, s.UpdateEngine(ctx, late), store.ErrFenced)
	late = r
	late.Replica = "r2"
	require.ErrorIs(t, s.UpdateEngine(ctx, late), store.ErrFenced)

	list, err := s.LiveEngines(ctx)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, other.ID, list[1].ID)
	require.Equal(t, other.Address, list[1].Address, "changes of one engine must not reach another")
	r.EndedAt = ptr(at(1))
	require.NoError(t, s.UpdateEngine(ctx, r))
	list, err = s.LiveEngines(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func within(d time.Duration) *time.Duration { return &d }

func testHolds(t *testing.T, s *store.Store) {
	ctx := t.Context()
	e := claim(t, s, "a", "k")
	yield := func(unheld time.Duration) bool {
		t.Helper()
		ok, err := s.YieldEngine(ctx, e, within(unheld))
		require.NoError(t, err)
		return ok
	}
	require.NoError(t, s.HoldEngine(ctx, "a", "r1", 1, 0))
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 1, 0))
	require.NoError(t, s.HoldEngine(ctx, "a", "r1", 0, 0))
	require.False(t, yield(0), "another replica holds it")
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 0, 0))
	require.False(t, yield(time.Hour), "it has not been idle for long enough")
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 1, 0), "and can be had until then")
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 0, 0))
	require.True(t, yield(0))
	require.ErrorIs(t, s.HoldEngine(ctx, "a", "r1", 1, 0), store.ErrNotFound, "what is to be ended is not to be had any more")
	_, err := s.ClaimedEngine(ctx, "k", 0)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testFull(t *testing.T, s *store.Store) {
	ctx := t.Context()
	e := claim(t, s, "a", "k")
	require.NoError(t, s.HoldEngine(ctx, "a", "r1", 1, 3))
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 1, 3))
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 2, 3))
	require.ErrorIs(t, s.HoldEngine(ctx, "a", "r2", 3, 3), store.ErrFull, "the sessions of all are counted")
	require.ErrorIs(t, s.HoldEngine(ctx, "a", "r3", 1, 3), store.ErrFull)
	require.NoError(t, s.HoldEngine(ctx, "a", "r1", 0, 3))
	require.NoError(t, s.HoldEngine(ctx, "a", "r3", 1, 3), "one that is closed makes room")
	got, err := s.Engine(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, int64(4), got.Opened)
	_, err = s.YieldEngine(ctx, e, nil)
	require.NoError(t, err)
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 1, 3), "fewer are always allowed")
	require.ErrorIs(t, s.HoldEngine(ctx, "a", "r2", 2, 3), store.ErrNotFound)
}

func testYield(t *testing.T, s *store.Store) {
	ctx := t.Context()
	e := claim(t, s, "a", "k")
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 1, 0))
	late := e
	late.Fence = 7
	_, err := s.YieldEngine(ctx, late, nil)
	require.ErrorIs(t, err, store.ErrFenced)
	e.Reason = "it is old"
	ok, err := s.YieldEngine(ctx, e, nil)
	require.NoError(t, err)
	require.True(t, ok, "who holds it may go on")
	got, err := s.Engine(ctx, "a")
	require.NoError(t, err)
	require.False(t, got.Claimed)
	require.Equal(t, "it is old", got.Reason)
	claim(t, s, "b", "k")
	ok, err = s.YieldEngine(ctx, e, within(0))
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 0, 0))
	ok, err = s.YieldEngine(ctx, e, within(0))
	require.NoError(t, err)
	require.True(t, ok)
}

func testReplicas(t *testing.T, s *store.Store) {
	ctx := t.Context()
	require.NoError(t, s.Join(ctx, store.Replica{ID: "r1", Address: "a:1", StartedAt: start}))
	require.Error(t, s.Join(ctx, store.Replica{ID: "r1", Address: "a:1", StartedAt: start}), "an id is used once")
	require.NoError(t, s.Join(ctx, store.Replica{ID: "r2", Address: "a:2", StartedAt: at(1)}))
	require.NoError(t, s.Beat(ctx, "r1"))
	all, err := s.Replicas(ctx)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, []string{"r1", "a:1"}, []string{all[0].ID, all[0].Address})
	require.WithinDuration(t, time.Now(), all[0].SeenAt, time.Minute)
	silent, err := s.Silent(ctx, time.Hour)
	require.NoError(t, err)
	require.Empty(t, silent)
	silent, err = s.Silent(ctx, -time.Hour)
	require.NoError(t, err)
	require.Len(t, silent, 2)
}

// A replica that was declared dead can change nothing any more that is another's now.
func testTakeOver(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, id := range []string{"r1", "r2"} {
		require.NoError(t, s.Join(ctx, store.Replica{ID: id, StartedAt: start}))
	}
	sess, closed, theirs := newSession(start), newSession(start), newSession(start)
	theirs.Replica = "r2"
	for _, r := range []store.Session{sess, closed, theirs} {
		require.NoError(t, s.CreateSession(ctx, r))
	}
	require.NoError(t, s.CloseSession(ctx, closed.ID, 1, at(1)))
	op := newOperation(sess.ID, start)
	require.NoError(t, s.CreateOperation(ctx, op))
	e := claim(t, s, "a", "k")
	require.NoError(t, s.HoldEngine(ctx, "a", "r1", 1, 0))

	ok, err := s.TakeOver(ctx, "r1", "r2", time.Hour)
	require.NoError(t, err)
	require.False(t, ok, "it is not silent for so long")
	require.NoError(t, s.UpdateSession(ctx, sess))
	ok, err = s.TakeOver(ctx, "r1", "r2", 0)
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = s.TakeOver(ctx, "r1", "r2", 0)
	require.NoError(t, err)
	require.False(t, ok, "once is enough")

	for name, call := range map[string]func() error{
		"Beat":            func() error { return s.Beat(ctx, "r1") },
		"UpdateSession":   func() error { return s.UpdateSession(ctx, sess) },
		"CloseSession":    func() error { return s.CloseSession(ctx, sess.ID, sess.Fence, start) },
		"UpdateOperation": func() error { return s.UpdateOperation(ctx, op) },
		"CloseOperation":  func() error { return s.CloseOperation(ctx, op.ID, op.Fence, start) },
		"SetFetched":      func() error { return s.SetFetched(ctx, op.ID, op.Fence, 9) },
		"UpdateEngine":    func() error { return s.UpdateEngine(ctx, e) },
		"YieldEngine":     func() error { _, err := s.YieldEngine(ctx, e, nil); return err },
	} {
		require.ErrorIs(t, call(), store.ErrFenced, name)
	}
	mine, err := s.OpenSessions(ctx, "r2")
	require.NoError(t, err)
	require.ElementsMatch(t, []uuid.UUID{sess.ID, theirs.ID}, []uuid.UUID{mine[0].ID, mine[1].ID})
	got, err := s.Engine(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, []any{"r2", int64(2), true}, []any{got.Replica, got.Fence, got.Claimed})
	ok, err = s.YieldEngine(ctx, got, within(0))
	require.NoError(t, err)
	require.True(t, ok, "the dead one holds nothing")
	taken, err := s.Session(ctx, sess.ID)
	require.NoError(t, err)
	require.NoError(t, s.UpdateSession(ctx, taken))
	ops, err := s.OperationsOf(ctx, sess.ID)
	require.NoError(t, err)
	require.NoError(t, s.UpdateOperation(ctx, ops[0]))
}

func testLeave(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, id := range []string{"r1", "r2"} {
		require.NoError(t, s.Join(ctx, store.Replica{ID: id, StartedAt: start}))
	}
	claim(t, s, "a", "k")
	require.NoError(t, s.HoldEngine(ctx, "a", "r1", 1, 0))
	require.NoError(t, s.HoldEngine(ctx, "a", "r2", 1, 0))
	require.NoError(t, s.Leave(ctx, "r1"))
	all, err := s.Replicas(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.NoError(t, s.Inherit(ctx, "r2"))
	got, err := s.Engine(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, []any{"r2", int64(3)}, []any{got.Replica, got.Fence})
	ok, err := s.YieldEngine(ctx, got, within(0))
	require.NoError(t, err)
	require.False(t, ok, "the heir holds it")
}

func testAgree(t *testing.T, s *store.Store) {
	for _, proposed := range []string{"a", "b", "a"} {
		first, err := s.Agree(t.Context(), "letter", proposed)
		require.NoError(t, err)
		require.Equal(t, "a", first)
	}
	other, err := s.Agree(t.Context(), "another", "b")
	require.NoError(t, err)
	require.Equal(t, "b", other)
}
