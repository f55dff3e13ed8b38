package launch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// entry is one engine of a Launcher, from the wish for it to its end.
type entry struct {
	key     Key
	user    string // in whose name it runs
	id      string
	cluster engines.Cluster
	driver  engines.Driver
	created time.Time

	uses      int       // leases, and callers that wait for one; guarded by the launcher
	idleSince time.Time // guarded by the launcher

	ready    chan struct{} // closed once engine and identity are set
	engine   engines.Engine
	identity engines.Identity
	gone     chan struct{} // closed once err is set
	err      error

	mu        sync.Mutex
	app       engines.App
	changed   chan struct{} // closed and replaced at each change of app
	said      []string      // what was told so far, for those who come later
	listeners map[int]func(string)
	next      int
}

func newEntry(req Request, id string, c engines.Cluster, d engines.Driver) *entry {
	return &entry{key: req.Key, user: req.User, id: id, cluster: c, driver: d, created: time.Now(), uses: 1, idleSince: time.Now(),
		ready: make(chan struct{}), gone: make(chan struct{}), changed: make(chan struct{}), listeners: map[int]func(string){}}
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
	id := e.next
	e.next++
	e.listeners[id] = report
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.listeners, id)
	}
}

// observe takes in a change; false if it is none.
func (e *entry) observe(app engines.App) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.app == app || e.app.State == engines.Ended {
		return false
	}
	e.app = app
	close(e.changed)
	e.changed = make(chan struct{})
	return true
}

func (e *entry) last() engines.App {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.app
}

// address waits until the engine listens.
func (e *entry) address(ctx context.Context) (string, error) {
	told := engines.App{}
	for {
		e.mu.Lock()
		app, changed := e.app, e.changed
		e.mu.Unlock()
		switch {
		case app.State == engines.Running:
			return app.Address, nil
		case app.State == engines.Ended:
			return "", fmt.Errorf("the engine ended before it was ready: %s", app.Reason)
		case app != told && app.State != "":
			told = app
			e.tell(describe(app))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", context.Cause(ctx)
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
