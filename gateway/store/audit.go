package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Audit is a record of something that happened, for those who ask later who did what. What does not apply to a kind is
// empty.
type Audit struct {
	ID            uuid.UUID `json:"id"` // the same for the same event, whoever writes it
	Time          time.Time `json:"time"`
	Kind          string    `json:"kind"`
	Gateway       string    `json:"gateway"`
	Session       string    `json:"session"`
	Operation     string    `json:"operation"`
	User          string    `json:"user"`
	RealUser      string    `json:"real_user"`
	Address       string    `json:"address"`
	FrontEnd      string    `json:"front_end"`
	StatementKind string    `json:"statement_kind"`
	Statement     string    `json:"statement"`
	Catalog       string    `json:"catalog"`
	Database      string    `json:"database"`
	Engine        string    `json:"engine"`
	Cluster       string    `json:"cluster"`
	ShareKey      string    `json:"share_key"`
	Profile       string    `json:"profile"`
	Route         string    `json:"route"`
	WaitedMS      int64     `json:"waited_ms"`
	RanMS         int64     `json:"ran_ms"`
	Rows          int64     `json:"rows"`
	RowsFetched   int64     `json:"rows_fetched"`
	Bytes         int64     `json:"bytes"`
	State         string    `json:"state"`
	ErrorClass    string    `json:"error_class"`
	SQLState      string    `json:"sql_state"`
	Error         string    `json:"error"`
	Reason        string    `json:"reason"`
}

// The columns are named as in JSON, but for words that mean something else in SQL.
var auditColumns = []string{"id", "time", "kind", "gateway", "session", "operation", "user_name", "real_user", "address", "front_end",
	"statement_kind", "statement", "catalog", "database_name", "engine", "cluster", "share_key", "profile", "route", "waited_ms", "ran_ms",
	"row_count", "rows_fetched", "bytes", "state", "error_class", "sql_state", "error", "reason"}

var insertAudit = `INSERT INTO audit (` + strings.Join(auditColumns, ", ") + `) VALUES (` + placeholders(len(auditColumns)) + `) ON CONFLICT (id) DO NOTHING`

func placeholders(n int) string {
	var out []string
	for i := range n {
		out = append(out, "$"+strconv.Itoa(i+1))
	}
	return strings.Join(out, ",")
}

// AddAudit adds records, all of them or none. One that is there already stays as it is, so that they can be written again
// when it is not known whether they were.
func (s *Store) AddAudit(ctx context.Context, records []Audit) error {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, insertAudit)
		if err != nil {
			return err
		}
		defer func() { _ = insert.Close() }()
		for _, r := range records {
			_, err := insert.ExecContext(ctx, r.ID.String(), micros(r.Time), r.Kind, r.Gateway, r.Session, r.Operation, clean(r.User), clean(r.RealUser),
				clean(r.Address), r.FrontEnd, clean(r.StatementKind), []byte(r.Statement), clean(r.Catalog), clean(r.Database), r.Engine, clean(r.Cluster),
				clean(r.ShareKey), clean(r.Profile), clean(r.Route), r.WaitedMS, r.RanMS, r.Rows, r.RowsFetched, r.Bytes, r.State, clean(r.ErrorClass),
				clean(r.SQLState), clean(r.Error), clean(r.Reason))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func scanAudit(row scanner) (Audit, error) {
	var r Audit
	var at int64
	var statement []byte
	err := row.Scan(&r.ID, &at, &r.Kind, &r.Gateway, &r.Session, &r.Operation, &r.User, &r.RealUser, &r.Address, &r.FrontEnd, &r.StatementKind,
		&statement, &r.Catalog, &r.Database, &r.Engine, &r.Cluster, &r.ShareKey, &r.Profile, &r.Route, &r.WaitedMS, &r.RanMS, &r.Rows, &r.RowsFetched,
		&r.Bytes, &r.State, &r.ErrorClass, &r.SQLState, &r.Error, &r.Reason)
	r.Time, r.Statement = time.UnixMicro(at), string(statement)
	return r, err
}

// Audit returns the records from a time on until before another, oldest first, at most max.
func (s *Store) Audit(ctx context.Context, from, before time.Time, max int) ([]Audit, error) {
	return list(ctx, s, scanAudit, `SELECT `+strings.Join(auditColumns, ", ")+` FROM audit WHERE time >= $1 AND time < $2 ORDER BY time, id LIMIT $3`,
		micros(from), micros(before), max)
}

// PruneAudit removes up to max of the records from before the given time, and says how many there were: a table of
// months is not emptied in the time of one call.
func (s *Store) PruneAudit(ctx context.Context, before time.Time, max int) (removed int64, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		res, err := s.db.ExecContext(ctx, `DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE time < $1 ORDER BY time LIMIT $2)`, micros(before), max)
		if err != nil {
			return err
		}
		removed, err = res.RowsAffected()
		return err
	})
	return removed, err
}
