package yarn

import (
	"cmp"
	"context"
	"encoding/json"
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
	met      time.Time // since when it is followed
	ended    chan struct{}

	mu      sync.Mutex
	seen    report
	last    engines.App
	kept    string    // the end of its log, as it was last read
	out     string    // and of what it has printed, if it is a batch
	begun   time.Time // its process was started
	running time.Time // it was seen to have registered
}

func (a *app) now() engines.App {
	if a == nil {
		return engines.App{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

func (a *app) report() report {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// Pauses between two looks at an application.
const (
	lookSoon    = 150 * time.Millisecond // it starts, and somebody waits for it
	lookPending = 300 * time.Millisecond
	lookRunning = 3 * time.Second
)

// pause is longer the longer an application waits in its queue: there may be many.
func (a *app) pause(state engines.State, since time.Duration) time.Duration {
	switch {
	case state == engines.Running && a.batch:
		return lookBatch
	case state == engines.Running:
		return lookRunning
	case state == engines.Starting && since < time.Minute:
		return lookSoon
	}
	return min(max(lookPending, since/10), lookRunning)
}

// logEnd is how much of a driver's log is kept past its container's end.
const logEnd = 64 << 10

// follow follows an application, once. staging is how long its submission took, 0 if that was not seen.
func (c *Cluster) follow(tag engines.Tag, r report, staging time.Duration) *app {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.apps[tag]; a != nil {
		return a
	}
	a := &app{tag: tag, id: r.ID, user: r.User, batch: r.batch(), met: time.Now(), ended: make(chan struct{}), seen: r}
	a.last.Steps.Staging = staging
	a.last = c.describe(a, r, "")
	c.apps[tag] = a
	c.wait.Go(func() { c.look(c.life, a) })
	return a
}

// look looks at an application again and again until it has ended.
func (c *Cluster) look(ctx context.Context, a *app) {
	changed, pause := a.met, time.Duration(0)
	if a.now().Steps.Staging > 0 { // it has just been looked at, when it was submitted
		pause = lookSoon
	}
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		before := a.now()
		now, err := c.observe(ctx, a)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // it is no news of the application that its cluster does not answer
			c.opt.Log.Debug("cannot look at an application", "cluster", c.opt.Name, "application", a.id, "error", err)
		case now != before:
			changed = time.Now()
			c.watchers.Tell(engines.Event{App: now})
		}
		if now.State == engines.Ended {
			c.tidy(a.user, a.id)
			close(a.ended)
			time.AfterFunc(remember, func() { c.forget(a) })
			return
		}
		pause = a.pause(now.State, time.Since(changed))
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
	r.QueueState = c.queueState(ctx, a, r)
	if neverRuns(r) { // it would wait for ever, and its user with it
		if _, err := c.rm.kill(ctx, a.user, a.id); err != nil {
			return a.now(), err
		}
		r.State = "KILLED"
	}
	a.mu.Lock()
	a.seen = r
	address := a.last.Address
	begun, registered := a.begun, !a.running.IsZero()
	a.mu.Unlock()
	if begun.IsZero() && !registered {
		begun = c.processBegan(ctx, a)
	}
	text, err := c.tail(ctx, a, logEnd)
	if err != nil {
		c.opt.Log.Debug("cannot read a driver's log", "cluster", c.opt.Name, "application", a.id, "error", err)
	}
	if a.batch {
		c.keepOutput(ctx, a)
	} else if address == "" {
		address = c.findAddress(ctx, a, r, text)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun = begun
	if text != "" {
		a.kept = text
	}
	a.last = c.describe(a, r, address)
	if r.ended() {
		c.keep(a.id+".out", a.out)
		a.last.Log = cmp.Or(c.keep(a.id, a.kept), a.last.Log)
	}
	return a.last, nil
}

// queueAfter is for how long an application waits until its queue is looked at: the answer has all queues in it, and most get
// their place sooner.
const queueAfter = time.Second

// queueState says how full the queue is that an application waits in. It is asked again when the reason changes, so that
// who waits is not told every move of others.
func (c *Cluster) queueState(ctx context.Context, a *app, r report) string {
	before := a.report()
	waits := r.State == "ACCEPTED" && r.Host == "" && time.Since(a.met) > queueAfter
	if !waits || before.QueueState != "" && before.Diagnostics == r.Diagnostics {
		return before.QueueState
	}
	root, err := c.rm.queues(ctx, a.user)
	if err != nil {
		return ""
	}
	q, ok := root.find(r.Queue)
	if !ok {
		return ""
	}
	return q.describe()
}

// findAddress looks for where a driver listens: on the port that it was given, or on the one that its log tells, in a line
// near the beginning.
func (c *Cluster) findAddress(ctx context.Context, a *app, r report, text string) string {
	host, _, _ := net.SplitHostPort(r.Host)
	if p := c.port(a.tag); p != "" {
		address := net.JoinHostPort(host, p)
		if r.State != "RUNNING" || reach(ctx, address) != nil {
			return ""
		}
		return address
	}
	if len(text) >= logEnd {
		var err error
		if text, err = c.readLog(ctx, a, "stderr", logEnd); err != nil {
			return ""
		}
	}
	port, ok := readyAt(c.opt.Ready, text)
	if !ok {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// processBegan is when a driver's process was started; zero if that is not known yet. The NodeManager's launch script writes
// prelaunch.out as the last thing before, and the NodeManager tells the second.
func (c *Cluster) processBegan(ctx context.Context, a *app) time.Time {
	text, err := c.container(ctx, a, "/logs")
	if err != nil {
		return time.Time{}
	}
	at, known := lastChange(text, "prelaunch.out")
	if !known {
		return time.Time{}
	}
	return at.Add(time.Second / 2)
}

// lastChange finds in a NodeManager's list of a container's log files when one was changed.
func lastChange(list, file string) (time.Time, bool) {
	type logFile struct {
		Name    string `json:"fileName"`
		Changed string `json:"lastModifiedTime"`
	}
	var answer struct {
		Containers []struct {
			Files []logFile `json:"containerLogInfo"`
		} `json:"containerLogsInfoes"`
		Container struct {
			Files []logFile `json:"containerLogInfo"`
		} `json:"containerLogsInfo"`
	}
	if json.Unmarshal([]byte(list), &answer) != nil {
		return time.Time{}, false
	}
	files := answer.Container.Files
	for _, c := range answer.Containers {
		files = append(files, c.Files...)
	}
	for _, f := range files {
		if f.Name == file {
			at, err := time.Parse("Mon Jan 02 15:04:05 -0700 2006", f.Changed)
			return at, err == nil
		}
	}
	return time.Time{}, false
}

// describe says in the gateway's words where an application stands. A running one that a restarted ResourceManager takes for
// ACCEPTED has its address still.
func (c *Cluster) describe(a *app, r report, address string) engines.App {
	why := reason(r)
	out := engines.App{Tag: a.tag, ID: engines.AppID(a.id), Address: address, Log: r.Logs, URL: r.TrackingURL, Outcome: r.outcome(), Reason: why + advise(why, c.opt.Name, a.user),
		Steps: a.steps(r, address)}
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

// steps adds what has ended since the last look. Three clocks tell the time: the ResourceManager's, the NodeManager's and ours.
func (a *app) steps(r report, address string) engines.Steps {
	now, s := time.Now(), a.last.Steps
	set := func(step *time.Duration, from, to time.Time) {
		if *step == 0 && !from.IsZero() {
			*step = max(to.Sub(from), time.Millisecond)
		}
	}
	if r.Launched > 0 && r.Started > 0 {
		set(&s.Scheduling, time.UnixMilli(r.Started), time.UnixMilli(r.Launched))
		if !a.begun.IsZero() {
			set(&s.Container, time.UnixMilli(r.Launched), a.begun)
		}
	}
	if r.State == "RUNNING" && a.running.IsZero() {
		a.running = now
		set(&s.Process, a.begun, now)
	}
	if address != "" {
		set(&s.Listening, a.running, now)
	}
	return s
}

// neverRuns says that an application waits for nodes that its queue may not use, and will for ever.
func neverRuns(r report) bool {
	return r.State == "ACCEPTED" && strings.Contains(r.Diagnostics, "Queue's Absolute max capacity = 0.0 %")
}

func reason(r report) string {
	text := strings.TrimSpace(r.Diagnostics)
	if r.ended() {
		how := cmp.Or(string(r.outcome()), r.State)
		return strings.TrimSuffix(fmt.Sprintf("YARN application %s in queue %s ended as %s: %s", r.ID, r.Queue, how, text), ": ")
	}
	out := fmt.Sprintf("YARN application %s is %s in queue %s", r.ID, r.State, r.Queue)
	if text != "" {
		out += ": " + text
	}
	if r.State == "ACCEPTED" && r.QueueState != "" {
		out += "; " + r.QueueState
	}
	return out
}
