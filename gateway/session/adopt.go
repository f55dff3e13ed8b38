package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/store"
)

// Adopt takes over the sessions that a gateway before this one has left open: it was killed. Their handles go on, their
// settings and journals are there, and what ran is attached to on its engine. It returns them.
func (m *Manager) Adopt(ctx context.Context) ([]*Session, error) {
	recs, err := m.opt.Store.OpenSessions(ctx, m.opt.Replica())
	if err != nil {
		return nil, fmt.Errorf("take over sessions: %w", err)
	}
	var out []*Session
	for _, rec := range recs {
		if m.Peek(rec.ID) != nil {
			continue
		}
		s := fromRecord(m, rec, auth.Identity{User: rec.User, RealUser: rec.RealUser, Groups: rec.Groups})
		s.resume = rec.EngineID != ""
		if err := json.Unmarshal(rec.Journal, &s.journal); len(rec.Journal) > 0 && err != nil {
			s.log.Error("cannot read the journal of a session; it goes on without", "error", err)
		}
		ops, err := m.opt.Store.OperationsOf(ctx, rec.ID)
		if err != nil {
			return nil, fmt.Errorf("take over session %s: %w", rec.ID, err)
		}
		m.mu.Lock()
		m.sessions[s.ID] = s
		m.count.add(rec.User, hostOf(rec.ClientAddr), 1)
		m.mu.Unlock()
		for _, op := range ops {
			if op.State != string(Closed) {
				s.adoptOperation(op)
			}
		}
		s.log.Info("session taken over", "operations", len(ops))
		out = append(out, s)
	}
	return out, nil
}

var (
	errRowsLost = &Failure{Class: "SLUICE_ROWS_LOST", SQLState: "HY000",
		Message: "the statement had ended, and its rows were lost with the gateway that held them: run it again"}
	errNeverStarted = &Failure{Class: "SLUICE_NEVER_STARTED", SQLState: "HY000",
		Message: "the gateway ended before the statement reached an engine: run it again"}
)

// adoptOperation makes an operation's handle valid again. One that ran is attached to; what is known of the others is
// told.
func (s *Session) adoptOperation(rec store.Operation) {
	o := s.fromRecord(context.Background(), rec)
	ran := rec.State == string(Pending) && rec.EngineID != "" && rec.Kind == string(Statement)
	s.keep(o)
	o.begin(s.manager.opt.QueryTimeout, func(ctx context.Context) error {
		switch {
		case ran:
			return o.goOn(ctx)
		case rec.State == string(Pending):
			return errNeverStarted
		case rec.ErrorMessage != "":
			return &Failure{Class: rec.ErrorClass, SQLState: rec.SQLState, Message: rec.ErrorMessage}
		}
		return errRowsLost
	})
}

// goOn attaches to the operation's execution. Its rows are read from the first one again; which of them the client has
// is known to its cursor.
func (o *Operation) goOn(ctx context.Context) error {
	o.log.Say("The gateway that ran this statement is gone; this one goes on with it")
	return o.onEngine(ctx, func(ctx context.Context, remote engines.Session) error {
		exec, err := remote.Attach(ctx, o.rec.EngineOp, engines.Position{})
		if err != nil {
			return err
		}
		if err := o.drain(ctx, exec); err != nil {
			return err
		}
		o.Session.remember(ctx, parse(o.text))
		return nil
	})
}

// Fetched is how many rows the client had when the operation was taken over.
func (o *Operation) Fetched() int64 { return o.fetched }

// SetFetched keeps how far the client has read, as long as the statement runs: should this gateway be killed, the next
// one goes on there. Once it has ended its rows are only here, and nothing needs to be kept.
func (o *Operation) SetFetched(ctx context.Context, rows int64) error {
	if done, _ := o.spool.Done(); done {
		return nil
	}
	err := o.Session.manager.opt.Store.SetFetched(ctx, o.ID, o.Session.fence(), rows)
	if errors.Is(err, store.ErrUnavailable) {
		return nil // who reads goes on; after a kill it would have to begin anew
	}
	return err
}

func (s *Session) fromRecord(ctx context.Context, rec store.Operation) *Operation {
	o := &Operation{
		ID: rec.ID, Secret: rec.Secret, Kind: Kind(rec.Kind), Session: s, text: rec.Statement, rec: rec, fetched: rec.Fetched,
		log: &Log{limit: s.manager.opt.LogLines}, done: make(chan struct{}), changed: make(chan struct{}),
		spool: s.manager.newSpool(), snap: Snapshot{State: Pending, Created: rec.CreatedAt}, seen: time.Now(),
	}
	o.life, o.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	o.audit.begin(s, rec)
	return o
}

// keep makes the operation's handle known.
func (s *Session) keep(o *Operation) {
	s.mu.Lock()
	s.ops[o.ID] = o
	s.mu.Unlock()
	s.manager.add(o)
}

// engineSession says under which id the session is opened on an engine, and whether the engine knows it already.
func (s *Session) engineSession(engineID string) (id uuid.UUID, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known = s.resume && s.rec.EngineID == engineID
	s.resume = false
	if !known {
		s.rec.EngineID, s.rec.EngineSession = engineID, uuid.New()
	}
	return s.rec.EngineSession, known
}
