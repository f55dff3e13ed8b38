package store

import (
	"context"
	"database/sql"
	"time"
)

// Setting is what an administrator has said to all gateways.
type Setting struct {
	Name, Value, SaidBy string
	SaidAt              time.Time
}

// Set keeps a setting in the place of an earlier one of its name. An empty value takes it away.
func (s *Store) Set(ctx context.Context, v Setting) error {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM settings WHERE name=$1`, v.Name); err != nil || v.Value == "" {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value, said_by, said_at) VALUES ($1,$2,$3,$4)`, clean(v.Name), clean(v.Value), clean(v.SaidBy), micros(v.SaidAt))
		return err
	})
}

// Settings returns all settings, by name.
func (s *Store) Settings(ctx context.Context) ([]Setting, error) {
	return list(ctx, s, func(row scanner) (v Setting, err error) {
		var at int64
		err = row.Scan(&v.Name, &v.Value, &v.SaidBy, &at)
		v.SaidAt = time.UnixMicro(at)
		return v, err
	}, `SELECT name, value, said_by, said_at FROM settings ORDER BY name`)
}

// Rules is a version of the rules of the router.
type Rules struct {
	Version, Name, Text string
	LoadedAt            time.Time // for the first time
}

// AddRules keeps a version; one that is known stays as it is.
func (s *Store) AddRules(ctx context.Context, r Rules) error {
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, `INSERT INTO rules (version, name, body, loaded_at) VALUES ($1,$2,$3,$4) ON CONFLICT (version) DO NOTHING`,
			r.Version, clean(r.Name), []byte(r.Text), micros(r.LoadedAt))
		return err
	})
}

// AllRules returns the versions of the rules, the newest first.
func (s *Store) AllRules(ctx context.Context) ([]Rules, error) {
	return list(ctx, s, func(row scanner) (r Rules, err error) {
		var at int64
		var text []byte
		err = row.Scan(&r.Version, &r.Name, &text, &at)
		r.Text, r.LoadedAt = string(text), time.UnixMicro(at)
		return r, err
	}, `SELECT version, name, body, loaded_at FROM rules ORDER BY loaded_at DESC, version LIMIT 200`)
}
