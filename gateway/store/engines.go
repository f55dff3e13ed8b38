package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Engine is an engine's record.
type Engine struct {
	ID                   string
	ShareKey             string
	Slot                 int    // which of several engines of the key
	Claimed              bool   // it is the engine that those get who ask for its key and slot
	Replica              string // the replica that owns it: decides about its end
	Fence                int64  // grows with each owner, so that one that was paused cannot act later
	Cluster, Queue       string
	Kind, Tag, User      string
	AppID, Address       string
	State, Reason        string
	Opened               int64 // sessions that it was ever given
	CreatedAt, IdleSince time.Time
	EndedAt              *time.Time
}

// ErrFull says that an engine has as many sessions as it takes.
var ErrFull = errors.New("the engine has all the sessions it takes")

// EngineLimit is how many live engines there may be that have a value in a column.
type EngineLimit struct {
	Column, Value string // user_name, cluster or queue; an empty column is all engines
	Max           int
}

// ErrTooMany says that there are as many engines as a limit allows.
var ErrTooMany = errors.New("there are as many engines as the limit allows")

const insertEngine = `INSERT INTO engines (id, share_key, slot, claimed, replica, fence, cluster, queue, kind, tag, user_name, app_id, address, state,
	reason, opened, created_at, idle_since) VALUES ($1,$2,$3,1,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,0,$15,`

// ClaimEngine stores a new engine, and with it the claim on its key and slot; false if another engine has the claim. With
// it there must not be more engines than a limit allows, or it fails with ErrTooMany.
func (s *Store) ClaimEngine(ctx context.Context, r Engine, limits ...EngineLimit) (bool, error) {
	query := insertEngine + s.now + `) ON CONFLICT DO NOTHING`
	args := []any{r.ID, r.ShareKey, r.Slot, r.Replica, r.Fence, clean(r.Cluster), clean(r.Queue), r.Kind, r.Tag, clean(r.User), r.AppID, r.Address, r.State, clean(r.Reason), micros(r.CreatedAt)}
	if len(limits) == 0 {
		err := s.exec(ctx, ErrFenced, query, args...)
		if errors.Is(err, ErrFenced) {
			return false, nil
		}
		return err == nil, err
	}
	claimed := false
	err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if claimed = n > 0; err != nil || !claimed {
			return err
		}
		for _, l := range limits {
			if err := s.withinLimit(ctx, tx, l); err != nil {
				claimed = false
				return err
			}
		}
		return nil
	})
	return claimed && err == nil, err
}

// withinLimit counts engines while nobody else may add one that counts for the same limit.
func (s *Store) withinLimit(ctx context.Context, tx *sql.Tx, l EngineLimit) error {
	if err := lockName(ctx, tx, `INSERT INTO limits (name) VALUES ($1) ON CONFLICT DO NOTHING`, `SELECT name FROM limits WHERE name=$1`+s.forUpdate,
		clean("engines/"+l.Column+"/"+l.Value)); err != nil {
		return err
	}
	query, args := `SELECT count(*) FROM engines WHERE ended_at IS NULL`, []any{}
	if l.Column != "" {
		query, args = query+` AND `+l.Column+`=$1`, []any{clean(l.Value)}
	}
	var n int
	if err := tx.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return err
	}
	if n > l.Max {
		return ErrTooMany
	}
	return nil
}

// UpdateEngine stores what its owner learns of an engine, or ErrFenced if it is not the owner any more. An engine that
// has ended gives up its claim.
func (s *Store) UpdateEngine(ctx context.Context, r Engine) error {
	return s.exec(ctx, ErrFenced, `UPDATE engines SET app_id=$1, address=$2, state=$3, reason=$4, ended_at=$5,
		claimed=CASE WHEN CAST($5 AS BIGINT) IS NULL THEN claimed ELSE 0 END WHERE id=$6 AND replica=$7 AND fence=$8`,
		r.AppID, r.Address, r.State, clean(r.Reason), microsPtr(r.EndedAt), r.ID, r.Replica, r.Fence)
}

// YieldEngine gives up the claim of an engine: nobody gets it any more, who has it may go on. unheld says that it does so
// only if no replica has held the engine for the given time; it returns false if one does, and ErrFenced if the caller
// does not own the engine any more.
func (s *Store) YieldEngine(ctx context.Context, r Engine, unheld *time.Duration) (bool, error) {
	yielded := false
	err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var idle, now int64
		err := tx.QueryRowContext(ctx, `SELECT idle_since, `+s.now+` FROM engines WHERE id=$1 AND replica=$2 AND fence=$3 AND ended_at IS NULL`+s.forUpdate,
			r.ID, r.Replica, r.Fence).Scan(&idle, &now)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrFenced
		}
		if err != nil {
			return err
		}
		if unheld != nil {
			var holds int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM engine_holds WHERE engine_id=$1`, r.ID).Scan(&holds); err != nil {
				return err
			}
			if holds > 0 || now-idle < unheld.Microseconds() {
				return nil
			}
		}
		yielded = true
		_, err = tx.ExecContext(ctx, `UPDATE engines SET claimed=0, reason=$1 WHERE id=$2`, clean(r.Reason), r.ID)
		return err
	})
	return yielded && err == nil, err
}

// HoldEngine tells how many sessions a replica has on an engine; with none it has no use for it any more. One that is held
// is not ended by its owner. To have more than before the engine must still be had, or the call fails with ErrNotFound; all
// replicas together may have max, or it fails with ErrFull; 0 is any number.
func (s *Store) HoldEngine(ctx context.Context, id, replica string, sessions, max int) error {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var claimed, before, all int
		err := tx.QueryRowContext(ctx, `SELECT claimed FROM engines WHERE id=$1 AND ended_at IS NULL`+s.forUpdate, id).Scan(&claimed)
		if errors.Is(err, sql.ErrNoRows) && sessions == 0 {
			return nil // it has ended: nobody holds it
		}
		if err != nil {
			return none(err)
		}
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN replica=$2 THEN sessions ELSE 0 END), 0), COALESCE(SUM(sessions), 0)
			FROM engine_holds WHERE engine_id=$1`, id, replica).Scan(&before, &all); err != nil {
			return err
		}
		switch {
		case sessions == 0:
			return unhold(ctx, tx, s.now, id, replica)
		case sessions > before && claimed == 0:
			return ErrNotFound
		case sessions > before && max > 0 && all-before+sessions > max:
			return ErrFull
		}
		if _, err := tx.ExecContext(ctx, `UPDATE engines SET opened=opened+$1 WHERE id=$2`, sessions-min(before, sessions), id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO engine_holds (engine_id, replica, sessions) VALUES ($1,$2,$3)
			ON CONFLICT (engine_id, replica) DO UPDATE SET sessions=$3`, id, replica, sessions)
		return err
	})
}

func unhold(ctx context.Context, tx *sql.Tx, now, id, replica string) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM engine_holds WHERE engine_id=$1 AND replica=$2`, id, replica)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE engines SET idle_since=`+now+` WHERE id=$1`, id)
	return err
}

const engineColumns = `SELECT id, share_key, slot, claimed, replica, fence, cluster, queue, kind, tag, user_name, app_id, address, state, reason, opened,
	created_at, idle_since, ended_at FROM engines`

func scanEngine(row scanner) (Engine, error) {
	var r Engine
	var claimed, created, idle int64
	var ended sql.NullInt64
	err := row.Scan(&r.ID, &r.ShareKey, &r.Slot, &claimed, &r.Replica, &r.Fence, &r.Cluster, &r.Queue, &r.Kind, &r.Tag, &r.User, &r.AppID, &r.Address, &r.State,
		&r.Reason, &r.Opened, &created, &idle, &ended)
	r.Claimed, r.CreatedAt, r.IdleSince, r.EndedAt = claimed == 1, time.UnixMicro(created), time.UnixMicro(idle), fromMicros(ended)
	return r, err
}

// Engine returns an engine, live or ended.
func (s *Store) Engine(ctx context.Context, id string) (Engine, error) {
	return find(ctx, s, scanEngine, engineColumns+` WHERE id=$1`, id)
}

// ClaimedEngine returns the engine that those get who ask for a key and slot.
func (s *Store) ClaimedEngine(ctx context.Context, key string, slot int) (Engine, error) {
	return find(ctx, s, scanEngine, engineColumns+` WHERE share_key=$1 AND slot=$2 AND claimed=1`, key, slot)
}

// LiveEngines returns the engines that have not ended, oldest first.
func (s *Store) LiveEngines(ctx context.Context) ([]Engine, error) {
	return list(ctx, s, scanEngine, engineColumns+` WHERE ended_at IS NULL ORDER BY created_at, id`)
}
