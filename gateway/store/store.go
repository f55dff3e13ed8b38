// Package store keeps the records that must outlive a gateway: sessions, operations and engines. Ids are written here
// before an engine hears of them. Times are stored in microseconds since the epoch.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite", without cgo
)

// ErrNotFound says that there is no such record.
var ErrNotFound = errors.New("there is no such record")

//go:embed migrations/*.sql
var migrations embed.FS

// Session is a session's record.
type Session struct {
	ID                                   uuid.UUID
	Secret                               [16]byte
	User, RealUser, FrontEnd, ClientAddr string
	Groups                               []string
	Protocol                             int
	Conf                                 map[string]string
	Catalog, Database                    string
	Journal                              json.RawMessage // what is replayed on a new engine, in the session's own form
	EngineID                             string
	EngineSession                        uuid.UUID // the session's id on the engine
	OpenedAt, SeenAt                     time.Time
	ClosedAt                             *time.Time
}

// Operation is an operation's record.
type Operation struct {
	ID, SessionID                      uuid.UUID
	Secret                             [16]byte
	Kind, Statement, State             string
	EngineID                           string
	EngineOp                           uuid.UUID // the operation's id on the engine
	Position                           string    // the driver's own token of how far the rows were read
	Rows                               int64     // read so far
	Fetched                            int64     // of them, by the client; kept while the statement runs
	ErrorClass, SQLState, ErrorMessage string
	CreatedAt                          time.Time
	StartedAt, EndedAt                 *time.Time
}

// Engine is an engine's record.
type Engine struct {
	ID, ShareKey, Cluster, Kind, Tag, User string
	AppID, Address, State, Reason          string
	Fence                                  int64 // grows with each owner, so that one that was paused cannot act later
	CreatedAt                              time.Time
	EndedAt                                *time.Time
}

// Store is a database of records. It is safe for concurrent use.
type Store struct{ db *sql.DB }

// Open opens the SQLite database at path, making it and bringing its tables up to date as needed.
func Open(ctx context.Context, path string) (*Store, error) {
	// Writers wait for each other; with a write-ahead log a crash of ours loses nothing, a crash of the machine at
	// most the last moments.
	pragmas := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+pragmas.Encode())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &Store{db: db}
	dir, err := fs.Sub(migrations, "migrations")
	if err == nil {
		err = s.migrate(ctx, dir)
	}
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) migrate(ctx context.Context, dir fs.FS) error {
	p, err := goose.NewProvider(goose.DialectSQLite3, s.db, dir)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Ping reads from the database.
func (s *Store) Ping(ctx context.Context) error {
	var n int
	return s.db.QueryRowContext(ctx, "SELECT count(*) FROM engines WHERE ended_at IS NULL").Scan(&n)
}

func micros(t time.Time) int64 { return t.UnixMicro() }

func microsPtr(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}

func fromMicros(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	t := time.UnixMicro(n.Int64)
	return &t
}

// one fails with ErrNotFound unless exactly one record was changed.
func one(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return ErrNotFound
}

// CreateSession adds a session.
func (s *Store) CreateSession(ctx context.Context, r Session) error {
	conf, err := json.Marshal(r.Conf)
	if err != nil {
		return err
	}
	groups, err := json.Marshal(r.Groups)
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, `INSERT INTO sessions (id, secret, user_name, real_user, front_end, client_addr, protocol,
		conf, catalog, database_name, journal, engine_id, engine_session, opened_at, seen_at, user_groups) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)`,
		r.ID.String(), r.Secret[:], r.User, r.RealUser, r.FrontEnd, r.ClientAddr, r.Protocol, string(conf), r.Catalog, r.Database,
		journalText(r.Journal), r.EngineID, r.EngineSession.String(), micros(r.OpenedAt), micros(r.SeenAt), string(groups))
	return err
}

// UpdateSession stores what of a session may change: its settings, its engine and when it was last used.
func (s *Store) UpdateSession(ctx context.Context, r Session) error {
	conf, err := json.Marshal(r.Conf)
	if err != nil {
		return err
	}
	return one(s.db.ExecContext(ctx, `UPDATE sessions SET conf=$1, catalog=$2, database_name=$3, journal=$4, engine_id=$5, engine_session=$6, seen_at=$7 WHERE id=$8`,
		string(conf), r.Catalog, r.Database, journalText(r.Journal), r.EngineID, r.EngineSession.String(), micros(r.SeenAt), r.ID.String()))
}

// CloseSession marks a session closed.
func (s *Store) CloseSession(ctx context.Context, id uuid.UUID, at time.Time) error {
	return one(s.db.ExecContext(ctx, `UPDATE sessions SET closed_at=$1 WHERE id=$2`, micros(at), id.String()))
}

// journalText is the journal as text; a session without one has JSON's null.
func journalText(j json.RawMessage) string {
	if len(j) == 0 {
		return "null"
	}
	return string(j)
}

const sessionColumns = `id, secret, user_name, real_user, front_end, client_addr, protocol, conf, catalog, database_name, journal,
	engine_id, engine_session, opened_at, seen_at, closed_at, user_groups FROM sessions`

type scanner interface{ Scan(...any) error }

func scanSession(row scanner) (Session, error) {
	var r Session
	var secret []byte
	var conf, journal, groups string
	var opened, seen int64
	var closed sql.NullInt64
	err := row.Scan(&r.ID, &secret, &r.User, &r.RealUser, &r.FrontEnd, &r.ClientAddr, &r.Protocol, &conf, &r.Catalog, &r.Database,
		&journal, &r.EngineID, &r.EngineSession, &opened, &seen, &closed, &groups)
	if errors.Is(err, sql.ErrNoRows) {
		return r, ErrNotFound
	}
	if err != nil {
		return r, err
	}
	copy(r.Secret[:], secret)
	if journal != "null" {
		r.Journal = json.RawMessage(journal)
	}
	r.OpenedAt, r.SeenAt, r.ClosedAt = time.UnixMicro(opened), time.UnixMicro(seen), fromMicros(closed)
	return r, errors.Join(json.Unmarshal([]byte(conf), &r.Conf), json.Unmarshal([]byte(groups), &r.Groups))
}

// Session returns a session, open or closed.
func (s *Store) Session(ctx context.Context, id uuid.UUID) (Session, error) {
	return scanSession(s.db.QueryRowContext(ctx, `SELECT `+sessionColumns+` WHERE id=$1`, id.String()))
}

// OpenSessions returns all sessions that are not closed, oldest first.
func (s *Store) OpenSessions(ctx context.Context) ([]Session, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+sessionColumns+` WHERE closed_at IS NULL ORDER BY opened_at, id`)
	return collect(rows, err, scanSession)
}

func collect[R any](rows *sql.Rows, err error, scan func(scanner) (R, error)) ([]R, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []R
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// CreateOperation adds an operation.
func (s *Store) CreateOperation(ctx context.Context, r Operation) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO operations (id, session_id, secret, kind, statement, state, engine_id, engine_op, position,
		row_count, error_class, sql_state, error_message, created_at, started_at, ended_at) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)`,
		r.ID.String(), r.SessionID.String(), r.Secret[:], r.Kind, r.Statement, r.State, r.EngineID, r.EngineOp.String(), r.Position,
		r.Rows, r.ErrorClass, r.SQLState, r.ErrorMessage, micros(r.CreatedAt), microsPtr(r.StartedAt), microsPtr(r.EndedAt))
	return err
}

// UpdateOperation stores what of an operation may change.
func (s *Store) UpdateOperation(ctx context.Context, r Operation) error {
	return one(s.db.ExecContext(ctx, `UPDATE operations SET state=$1, engine_id=$2, position=$3, row_count=$4, error_class=$5, sql_state=$6,
		error_message=$7, started_at=$8, ended_at=$9 WHERE id=$10`,
		r.State, r.EngineID, r.Position, r.Rows, r.ErrorClass, r.SQLState, r.ErrorMessage, microsPtr(r.StartedAt), microsPtr(r.EndedAt), r.ID.String()))
}

// CloseOperation marks an operation closed. Its error, if it had one, stays.
func (s *Store) CloseOperation(ctx context.Context, id uuid.UUID, at time.Time) error {
	return one(s.db.ExecContext(ctx, `UPDATE operations SET state='CLOSED', ended_at=COALESCE(ended_at, $1) WHERE id=$2`, micros(at), id.String()))
}

// SetFetched stores how many rows of an operation its client has.
func (s *Store) SetFetched(ctx context.Context, id uuid.UUID, rows int64) error {
	return one(s.db.ExecContext(ctx, `UPDATE operations SET fetched=$1 WHERE id=$2`, rows, id.String()))
}

const operationColumns = `id, session_id, secret, kind, statement, state, engine_id, engine_op, position, row_count, error_class,
	sql_state, error_message, created_at, started_at, ended_at, fetched FROM operations`

func scanOperation(row scanner) (Operation, error) {
	var r Operation
	var secret []byte
	var created int64
	var started, ended sql.NullInt64
	err := row.Scan(&r.ID, &r.SessionID, &secret, &r.Kind, &r.Statement, &r.State, &r.EngineID, &r.EngineOp, &r.Position, &r.Rows,
		&r.ErrorClass, &r.SQLState, &r.ErrorMessage, &created, &started, &ended, &r.Fetched)
	if errors.Is(err, sql.ErrNoRows) {
		return r, ErrNotFound
	}
	copy(r.Secret[:], secret)
	r.CreatedAt, r.StartedAt, r.EndedAt = time.UnixMicro(created), fromMicros(started), fromMicros(ended)
	return r, err
}

// Operation returns an operation.
func (s *Store) Operation(ctx context.Context, id uuid.UUID) (Operation, error) {
	return scanOperation(s.db.QueryRowContext(ctx, `SELECT `+operationColumns+` WHERE id=$1`, id.String()))
}

// OperationsOf returns a session's operations, oldest first.
func (s *Store) OperationsOf(ctx context.Context, session uuid.UUID) ([]Operation, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+operationColumns+` WHERE session_id=$1 ORDER BY created_at, id`, session.String())
	return collect(rows, err, scanOperation)
}

// CreateEngine adds an engine.
func (s *Store) CreateEngine(ctx context.Context, r Engine) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO engines (id, share_key, cluster, kind, tag, user_name, app_id, address, state, reason, fence, created_at, ended_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13)`,
		r.ID, r.ShareKey, r.Cluster, r.Kind, r.Tag, r.User, r.AppID, r.Address, r.State, r.Reason, r.Fence, micros(r.CreatedAt), microsPtr(r.EndedAt))
	return err
}

// UpdateEngine stores what of an engine may change.
func (s *Store) UpdateEngine(ctx context.Context, r Engine) error {
	return one(s.db.ExecContext(ctx, `UPDATE engines SET app_id=$1, address=$2, state=$3, reason=$4, fence=$5, ended_at=$6 WHERE id=$7`,
		r.AppID, r.Address, r.State, r.Reason, r.Fence, microsPtr(r.EndedAt), r.ID))
}

const engineColumns = `id, share_key, cluster, kind, tag, user_name, app_id, address, state, reason, fence, created_at, ended_at FROM engines`

func scanEngine(row scanner) (Engine, error) {
	var r Engine
	var created int64
	var ended sql.NullInt64
	err := row.Scan(&r.ID, &r.ShareKey, &r.Cluster, &r.Kind, &r.Tag, &r.User, &r.AppID, &r.Address, &r.State, &r.Reason, &r.Fence, &created, &ended)
	if errors.Is(err, sql.ErrNoRows) {
		return r, ErrNotFound
	}
	r.CreatedAt, r.EndedAt = time.UnixMicro(created), fromMicros(ended)
	return r, err
}

// Engine returns an engine, live or ended.
func (s *Store) Engine(ctx context.Context, id string) (Engine, error) {
	return scanEngine(s.db.QueryRowContext(ctx, `SELECT `+engineColumns+` WHERE id=$1`, id))
}

// LiveEngines returns the engines that have not ended, oldest first.
func (s *Store) LiveEngines(ctx context.Context) ([]Engine, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+engineColumns+` WHERE ended_at IS NULL ORDER BY created_at, id`)
	return collect(rows, err, scanEngine)
}

// Prune removes sessions that were closed, with their operations, and engines that ended before the given time.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM sessions WHERE closed_at < $1`, micros(before))
	if err != nil {
		return fmt.Errorf("prune sessions: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, `DELETE FROM engines WHERE ended_at < $1`, micros(before)); err != nil {
		return fmt.Errorf("prune engines: %w", err)
	}
	return nil
}
