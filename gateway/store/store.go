// Package store keeps the records that must outlive a gateway: sessions, operations, engines, and which replica of the
// gateway each belongs to. Ids are written here before an engine hears of them. One gateway keeps them in a SQLite file;
// several share a PostgreSQL database. Times are stored in microseconds since the epoch; which of two replicas is too
// late is judged by the database's clock alone.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/sony/gobreaker/v2"
	_ "modernc.org/sqlite" // the driver "sqlite", without cgo
)

var (
	// ErrNotFound says that there is no such record.
	ErrNotFound = errors.New("there is no such record")
	// ErrFenced says that the record belongs to another replica by now: the caller was too slow, and must not act on it.
	ErrFenced = errors.New("another gateway has taken this over")
	// ErrUnavailable says that the database cannot be reached, or does not work.
	ErrUnavailable = errors.New("the store cannot be reached")
)

//go:embed migrations/*.sql
var migrations embed.FS

// callLimit bounds a call: a database that hangs must not hang everybody.
const callLimit = 5 * time.Second

// retryAfter is for how long a database that failed is left alone; meanwhile calls fail at once.
const retryAfter = time.Second

// dialect is what the two databases say differently.
type dialect struct {
	goose     goose.Dialect
	now       string // microseconds since the epoch
	forUpdate string // keeps others from changing what was selected
	forShare  string // keeps others from removing it
	options   []goose.ProviderOption
}

// Store is a database of records. It is safe for concurrent use.
type Store struct {
	db *sql.DB
	dialect
	breaker *gobreaker.CircuitBreaker[any]
	turns   chan struct{} // one for each connection
	gather  *gather       // nil for PostgreSQL, where a refused write would undo the others, and connections are many
}

// Open opens the database at a URL and brings its tables up to date: postgres://user:password@host/name, or the path of a
// SQLite file, which is made if there is none.
func Open(ctx context.Context, at string) (*Store, error) {
	s, err := open(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", redact(at), err)
	}
	return s, nil
}

// IsPostgres says whether a store's URL names a PostgreSQL database.
func IsPostgres(at string) bool {
	return strings.HasPrefix(at, "postgres://") || strings.HasPrefix(at, "postgresql://")
}

func open(ctx context.Context, at string) (*Store, error) {
	s := &Store{}
	var err error
	if IsPostgres(at) {
		locker, lerr := lock.NewPostgresSessionLocker()
		if lerr != nil {
			return nil, lerr
		}
		s.dialect = dialect{goose: goose.DialectPostgres, forUpdate: " FOR UPDATE", forShare: " FOR KEY SHARE",
			now:     "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
			options: []goose.ProviderOption{goose.WithSessionLocker(locker)}} // replicas may start together
		if s.db, err = sql.Open("pgx", at); err == nil {
			s.db.SetMaxIdleConns(8)
		}
		s.turns = make(chan struct{}, 16)
	} else {
		// Writers wait for each other; with a write-ahead log a crash of ours loses nothing, a crash of the machine at
		// most the last moments.
		pragmas := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
		s.dialect = dialect{goose: goose.DialectSQLite3, now: "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"}
		s.db, err = sql.Open("sqlite", "file:"+(&url.URL{Path: at}).EscapedPath()+"?"+pragmas.Encode())
		// One connection: SQLite takes one writer at a time, and who waits for it inside SQLite polls, unfairly, for
		// seconds when there are hundreds; who waits for the connection gets it in turn.
		s.turns = make(chan struct{}, 1)
		s.gather = &gather{prepared: map[string]*sql.Stmt{}}
	}
	if err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(cap(s.turns))
	s.breaker = gobreaker.NewCircuitBreaker[any](gobreaker.Settings{
		Name: "store", Timeout: retryAfter,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures > 0 },
		IsSuccessful: func(err error) bool { return !errors.Is(err, ErrUnavailable) },
	})
	dir, err := fs.Sub(migrations, "migrations")
	if err == nil {
		err = s.migrate(ctx, dir)
	}
	if err != nil {
		_ = s.db.Close()
		return nil, err
	}
	return s, nil
}

// redact takes the password out of a URL.
func redact(at string) string {
	if u, err := url.Parse(at); IsPostgres(at) && err == nil {
		return u.Redacted()
	}
	return at
}

func (s *Store) migrate(ctx context.Context, dir fs.FS) error {
	p, err := goose.NewProvider(s.goose, s.db, dir, s.options...)
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
	return s.call(ctx, func(ctx context.Context) error {
		var n int
		return s.db.QueryRowContext(ctx, "SELECT count(*) FROM engines WHERE ended_at IS NULL").Scan(&n)
	})
}

// call runs f within the time limit of a call, once it is its turn: to stand in line says nothing about the database.
func (s *Store) call(ctx context.Context, f func(context.Context) error) error {
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.guard(ctx, f)
}

// guard runs f within the time limit of a call. A database that does not work is asked again only after a while; until
// then calls fail at once with ErrUnavailable.
func (s *Store) guard(ctx context.Context, f func(context.Context) error) error {
	_, err := s.breaker.Execute(func() (any, error) {
		limited, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		err := f(limited)
		if err == nil || answered(err) || ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return fmt.Errorf("%w; it failed a moment ago", ErrUnavailable)
	}
	return err
}

// answered says that an error is the answer of a database that works.
func answered(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrFenced) || errors.Is(err, ErrFull) || errors.Is(err, ErrTooMany) || refused(err)
}

// refused says that the database works and does not take what it was given.
func refused(err error) bool {
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		class := pg.SQLState()[:2]
		return class != "08" && class != "53" && class != "57" && class != "58" // connection, resources, operator, system
	}
	var lite interface{ Code() int }
	const sqliteConstraint = 19
	return errors.As(err, &lite) && lite.Code()&0xff == sqliteConstraint
}

// exec changes exactly one record, or returns missing.
func (s *Store) exec(ctx context.Context, missing error, query string, args ...any) error {
	if s.gather != nil {
		return s.write(ctx, &write{query: query, args: args, missing: missing})
	}
	return s.call(ctx, func(ctx context.Context) error {
		return changed(missing)(s.db.ExecContext(ctx, query, args...))
	})
}

// changed fails with missing unless exactly one record was changed.
func changed(missing error) func(sql.Result, error) error {
	return func(res sql.Result, err error) error {
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return missing
	}
}

// inTx runs f in a transaction.
func (s *Store) inTx(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	return s.call(ctx, func(ctx context.Context) error {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := f(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

type scanner interface{ Scan(...any) error }

// find reads one record; none is ErrNotFound.
func find[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), query string, args ...any) (r T, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		var err error
		r, err = scan(s.db.QueryRowContext(ctx, query, args...))
		return none(err)
	})
	return r, err
}

func none(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// list reads records.
func list[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), query string, args ...any) (all []T, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		rows, err := s.db.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			r, err := scan(rows)
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return rows.Err()
	})
	return all, err
}

// Prune removes sessions that were closed, with their operations, and engines that ended before the given time.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	return s.call(ctx, func(ctx context.Context) error {
		for _, table := range []string{"sessions WHERE closed_at", "engines WHERE ended_at"} {
			if _, err := s.db.ExecContext(ctx, "DELETE FROM "+table+" < $1", micros(before)); err != nil {
				return fmt.Errorf("prune %s: %w", table, err)
			}
		}
		return nil
	})
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

// clean makes a name fit for PostgreSQL's text.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
