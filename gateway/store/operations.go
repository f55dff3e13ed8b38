package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Operation is an operation's record.
type Operation struct {
	ID, SessionID                      uuid.UUID
	Fence                              int64 // its session's
	Secret                             [16]byte
	Kind, Statement, State             string
	Overlay                            map[string]string // settings of the statement alone
	TimeLimit                          time.Duration     // 0 is none
	EngineID                           string
	EngineOp                           uuid.UUID // the operation's id on the engine
	Position                           string    // the driver's own token of how far the rows were read
	Rows                               int64     // read so far
	Fetched                            int64     // of them, by the client; kept while the statement runs
	ErrorClass, SQLState, ErrorMessage string
	CreatedAt                          time.Time
	StartedAt, EndedAt                 *time.Time
}

// CreateOperation adds an operation of a session that is there.
func (s *Store) CreateOperation(ctx context.Context, r Operation) error {
	overlay, err := json.Marshal(r.Overlay)
	if err != nil {
		return err
	}
	return s.exec(ctx, ErrNotFound, `INSERT INTO operations (id, session_id, fence, secret, kind, statement, state, engine_id, engine_op, position,
		row_count, fetched, error_class, sql_state, error_message, created_at, started_at, ended_at, overlay, time_limit)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20)`,
		r.ID.String(), r.SessionID.String(), r.Fence, r.Secret[:], r.Kind, []byte(r.Statement), r.State, r.EngineID, r.EngineOp.String(), r.Position,
		r.Rows, r.Fetched, clean(r.ErrorClass), clean(r.SQLState), []byte(r.ErrorMessage), micros(r.CreatedAt), microsPtr(r.StartedAt), microsPtr(r.EndedAt),
		string(overlay), r.TimeLimit.Microseconds())
}

// UpdateOperation stores what of an operation may change. It fails with ErrFenced if another replica has taken its
// session over, or it is not there any more.
func (s *Store) UpdateOperation(ctx context.Context, r Operation) error {
	return s.exec(ctx, ErrFenced, `UPDATE operations SET state=$1, engine_id=$2, position=$3, row_count=$4, error_class=$5, sql_state=$6,
		error_message=$7, started_at=$8, ended_at=$9 WHERE id=$10 AND fence=$11`,
		r.State, r.EngineID, r.Position, r.Rows, clean(r.ErrorClass), clean(r.SQLState), []byte(r.ErrorMessage), microsPtr(r.StartedAt),
		microsPtr(r.EndedAt), r.ID.String(), r.Fence)
}

// CloseOperation marks an operation closed. Its error, if it had one, stays.
func (s *Store) CloseOperation(ctx context.Context, id uuid.UUID, fence int64, at time.Time) error {
	return s.exec(ctx, ErrFenced, `UPDATE operations SET state='CLOSED', ended_at=COALESCE(ended_at, $1) WHERE id=$2 AND fence=$3`,
		micros(at), id.String(), fence)
}

// SetFetched stores how many rows of an operation its client has.
func (s *Store) SetFetched(ctx context.Context, id uuid.UUID, fence, rows int64) error {
	return s.exec(ctx, ErrFenced, `UPDATE operations SET fetched=$1 WHERE id=$2 AND fence=$3`, rows, id.String(), fence)
}

const operationColumns = `SELECT id, session_id, fence, secret, kind, statement, state, engine_id, engine_op, position, row_count, fetched,
	error_class, sql_state, error_message, created_at, started_at, ended_at, overlay, time_limit FROM operations`

func scanOperation(row scanner) (Operation, error) {
	var r Operation
	var secret, statement, message []byte
	var overlay string
	var created, limit int64
	var started, ended sql.NullInt64
	err := row.Scan(&r.ID, &r.SessionID, &r.Fence, &secret, &r.Kind, &statement, &r.State, &r.EngineID, &r.EngineOp, &r.Position, &r.Rows, &r.Fetched,
		&r.ErrorClass, &r.SQLState, &message, &created, &started, &ended, &overlay, &limit)
	if err != nil {
		return r, err
	}
	copy(r.Secret[:], secret)
	r.Statement, r.ErrorMessage = string(statement), string(message)
	r.CreatedAt, r.StartedAt, r.EndedAt = time.UnixMicro(created), fromMicros(started), fromMicros(ended)
	r.TimeLimit = time.Duration(limit) * time.Microsecond
	return r, json.Unmarshal([]byte(overlay), &r.Overlay)
}

// Operation returns an operation.
func (s *Store) Operation(ctx context.Context, id uuid.UUID) (Operation, error) {
	return find(ctx, s, scanOperation, operationColumns+` WHERE id=$1`, id.String())
}

// OperationsOf returns a session's operations, oldest first.
func (s *Store) OperationsOf(ctx context.Context, session uuid.UUID) ([]Operation, error) {
	return list(ctx, s, scanOperation, operationColumns+` WHERE session_id=$1 ORDER BY created_at, id`, session.String())
}
