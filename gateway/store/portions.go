package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sluicedata/sluice/gateway/admission"
)

var _ admission.Store = (*Store)(nil)

// wantedFor is for how long it is remembered that a replica could not get what it wanted.
const wantedFor = 2 * time.Second

// LeasePortion implements admission.Store. A replica that is dead gets ErrFenced.
func (s *Store) LeasePortion(ctx context.Context, name, replica string, want, limit int) (held int, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lockPortion(ctx, tx, name, replica); err != nil {
			return err
		}
		var mine, all int
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN replica=$2 THEN amount ELSE 0 END), 0), COALESCE(SUM(amount), 0)
			FROM portions WHERE name=$1`, name, replica).Scan(&mine, &all); err != nil {
			return err
		}
		held = min(want, max(mine, limit-(all-mine)))
		return s.setPortion(ctx, tx, name, replica, held, held < want)
	})
	return held, err
}

// lockPortion keeps others from a limit until the transaction ends, and the replica from being taken over. Replicas are always
// locked before limits.
func (s *Store) lockPortion(ctx context.Context, tx *sql.Tx, name, replica string) error {
	var id string
	err := tx.QueryRowContext(ctx, `SELECT id FROM replicas WHERE id=$1`+s.forShare, replica).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrFenced
	}
	if err != nil {
		return err
	}
	return lockName(ctx, tx, `INSERT INTO limits (name) VALUES ($1) ON CONFLICT DO NOTHING`, `SELECT name FROM limits WHERE name=$1`+s.forUpdate, name)
}

func (s *Store) setPortion(ctx context.Context, tx *sql.Tx, name, replica string, amount int, short bool) error {
	wanted := "0"
	if short {
		wanted = s.now
	}
	if amount == 0 && !short {
		_, err := tx.ExecContext(ctx, `DELETE FROM portions WHERE name=$1 AND replica=$2`, name, replica)
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO portions (name, replica, amount, wanted_at) VALUES ($1,$2,$3,`+wanted+`)
		ON CONFLICT (name, replica) DO UPDATE SET amount=$3, wanted_at=`+wanted, name, replica, amount)
	return err
}

// lockName makes a row, and keeps others from it until the transaction ends.
func lockName(ctx context.Context, tx *sql.Tx, insert, lock, name string) error {
	if _, err := tx.ExecContext(ctx, insert, name); err != nil {
		return err
	}
	var locked string
	return tx.QueryRowContext(ctx, lock, name).Scan(&locked)
}

// Portions implements admission.Store.
func (s *Store) Portions(ctx context.Context, replica string) (map[string]int, []string, error) {
	held := map[string]int{}
	_, err := list(ctx, s, func(row scanner) (name string, err error) {
		var amount int
		err = row.Scan(&name, &amount)
		held[name] = amount
		return name, err
	}, `SELECT name, amount FROM portions WHERE replica=$1`, replica)
	if err != nil {
		return nil, nil, err
	}
	wanted, err := list(ctx, s, scanText, `SELECT DISTINCT name FROM portions WHERE wanted_at > `+s.now+` - $1 AND replica<>$2`, wantedFor.Microseconds(), replica)
	return held, wanted, err
}

// TakeToken implements admission.Store.
func (s *Store) TakeToken(ctx context.Context, name string, rate float64, burst int, most time.Duration) (wait time.Duration, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := lockName(ctx, tx, `INSERT INTO buckets (name, tokens, used_at) VALUES ($1,0,0) ON CONFLICT DO NOTHING`,
			`SELECT name FROM buckets WHERE name=$1`+s.forUpdate, name); err != nil {
			return err
		}
		var tokens float64
		var used, now int64
		if err := tx.QueryRowContext(ctx, `SELECT tokens, used_at, `+s.now+` FROM buckets WHERE name=$1`, name).Scan(&tokens, &used, &now); err != nil {
			return err
		}
		at := time.Time{}
		if used > 0 {
			at = time.UnixMicro(used)
		}
		tokens, wait = admission.Bucket(tokens, at, time.UnixMicro(now), rate, burst, most)
		_, err := tx.ExecContext(ctx, `UPDATE buckets SET tokens=$1, used_at=$2 WHERE name=$3`, tokens, now, name)
		return err
	})
	return wait, err
}

// inherited marks what a replica has of others that are gone, until it has counted in what came with it.
const inherited = "/inherited"

// bequeathPortions makes what one replica holds of limits another's, who goes on with its work; nobody holds nothing.
func (s *Store) bequeathPortions(ctx context.Context, tx *sql.Tx, from, to string) error {
	// This locks them; what it selects is not read.
	if _, err := tx.ExecContext(ctx, `SELECT name FROM limits WHERE name IN (SELECT name FROM portions WHERE replica IN ($1, $2)) ORDER BY name`+s.forUpdate,
		from, from+inherited); err != nil {
		return err
	}
	if to != nobody {
		if _, err := tx.ExecContext(ctx, `INSERT INTO portions (name, replica, amount, wanted_at) SELECT name, $3, SUM(amount), 0 FROM portions WHERE replica IN ($1, $2) GROUP BY name
			ON CONFLICT (name, replica) DO UPDATE SET amount=portions.amount+excluded.amount`, from, from+inherited, to+inherited); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM portions WHERE replica IN ($1, $2)`, from, from+inherited)
	return err
}

// SettlePortions implements admission.Store.
func (s *Store) SettlePortions(ctx context.Context, replica string) (map[string]int, error) {
	names, err := list(ctx, s, scanText, `SELECT name FROM portions WHERE replica=$1 ORDER BY name`, replica+inherited)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, name := range names {
		err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if err := s.lockPortion(ctx, tx, name, replica); err != nil {
				return err
			}
			var amount int
			if err := tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(amount), 0) FROM portions WHERE name=$1 AND replica=$2`, name, replica+inherited).Scan(&amount); err != nil {
				return err
			}
			out[name] = amount
			if _, err := tx.ExecContext(ctx, `INSERT INTO portions (name, replica, amount, wanted_at) VALUES ($1,$2,$3,0)
				ON CONFLICT (name, replica) DO UPDATE SET amount=portions.amount+excluded.amount`, name, replica, amount); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `DELETE FROM portions WHERE name=$1 AND replica=$2`, name, replica+inherited)
			return err
		})
		if err != nil {
			delete(out, name)
			return out, err
		}
	}
	return out, nil
}
