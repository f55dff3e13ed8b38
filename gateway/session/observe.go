package session

import (
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/store"
)

// Hooks observe; each may be nil. They are called while somebody waits, so they must be quick.
type Hooks struct {
	OperationEnded func(kind Kind, state State, took time.Duration)
	// Overhead is told the time that a statement with rows spent in the gateway: from its acceptance until the engine was
	// asked, and from the engine's first rows until clients could fetch them. One that had to wait for an engine, or for
	// another statement of its session, is not counted.
	Overhead func(time.Duration)
	// OperationDone is called once for each operation: it has ended, and its client has done with it. One that is taken
	// over by another gateway is done there.
	OperationDone  func(Done)
	SessionOpened  func(store.Session)
	SessionClosed  func(s store.Session, why string)
	SessionRefused func(OpenRequest, error)
}

// Done is all that is known of an operation in the end.
type Done struct {
	Session           store.Session
	Operation         store.Operation // as it ended
	Catalog, Database string          // current ones when it began
	Key               launch.Key      // of the engine that it reached; empty if it reached none
	Route             string          // why the router chose the engine's cluster
	RowsSent          int64           // to the client; those sent twice count twice
	BytesSent         int64
}

// place is where a session's engine is, and why there.
type place struct {
	key      launch.Key
	route    string
	rule     uint64 // that led there
	priority int
}

func (s *Session) setPlace(p place) {
	s.mu.Lock()
	s.place = p
	s.mu.Unlock()
}

func (s *Session) whereabouts() place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place
}

// audit is what an operation gathers for those who observe it.
type audit struct {
	catalog, database string
	place             place            // owned by the operation's goroutine
	before            *store.Operation // how it ended at a gateway before this one
	rows, bytes       atomic.Int64     // sent
	closed, told      atomic.Bool
}

func (a *audit) begin(s *Session, rec store.Operation) {
	s.mu.Lock()
	a.catalog, a.database = s.rec.Catalog, s.rec.Database
	s.mu.Unlock()
	a.rows.Store(rec.Fetched)
	if rec.EndedAt != nil {
		a.before = &rec
	}
}

// Sent counts what a front end has sent of the operation's rows to the client.
func (o *Operation) Sent(rows, bytes int64) {
	o.audit.rows.Add(rows)
	o.audit.bytes.Add(bytes)
}

// over tells that the operation is done, once it has ended and its handle is closed: only then is known what was sent.
func (o *Operation) over() {
	select {
	case <-o.done:
	default:
		return // whoever ends it tells
	}
	hook := o.Session.manager.opt.Hooks.OperationDone
	if hook == nil || !o.audit.closed.Load() || o.audit.told.Swap(true) {
		return
	}
	rec := o.rec
	if o.audit.before != nil {
		rec = *o.audit.before
	}
	hook(Done{
		Session: o.Session.record(), Operation: rec, Catalog: o.audit.catalog, Database: o.audit.database,
		Key: o.audit.place.key, Route: o.audit.place.route, RowsSent: o.audit.rows.Load(), BytesSent: o.audit.bytes.Load(),
	})
}

func (m *Manager) opened(s *Session) {
	if hook := m.opt.Hooks.SessionOpened; hook != nil {
		hook(s.record())
	}
}

func (m *Manager) closed(s *Session, why string) {
	if hook := m.opt.Hooks.SessionClosed; hook != nil {
		hook(s.record(), why)
	}
}

// Refused tells observers of a session that its client does not get. Front ends call it for what they refuse themselves.
func (m *Manager) Refused(req OpenRequest, err error) {
	if hook := m.opt.Hooks.SessionRefused; hook != nil {
		hook(req, err)
	}
}
