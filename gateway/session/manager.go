// Package session holds clients' conversations: sessions, their operations, and the way from a statement to the rows
// of its result. Ids are stored before an engine hears of them. Front ends come in with an identity that they have
// proved, and every handle is looked up by its owner: another user's handle does not exist.
package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/admission"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/spool"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router/rules"
)

// ErrNoSession and ErrNoOperation say that there is no such handle for this caller.
var (
	ErrNoSession   = errors.New("there is no such session")
	ErrNoOperation = errors.New("there is no such operation")
)

// errStopping is what new work hears while the gateway stops.
var errStopping = &Failure{Class: "SLUICE_STOPPING", SQLState: "08004", Message: "the gateway is stopping; connect again"}

// Options of a Manager.
type Options struct {
	Store   *store.Store
	Replica func() string // who we are among the gateways that share the store
	Engines *launch.Launcher
	Kind    engines.Kind // of engine that runs SQL
	// ShareLevel is whom a session shares its engine with, if its client does not say.
	ShareLevel           launch.Level
	Profiles             map[string]Profile
	Limits               Limits
	Runtimes             []string // what sluice.runtime may name
	Router               Router
	Gate                 *admission.Gate // nil: no limits of the rules
	Spool                spool.Limits
	LogLines             int
	QueryTimeout         time.Duration
	IdleTimeout          time.Duration // of sessions
	OperationIdleTimeout time.Duration // of terminal operations
	Hooks                Hooks
	Log                  *slog.Logger
}

// Manager holds all sessions of this gateway.
type Manager struct {
	opt    Options
	ledger *ledger
	spool  *spool.Pool

	waiting atomic.Int64 // statements that wait for an engine

	mu       sync.Mutex
	sessions map[uuid.UUID]*Session
	count    count
	ops      map[uuid.UUID]*Operation
	stopping bool
}

// NewManager makes an empty Manager. Run must be called for idle sessions to be closed.
func NewManager(opt Options) *Manager {
	return &Manager{opt: opt, ledger: newLedger(opt.Store), spool: spool.NewPool(opt.Spool), count: newCount(),
		sessions: map[uuid.UUID]*Session{}, ops: map[uuid.UUID]*Operation{}}
}

// OpenRequest asks for a session.
type OpenRequest struct {
	Identity   auth.Identity
	FrontEnd   string
	ClientAddr string
	Protocol   int
	Conf       map[string]string
	Catalog    string
	Database   string
}

// Open opens a session. It starts no engine.
func (m *Manager) Open(ctx context.Context, req OpenRequest) (*Session, error) {
	s, err := m.open(ctx, req)
	if err != nil {
		m.Refused(req, err)
		return nil, err
	}
	m.opened(s)
	return s, nil
}

func (m *Manager) open(ctx context.Context, req OpenRequest) (*Session, error) {
	s, err := newSession(m, req)
	if err != nil {
		return nil, err
	}
	if err := m.prepare(s); err != nil {
		return nil, err // a wish that can never come true is told at once
	}
	if s.leaveGate, err = m.opt.Gate.Session(ctx, admission.Ask{User: s.Identity.User, Groups: s.Identity.Groups}); err != nil {
		return nil, refusedAdmission(err)
	}
	if err := m.enter(ctx, s, hostOf(req.ClientAddr)); err != nil {
		s.leaveGate()
		return nil, err
	}
	s.log.Info("session opened", "front_end", req.FrontEnd, "client", req.ClientAddr)
	return s, nil
}

// enter counts a session in and stores it.
func (m *Manager) enter(ctx context.Context, s *Session, host string) (err error) {
	m.mu.Lock()
	if m.stopping {
		err = errStopping
	} else {
		err = m.count.enter(m.opt.Limits, s.Identity.User, host)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if err := m.opt.Store.CreateSession(ctx, s.record()); err != nil {
		m.mu.Lock()
		m.count.add(s.Identity.User, host, -1)
		m.mu.Unlock()
		return refuseWithout(err)
	}
	m.mu.Lock()
	m.sessions[s.ID] = s
	m.mu.Unlock()
	return nil
}

// prepare completes a session's settings with those of its profile, and says which of its wishes cannot be met.
func (m *Manager) prepare(s *Session) error {
	conf := s.rec.Conf
	if unknown := translate(conf); len(unknown) > 0 {
		s.log.Info("settings of Kyuubi that mean nothing here", "keys", unknown)
	}
	p, err := m.profile(conf)
	if err != nil {
		return err
	}
	p.apply(conf)
	if err := checkConf(conf); err != nil {
		return err
	}
	r, _, err := s.request(nothing)
	if err != nil || r.Cluster == "" {
		return err
	}
	_, err = m.opt.Router.Preview(r)
	var no *rules.Refusal
	if errors.As(err, &no) && !no.Never {
		return nil // a statement may have more luck
	}
	return refusedRoute(err)
}

// Session finds a session that the caller may use; mine says whether it may.
func (m *Manager) Session(id uuid.UUID, secret []byte, mine func(*Session) bool) (*Session, error) {
	s := m.Peek(id)
	if s == nil || !mine(s) || subtle.ConstantTimeCompare(s.Secret[:], secret) != 1 {
		return nil, ErrNoSession
	}
	s.touch()
	return s, nil
}

// Peek finds a session for those who need not own it; it gives no right to use it.
func (m *Manager) Peek(id uuid.UUID) *Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[id]
}

// Operation finds an operation of a session that the caller may use.
func (m *Manager) Operation(id uuid.UUID, secret []byte, mine func(*Session) bool) (*Operation, error) {
	m.mu.Lock()
	o := m.ops[id]
	m.mu.Unlock()
	if o == nil || !mine(o.Session) || subtle.ConstantTimeCompare(o.Secret[:], secret) != 1 {
		return nil, ErrNoOperation
	}
	o.touch()
	return o, nil
}

// Close closes a session and everything in it.
func (m *Manager) Close(ctx context.Context, s *Session, why string) error {
	if !m.forget(s) {
		return ErrNoSession
	}
	s.close(ctx, fmt.Errorf("%w: %s", errClosed, why))
	s.log.Info("session closed", "reason", why)
	err := m.ledger.closeSession(context.WithoutCancel(ctx), s.ID, s.fence(), time.Now())
	if !errors.Is(err, store.ErrFenced) { // it goes on at another gateway
		m.closed(s, why)
	}
	return err
}

func (m *Manager) add(o *Operation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ops[o.ID] = o
}

func (m *Manager) drop(o *Operation) {
	m.mu.Lock()
	delete(m.ops, o.ID)
	m.mu.Unlock()
	o.Session.mu.Lock()
	delete(o.Session.ops, o.ID)
	o.Session.mu.Unlock()
}

// Spooled tells how many bytes of results are in memory and on disk.
func (m *Manager) Spooled() (memory, disk int64) { return m.spool.Usage() }

// Counts tells how many sessions and operations there are.
func (m *Manager) Counts() (sessions, operations int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sessions), len(m.ops)
}

// Unwritten is how many records wait for the store to come back.
func (m *Manager) Unwritten() int { return m.ledger.unwritten() }

// Waiting is how many statements wait for an engine.
func (m *Manager) Waiting() int { return int(m.waiting.Load()) }

// Run closes idle sessions and operations until ctx ends, and then all sessions.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(max(min(m.opt.IdleTimeout, m.opt.OperationIdleTimeout, time.Hour)/10, 50*time.Millisecond))
	defer tick.Stop()
	prune := time.NewTicker(24 * time.Hour)
	defer prune.Stop()
	flush := time.NewTicker(time.Second)
	defer flush.Stop()
	m.prune(ctx)
	for {
		select {
		case <-flush.C:
			m.ledger.flush(ctx)
			m.leaveDraining(ctx)
		case <-prune.C:
			m.prune(ctx)
		case <-tick.C:
			m.closeIdle(ctx)
		case <-ctx.Done():
			m.closeAll(context.WithoutCancel(ctx))
			m.ledger.flush(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// refuseWithout is what who wants a new session reads when the store fails.
func refuseWithout(err error) error {
	if !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("store the session: %w", err)
	}
	return &Failure{Class: "SLUICE_STORE_UNAVAILABLE", SQLState: "08004",
		Message: fmt.Sprintf("no new session can be opened, because it could not be recorded: %v. Sessions that are open go on; try again in a moment", err)}
}

// errTakenOver is what the operations of a session hear that is another gateway's by now.
var errTakenOver = &Failure{Class: "SLUICE_TAKEN_OVER", SQLState: "08006",
	Message: "this gateway was silent for too long, and another one has taken over the session: connect again"}

// Lost lets go of the sessions of a replica that we were: others took us for dead, and have them now. Their engines are
// not told, because the sessions go on there.
func (m *Manager) Lost(was string) {
	ss, _ := m.snapshot()
	for _, s := range ss {
		if s.record().Replica != was {
			continue
		}
		m.forget(s)
		s.log.Warn("session lost to another gateway")
		s.abandon(errTakenOver)
	}
}

// forget takes a session and its operations out of the tables; false if it is not there.
func (m *Manager) forget(s *Session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, there := m.sessions[s.ID]
	if there {
		s.leaveGate()
		delete(m.sessions, s.ID)
		m.count.add(s.Identity.User, hostOf(s.rec.ClientAddr), -1)
	}
	return there
}

// keepRecords is for how long records of what has ended are kept.
const keepRecords = 7 * 24 * time.Hour

func (m *Manager) prune(ctx context.Context) {
	if err := m.opt.Store.Prune(ctx, time.Now().Add(-keepRecords)); err != nil && ctx.Err() == nil {
		m.opt.Log.Warn("cannot prune the store", "error", err)
	}
}

func (m *Manager) snapshot() ([]*Session, []*Operation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ss, ops := make([]*Session, 0, len(m.sessions)), make([]*Operation, 0, len(m.ops))
	for _, s := range m.sessions {
		ss = append(ss, s)
	}
	for _, o := range m.ops {
		ops = append(ops, o)
	}
	return ss, ops
}

// leaveDraining takes sessions that do nothing off engines that are to end, or those would wait for them.
func (m *Manager) leaveDraining(ctx context.Context) {
	if !m.opt.Engines.Draining() {
		return
	}
	ss, _ := m.snapshot()
	for _, s := range ss {
		s.leaveDraining(ctx)
	}
}

func (m *Manager) closeIdle(ctx context.Context) {
	ss, ops := m.snapshot()
	now := time.Now()
	for _, o := range ops {
		if since := o.idleSince(); !since.IsZero() && now.Sub(since) > m.opt.OperationIdleTimeout {
			_ = o.Close(ctx)
		}
	}
	for _, s := range ss {
		since, patience := s.idleSince(), limit(m.opt.IdleTimeout, s.record().Conf, IdleKey)
		if !since.IsZero() && now.Sub(since) > patience {
			_ = m.Close(ctx, s, fmt.Sprintf("nobody has used it for %s (session.idle_timeout, or its own %s)", patience, IdleKey))
		}
	}
}

// drainPause is for how long a client may be silent about a result that came while the gateway drains.
const drainPause = 2 * time.Second

// Drain refuses new work from now on, and returns once the operations that run have ended and their clients have what
// they wanted: they closed them, or are silent. The end of ctx ends the wait.
func (m *Manager) Drain(ctx context.Context) {
	m.mu.Lock()
	m.stopping = true
	m.mu.Unlock()
	_, ops := m.snapshot()
	for _, o := range ops {
		if o.Snapshot().State.Terminal() {
			continue
		}
		for ctx.Err() == nil && !o.settled(drainPause) {
			o.Wait(ctx, drainPause)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// Stopping says whether new work is refused.
func (m *Manager) Stopping() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopping
}

func (m *Manager) closeAll(ctx context.Context) {
	ss, _ := m.snapshot()
	var wait sync.WaitGroup
	for _, s := range ss {
		wait.Add(1)
		go func() { defer wait.Done(); _ = m.Close(ctx, s, "the gateway is stopping") }()
	}
	wait.Wait()
}
