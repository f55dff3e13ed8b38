package session

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/gateway/store"
)

// maxUnwritten bounds the records that wait for the store.
const maxUnwritten = 50_000

// ledger writes the records of sessions that are open. When the store cannot be reached it keeps what is to be written of
// each record and writes it later, in order, so that who is inside can go on; who comes new is refused elsewhere.
type ledger struct {
	store   *store.Store
	mu      sync.Mutex
	waiting map[uuid.UUID]*writes
}

// writes are what is to be written of one record: its beginning, its last state, its end.
type writes [3]func(context.Context) error

const (
	create = iota
	update
	end
)

func newLedger(s *store.Store) *ledger {
	return &ledger{store: s, waiting: map[uuid.UUID]*writes{}}
}

// write writes now, or keeps the write if the store cannot be reached, or an earlier one of the record waits already.
func (l *ledger) write(ctx context.Context, id uuid.UUID, step int, f func(context.Context) error) (written bool, err error) {
	l.mu.Lock()
	w := l.waiting[id]
	if w != nil {
		w[step] = f
	}
	l.mu.Unlock()
	if w != nil {
		return false, nil
	}
	if err = f(ctx); !errors.Is(err, store.ErrUnavailable) {
		return err == nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxUnwritten {
		return false, err
	}
	w = &writes{}
	w[step] = f
	l.waiting[id] = w
	return false, nil
}

// unwritten is how many records wait for the store.
func (l *ledger) unwritten() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// flush writes what waits, as far as the store takes it. What it refuses is another replica's by now.
func (l *ledger) flush(ctx context.Context) {
	l.mu.Lock()
	ids := slices.Collect(maps.Keys(l.waiting))
	l.mu.Unlock()
	for _, id := range ids {
		if !l.flushOne(ctx, id) {
			return
		}
	}
}

// flushOne writes a record; false if it has to wait on. Writes that come meanwhile wait too, and are written by the next
// turn: nothing that is newer may come before what is older.
func (l *ledger) flushOne(ctx context.Context, id uuid.UUID) bool {
	for {
		step, f := l.first(id)
		if f == nil {
			return true
		}
		err := f(ctx)
		l.mu.Lock()
		w := l.waiting[id]
		switch {
		case errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil:
			if w[step] == nil { // nobody has set a newer one
				w[step] = f
			}
			l.mu.Unlock()
			return false
		case err != nil:
			delete(l.waiting, id)
		}
		l.mu.Unlock()
	}
}

// first takes out what is to be written next of a record, and the record itself if there is nothing.
func (l *ledger) first(id uuid.UUID) (int, func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.waiting[id]; w != nil {
		for step, f := range w {
			if f != nil {
				w[step] = nil
				return step, f
			}
		}
	}
	delete(l.waiting, id)
	return 0, nil
}

func (l *ledger) createOperation(ctx context.Context, r store.Operation) (written bool, err error) {
	return l.write(ctx, r.ID, create, func(ctx context.Context) error { return l.store.CreateOperation(ctx, r) })
}

// reached writes that an operation goes to an engine. It cannot wait: a gateway that finds no such word runs the statement
// itself. Only an operation that nobody can find yet may go on without the store.
func (l *ledger) reached(ctx context.Context, r store.Operation) error {
	l.mu.Lock()
	w := l.waiting[r.ID]
	unknown := w != nil && w[create] != nil
	if unknown {
		w[create] = func(ctx context.Context) error { return l.store.CreateOperation(ctx, r) }
	}
	l.mu.Unlock()
	if unknown {
		return nil
	}
	return l.store.UpdateOperation(ctx, r)
}

func (l *ledger) updateOperation(ctx context.Context, r store.Operation) error {
	_, err := l.write(ctx, r.ID, update, func(ctx context.Context) error { return l.store.UpdateOperation(ctx, r) })
	return err
}

func (l *ledger) closeOperation(ctx context.Context, id uuid.UUID, fence int64, at time.Time) error {
	_, err := l.write(ctx, id, end, func(ctx context.Context) error { return l.store.CloseOperation(ctx, id, fence, at) })
	return err
}

func (l *ledger) updateSession(ctx context.Context, r store.Session) error {
	_, err := l.write(ctx, r.ID, update, func(ctx context.Context) error { return l.store.UpdateSession(ctx, r) })
	return err
}

func (l *ledger) closeSession(ctx context.Context, id uuid.UUID, fence int64, at time.Time) error {
	_, err := l.write(ctx, id, end, func(ctx context.Context) error { return l.store.CloseSession(ctx, id, fence, at) })
	return err
}
