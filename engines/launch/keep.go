package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/engines"
)

// Run finds the engines that are there already, watches the clusters, renews leases and ends idle engines until ctx ends.
// Then it ends the engines it has, or leaves them to the other gateways.
func (l *Launcher) Run(ctx context.Context) error {
	watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var g errgroup.Group
	for name, c := range l.opt.Clusters {
		events, err := c.Watch(watch)
		if err != nil {
			return fmt.Errorf("watch cluster %s: %w", name, err)
		}
		g.Go(func() error {
			for ev := range events {
				l.mu.Lock()
				e := l.byID[string(ev.App.Tag)]
				l.mu.Unlock()
				switch {
				case e == nil:
				case ev.News != "":
					e.news(ev.News)
				default:
					l.observe(e, ev.App)
				}
			}
			return nil
		})
	}
	l.as = l.opt.Store.Self()
	l.sync(ctx)
	close(l.ready)
	tick := time.NewTicker(min(l.opt.Lease/3, 10*time.Second))
	defer tick.Stop()
	for {
		l.keepWarm()
		select {
		case <-tick.C:
			l.renew(ctx)
			l.sync(ctx)
			l.endUnwanted()
		case <-ctx.Done():
			l.endAll()
			cancel()
			return g.Wait()
		}
	}
}

// observe takes in what a cluster tells of an engine.
func (l *Launcher) observe(e *entry, app engines.App) {
	if !e.observe(app) {
		return
	}
	l.mu.Lock()
	mine := e.mine
	l.mu.Unlock()
	if mine {
		l.save(e)
	}
	if app.State == engines.Ended && e.isReady() {
		l.forget(e, fmt.Errorf("%w: %s (its log: %s)", engines.ErrLost, app.Reason, app.Log))
	}
}

// save stores what is known of an engine. Should that fail, what is stored is mended when we take the engine over from
// ourselves: see sync.
func (l *Launcher) save(e *entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), storeLimit)
	defer cancel()
	if err := l.opt.Store.Save(ctx, e.record()); err != nil {
		l.opt.Log.Warn("cannot store the state of an engine", "engine", e.id(), "error", err)
	}
}

// forget takes an engine out of the tables and tells everybody who waits for it or uses it.
func (l *Launcher) forget(e *entry, why error) {
	l.mu.Lock()
	l.unplace(e)
	delete(l.byID, e.id())
	l.mu.Unlock()
	if !e.end(why) {
		return
	}
	l.opt.Log.Info("engine gone", "engine", e.id(), "key", e.place.key.String(), "reason", why)
	if l.opt.Hooks.Ended != nil {
		l.opt.Hooks.Ended(e.place.key, why.Error())
	}
	if e.isReady() {
		_ = e.engine.Close()
	}
}

// retire ends an engine if it is ours to end: the store must agree first, so that nobody is given it any more and no
// other gateway owns it by now. With unheld it is ended only if nobody has held it for so long.
func (l *Launcher) retire(e *entry, why error, unheld *time.Duration) {
	if !e.ending.CompareAndSwap(false, true) {
		return
	}
	defer e.ending.Store(false)
	if e.last().State == engines.Ended {
		l.forget(e, why)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), 30*time.Second)
	defer cancel()
	rec := e.record()
	rec.App.Reason = why.Error()
	yielded, err := l.opt.Store.Yield(ctx, rec, unheld)
	switch {
	case errors.Is(err, ErrFenced):
		l.mu.Lock()
		e.mine = false
		l.mu.Unlock()
		l.opt.Log.Info("an engine is not ours to end any more", "engine", e.id(), "reason", why)
	case err != nil:
		l.opt.Log.Warn("cannot end an engine without the store; its lease will, if nobody wants it", "engine", e.id(), "error", err)
	}
	if !yielded {
		if !e.isReady() { // a start that failed: nobody shall wait for it
			l.forget(e, why)
		}
		return
	}
	defer l.markEnding(e.id())()
	l.forget(e, why)
	if err := e.cluster.Kill(ctx, engines.Tag(e.id())); err != nil {
		l.opt.Log.Warn("cannot end an engine; its lease will", "engine", e.id(), "error", err)
		return
	}
	app := e.last()
	app.State, app.Address, app.Reason = engines.Ended, "", why.Error()
	e.observe(app)
	l.save(e)
}

// markEnding keeps an engine from being taken over from ourselves while it is being ended, until the returned function is
// called.
func (l *Launcher) markEnding(id string) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending[id] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.ending, id)
	}
}

// renew keeps alive what is used here, and what is ours.
func (l *Launcher) renew(ctx context.Context) {
	for _, e := range l.snapshot() {
		l.mu.Lock()
		wanted := e.mine || e.uses > 0
		l.mu.Unlock()
		if !wanted || e.isGone() {
			continue
		}
		if err := e.cluster.Renew(ctx, engines.Tag(e.id())); err != nil && ctx.Err() == nil {
			l.opt.Log.Warn("cannot renew the lease of an engine", "engine", e.id(), "error", err)
		}
	}
}

// endUnwanted ends our engines that nobody has used for a while, and lets old ones drain. No round ends more than half of
// the engines for being idle: should a clock have jumped, the next rounds find out.
func (l *Launcher) endUnwanted() {
	all := l.snapshot()
	budget := max(1, len(all)/2)
	for _, e := range all {
		l.settle(e)
		unheld, why := l.unwanted(e)
		if why == nil {
			continue
		}
		if unheld == &l.opt.IdleTimeout {
			if budget == 0 {
				continue
			}
			budget--
		}
		l.wait.Go(func() { l.retire(e, why, unheld) })
	}
}

// unwanted says why an engine of ours is to be ended, and for how long nobody may have held it; nil if it is not.
func (l *Launcher) unwanted(e *entry) (unheld *time.Duration, why error) {
	now := time.Now()
	l.mu.Lock()
	mine, uses, idle, draining, drained := e.mine, e.uses, now.Sub(e.idleSince), e.draining, now.Sub(e.drainSince)
	l.mu.Unlock()
	switch {
	case !mine || !e.isReady() || e.isGone():
		return nil, nil
	case draining && l.opt.DrainTimeout > 0 && drained > l.opt.DrainTimeout:
		return nil, fmt.Errorf("%w: it was to end, and its users had engine.drain_timeout (%s) to go on elsewhere", engines.ErrLost, l.opt.DrainTimeout)
	case draining && uses == 0:
		return new(time.Duration), fmt.Errorf("%w: it was to end, and nobody uses it any more", engines.ErrLost)
	case draining:
		return nil, nil
	case l.opt.MaxLifetime > 0 && now.Sub(e.record().CreatedAt) > l.opt.MaxLifetime:
		l.drain(e, fmt.Sprintf("it is older than engine.max_lifetime (%s)", l.opt.MaxLifetime))
		return nil, nil
	case uses == 0 && idle > l.opt.IdleTimeout && l.warm[e.place] == nil:
		return &l.opt.IdleTimeout, fmt.Errorf("%w: nobody has used it for engine.idle_timeout (%s)", engines.ErrLost, l.opt.IdleTimeout)
	}
	return nil, nil
}

// drain lets nobody have an engine any more; who has it goes on with it.
func (l *Launcher) drain(e *entry, why string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), storeLimit)
	defer cancel()
	rec := e.record()
	rec.App.Reason = why
	if ok, err := l.opt.Store.Yield(ctx, rec, nil); err != nil || !ok {
		l.opt.Log.Warn("cannot let an engine drain", "engine", e.id(), "error", err)
		return
	}
	l.opt.Log.Info("engine drains", "engine", e.id(), "reason", why)
	l.unclaimed(e)
}

// endAll ends our engines when the gateway stops. Other gateways may go on with what they use, and if there are any, with
// what is idle too.
func (l *Launcher) endAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	why := errors.New("the gateway is stopping")
	l.stop(why)
	l.wait.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), storeLimit)
	defer cancel()
	alone, err := l.opt.Store.Alone(ctx)
	if err != nil {
		l.opt.Log.Warn("cannot ask whether other gateways go on with the engines; they are left, and end with their leases", "error", err)
		return
	}
	gone := fmt.Errorf("%w: %w", engines.ErrLost, why)
	var g errgroup.Group
	for _, e := range l.snapshot() {
		g.Go(func() error {
			l.settle(e)
			if alone || e.place.key.Level == Connection {
				l.retire(e, gone, new(time.Duration))
			}
			l.forget(e, gone)
			return nil
		})
	}
	_ = g.Wait()
}
