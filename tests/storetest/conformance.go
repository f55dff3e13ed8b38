// Package storetest is what every database under a store must do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
)

// start is a time with microseconds, which must survive, in the zone in which times are read back.
var start = time.Date(2026, 3, 29, 1, 59, 59, 123_456_000, time.Local)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func ptr[T any](v T) *T { return &v }

func newSession(opened time.Time) store.Session {
	id := uuid.New()
	return store.Session{
		ID: id, Replica: "r1", Fence: 1, Secret: [16]byte{0, 1, 0xff}, User: "ann", RealUser: "hué", FrontEnd: "hs2", ClientAddr: "10.0.0.1:5", Protocol: 10,
		Conf: map[string]string{"spark.a": "1", "quote": `"'$1`}, Catalog: "cat", Database: "db",
		EngineID: "engine-1", EngineSession: uuid.New(), OpenedAt: opened, SeenAt: opened.Add(time.Microsecond),
	}
}

func newOperation(session uuid.UUID, created time.Time) store.Operation {
	return store.Operation{
		ID: uuid.New(), SessionID: session, Fence: 1, Secret: [16]byte{15: 9}, Kind: "statement", Statement: "SELECT '\x00', \"ü\"; -- $1", State: "PENDING",
		Overlay: map[string]string{"k": "v\""}, TimeLimit: 90 * time.Second, EngineID: "engine-1", EngineOp: uuid.New(), Position: "p0", Rows: 1 << 40, ErrorClass: "C", SQLState: "42000", ErrorMessage: "no\nsuch",
		CreatedAt: created, StartedAt: ptr(created.Add(time.Microsecond)), EndedAt: ptr(created.Add(time.Hour)),
	}
}

// Conformance is what every database must do. open gives an empty store that is closed by the test's end.
func Conformance(t *testing.T, open func(t *testing.T) *store.Store) {
	for name, test := range map[string]func(*testing.T, *store.Store){
		"sessions":         testSessions,
		"operations":       testOperations,
		"claims":           testClaims,
		"one claim":        testOneClaim,
		"engine limits":    testEngineLimits,
		"limits for many":  testEngineLimitsForMany,
		"engines":          testEngines,
		"holds":            testHolds,
		"full engines":     testFull,
		"yield":            testYield,
		"replicas":         testReplicas,
		"take over":        testTakeOver,
		"leave":            testLeave,
		"agree":            testAgree,
		"settings":         testSettings,
		"rules":            testRules,
		"portions":         testPortions,
		"gates":            testGates,
		"rates":            testRates,
		"unknown ids":      testUnknown,
		"taken ids":        testTaken,
		"zero values":      testZero,
		"open sessions":    testOpenSessions,
		"operations of":    testOperationsOf,
		"prune":            testPrune,
		"foreign keys":     testForeignKeys,
		"many writers":     testManyWriters,
		"ended context":    testEndedContext,
		"ping":             testPing,
		"any text as data": testText,
		"audit":            testAudit,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func testSessions(t *testing.T, s *store.Store) {
	ctx := t.Context()
	r, other := newSession(start), newSession(start)
	require.NoError(t, s.CreateSession(ctx, r))
	require.NoError(t, s.CreateSession(ctx, other))
	got, err := s.Session(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got)

	r.Conf, r.Catalog, r.Database = map[string]string{"spark.b": "2"}, "cat2", "db2"
	r.EngineID, r.EngineSession, r.SeenAt = "engine-2", uuid.New(), at(1)
	require.NoError(t, s.UpdateSession(ctx, r))
	got, err = s.Session(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got)

	require.NoError(t, s.CloseSession(ctx, r.ID, 1, at(2)))
	r.ClosedAt = ptr(at(2))
	got, err = s.Session(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got)

	got, err = s.Session(ctx, other.ID)
	require.NoError(t, err)
	require.Equal(t, other, got, "changes of one session must not reach another")
}

func testOperations(t *testing.T, s *store.Store) {
	ctx := t.Context()
	sess := newSession(start)
	require.NoError(t, s.CreateSession(ctx, sess))
	r, other := newOperation(sess.ID, start), newOperation(sess.ID, start)
	require.NoError(t, s.CreateOperation(ctx, r))
	require.NoError(t, s.CreateOperation(ctx, other))
	got, err := s.Operation(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got)

	r.State, r.EngineID, r.Position, r.Rows = "ERROR", "engine-2", "p1", 7
	r.ErrorClass, r.SQLState, r.ErrorMessage, r.StartedAt, r.EndedAt = "D", "HY000", "gone", ptr(at(1)), nil
	require.NoError(t, s.UpdateOperation(ctx, r))
	got, err = s.Operation(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got)

	require.NoError(t, s.CloseOperation(ctx, r.ID, 1, at(2)))
	r.State, r.EndedAt = "CLOSED", ptr(at(2))
	got, err = s.Operation(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got, "a closed operation keeps its error")

	require.NoError(t, s.CloseOperation(ctx, other.ID, 1, at(200)))
	other.State = "CLOSED"
	got, err = s.Operation(ctx, other.ID)
	require.NoError(t, err)
	require.Equal(t, other, got, "one that had ended keeps the time of its end")
}

func testUnknown(t *testing.T, s *store.Store) {
	ctx, id := t.Context(), uuid.New()
	for name, tc := range map[string]struct {
		call func() error
		err  error
	}{
		"Session":         {func() error { _, err := s.Session(ctx, id); return err }, store.ErrNotFound},
		"UpdateSession":   {func() error { return s.UpdateSession(ctx, store.Session{ID: id}) }, store.ErrFenced},
		"CloseSession":    {func() error { return s.CloseSession(ctx, id, 1, start) }, store.ErrFenced},
		"Operation":       {func() error { _, err := s.Operation(ctx, id); return err }, store.ErrNotFound},
		"UpdateOperation": {func() error { return s.UpdateOperation(ctx, store.Operation{ID: id}) }, store.ErrFenced},
		"CloseOperation":  {func() error { return s.CloseOperation(ctx, id, 1, start) }, store.ErrFenced},
		"SetFetched":      {func() error { return s.SetFetched(ctx, id, 1, 5) }, store.ErrFenced},
		"Engine":          {func() error { _, err := s.Engine(ctx, "none"); return err }, store.ErrNotFound},
		"ClaimedEngine":   {func() error { _, err := s.ClaimedEngine(ctx, "none", 0); return err }, store.ErrNotFound},
		"UpdateEngine":    {func() error { return s.UpdateEngine(ctx, store.Engine{ID: "none"}) }, store.ErrFenced},
		"HoldEngine":      {func() error { return s.HoldEngine(ctx, "none", "r1", 1, 0) }, store.ErrNotFound},
		"Beat":            {func() error { return s.Beat(ctx, "none") }, store.ErrFenced},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorIs(t, tc.call(), tc.err) })
	}
	ops, err := s.OperationsOf(ctx, id)
	require.NoError(t, err, "a list of nothing is no error")
	require.Empty(t, ops)
}

func testTaken(t *testing.T, s *store.Store) {
	ctx := t.Context()
	sess := newSession(start)
	require.NoError(t, s.CreateSession(ctx, sess))
	require.Error(t, s.CreateSession(ctx, sess))
	op := newOperation(sess.ID, start)
	require.NoError(t, s.CreateOperation(ctx, op))
	require.Error(t, s.CreateOperation(ctx, op))
}

// Records with nothing but what they must have come back as they were: no null becomes a zero time, or the other way.
func testZero(t *testing.T, s *store.Store) {
	ctx := t.Context()
	sess := store.Session{ID: uuid.New(), OpenedAt: start, SeenAt: start}
	require.NoError(t, s.CreateSession(ctx, sess))
	gotSession, err := s.Session(ctx, sess.ID)
	require.NoError(t, err)
	require.Equal(t, sess, gotSession)

	op := store.Operation{ID: uuid.New(), SessionID: sess.ID, CreatedAt: time.UnixMicro(0)}
	require.NoError(t, s.CreateOperation(ctx, op))
	gotOp, err := s.Operation(ctx, op.ID)
	require.NoError(t, err)
	require.Equal(t, op, gotOp)
}

func testOpenSessions(t *testing.T, s *store.Store) {
	ctx := t.Context()
	list, err := s.OpenSessions(ctx, "r1")
	require.NoError(t, err)
	require.Empty(t, list)
	third, first, closed, second := newSession(at(3)), newSession(at(1)), newSession(at(0)), newSession(at(2))
	for _, r := range []store.Session{third, first, closed, second} {
		require.NoError(t, s.CreateSession(ctx, r))
	}
	elsewhere := newSession(at(1))
	elsewhere.Replica = "r2"
	require.NoError(t, s.CreateSession(ctx, elsewhere))
	require.NoError(t, s.CloseSession(ctx, closed.ID, 1, at(4)))
	list, err = s.OpenSessions(ctx, "r1")
	require.NoError(t, err)
	require.Equal(t, []store.Session{first, second, third}, list)
}

func testOperationsOf(t *testing.T, s *store.Store) {
	ctx := t.Context()
	one, two := newSession(start), newSession(start)
	require.NoError(t, s.CreateSession(ctx, one))
	require.NoError(t, s.CreateSession(ctx, two))
	second, first, foreign := newOperation(one.ID, at(2)), newOperation(one.ID, at(1)), newOperation(two.ID, at(1))
	for _, r := range []store.Operation{second, first, foreign} {
		require.NoError(t, s.CreateOperation(ctx, r))
	}
	list, err := s.OperationsOf(ctx, one.ID)
	require.NoError(t, err)
	require.Equal(t, []store.Operation{first, second}, list)
}

func testPrune(t *testing.T, s *store.Store) {
	ctx := t.Context()
	sessions := map[string]store.Session{"open": newSession(at(0)), "long closed": newSession(at(0)), "just closed": newSession(at(0))}
	ops := map[string]store.Operation{}
	for name, r := range sessions {
		require.NoError(t, s.CreateSession(ctx, r))
		ops[name] = newOperation(r.ID, at(0))
		require.NoError(t, s.CreateOperation(ctx, ops[name]))
	}
	require.NoError(t, s.CloseSession(ctx, sessions["long closed"].ID, 1, at(10).Add(-time.Microsecond)))
	require.NoError(t, s.CloseSession(ctx, sessions["just closed"].ID, 1, at(10)))
	engines := map[string]*time.Time{"live": nil, "long ended": ptr(at(10).Add(-time.Microsecond)), "just ended": ptr(at(10))}
	for id, ended := range engines {
		e := claim(t, s, id, id)
		e.EndedAt = ended
		require.NoError(t, s.UpdateEngine(ctx, e))
	}

	require.NoError(t, s.Prune(ctx, at(10)))
	for name, r := range sessions {
		_, err := s.Session(ctx, r.ID)
		_, opErr := s.Operation(ctx, ops[name].ID)
		if name == "long closed" {
			require.ErrorIs(t, err, store.ErrNotFound)
			require.ErrorIs(t, opErr, store.ErrNotFound, "operations go with their session")
		} else {
			require.NoError(t, err, name)
			require.NoError(t, opErr, name)
		}
	}
	for id := range engines {
		_, err := s.Engine(ctx, id)
		if id == "long ended" {
			require.ErrorIs(t, err, store.ErrNotFound)
		} else {
			require.NoError(t, err, id)
		}
	}
}

func testForeignKeys(t *testing.T, s *store.Store) {
	require.Error(t, s.CreateOperation(t.Context(), newOperation(uuid.New(), start)), "no operation without a session")
}

// Eight goroutines write at once; none may fail because another is writing, and nothing may be lost.
func testManyWriters(t *testing.T, s *store.Store) {
	ctx := t.Context()
	const writers, each = 8, 10
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			sess := newSession(at(w))
			errs[w] = s.CreateSession(ctx, sess)
			for i := range each {
				op := newOperation(sess.ID, at(i))
				errs[w] = errors.Join(errs[w], s.CreateOperation(ctx, op), s.CloseOperation(ctx, op.ID, 1, at(i)))
			}
			e := newEngine(fmt.Sprint(w), fmt.Sprint(w))
			_, err := s.ClaimEngine(ctx, e)
			errs[w] = errors.Join(errs[w], err, s.UpdateEngine(ctx, e))
			_, err = s.OpenSessions(ctx, "r1")
			errs[w] = errors.Join(errs[w], err)
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	list, err := s.OpenSessions(ctx, "r1")
	require.NoError(t, err)
	require.Len(t, list, writers)
	for _, sess := range list {
		ops, err := s.OperationsOf(ctx, sess.ID)
		require.NoError(t, err)
		require.Len(t, ops, each)
	}
	engines, err := s.LiveEngines(ctx)
	require.NoError(t, err)
	require.Len(t, engines, writers)
}

func testEndedContext(t *testing.T, s *store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.CreateSession(ctx, newSession(start)), context.Canceled)
	_, err := s.OpenSessions(ctx, "r1")
	require.ErrorIs(t, err, context.Canceled)
}

func testPing(t *testing.T, s *store.Store) {
	require.NoError(t, s.Ping(t.Context()))
	require.NoError(t, s.Close())
	require.Error(t, s.Ping(t.Context()))
}

// Statements are whatever clients send: no text may be taken for SQL, or be changed.
func testText(t *testing.T, s *store.Store) {
	ctx := t.Context()
	sess := newSession(start)
	require.NoError(t, s.CreateSession(ctx, sess))
	for name, text := range map[string]string{
		"quotes": `'; DROP TABLE sessions; --`, "placeholders": "$1 ?1 :a @b", "a NUL": "a\x00b", "emoji": "🚰", "no UTF-8": "\xff\xfe", "large": string(make([]byte, 1<<20)),
	} {
		op := newOperation(sess.ID, start)
		op.Statement, op.ErrorMessage = text, text
		require.NoError(t, s.CreateOperation(ctx, op), name)
		got, err := s.Operation(ctx, op.ID)
		require.NoError(t, err, name)
		require.Equal(t, op, got, name)
	}
}
