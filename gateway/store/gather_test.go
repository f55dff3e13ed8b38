package store

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// Writes that wait go together, and each has its own answer: one that is refused, finds no record or is given up does not
// touch the others.
func TestWritesThatGoTogether(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "sluice.db"))
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	there := Session{ID: uuid.New(), Fence: 1, OpenedAt: time.Now()}
	require.NoError(t, s.CreateSession(t.Context(), there))

	s.turns <- struct{}{} // somebody else's
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	given, giveUp := context.WithCancelCause(t.Context())
	writes := []func() error{
		func() error { return s.CreateSession(t.Context(), Session{ID: ids[0]}) },
		func() error { return s.CreateSession(t.Context(), there) },
		func() error { return s.CloseSession(t.Context(), uuid.New(), 1, time.Now()) },
		func() error { return s.CreateSession(t.Context(), Session{ID: ids[1]}) },
		func() error { return s.CreateSession(given, Session{ID: ids[2]}) },
		func() error { return s.CloseSession(t.Context(), there.ID, there.Fence, time.Now()) },
	}
	waiting := func() int {
		s.gather.mu.Lock()
		defer s.gather.mu.Unlock()
		return len(s.gather.waiting)
	}
	errs := make([]error, len(writes))
	var wait sync.WaitGroup
	for i, w := range writes {
		wait.Go(func() { errs[i] = w() })
	}
	require.Eventually(t, func() bool { return waiting() == len(writes) }, 10*time.Second, time.Millisecond)
	enough := errors.New("enough")
	giveUp(enough)
	require.Eventually(t, func() bool { return waiting() == len(writes)-1 }, 10*time.Second, time.Millisecond)
	<-s.turns
	wait.Wait()

	require.NoError(t, errs[0])
	require.ErrorContains(t, errs[1], "UNIQUE")
	require.NotErrorIs(t, errs[1], ErrUnavailable)
	require.ErrorIs(t, errs[2], ErrFenced)
	require.NoError(t, errs[3])
	require.ErrorIs(t, errs[4], enough)
	require.NoError(t, errs[5])
	for i, want := range []error{nil, nil, ErrNotFound} {
		_, err := s.Session(t.Context(), ids[i])
		require.ErrorIs(t, err, want, "session %d", i)
	}
	closed, err := s.Session(t.Context(), there.ID)
	require.NoError(t, err)
	require.NotNil(t, closed.ClosedAt)
}

// When the database fails, everybody who waited is told.
func TestWritesThatFailTogether(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "sluice.db"))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s.turns <- struct{}{}
	var wait sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		wait.Go(func() { errs[i] = s.CreateSession(t.Context(), Session{ID: uuid.New()}) })
	}
	<-s.turns
	wait.Wait()
	for _, err := range errs {
		require.ErrorIs(t, err, ErrUnavailable)
	}
}
