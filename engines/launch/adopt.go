package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// sync compares what we know of engines with the store: other gateways end theirs, and ours may have become another's.
// Engines that are ours by the store and unknown here are taken over: a gateway that was killed, or has left, had them. A
// store that cannot be asked changes nothing.
func (l *Launcher) sync(ctx context.Context) {
	known := l.snapshot() // before the question: who comes later cannot be missing in the answer
	recs, err := l.opt.Store.Live(ctx)
	if err != nil {
		l.opt.Log.Warn("cannot ask the store for engines; what is known goes on", "error", err)
		return
	}
	me := l.opt.Store.Self()
	live := map[string]Record{}
	for _, rec := range recs {
		live[rec.ID] = rec
	}
	for _, e := range known {
		l.syncOne(ctx, e, live, me)
	}
	l.as = me
	missing := map[string][]Record{}
	l.mu.Lock()
	for id, rec := range live {
		if rec.Replica == me && l.byID[id] == nil && !l.ending[id] {
			missing[rec.Cluster] = append(missing[rec.Cluster], rec)
		}
	}
	l.mu.Unlock()
	for cluster, recs := range missing {
		l.adopt(ctx, cluster, recs)
	}
}

func (l *Launcher) syncOne(ctx context.Context, e *entry, live map[string]Record, me string) {
	rec, ok := live[e.id()]
	if !ok {
		if e.isReady() {
			l.forget(e, fmt.Errorf("%w: another gateway has ended it", engines.ErrLost))
		}
		return
	}
	l.mu.Lock()
	e.mine = rec.Replica == me
	e.setOwner(rec)
	l.mu.Unlock()
	if !rec.Claimed {
		l.unclaimed(e)
	}
	if me == l.as || e.leases.Load() == 0 {
		return
	}
	// We were taken for dead, and our holds are gone with the replica that we were.
	e.holding.Lock()
	defer e.holding.Unlock()
	e.held = int(e.leases.Load())
	if e.identity.MaxSessions == 0 {
		e.held = min(1, e.held)
	}
	if err := l.opt.Store.Hold(ctx, e.id(), e.held, e.identity.MaxSessions); err != nil {
		l.opt.Log.Warn("cannot hold an engine again", "engine", e.id(), "error", err)
		l.unclaimed(e)
	}
}

// adopt takes over engines that the store says are ours. They are found by listing their cluster. A listing that failed
// decides nothing; an engine that is missing in it may still answer, and if not, it is given up, not killed.
func (l *Launcher) adopt(ctx context.Context, cluster string, recs []Record) {
	c, ok := l.opt.Clusters[cluster]
	if !ok {
		l.opt.Log.Warn("engines of a cluster that is not configured here are left alone; they end with their leases", "cluster", cluster, "engines", len(recs))
		return
	}
	// They are known before the list: what their cluster tells from then on is told to them.
	var known []*entry
	for _, rec := range recs {
		e, err := l.know(c, rec)
		if err != nil {
			l.opt.Log.Warn("an engine is not taken over; it ends with its lease", "cluster", cluster, "engine", rec.ID, "error", err)
			continue
		}
		known = append(known, e)
	}
	apps, err := c.List(ctx)
	if err != nil {
		l.opt.Log.Warn("cannot list the engines of a cluster; none is taken over yet", "cluster", cluster, "error", err)
		l.mu.Lock()
		for _, e := range known {
			delete(l.byID, e.id())
		}
		l.mu.Unlock()
		return
	}
	listed := map[engines.Tag]engines.App{}
	for _, app := range apps {
		listed[app.Tag] = app
	}
	for _, e := range known {
		rec := e.record()
		app, ok := listed[engines.Tag(rec.ID)]
		if !ok {
			app = rec.App
		}
		l.place(e, rec.Claimed)
		l.observe(e, app)
		l.wait.Go(func() { l.takeOver(e, app, ok) })
	}
}

// know makes an entry of an engine that the store says is ours.
func (l *Launcher) know(c engines.Cluster, rec Record) (*entry, error) {
	key, err := ParseKey(rec.Key)
	if err != nil {
		return nil, err
	}
	driver, ok := l.opt.Drivers[key.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no driver for engines of kind %q", key.Kind)
	}
	e := newEntry(place{key, rec.Slot}, c, driver)
	l.own(e, rec)
	return e, nil
}

// place lets those wait for an engine who want one of its key, if it is to be had.
func (l *Launcher) place(e *entry, claimed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if claimed && l.byPlace[e.place] == nil {
		l.byPlace[e.place] = e
	} else if !claimed {
		e.draining, e.drainSince = true, time.Now()
	}
}

// takeOver connects with an engine as if it had just started. Whoever wants it meanwhile waits for that.
func (l *Launcher) takeOver(e *entry, app engines.App, listed bool) {
	limit := l.opt.StartTimeout
	if !listed {
		limit = min(limit, storeLimit)
	}
	ctx, cancel := context.WithTimeoutCause(l.life, limit, fmt.Errorf("the engine did not answer within %s", limit))
	defer cancel()
	var err error
	if !listed && app.Address == "" {
		err = errors.New("its cluster does not know it, and it has no address: it was never submitted")
	} else {
		err = l.connect(ctx, e)
	}
	if err != nil {
		// Who waits for it is told that it is not to be had, and gets another one.
		l.giveUp(e, fmt.Errorf("%w: cannot take it over: %w", ErrNotClaimed, err), listed)
		return
	}
	l.opt.Log.Info("engine taken over", "engine", e.id(), "key", e.place.key.String(), "age", time.Since(e.record().CreatedAt))
	l.handOut(e)
}

// giveUp lets go of an engine that cannot be taken over. One that its cluster lists is ended; one that it does not list is
// only forgotten, because a listing may be wrong.
func (l *Launcher) giveUp(e *entry, why error, listed bool) {
	if l.life.Err() != nil {
		return // we are stopping: the next gateway may have more luck
	}
	if listed {
		l.retire(e, why, nil)
		return
	}
	app := e.last()
	app.State, app.Address, app.Reason = engines.Ended, "", why.Error()
	e.observe(app)
	l.save(e)
	l.forget(e, why)
}
