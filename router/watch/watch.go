// Package watch keeps what is known of the clusters: it takes in readings of their room and how starts on them went, and
// gives out snapshots that do not change. It asks no cluster anything itself.
package watch

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/sluicedata/sluice/router"
)

const (
	// tripsAfter is how many starts in a row must find the cluster away until it gets no more.
	tripsAfter = 3
	// trialAfter is for how long it gets none then; after that one start may try.
	trialAfter = 30 * time.Second
)

// ErrNoTrial says that a start has to go elsewhere: the cluster is away, and another start tries whether it is back.
var ErrNoTrial = errors.New("the cluster is away, and another start tries whether it works again")

// Watch is what is known of all clusters. It is safe for concurrent use.
type Watch struct {
	now atomic.Pointer[router.Snapshot]

	mu    sync.Mutex
	all   []*cluster // in the order of snapshots
	owned map[*time.Timer]struct{}
	ended bool
}

// cluster is what is known of one.
type cluster struct {
	state    router.State // but for its health
	breaker  *gobreaker.TwoStepCircuitBreaker[any]
	outcomes map[string]outcome // of starts, by user
	silent   string             // why it does not answer; empty if it does
	since    time.Time
	ejected  time.Time // until when
	times    int       // it was ejected in a row
	rates    string    // why it was ejected
	away     chan struct{}
}

// Cluster is what is known of a cluster from the beginning.
type Cluster struct{ Name, Kind, Queue string }

// New begins with clusters of which nothing is known but their names; the order is that of the snapshots.
func New(clusters []Cluster) *Watch {
	w := &Watch{owned: map[*time.Timer]struct{}{}}
	for _, c := range clusters {
		one := &cluster{state: router.State{Name: c.Name, Kind: c.Kind, Queue: c.Queue}, outcomes: map[string]outcome{}, away: make(chan struct{})}
		one.breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Name: c.Name, MaxRequests: 1, Timeout: trialAfter,
			ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripsAfter },
		})
		w.all = append(w.all, one)
	}
	w.publish(time.Now())
	return w
}

// Snapshot is how the clusters are now.
func (w *Watch) Snapshot() *router.Snapshot { return w.now.Load() }

// Names are the clusters in the order of snapshots.
func (w *Watch) Names() []string {
	names := make([]string, len(w.all))
	for i, c := range w.all {
		names[i] = c.state.Name
	}
	return names
}

// Close stops what the watch has begun.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for t := range w.owned {
		t.Stop()
	}
}

// Read takes in a reading of a cluster's room: of the state everything but name, kind, health and draining counts.
func (w *Watch) Read(name string, s router.State) {
	w.change(name, func(c *cluster, _ time.Time) {
		s.Name, s.Kind, s.Queue, s.Draining = c.state.Name, c.state.Kind, c.state.Queue, c.state.Draining
		c.state, c.silent = s, ""
	})
}

// Silent takes in that a cluster does not answer.
func (w *Watch) Silent(name string, why error) {
	w.change(name, func(c *cluster, now time.Time) {
		if c.silent == "" {
			c.since = now
		}
		c.silent = why.Error()
	})
}

// Drain takes in whether a cluster gets no new engines.
func (w *Watch) Drain(name string, yes bool) {
	if c := w.Snapshot().Find(name); c == nil || c.Draining == yes {
		return // it is said again and again
	}
	w.change(name, func(c *cluster, _ time.Time) { c.state.Draining = yes })
}

// Away is closed once the cluster is known not to answer; a new one is made when it is back.
func (w *Watch) Away(name string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.find(name); c != nil {
		return c.away
	}
	return nil
}

// Start tells that an engine is about to be started on a cluster. The returned function must be called once it is known
// how that went: err is nil if it runs, and away says that the cluster did not answer. An ErrNoTrial means that the start
// must not be.
func (w *Watch) Start(name string) (end func(user string, err error, away bool), err error) {
	w.mu.Lock()
	c := w.find(name)
	w.mu.Unlock()
	if c == nil {
		return func(string, error, bool) {}, nil
	}
	done, err := c.breaker.Allow()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoTrial, name)
	}
	w.change(name, func(*cluster, time.Time) {})
	return func(user string, err error, away bool) {
		var failure error // a cluster that answers is there, whatever became of the start
		if err != nil && away {
			failure = err
		}
		done(failure)
		w.change(name, func(c *cluster, now time.Time) {
			c.outcomes[user] = outcome{at: now, failed: err != nil}
			w.eject(c, now)
			if c.breaker.State() == gobreaker.StateOpen {
				w.after(trialAfter)
			}
		})
	}, nil
}

func (w *Watch) find(name string) *cluster {
	for _, c := range w.all {
		if c.state.Name == name {
			return c
		}
	}
	return nil
}

// change changes what is known of a cluster, and gives out a new snapshot.
func (w *Watch) change(name string, f func(*cluster, time.Time)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.find(name)
	if c == nil {
		return
	}
	now := time.Now()
	f(c, now)
	w.publish(now)
}

// after makes a new snapshot after a while: a health that ends by itself is looked at again. The caller holds w.mu.
func (w *Watch) after(d time.Duration) {
	if w.ended {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d+time.Millisecond, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.owned, t)
		w.publish(time.Now())
	})
	w.owned[t] = struct{}{}
}

// publish gives out a new snapshot. The caller holds w.mu, or nobody else has w yet.
func (w *Watch) publish(now time.Time) {
	s := &router.Snapshot{At: now, Clusters: make([]router.State, len(w.all))}
	for i, c := range w.all {
		s.Clusters[i] = c.state
		s.Clusters[i].Health, s.Clusters[i].Why = c.health(now)
		c.tellAway()
	}
	w.now.Store(s)
}

// tellAway tells those who wait for a start there.
func (c *cluster) tellAway() {
	select {
	case <-c.away:
		if c.silent == "" {
			c.away = make(chan struct{})
		}
	default:
		if c.silent != "" {
			close(c.away)
		}
	}
}

// health says whether new engines may be started, and if not why not.
func (c *cluster) health(now time.Time) (router.Health, string) {
	if c.silent != "" {
		return router.Down, fmt.Sprintf("it does not answer since %s: %s", c.since.Format(time.TimeOnly), c.silent)
	}
	if now.Before(c.ejected) {
		return router.Ejected, fmt.Sprintf("%s; it gets none until %s", c.rates, c.ejected.Format(time.TimeOnly))
	}
	switch c.breaker.State() {
	case gobreaker.StateOpen:
		return router.Down, fmt.Sprintf("the last %d starts there found it away; after %s one may try again", tripsAfter, trialAfter)
	case gobreaker.StateHalfOpen:
		if c.breaker.Counts().Requests > 0 {
			return router.Trying, "it was away, and a start tries whether it works again"
		}
		return router.Trial, "it was away, and a start may try whether it works again"
	}
	return router.Up, ""
}
