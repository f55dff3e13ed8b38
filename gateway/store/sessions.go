package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Session is a session's record.
type Session struct {
	ID                                   uuid.UUID
	Replica                              string // the replica that the session lives on
	Fence                                int64  // grows with each replica that takes it over
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
	return s.exec(ctx, ErrNotFound, `INSERT INTO sessions (id, replica, fence, secret, user_name, real_user, user_groups, front_end, client_addr,
		protocol, conf, catalog, database_name, journal, engine_id, engine_session, opened_at, seen_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18)`,
		r.ID.String(), r.Replica, r.Fence, r.Secret[:], clean(r.User), clean(r.RealUser), string(groups), r.FrontEnd, r.ClientAddr,
		r.Protocol, string(conf), clean(r.Catalog), clean(r.Database), journalText(r.Journal), r.EngineID, r.EngineSession.String(),
		micros(r.OpenedAt), micros(r.SeenAt))
}

// UpdateSession stores what of a session may change: its settings, its engine and when it was last used. It fails with
// ErrFenced if another replica has taken the session over, or it is not there any more.
func (s *Store) UpdateSession(ctx context.Context, r Session) error {
	conf, err := json.Marshal(r.Conf)
	if err != nil {
		return err
	}
	return s.exec(ctx, ErrFenced, `UPDATE sessions SET conf=$1, catalog=$2, database_name=$3, journal=$4, engine_id=$5, engine_session=$6, seen_at=$7
		WHERE id=$8 AND fence=$9`,
		string(conf), clean(r.Catalog), clean(r.Database), journalText(r.Journal), r.EngineID, r.EngineSession.String(), micros(r.SeenAt),
		r.ID.String(), r.Fence)
}

// CloseSession marks a session closed, with the fence of the replica that it belongs to.
func (s *Store) CloseSession(ctx context.Context, id uuid.UUID, fence int64, at time.Time) error {
	return s.exec(ctx, ErrFenced, `UPDATE sessions SET closed_at=$1 WHERE id=$2 AND fence=$3`, micros(at), id.String(), fence)
}

// journalText is the journal as text; a session without one has JSON's null.
func journalText(j json.RawMessage) string {
	if len(j) == 0 {
		return "null"
	}
	return string(j)
}

const sessionColumns = `SELECT id, replica, fence, secret, user_name, real_user, user_groups, front_end, client_addr, protocol, conf, catalog,
	database_name, journal, engine_id, engine_session, opened_at, seen_at, closed_at FROM sessions`

func scanSession(row scanner) (Session, error) {
	var r Session
	var secret []byte
	var conf, journal, groups string
	var opened, seen int64
	var closed sql.NullInt64
	err := row.Scan(&r.ID, &r.Replica, &r.Fence, &secret, &r.User, &r.RealUser, &groups, &r.FrontEnd, &r.ClientAddr, &r.Protocol, &conf, &r.Catalog,
		&r.Database, &journal, &r.EngineID, &r.EngineSession, &opened, &seen, &closed)
	if err != nil {
		return r, err
	}
	copy(r.Secret[:], secret)
	if journal != "null" {
		r.Journal = json.RawMessage(journal)
	}
	r.OpenedAt, r.SeenAt, r.ClosedAt = time.UnixMicro(opened), time.UnixMicro(seen), fromMicros(closed)
	if err := json.Unmarshal([]byte(groups), &r.Groups); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(conf), &r.Conf)
}

// Session returns a session, open or closed.
func (s *Store) Session(ctx context.Context, id uuid.UUID) (Session, error) {
	return find(ctx, s, scanSession, sessionColumns+` WHERE id=$1`, id.String())
}

// OpenSessions returns the sessions of a replica that are not closed, oldest first.
func (s *Store) OpenSessions(ctx context.Context, replica string) ([]Session, error) {
	return list(ctx, s, scanSession, sessionColumns+` WHERE replica=$1 AND closed_at IS NULL ORDER BY opened_at, id`, replica)
}
