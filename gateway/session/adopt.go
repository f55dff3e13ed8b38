package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/admission"
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
		s.leaveGate = m.opt.Gate.Open(admission.Ask{User: rec.User, Groups: rec.Groups})
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
	swept, err := m.spool.Sweep()
	if err != nil {
		return nil, fmt.Errorf("sweep what a killed gateway has left: %w", err)
	}
	if swept > 0 {
		m.opt.Log.Info("results that nobody can ask for any more were deleted", "files", swept)
	}
	return out, nil
}

var (
	errRowsLost = &Failure{Class: "SLUICE_ROWS_LOST", SQLState: "HY000",
		Message: "the statement had ended, and its rows were lost with the gateway that held them: run it again"}
	errNeverStarted = &Failure{Class: "SLUICE_NEVER_STARTED", SQLState: "HY000",
		Message: "the gateway ended before the call reached an engine: make it again"}
	errNotSeen = &Failure{Class: "SLUICE_NEVER_STARTED", SQLState: "HY000",
		Message: "the gateway that took the statement was killed before its engine saw it: run it again"}
)

// adoptOperation makes an operation's handle valid again. Rows that are on disk are there again, and one that ran is
// attached to behind them; a statement that had not reached an engine begins now; what is known of the others is told.
func (s *Session) adoptOperation(rec store.Operation) {
	o := s.fromRecord(context.Background(), rec)
	ran := rec.State == string(Pending) && rec.EngineID != "" && rec.Kind == string(Statement)
	var complete bool
	if ran || rec.State == string(Finished) {
		complete = o.reopen()
	}
	s.keep(o)
	leave := func() {}
	if ran { // it was let in by the gateway that is gone
		to, _ := s.standing(context.Background())
		leave = s.manager.opt.Gate.Running(s.ask(to))
	}
	o.begin(rec.TimeLimit, func(ctx context.Context) error {
		defer leave()
		switch {
		case complete:
			if ran { // it was killed before it could say so
				s.remember(ctx, parse(o.text))
			}
			return nil
		case ran:
			return o.goOn(ctx)
		case rec.State == string(Pending) && rec.Kind == string(Statement):
			o.log.Say("The gateway that took this statement is gone, and no engine has seen it; this one runs it")
			return o.runStatement(ctx, parse(o.text))
		case rec.State == string(Pending):
			return errNeverStarted
		case rec.State == string(Finished) && rec.Kind == string(Statement) && rec.Rows == 0 && parse(rec.Statement).verb != query:
			o.give(nil) // a command that had worked: nobody must be told to run it again
			return nil
		case rec.ErrorMessage != "":
			return &Failure{Class: rec.ErrorClass, SQLState: rec.SQLState, Message: rec.ErrorMessage}
		}
		return errRowsLost
	})
}

// reopen finds the operation's rows on disk, and says whether they are all there.
func (o *Operation) reopen() bool {
	kept, err := o.Session.manager.spool.Open(o.ID)
	if err != nil {
		o.Session.log.Error("cannot read the rows of an operation that a killed gateway has left", "operation", o.ID, "error", err)
	}
	if err != nil || kept == nil {
		return false
	}
	o.spool = kept
	_, o.rec.Rows = kept.Durable()
	complete, _ := kept.Done()
	return complete
}

// goOn attaches to the operation's execution behind the rows that are on disk. Without any, rows are read from the first
// one again; which of them the client has is known to its cursor.
func (o *Operation) goOn(ctx context.Context) error {
	o.log.Say("The gateway that ran this statement is gone; this one goes on with it")
	ran := o.rec.EngineID
	o.what = nil
	err := o.onEngine(ctx, func(ctx context.Context, remote engines.Session) error {
		if o.rec.EngineID != ran {
			return fmt.Errorf("%w: engine %s ended with the gateway", engines.ErrLost, ran)
		}
		token, rows := o.spool.Durable()
		exec, err := remote.Attach(ctx, o.rec.EngineOp, engines.Position{Token: token, Rows: rows})
		if err != nil {
			return orRowsGone(err)
		}
		if rows > 0 {
			o.update(func(s *Snapshot) { s.State = Finished })
		}
		if err := o.drain(ctx, exec); err != nil {
			return orRowsGone(err)
		}
		o.Session.remember(ctx, parse(o.text))
		return nil
	})
	if !neverSeen(err) {
		return err
	}
	if st := parse(o.text); st.reads() && o.fetched == 0 && o.spool.Restart() {
		o.log.Say("Its engine has not seen it; it only reads, and begins now")
		what := o.Session.facts(st.text)
		o.what = &what
		return o.runOnEngine(ctx, st)
	}
	return errNotSeen
}

// neverSeen says that the engine does not know the execution: the gateway was killed before it sent the statement. A
// statement that writes is not sent by us then, because being wrong once would be worse than being asked to send it again.
func neverSeen(err error) bool {
	var engine *engines.Error
	return errors.As(err, &engine) && engine.Class == "INVALID_HANDLE.OPERATION_NOT_FOUND"
}

// orRowsGone says in our words that the engine no longer holds the rows behind a place.
func orRowsGone(err error) error {
	var engine *engines.Error
	if errors.As(err, &engine) && strings.HasPrefix(engine.Class, "INVALID_CURSOR.POSITION") {
		return &Failure{Class: errRowsLost.Class, SQLState: errRowsLost.SQLState,
			Message: "the gateway that read the statement's rows is gone, and its engine no longer holds all of them: run it again (" + engine.Message + ")"}
	}
	return err
}

// Fetched is how many rows the client had when the operation was taken over.
func (o *Operation) Fetched() int64 { return o.fetched }

// SetFetched keeps how far the client has read, as long as the statement runs or its rows are on disk: should this
// gateway be killed, the next one goes on there. Other rows are only here, and nothing needs to be kept.
func (o *Operation) SetFetched(ctx context.Context, rows int64) {
	_, durable := o.spool.Durable()
	if done, _ := o.spool.Done(); done && durable == 0 {
		return
	}
	if err := o.Session.manager.opt.Store.SetFetched(ctx, o.ID, o.Session.fence(), rows); err != nil {
		o.Session.log.Debug("cannot store how far a client has read", "operation", o.ID, "error", err)
	}
}

func (s *Session) fromRecord(ctx context.Context, rec store.Operation) *Operation {
	o := &Operation{
		ID: rec.ID, Secret: rec.Secret, Kind: Kind(rec.Kind), Session: s, text: rec.Statement, what: &metadata, rec: rec, fetched: rec.Fetched,
		log: &Log{limit: s.manager.opt.LogLines}, done: make(chan struct{}), changed: make(chan struct{}),
		spool: s.manager.spool.New(rec.ID), snap: Snapshot{State: Pending, Created: rec.CreatedAt}, seen: time.Now(),
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
