package yarn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// app is an application that is followed until it ends.
type app struct {
	tag      engines.Tag
	id, user string
	batch    bool
	ended    chan struct{}

	mu   sync.Mutex
	seen report
	last engines.App
	kept string // the end of its log, as it was last read
	out  string // and of what it has printed, if it is a batch
}

func (a *app) now() engines.App {
	if a == nil {
		return engines.App{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// Pauses between two looks at an application: short while somebody waits for it to start.
const (
	lookStarting = 500 * time.Millisecond
	lookRunning  = 3 * time.Second
)

// keepLog is how much of a driver's log is kept past its container's end.
const keepLog = 64 << 10

// follow follows an application, once.
func (c *Cluster) follow(tag engines.Tag, r report) *app {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.apps[tag]; a != nil {
		return a
	}
	a := &app{tag: tag, id: r.ID, user: r.User, batch: r.batch(), ended: make(chan struct{}), seen: r}
	a.last = c.describe(a, r, "")
	c.apps[tag] = a
	c.wait.Go(func() { c.look(c.life, a) })
	return a
}

// look looks at an application again and again until it has ended.
func (c *Cluster) look(ctx context.Context, a *app) {
	for {
		before := a.now()
		now, err := c.observe(ctx, a)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // it is no news of the application that its cluster does not answer
			c.opt.Log.Debug("cannot look at an application", "cluster", c.opt.Name, "application", a.id, "error", err)
		case now != before:
			c.tell(now)
		}
		if now.State == engines.Ended {
			c.tidy(a.user, a.id)
			close(a.ended)
			time.AfterFunc(remember, func() { c.forget(a) })
			return
		}
		pause := lookStarting
		if now.State == engines.Running {
			pause = lookRunning
			if a.batch {
				pause = lookBatch
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// remember is for how long an application that has ended can still be asked for its log.
const remember = 10 * time.Minute

func (c *Cluster) forget(a *app) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.apps, a.tag)
}

// observe asks for an application's state, and for the address in its log once its driver runs.
func (c *Cluster) observe(ctx context.Context, a *app) (engines.App, error) {
	r, err := c.rm.app(ctx, a.user, a.id)
	if errors.Is(err, errNoApp) {
		r, err = report{ID: a.id, State: "KILLED", Diagnostics: "the ResourceManager has forgotten it"}, nil
	}
	if err != nil {
		return a.now(), err
	}
	a.mu.Lock()
	a.seen = r
	address := a.last.Address
	a.mu.Unlock()
	if text, err := c.tail(ctx, a, keepLog); err == nil {
		a.mu.Lock()
		a.kept = text
		a.mu.Unlock()
	}
	if a.batch {
		c.keepOutput(ctx, a)
	} else if address == "" { // it stands near the beginning, if anywhere
		if text, err := c.readLog(ctx, a, "stderr", keepLog); err == nil {
			if port, ok := readyAt(c.opt.Ready, text); ok {
				host, _, _ := net.SplitHostPort(r.Host)
				address = net.JoinHostPort(host, port)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = c.describe(a, r, address)
	return a.last, nil
}

// describe says in the gateway's words where an application stands. A running one that a restarted ResourceManager takes for
// ACCEPTED has its address still.
func (c *Cluster) describe(a *app, r report, address string) engines.App {
	why := reason(r)
	out := engines.App{Tag: a.tag, ID: engines.AppID(a.id), Address: address, Log: r.Logs, URL: r.TrackingURL, Outcome: r.outcome(),
		Reason: why + advise(why, c.opt.Name, a.user)}
	switch {
	case r.ended():
		out.State = engines.Ended
	case address != "", a.batch && r.State == "RUNNING":
		out.State = engines.Running
	case r.State == "RUNNING" || r.Host != "":
		out.State = engines.Starting
	default:
		out.State = engines.Pending
	}
	return out
}

func reason(r report) string {
	text := strings.TrimSpace(r.Diagnostics)
	switch {
	case r.ended():
		how := cmp.Or(string(r.outcome()), r.State)
		return strings.TrimSuffix(fmt.Sprintf("YARN application %s in queue %s ended as %s: %s", r.ID, r.Queue, how, text), ": ")
	case text != "":
		return fmt.Sprintf("YARN application %s is %s in queue %s: %s", r.ID, r.State, r.Queue, text)
	}
	return fmt.Sprintf("YARN application %s is %s in queue %s", r.ID, r.State, r.Queue)
}
