package store

import (
	"context"
	"database/sql"
	"time"
)

// Replica is one gateway of several that share a store. It lives as long as it beats, and what it owned goes to another
// one afterwards; it can never come back under the same id.
type Replica struct {
	ID                string
	Address           string // of its HTTP port
	StartedAt, SeenAt time.Time
}

// Join adds a replica.
func (s *Store) Join(ctx context.Context, r Replica) error {
	return s.exec(ctx, ErrNotFound, `INSERT INTO replicas (id, address, started_at, seen_at) VALUES ($1,$2,$3,`+s.now+`)`, r.ID, r.Address, micros(r.StartedAt))
}

// Beat tells that a replica lives, or returns ErrFenced if it was declared dead.
func (s *Store) Beat(ctx context.Context, id string) error {
	return s.exec(ctx, ErrFenced, `UPDATE replicas SET seen_at=`+s.now+` WHERE id=$1`, id)
}

func scanReplica(row scanner) (Replica, error) {
	var r Replica
	var started, seen int64
	err := row.Scan(&r.ID, &r.Address, &started, &seen)
	r.StartedAt, r.SeenAt = time.UnixMicro(started), time.UnixMicro(seen)
	return r, err
}

const replicaColumns = `SELECT id, address, started_at, seen_at FROM replicas`

// Replicas returns all replicas that nobody has declared dead, oldest first.
func (s *Store) Replicas(ctx context.Context) ([]Replica, error) {
	return list(ctx, s, scanReplica, replicaColumns+` ORDER BY started_at, id`)
}

// Silent returns the replicas that have not beaten for so long.
func (s *Store) Silent(ctx context.Context, since time.Duration) ([]Replica, error) {
	return list(ctx, s, scanReplica, replicaColumns+` WHERE seen_at < `+s.now+` - $1 ORDER BY started_at, id`, since.Microseconds())
}

// TakeOver declares a replica dead that has been silent for so long, and makes its sessions and engines those of an
// heir: their fences grow, so that the dead one, should it wake, can change none of them. False if it is not silent, or
// somebody else was quicker.
func (s *Store) TakeOver(ctx context.Context, dead, heir string, silent time.Duration) (bool, error) {
	taken := false
	err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM replicas WHERE id=$1 AND seen_at <= `+s.now+` - $2`, dead, silent.Microseconds())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		taken = true
		return s.bequeath(ctx, tx, dead, heir)
	})
	return taken && err == nil, err
}

// Leave ends a replica that stops in order. Engines that others hold are left to them; it must have closed its sessions
// and ended its other engines.
func (s *Store) Leave(ctx context.Context, id string) error {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM replicas WHERE id=$1`, id); err != nil {
			return err
		}
		return s.bequeath(ctx, tx, id, nobody)
	})
}

// nobody owns what a replica has left that stopped in order.
const nobody = ""

// Inherit makes the engines of nobody those of an heir.
func (s *Store) Inherit(ctx context.Context, heir string) error {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.bequeath(ctx, tx, nobody, heir) })
}

// bequeath gives what one replica owns to another. Engines that only the first one held are unheld from now on.
func (s *Store) bequeath(ctx context.Context, tx *sql.Tx, from, to string) error {
	now := s.now
	for _, q := range []struct {
		query string
		args  []any
	}{
		{`UPDATE operations SET fence=fence+1 WHERE session_id IN (SELECT id FROM sessions WHERE replica=$1 AND closed_at IS NULL)`, []any{from}},
		{`UPDATE sessions SET replica=$2, fence=fence+1 WHERE replica=$1 AND closed_at IS NULL`, []any{from, to}},
		{`UPDATE engines SET replica=$2, fence=fence+1 WHERE replica=$1 AND ended_at IS NULL`, []any{from, to}},
		{`UPDATE engines SET idle_since=` + now + ` WHERE id IN (SELECT engine_id FROM engine_holds WHERE replica=$1)`, []any{from}},
		{`DELETE FROM engine_holds WHERE replica=$1`, []any{from}},
	} {
		if _, err := tx.ExecContext(ctx, q.query, q.args...); err != nil {
			return err
		}
	}
	return s.bequeathPortions(ctx, tx, from, to)
}

// Agree proposes a value on which all gateways on the database must agree, and returns the one that was first.
func (s *Store) Agree(ctx context.Context, name, value string) (string, error) {
	err := s.call(ctx, func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, `INSERT INTO agreements (name, value) VALUES ($1,$2) ON CONFLICT DO NOTHING`, name, value)
		return err
	})
	if err != nil {
		return "", err
	}
	return find(ctx, s, scanText, `SELECT value FROM agreements WHERE name=$1`, name)
}

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}
