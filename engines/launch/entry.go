package launch

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// entry is one engine of a Launcher, from the wish for it to its end.
type entry struct {
	place   place
	cluster engines.Cluster
	driver  engines.Driver

	// These are guarded by the launcher's lock.
	uses       int  // leases, and callers that wait for one
	mine       bool // we own it: its end is ours to decide
	draining   bool // nobody gets it any more
	full       bool // it has all the sessions that it takes
	drainSince time.Time
	idleSince  time.Time

	holding sync.Mutex // one tells the store at a time whether the engine is held
	held    int        // sessions that the store knows of; at most one where any number is taken; guarded by holding
	leases  atomic.Int64
	used    bool // somebody here has had a lease; guarded by holding
	ending  atomic.Bool

	ready    chan struct{} // closed once engine and identity are set
	engine   engines.Engine
	identity engines.Identity
	gone     chan struct{} // closed once err is set
	err      error

	mu        sync.Mutex
	rec       Record
	changed   chan struct{}        // closed and replaced at each change of rec.App
	said      []string             // what was told so far, for those who come later
	told      string               // of them the last one about where the engine stands
	listeners map[int]func(string) // of who waits for it
	users     map[int]func(string) // of who has it, for news of it
	next      int
}

// tellOnce tells what was not told last.
func (e *entry) tellOnce(text string) {
	e.mu.Lock()
	again := len(e.said) > 0 && e.said[len(e.said)-1] == text
	e.mu.Unlock()
	if !again {
		e.tell(text)
	}
}

func newEntry(at place, c engines.Cluster, d engines.Driver) *entry {
	return &entry{place: at, cluster: c, driver: d, idleSince: time.Now(),
		ready: make(chan struct{}), gone: make(chan struct{}), changed: make(chan struct{}), listeners: map[int]func(string){}, users: map[int]func(string){}}
}

// id is the engine's id, empty until there is one.
func (e *entry) id() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rec.ID
}

// record is what is known of the engine, as it is stored.
func (e *entry) record() Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rec
}

// setRecord takes in which engine this is. What its cluster has told of it meanwhile is newer.
func (e *entry) setRecord(rec Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	app := e.rec.App
	e.rec = rec
	if app.State != "" {
		e.rec.App = app
	}
}

// setOwner takes in whose the engine is.
func (e *entry) setOwner(rec Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rec.Replica, e.rec.Fence, e.rec.Claimed = rec.Replica, rec.Fence, rec.Claimed
}

// better says that e is to be preferred to another engine of its pool: it is ready, or has fewer users. The caller holds
// the launcher's lock.
func (e *entry) better(other *entry) bool {
	if e.isReady() != other.isReady() {
		return e.isReady()
	}
	return e.uses < other.uses
}

func (e *entry) isReady() bool {
	select {
	case <-e.ready:
		return true
	default:
		return false
	}
}

func (e *entry) isGone() bool {
	select {
	case <-e.gone:
		return true
	default:
		return false
	}
}

// end marks the entry gone; false if it was already.
func (e *entry) end(why error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isGone() {
		return false
	}
	e.err = why
	close(e.gone)
	return true
}

// tell says something to everybody who waits.
func (e *entry) tell(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.say(text)
}

// say is tell for who holds e.mu.
func (e *entry) say(text string) {
	e.said = append(e.said, text)
	for _, f := range e.listeners {
		f(text)
	}
}

// listen passes on what is told, beginning with what was told before, until the returned function is called. Who asks
// for a warm engine hears nothing.
func (e *entry) listen(report func(string)) (stop func()) {
	if report == nil || e.isReady() {
		return func() {}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, text := range e.said {
		report(text)
	}
	return e.add(e.listeners, report)
}

// add puts a function among others until the returned one is called. The caller holds e.mu.
func (e *entry) add(to map[int]func(string), f func(string)) (remove func()) {
	id := e.next
	e.next++
	to[id] = f
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(to, id)
	}
}

// news tells those who use the engine what has happened to it.
func (e *entry) news(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.users {
		f(text)
	}
}

// observe takes in a change; false if it is none. An engine that listens does so until it ends: who says that it starts has
// looked before, or does not know yet.
func (e *entry) observe(app engines.App) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.rec.App.State
	if e.rec.App == app || before == engines.Ended || before == engines.Running && app.State != engines.Running && app.State != engines.Ended {
		return false
	}
	e.rec.App = app
	close(e.changed)
	e.changed = make(chan struct{})
	if text := describe(app); (app.State == engines.Pending || app.State == engines.Starting) && text != e.told {
		e.told = text
		e.say(text)
	}
	return true
}

func (e *entry) last() engines.App {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rec.App
}

// address waits until the engine listens.
func (e *entry) address(ctx context.Context) (string, error) {
	for {
		e.mu.Lock()
		app, changed := e.rec.App, e.changed
		e.mu.Unlock()
		switch app.State {
		case engines.Running:
			return app.Address, nil
		case engines.Ended:
			return "", fmt.Errorf("the engine ended before it was ready: %s", app.Reason)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", fmt.Errorf("%w; at last it was %s: %s", context.Cause(ctx), app.State, cmp.Or(app.Reason, "its cluster says no more"))
		}
	}
}

// untilEnded calls end when the engine has ended, unless ctx ends before.
func (e *entry) untilEnded(ctx context.Context, end func(error)) {
	for {
		e.mu.Lock()
		app, changed := e.rec.App, e.changed
		e.mu.Unlock()
		if app.State == engines.Ended {
			end(fmt.Errorf("the engine ended before it was ready: %s", app.Reason))
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func describe(app engines.App) string {
	text := "Engine " + string(app.Tag) + " is " + string(app.State)
	if app.Reason != "" {
		text += ": " + app.Reason
	}
	if app.Log != "" {
		text += " (log: " + app.Log + ")"
	}
	return text
}
