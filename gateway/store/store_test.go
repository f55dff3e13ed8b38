package store_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/tests/storetest"
)

func openAt(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSQLite(t *testing.T) {
	storetest.Conformance(t, func(t *testing.T) *store.Store { return openAt(t, filepath.Join(t.TempDir(), "sluice.db")) })
}

var start = time.UnixMicro(1_774_742_399_123_456)

func newSession() store.Session {
	return store.Session{ID: uuid.New(), User: "ann", OpenedAt: start, SeenAt: start}
}

func newOperation(session uuid.UUID) store.Operation {
	return store.Operation{ID: uuid.New(), SessionID: session, Statement: "SELECT 1", CreatedAt: start}
}

// A gateway that is killed does not close its store. What it was told is written must be there for the next one.
func TestReopenWhatWasNotClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	killed := openAt(t, path) // closed when the test is over
	sess := newSession()
	op := newOperation(sess.ID)
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
		require.NoError(t, s.CloseSession(t.Context(), sess.ID, 0, start), name)
	}
}

func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	s := openAt(t, path)
	sess := newSession()
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
			require.NoError(t, s.CreateSession(t.Context(), newSession()))
			require.FileExists(t, path)
		})
	}
}

func TestOpenFails(t *testing.T) {
	notADatabase := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(notADatabase, []byte("this is some text, and not a database at all, whatever its name may say"), 0o600))
	for name, path := range map[string]string{"no directory": filepath.Join(t.TempDir(), "none", "sluice.db"), "no database": notADatabase} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Open(t.Context(), path)
			require.ErrorContains(t, err, "open "+path+": ")
		})
	}
}

func BenchmarkCreateOperation(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "sluice.db"))
	sess := newSession()
	require.NoError(b, s.CreateSession(b.Context(), sess))
	for b.Loop() {
		require.NoError(b, s.CreateOperation(b.Context(), newOperation(sess.ID)))
	}
}

// A database that does not work is not asked again at once, and what it refuses is not taken for that.
func TestADatabaseThatIsGone(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "sluice.db"))
	sess := newSession()
	require.NoError(t, s.CreateSession(t.Context(), sess))
	require.NotErrorIs(t, s.CreateSession(t.Context(), sess), store.ErrUnavailable)
	require.NoError(t, s.Ping(t.Context()))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
	require.ErrorContains(t, s.Ping(t.Context()), "it failed a moment ago")
}

// A batch of audit records, as a busy gateway writes them; the figure is for one record.
func BenchmarkAddAudit(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "sluice.db"))
	batch := make([]store.Audit, 200)
	for n := 0; b.Loop(); n++ {
		if n%len(batch) > 0 {
			continue
		}
		for i := range batch {
			batch[i] = store.Audit{ID: uuid.New(), Time: start, Kind: "operation_ended", User: "ann", Statement: "SELECT a, b, c FROM t WHERE d > 1", State: "FINISHED"}
		}
		require.NoError(b, s.AddAudit(b.Context(), batch))
	}
}
