package store

import (
	"context"
	"database/sql"
	"slices"
	"sync"
)

// gather lets single writes that wait for SQLite's one connection go in one transaction: whoever's turn it is takes all of
// them along. A write that SQLite refuses is undone alone and fails alone; the others are committed.
type gather struct {
	mu       sync.Mutex
	waiting  []*write
	prepared map[string]*sql.Stmt // by query; whoever has the turn uses it
}

type write struct {
	query   string
	args    []any
	missing error // of a write that changes no record
	err     error // valid once done
	done    chan struct{}
}

func (g *gather) add(w *write) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, w)
}

func (g *gather) take() []*write {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := g.waiting
	g.waiting = nil
	return all
}

// withdraw takes back a write that nobody has taken along yet.
func (g *gather) withdraw(w *write) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, w)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// write writes once it is its turn, or somebody whose turn comes first takes it along.
func (s *Store) write(ctx context.Context, w *write) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.done = make(chan struct{})
	s.gather.add(w)
	select {
	case <-w.done:
		return w.err
	case s.turns <- struct{}{}:
		s.writeAll(ctx, s.gather.take())
		<-s.turns
	case <-ctx.Done():
		if s.gather.withdraw(w) {
			return context.Cause(ctx)
		}
	}
	<-w.done
	return w.err
}

func (s *Store) writeAll(ctx context.Context, all []*write) {
	err := s.guard(context.WithoutCancel(ctx), func(ctx context.Context) error { return s.together(ctx, all) })
	for _, w := range all {
		if err != nil {
			w.err = err
		}
		close(w.done)
	}
}

// together runs writes in one transaction; a single one needs none of its own. An error means that none was done.
func (s *Store) together(ctx context.Context, all []*write) error {
	for _, w := range all { // a transaction keeps the connection that this needs
		if s.gather.prepared[w.query] == nil {
			stmt, err := s.db.PrepareContext(ctx, w.query) //nolint:sqlclosecheck // it is closed with the database
			if err != nil {
				return err
			}
			s.gather.prepared[w.query] = stmt
		}
	}
	run := func(ctx context.Context, stmt *sql.Stmt, w *write) error {
		w.err = changed(w.missing)(stmt.ExecContext(ctx, w.args...))
		if w.err == nil || answered(w.err) {
			return nil
		}
		return w.err
	}
	if len(all) == 1 {
		return run(ctx, s.gather.prepared[all[0].query], all[0])
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, w := range all {
		if err := run(ctx, tx.StmtContext(ctx, s.gather.prepared[w.query]), w); err != nil {
			return err
		}
	}
	return tx.Commit()
}
