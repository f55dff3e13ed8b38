// Package sim plays a cluster and its engines, so that a test decides when each message is answered, and how: what real
// engines do only in rare moments. It proves nothing about Spark; the tests with real engines do.
package sim

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/sluicedata/sluice/engines"
)

// World is a cluster named "c", a driver of kind "spark", and every engine on it.
type World struct {
	// Script is asked at each message before it is answered. It may wait, and its error is the answer. It may be nil.
	Script func(ctx context.Context, m Message) error
	// MaxSessions is how many sessions an engine says that it takes.
	MaxSessions int

	mu       sync.Mutex
	messages []Message
	apps     map[engines.Tag]engines.App
	watchers map[chan engines.Event]struct{}
	running  map[engines.OperationID]*execution
	Opened   []engines.SessionSpec
	Sets     []map[string]*string
}

// Message is one thing that the gateway asked for.
type Message struct {
	Kind string // platform, submit, list, kill, dial, identify, open, start, attach, next, cancel, release, set, close
	What string // the statement, or the engine
}

func (m Message) String() string { return strings.TrimSpace(m.Kind + " " + m.What) }

// New makes an empty world.
func New() *World {
	return &World{apps: map[engines.Tag]engines.App{}, watchers: map[chan engines.Event]struct{}{}, running: map[engines.OperationID]*execution{}}
}

func (w *World) hear(ctx context.Context, kind, what string) error {
	m := Message{kind, what}
	w.mu.Lock()
	w.messages = append(w.messages, m)
	w.mu.Unlock()
	if w.Script == nil {
		return nil
	}
	return w.Script(ctx, m)
}

// Heard lists the messages of the given kinds so far; all of them if none is given.
func (w *World) Heard(kinds ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, m := range w.messages {
		if len(kinds) == 0 || strings.Contains(" "+strings.Join(kinds, " ")+" ", " "+m.Kind+" ") {
			out = append(out, m.String())
		}
	}
	return out
}

// Engines lists the applications that run.
func (w *World) Engines() []engines.App {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []engines.App
	for _, a := range w.apps {
		out = append(out, a)
	}
	return out
}

// End ends all engines, as if they were killed.
func (w *World) End(reason string) {
	for _, a := range w.Engines() {
		w.end(a.Tag, reason)
	}
}

func (w *World) end(tag engines.Tag, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.apps[tag]
	if !ok {
		return
	}
	delete(w.apps, tag)
	a.State, a.Address, a.Reason = engines.Ended, "", reason
	for ch := range w.watchers {
		ch <- engines.Event{App: a}
	}
}

// Name implements engines.Cluster.
func (w *World) Name() string { return "c" }

// Platform implements engines.Cluster.
func (w *World) Platform(ctx context.Context, runtime string, _ func(string)) (engines.Platform, error) {
	return engines.Platform{}, w.hear(ctx, "platform", runtime)
}

// Submit implements engines.Cluster.
func (w *World) Submit(ctx context.Context, l engines.Launch) (engines.App, error) {
	if err := w.hear(ctx, "submit", ""); err != nil {
		return engines.App{}, err
	}
	a := engines.App{Tag: l.Tag, State: engines.Running, Address: string(l.Tag)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apps[l.Tag] = a
	return a, nil
}

// List implements engines.Cluster.
func (w *World) List(ctx context.Context) ([]engines.App, error) {
	return w.Engines(), w.hear(ctx, "list", "")
}

// Watch implements engines.Cluster.
func (w *World) Watch(ctx context.Context) (<-chan engines.Event, error) {
	ch := make(chan engines.Event, 100)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watchers[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers, ch)
		close(ch)
	})
	return ch, nil
}

// Kill implements engines.Cluster.
func (w *World) Kill(ctx context.Context, tag engines.Tag) error {
	if err := w.hear(ctx, "kill", ""); err != nil {
		return err
	}
	w.end(tag, "it was told to end")
	return nil
}

// Renew implements engines.Cluster.
func (w *World) Renew(context.Context, engines.Tag) error { return nil }

// Log implements engines.Cluster.
func (w *World) Log(context.Context, engines.Tag, int) (string, error) { return "", nil }

// Close implements engines.Cluster.
func (w *World) Close() error { return nil }

// Kind implements engines.Driver.
func (w *World) Kind() engines.Kind { return "spark" }

// RootCause implements engines.Driver.
func (w *World) RootCause(string) string { return "" }

// Plan implements engines.Driver.
func (w *World) Plan(s engines.Spec, _ engines.Platform) (engines.Launch, error) {
	return engines.Launch{Tag: engines.Tag(s.ID), Conf: s.Conf}, nil
}

// Dial implements engines.Driver: an engine's address is its tag.
func (w *World) Dial(ctx context.Context, at engines.Endpoint) (engines.Engine, error) {
	return &engine{w, engines.Tag(at.Address)}, w.hear(ctx, "dial", "")
}

type engine struct {
	w   *World
	tag engines.Tag
}

func (e *engine) Identify(ctx context.Context) (engines.Identity, error) {
	return engines.Identity{Tag: e.tag, Version: "4", MaxSessions: e.w.MaxSessions}, e.w.hear(ctx, "identify", "")
}

func (e *engine) Close() error { return nil }

func (e *engine) OpenSession(ctx context.Context, s engines.SessionSpec) (engines.Session, error) {
	if err := e.w.hear(ctx, "open", ""); err != nil {
		return nil, err
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.Opened = append(e.w.Opened, s)
	return &session{e.w}, nil
}

type session struct{ w *World }

func (s *session) Close(ctx context.Context) error { return s.w.hear(ctx, "close", "") }

func (s *session) TableSchema(context.Context, ...string) ([]engines.TableColumn, error) {
	return nil, nil
}

func (s *session) Set(ctx context.Context, conf map[string]*string) (map[string]*string, error) {
	before := map[string]*string{}
	for k := range conf {
		before[k] = nil
	}
	s.w.mu.Lock()
	s.w.Sets = append(s.w.Sets, conf)
	s.w.mu.Unlock()
	return before, s.w.hear(ctx, "set", "")
}

// Start begins an execution of as many batches of one row as the statement says: "ROWS 3". Any other statement gives one.
func (s *session) Start(ctx context.Context, id engines.OperationID, q engines.Query) (engines.Execution, error) {
	if err := s.w.hear(ctx, "start", q.SQL); err != nil {
		return nil, err
	}
	e := &execution{w: s.w, sql: q.SQL, rows: 1}
	if _, err := fmt.Sscanf(q.SQL, "SELECT ROWS %d", &e.rows); err != nil {
		e.rows = 1
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.running[id] = e
	return e, nil
}

func (s *session) Attach(ctx context.Context, id engines.OperationID, at engines.Position) (engines.Execution, error) {
	if err := s.w.hear(ctx, "attach", fmt.Sprint(at.Rows)); err != nil {
		return nil, err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	e, ok := s.w.running[id]
	if !ok {
		return nil, &engines.Error{Class: "INVALID_HANDLE.OPERATION_NOT_FOUND", Message: "no such execution"}
	}
	return &execution{w: s.w, sql: e.sql, rows: e.rows, next: at.Rows}, nil
}

type execution struct {
	w    *World
	sql  string
	rows int64
	next int64
}

var schema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

func (e *execution) Schema() *arrow.Schema { return schema }

func (e *execution) Next(ctx context.Context) (arrow.RecordBatch, engines.Position, error) {
	if err := e.w.hear(ctx, "next", fmt.Sprint(e.next)); err != nil {
		return nil, engines.Position{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, engines.Position{}, err
	}
	if e.next >= e.rows {
		return nil, engines.Position{}, io.EOF
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(e.next)
	e.next++
	return b.NewRecordBatch(), engines.Position{Token: fmt.Sprint(e.next), Rows: e.next}, nil
}

func (e *execution) Cancel(ctx context.Context) error { return e.w.hear(ctx, "cancel", e.sql) }

func (e *execution) Release(ctx context.Context) error { return e.w.hear(ctx, "release", e.sql) }

// Durable implements engines.Execution.
func (e *execution) Durable(engines.Position) {}
