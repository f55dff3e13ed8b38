package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSQLite(t *testing.T) {
	conformance(t, func(t *testing.T) *Store { return openAt(t, filepath.Join(t.TempDir(), "sluice.db")) })
}

// start is a time with microseconds, which must survive, in the zone in which times are read back.
var start = time.Date(2026, 3, 29, 1, 59, 59, 123_456_000, time.Local)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func ptr[T any](v T) *T { return &v }

func newSession(opened time.Time) Session {
	id := uuid.New()
	return Session{
		ID: id, Secret: [16]byte{0, 1, 0xff}, User: "ann", RealUser: "hué", FrontEnd: "hs2", ClientAddr: "10.0.0.1:5", Protocol: 10,
		Conf: map[string]string{"spark.a": "1", "quote": `"'$1`}, Catalog: "cat", Database: "db",
		EngineID: "engine-1", EngineSession: uuid.New(), OpenedAt: opened, SeenAt: opened.Add(time.Microsecond),
	}
}

func newOperation(session uuid.UUID, created time.Time) Operation {
	return Operation{
		ID: uuid.New(), SessionID: session, Secret: [16]byte{15: 9}, Kind: "statement", Statement: "SELECT '\x00', \"ü\"; -- $1", State: "PENDING",
		EngineID: "engine-1", EngineOp: uuid.New(), Position: "p0", Rows: 1 << 40, ErrorClass: "C", SQLState: "42000", ErrorMessage: "no\nsuch",
		CreatedAt: created, StartedAt: ptr(created.Add(time.Microsecond)), EndedAt: ptr(created.Add(time.Hour)),
	}
}

func newEngine(id string, created time.Time) Engine {
	return Engine{
		ID: id, ShareKey: "ann/local", Cluster: "local", Kind: "spark", Tag: "sluice-" + id, User: "ann", AppID: "app-1", Address: "127.0.0.1:1",
		State: "READY", Reason: "asked for", Fence: 1 << 50, CreatedAt: created,
	}
}

// conformance is what every database must do. open gives an empty store that is closed by the test's end.
func conformance(t *testing.T, open func(t *testing.T) *Store) {
	for name, test := range map[string]func(*testing.T, *Store){
		"sessions":         testSessions,
		"operations":       testOperations,
		"engines":          testEngines,
		"unknown ids":      testUnknown,
		"taken ids":        testTaken,
		"zero values":      testZero,
		"open sessions":    testOpenSessions,
		"operations of":    testOperationsOf,
		"live engines":     testLiveEngines,
		"prune":            testPrune,
		"foreign keys":     testForeignKeys,
		"many writers":     testManyWriters,
		"ended context":    testEndedContext,
		"ping":             testPing,
		"any text as data": testText,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func testSessions(t *testing.T, s *Store) {
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

	require.NoError(t, s.CloseSession(ctx, r.ID, at(2)))
	r.ClosedAt = ptr(at(2))
	got, err = s.Session(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got)

	got, err = s.Session(ctx, other.ID)
	require.NoError(t, err)
	require.Equal(t, other, got, "changes of one session must not reach another")
}

func testOperations(t *testing.T, s *Store) {
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

	require.NoError(t, s.CloseOperation(ctx, r.ID, at(2)))
	r.State, r.EndedAt = "CLOSED", ptr(at(2))
	got, err = s.Operation(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, r, got, "a closed operation keeps its error")

	require.NoError(t, s.CloseOperation(ctx, other.ID, at(200)))
	other.State = "CLOSED"
	got, err = s.Operation(ctx, other.ID)
	require.NoError(t, err)
	require.Equal(t, other, got, "one that had ended keeps the time of its end")
}

func testEngines(t *testing.T, s *Store) {
	ctx := t.Context()
	r, other := newEngine("a", start), newEngine("b", start)
	require.NoError(t, s.CreateEngine(ctx, r))
	require.NoError(t, s.CreateEngine(ctx, other))
	got, err := s.Engine(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, r, got)

	r.AppID, r.Address, r.State, r.Reason, r.Fence, r.EndedAt = "app-2", "h:2", "ENDED", "idle", 3, ptr(at(1))
	require.NoError(t, s.UpdateEngine(ctx, r))
	got, err = s.Engine(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, r, got)

	got, err = s.Engine(ctx, "b")
	require.NoError(t, err)
	require.Equal(t, other, got, "changes of one engine must not reach another")
}

func testUnknown(t *testing.T, s *Store) {
	ctx, id := t.Context(), uuid.New()
	for name, call := range map[string]func() error{
		"Session":         func() error { _, err := s.Session(ctx, id); return err },
		"UpdateSession":   func() error { return s.UpdateSession(ctx, Session{ID: id}) },
		"CloseSession":    func() error { return s.CloseSession(ctx, id, start) },
		"Operation":       func() error { _, err := s.Operation(ctx, id); return err },
		"UpdateOperation": func() error { return s.UpdateOperation(ctx, Operation{ID: id}) },
		"CloseOperation":  func() error { return s.CloseOperation(ctx, id, start) },
		"Engine":          func() error { _, err := s.Engine(ctx, "none"); return err },
		"UpdateEngine":    func() error { return s.UpdateEngine(ctx, Engine{ID: "none"}) },
	} {
		t.Run(name, func(t *testing.T) { require.ErrorIs(t, call(), ErrNotFound) })
	}
	ops, err := s.OperationsOf(ctx, id)
	require.NoError(t, err, "a list of nothing is no error")
	require.Empty(t, ops)
}

func testTaken(t *testing.T, s *Store) {
	ctx := t.Context()
	sess := newSession(start)
	require.NoError(t, s.CreateSession(ctx, sess))
	require.Error(t, s.CreateSession(ctx, sess))
	op := newOperation(sess.ID, start)
	require.NoError(t, s.CreateOperation(ctx, op))
	require.Error(t, s.CreateOperation(ctx, op))
	require.NoError(t, s.CreateEngine(ctx, newEngine("a", start)))
	require.Error(t, s.CreateEngine(ctx, newEngine("a", start)))
}

// Records with nothing but what they must have come back as they were: no null becomes a zero time, or the other way.
func testZero(t *testing.T, s *Store) {
	ctx := t.Context()
	sess := Session{ID: uuid.New(), OpenedAt: start, SeenAt: start}
	require.NoError(t, s.CreateSession(ctx, sess))
	gotSession, err := s.Session(ctx, sess.ID)
	require.NoError(t, err)
	require.Equal(t, sess, gotSession)

	op := Operation{ID: uuid.New(), SessionID: sess.ID, CreatedAt: time.UnixMicro(0)}
	require.NoError(t, s.CreateOperation(ctx, op))
	gotOp, err := s.Operation(ctx, op.ID)
	require.NoError(t, err)
	require.Equal(t, op, gotOp)

	e := Engine{ID: "a", CreatedAt: start, EndedAt: ptr(time.UnixMicro(0))}
	require.NoError(t, s.CreateEngine(ctx, e))
	gotEngine, err := s.Engine(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, e, gotEngine)
}

func testOpenSessions(t *testing.T, s *Store) {
	ctx := t.Context()
	list, err := s.OpenSessions(ctx)
	require.NoError(t, err)
	require.Empty(t, list)
	third, first, closed, second := newSession(at(3)), newSession(at(1)), newSession(at(0)), newSession(at(2))
	for _, r := range []Session{third, first, closed, second} {
		require.NoError(t, s.CreateSession(ctx, r))
	}
	require.NoError(t, s.CloseSession(ctx, closed.ID, at(4)))
	list, err = s.OpenSessions(ctx)
	require.NoError(t, err)
	require.Equal(t, []Session{first, second, third}, list)
}

func testOperationsOf(t *testing.T, s *Store) {
	ctx := t.Context()
	one, two := newSession(start), newSession(start)
	require.NoError(t, s.CreateSession(ctx, one))
	require.NoError(t, s.CreateSession(ctx, two))
	second, first, foreign := newOperation(one.ID, at(2)), newOperation(one.ID, at(1)), newOperation(two.ID, at(1))
	for _, r := range []Operation{second, first, foreign} {
		require.NoError(t, s.CreateOperation(ctx, r))
	}
	list, err := s.OperationsOf(ctx, one.ID)
	require.NoError(t, err)
	require.Equal(t, []Operation{first, second}, list)
}

func testLiveEngines(t *testing.T, s *Store) {
	ctx := t.Context()
	second, first, ended := newEngine("a", at(2)), newEngine("b", at(1)), newEngine("c", at(0))
	ended.EndedAt = ptr(at(5))
	for _, r := range []Engine{second, first, ended} {
		require.NoError(t, s.CreateEngine(ctx, r))
	}
	list, err := s.LiveEngines(ctx)
	require.NoError(t, err)
	require.Equal(t, []Engine{first, second}, list)
}

func testPrune(t *testing.T, s *Store) {
	ctx := t.Context()
	sessions := map[string]Session{"open": newSession(at(0)), "long closed": newSession(at(0)), "just closed": newSession(at(0))}
	ops := map[string]Operation{}
	for name, r := range sessions {
		require.NoError(t, s.CreateSession(ctx, r))
		ops[name] = newOperation(r.ID, at(0))
		require.NoError(t, s.CreateOperation(ctx, ops[name]))
	}
	require.NoError(t, s.CloseSession(ctx, sessions["long closed"].ID, at(10).Add(-time.Microsecond)))
	require.NoError(t, s.CloseSession(ctx, sessions["just closed"].ID, at(10)))
	engines := map[string]*time.Time{"live": nil, "long ended": ptr(at(10).Add(-time.Microsecond)), "just ended": ptr(at(10))}
	for id, ended := range engines {
		e := newEngine(id, at(0))
		e.EndedAt = ended
		require.NoError(t, s.CreateEngine(ctx, e))
	}

	require.NoError(t, s.Prune(ctx, at(10)))
	for name, r := range sessions {
		_, err := s.Session(ctx, r.ID)
		_, opErr := s.Operation(ctx, ops[name].ID)
		if name == "long closed" {
			require.ErrorIs(t, err, ErrNotFound)
			require.ErrorIs(t, opErr, ErrNotFound, "operations go with their session")
		} else {
			require.NoError(t, err, name)
			require.NoError(t, opErr, name)
		}
	}
	for id := range engines {
		_, err := s.Engine(ctx, id)
		if id == "long ended" {
			require.ErrorIs(t, err, ErrNotFound)
		} else {
			require.NoError(t, err, id)
		}
	}
}

func testForeignKeys(t *testing.T, s *Store) {
	require.Error(t, s.CreateOperation(t.Context(), newOperation(uuid.New(), start)), "no operation without a session")
}

// Eight goroutines write at once; none may fail because another is writing, and nothing may be lost.
func testManyWriters(t *testing.T, s *Store) {
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
				errs[w] = errors.Join(errs[w], s.CreateOperation(ctx, op), s.CloseOperation(ctx, op.ID, at(i)))
			}
			e := newEngine(fmt.Sprint(w), at(w))
			errs[w] = errors.Join(errs[w], s.CreateEngine(ctx, e), s.UpdateEngine(ctx, e))
			_, err := s.OpenSessions(ctx)
			errs[w] = errors.Join(errs[w], err)
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	list, err := s.OpenSessions(ctx)
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

func testEndedContext(t *testing.T, s *Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.CreateSession(ctx, newSession(start)), context.Canceled)
	_, err := s.OpenSessions(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func testPing(t *testing.T, s *Store) {
	require.NoError(t, s.Ping(t.Context()))
	require.NoError(t, s.Close())
	require.Error(t, s.Ping(t.Context()))
}

// Statements are whatever clients send: no text may be taken for SQL, or be changed.
func testText(t *testing.T, s *Store) {
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

// A gateway that is killed does not close its store. What it was told is written must be there for the next one.
func TestReopenWhatWasNotClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	killed := openAt(t, path) // closed when the test is over
	sess := newSession(start)
	op := newOperation(sess.ID, start)
	require.NoError(t, killed.CreateSession(t.Context(), sess))
	require.NoError(t, killed.CreateOperation(t.Context(), op))

	// The files as a kill leaves them: a copy, because locks of our own process would not count.
	copied := filepath.Join(t.TempDir(), "sluice.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(copied+suffix, data, 0o600))
	}
	for name, file := range map[string]string{"beside the first": path, "after it": copied} {
		s := openAt(t, file)
		gotSession, err := s.Session(t.Context(), sess.ID)
		require.NoError(t, err, name)
		require.Equal(t, sess, gotSession, name)
		gotOp, err := s.Operation(t.Context(), op.ID)
		require.NoError(t, err, name)
		require.Equal(t, op, gotOp, name)
		require.NoError(t, s.CloseSession(t.Context(), sess.ID, at(1)), name)
	}
}

func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	s := openAt(t, path)
	sess := newSession(start)
	require.NoError(t, s.CreateSession(t.Context(), sess))
	require.NoError(t, s.Close())
	got, err := openAt(t, path).Session(t.Context(), sess.ID)
	require.NoError(t, err)
	require.Equal(t, sess, got)
}

// The path becomes a URL on its way to the driver; signs that mean something there must not.
func TestOddPaths(t *testing.T) {
	for name, dir := range map[string]string{"space": "a b", "question": "a?b=c", "hash": "a#b", "percent": "a%20b", "plus": "a+b", "umlaut": "ä"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), dir, "sluice.db")
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
			s := openAt(t, path)
			require.NoError(t, s.CreateSession(t.Context(), newSession(start)))
			require.FileExists(t, path)
		})
	}
}

func TestOpenFails(t *testing.T) {
	notADatabase := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(notADatabase, []byte("this is some text, and not a database at all, whatever its name may say"), 0o600))
	for name, path := range map[string]string{"no directory": filepath.Join(t.TempDir(), "none", "sluice.db"), "no database": notADatabase} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), path)
			require.ErrorContains(t, err, "open "+path+": ")
		})
	}
}

func BenchmarkCreateOperation(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "sluice.db"))
	sess := newSession(start)
	require.NoError(b, s.CreateSession(b.Context(), sess))
	for b.Loop() {
		require.NoError(b, s.CreateOperation(b.Context(), newOperation(sess.ID, start)))
	}
}
