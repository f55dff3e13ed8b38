package session

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/store"
)

// Session is one client's conversation. It belongs to one identity and is not tied to a connection.
type Session struct {
	ID       uuid.UUID
	Secret   [16]byte
	Identity auth.Identity
	FrontEnd string
	Protocol int

	manager *Manager
	// leaveGate counts the session out where it was let in.
	leaveGate func()
	log       *slog.Logger
	life      context.Context // its end ends the session's operations
	end       context.CancelCauseFunc
	// overlays lets a statement with settings of its own run alone, because settings belong to the whole session.
	overlays *semaphore.Weighted

	// engine guards the way to an engine; it is a channel, so that waiting for it ends with the waiter's context.
	engine chan struct{}
	lease  *launch.Lease
	remote engines.Session

	mu       sync.Mutex
	place    place
	rec      store.Session // conf, catalogue and database are the session's, whatever engine it has
	journal  journal
	seen     time.Time
	attached bool // to an engine
	resume   bool // taken over: the engine in the record may know the session
	ops      map[uuid.UUID]*Operation
}

const allOverlays = 1 << 30

func newSession(m *Manager, req OpenRequest) (*Session, error) {
	now := time.Now()
	rec := store.Session{
		ID: uuid.New(), Replica: m.opt.Replica(), Fence: 1, User: req.Identity.User, RealUser: req.Identity.RealUser, Groups: req.Identity.Groups, FrontEnd: req.FrontEnd,
		ClientAddr: req.ClientAddr, Protocol: req.Protocol, Conf: maps.Clone(req.Conf), Catalog: req.Catalog, Database: req.Database,
		OpenedAt: now, SeenAt: now,
	}
	if _, err := rand.Read(rec.Secret[:]); err != nil {
		return nil, err
	}
	return fromRecord(m, rec, req.Identity), nil
}

// fromRecord makes a session of what is stored of it, without an engine.
func fromRecord(m *Manager, rec store.Session, who auth.Identity) *Session {
	if rec.Conf == nil {
		rec.Conf = map[string]string{}
	}
	s := &Session{
		ID: rec.ID, Secret: rec.Secret, Identity: who, FrontEnd: rec.FrontEnd, Protocol: rec.Protocol, rec: rec,
		manager: m, overlays: semaphore.NewWeighted(allOverlays), engine: make(chan struct{}, 1),
		ops: map[uuid.UUID]*Operation{}, seen: time.Now(),
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	s.log = m.opt.Log.With("session", s.ID, "user", who.User)
	return s
}

func (s *Session) touch() {
	s.mu.Lock()
	s.seen = time.Now()
	s.mu.Unlock()
}

// Touch tells that the client is still there.
func (s *Session) Touch() { s.touch() }

// idleSince says since when nobody has asked for the session; zero while an operation of it runs.
func (s *Session) idleSince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.ops {
		if !o.Snapshot().State.Terminal() {
			return time.Time{}
		}
	}
	return s.seen
}

// Setting returns what the session itself knows of a setting.
func (s *Session) Setting(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.rec.Conf[key]
	return v, ok
}

// remember keeps what a statement changed, so that it holds on every engine the session will have.
func (s *Session) remember(ctx context.Context, st statement) {
	s.mu.Lock()
	switch st.verb {
	case setValue:
		s.rec.Conf[st.key] = st.value
	case reset:
		if st.key == "" { // what was said to us is not the engine's to reset
			maps.DeleteFunc(s.rec.Conf, func(k, _ string) bool { return !strings.HasPrefix(k, "sluice.") })
		} else {
			delete(s.rec.Conf, st.key)
		}
	case useSchema:
		s.rec.Database = st.name
	case useCatalog:
		s.rec.Catalog, s.rec.Database = st.name, ""
	default:
		kept, changed := s.journal.after(st.text, s.rec.Catalog, s.rec.Database)
		if !changed {
			s.mu.Unlock()
			return
		}
		s.journal = kept
	}
	s.mu.Unlock()
	s.save(ctx)
}

func (s *Session) record() store.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.rec
	rec.Conf, rec.SeenAt = maps.Clone(s.rec.Conf), s.seen
	if len(s.journal) > 0 {
		rec.Journal, _ = json.Marshal(s.journal) // strings only: it cannot fail
	}
	return rec
}

func (s *Session) save(ctx context.Context) {
	if err := s.manager.ledger.updateSession(context.WithoutCancel(ctx), s.record()); err != nil {
		s.log.Error("cannot store the session", "error", err)
	}
}

// ExecuteRequest asks for a statement to be run.
type ExecuteRequest struct {
	Text    string
	Overlay map[string]string // settings for this statement only
	Timeout time.Duration     // 0 means none
}

// Execute begins a statement and returns its operation at once.
func (s *Session) Execute(ctx context.Context, req ExecuteRequest) (*Operation, error) {
	st := parse(req.Text)
	if st.text == "" {
		return nil, &Failure{Class: "PARSE_EMPTY_STATEMENT", SQLState: "42617", Message: "the statement is empty"}
	}
	patience := limit(s.manager.opt.QueryTimeout, s.record().Conf, TimeoutKey)
	if req.Timeout > 0 && (patience <= 0 || req.Timeout < patience) {
		patience = req.Timeout
	}
	o, err := s.newOperation(ctx, store.Operation{Kind: string(Statement), Statement: st.text, Overlay: req.Overlay, TimeLimit: patience})
	if err != nil {
		return nil, err
	}
	o.begin(patience, func(run context.Context) error { return o.runStatement(run, st) })
	return o, nil
}

// Call begins a metadata call: produce makes its rows, with an engine if it asks for one.
func (s *Session) Call(ctx context.Context, kind Kind, produce func(context.Context, *Operation) error) (*Operation, error) {
	patience := s.manager.opt.QueryTimeout
	o, err := s.newOperation(ctx, store.Operation{Kind: string(kind), Statement: string(kind), TimeLimit: patience})
	if err != nil {
		return nil, err
	}
	o.begin(patience, func(run context.Context) error { return produce(run, o) })
	return o, nil
}

// newOperation completes an operation's record, stores it and makes the operation known.
func (s *Session) newOperation(ctx context.Context, rec store.Operation) (*Operation, error) {
	if s.life.Err() != nil {
		return nil, ErrNoSession
	}
	if s.manager.Stopping() {
		return nil, errStopping
	}
	s.touch()
	if max := s.manager.opt.Limits.OperationsPerSession; max > 0 && s.open() >= max {
		return nil, limitError("operations_per_session", max, "the session has too many operations; close some")
	}
	rec.ID, rec.SessionID, rec.Fence, rec.State = uuid.New(), s.ID, s.fence(), string(Pending)
	rec.EngineID, rec.EngineOp, rec.CreatedAt = s.engineID(), uuid.New(), time.Now()
	if _, err := rand.Read(rec.Secret[:]); err != nil {
		return nil, err
	}
	written, err := s.manager.ledger.createOperation(ctx, rec)
	if err != nil {
		return nil, fmt.Errorf("store the operation: %w", err)
	}
	o := s.fromRecord(ctx, rec)
	s.keep(o)
	if !written {
		o.log.Say("The store cannot be reached at the moment: this statement runs, but would not survive the end of this gateway")
	}
	return o, nil
}

// open is how many operations of the session have open handles.
func (s *Session) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ops)
}

// running is how many operations of the session still have to do with its engine.
func (s *Session) running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, o := range s.ops {
		select {
		case <-o.done:
		default:
			n++
		}
	}
	return n
}

func (s *Session) fence() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Fence
}

// close ends the session's operations and tells its engine.
func (s *Session) close(ctx context.Context, why error) {
	s.end(why)
	s.mu.Lock()
	ops := make([]*Operation, 0, len(s.ops))
	for _, o := range s.ops {
		ops = append(ops, o)
	}
	s.mu.Unlock()
	for _, o := range ops {
		_ = o.Close(ctx)
	}
	s.engine <- struct{}{}
	defer func() { <-s.engine }()
	if s.remote != nil {
		if err := s.remote.Close(ctx); err != nil && !errors.Is(err, engines.ErrLost) {
			s.log.Debug("cannot close the session on its engine", "error", err)
		}
		s.detach()
	}
}

// abandon ends the session here without telling its engine, where it goes on for another gateway.
func (s *Session) abandon(why error) {
	s.mu.Lock()
	ops := slices.Collect(maps.Values(s.ops))
	s.mu.Unlock()
	for _, o := range ops {
		s.manager.drop(o)
	}
	s.end(why)
	for _, o := range ops {
		<-o.done
		o.spool.Close()
	}
	s.engine <- struct{}{}
	defer func() { <-s.engine }()
	if s.remote != nil {
		s.detach()
	}
}

// traceTags carry the trace of a request to the engine's jobs; its UI and event log show them.
func traceTags(ctx context.Context) []string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return nil
	}
	return []string{fmt.Sprintf("traceparent=00-%s-%s-%s", sc.TraceID(), sc.SpanID(), sc.TraceFlags())}
}
