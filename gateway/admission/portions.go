package admission

import (
	"context"
	"slices"
	"time"
)

// wake makes Run look for portions.
func (g *Gate) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

const (
	// askEvery is how often a portion is asked for that others have.
	askEvery = 200 * time.Millisecond
	// giveEvery is how often it is looked at what is held and not used.
	giveEvery = time.Second
)

// Run gets and gives back portions, and tells who waits, until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	ask, give := time.NewTicker(askEvery), time.NewTicker(giveEvery)
	defer ask.Stop()
	defer give.Stop()
	for {
		select {
		case <-g.kick:
			g.getMore(ctx)
		case <-ask.C:
			g.getMore(ctx)
		case <-give.C:
			g.giveBack(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// getMore asks for what those need who wait.
func (g *Gate) getMore(ctx context.Context) {
	g.mu.Lock()
	need := map[*counter]int{}
	if g.opt.Store != nil {
		for _, w := range g.waiters {
			for _, c := range w.all {
				if need[c]++; c.held >= c.limit {
					delete(need, c)
				}
			}
		}
	}
	g.mu.Unlock()
	for c, n := range need {
		err := g.lease(ctx, c, n)
		if err != nil && ctx.Err() == nil && !g.failing {
			g.opt.Log.Warn("cannot get a portion of a limit; who needs it waits", "limit", c.name, "error", err)
		}
		g.failing = err != nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dispatch()
}

// spare is how much of a limit a gateway keeps that it does not use, as long as nobody else wants it.
func (c *counter) spare() int { return max(1, c.limit/8) }

// lease asks for room for n more.
func (g *Gate) lease(ctx context.Context, c *counter, n int) error {
	g.mu.Lock()
	want := min(c.limit, c.used+n)
	if !c.wanted {
		want = min(c.limit, max(want, c.used+c.spare()))
	}
	g.mu.Unlock()
	return g.hold(ctx, c, want)
}

// hold asks that our portion be so large, or as large as what is used of it. Who we are may have changed: then nothing is
// held any more.
func (g *Gate) hold(ctx context.Context, c *counter, want int) error {
	g.calls.Lock()
	defer g.calls.Unlock()
	me := g.opt.Replica()
	g.mu.Lock()
	g.are(me)
	want = max(want, c.used)
	limit, before := c.limit, c.held
	c.held = min(before, want) // nobody may use what is about to be given back
	g.mu.Unlock()
	held, err := g.opt.Store.LeasePortion(ctx, c.name, me, want, limit)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && g.replica == me {
		c.held = held
	} // otherwise the store may have done it or not: the smaller of the two stands
	return err
}

// giveBack gives back what is not used, and forgets counters that nobody has used for a while.
func (g *Gate) giveBack(ctx context.Context) {
	if err := g.compare(ctx); err != nil {
		return // without the store nothing changes hands
	}
	give := map[*counter]int{}
	g.mu.Lock()
	idle := time.Now().Add(-time.Minute)
	for name, c := range g.counters {
		unused := c.used == 0 && g.waitFor(c) == 0 && c.pace.last.Before(idle)
		spare := c.spare()
		if c.wanted || unused {
			spare = 0
		}
		switch {
		case g.opt.Store != nil && c.held > c.used+spare:
			give[c] = c.used + spare
		case unused && (g.opt.Store == nil || c.held == 0):
			delete(g.counters, name)
		}
	}
	for name, b := range g.buckets {
		if b.at.Before(time.Now().Add(-time.Hour)) { // it is full again
			delete(g.buckets, name)
		}
	}
	g.dispatch()
	g.mu.Unlock()
	for c, want := range give {
		if err := g.hold(ctx, c, want); err != nil && ctx.Err() == nil {
			g.opt.Log.Warn("cannot give back a portion of a limit", "limit", c.name, "error", err)
		}
	}
}

// compare takes in what the store says that is held: an answer may have been lost, and somebody who asked may be gone.
func (g *Gate) compare(ctx context.Context) error {
	g.mu.Lock()
	nothing := len(g.counters) == 0
	g.mu.Unlock()
	if g.opt.Store == nil || nothing && !g.Limits() {
		return nil
	}
	g.calls.Lock()
	defer g.calls.Unlock()
	me := g.opt.Replica()
	held, wanted, err := g.opt.Store.Portions(ctx, me)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.are(me)
	for name, amount := range held {
		if g.counters[name] == nil {
			g.counters[name] = &counter{name: name, limit: amount}
		}
	}
	for name, c := range g.counters {
		c.held, c.wanted = held[name], slices.Contains(wanted, name)
	}
	return nil
}
