package admission

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// ageing is after how long somebody who waits is worth one step of priority more: nobody waits for ever behind others.
	ageing = 30 * time.Second
	// patience is how long somebody waits until what he needs is kept for him, though he cannot have all of it yet.
	patience = 30 * time.Second
	// newsEvery is how often somebody is told his place at most.
	newsEvery = 5 * time.Second
)

// waiter is a statement that waits.
type waiter struct {
	ask    Ask
	all    []*counter
	since  time.Time
	seq    int
	ready  chan struct{}
	report func(string)
	told   time.Time
	place  int
}

// queue makes somebody wait, unless too many do. The caller holds g.mu.
func (g *Gate) queue(a Ask, all []*counter, report func(string)) (*waiter, error) {
	for _, c := range all {
		if n := g.waitFor(c); c.used >= c.held && n >= c.bound {
			return nil, &Refused{fmt.Sprintf("the limit on %s is reached, and %d wait already, which is the most: try again later", c.words, n)}
		}
	}
	g.seq++
	w := &waiter{ask: a, all: all, since: time.Now(), seq: g.seq, ready: make(chan struct{}), report: report}
	g.waiters = append(g.waiters, w)
	return w, nil
}

func (g *Gate) waitFor(c *counter) (n int) {
	for _, w := range g.waiters {
		if slices.Contains(w.all, c) {
			n++
		}
	}
	return n
}

// overtakes says that others wait for the same. The caller holds g.mu.
func (g *Gate) overtakes(all []*counter) bool {
	return slices.ContainsFunc(all, func(c *counter) bool { return g.waitFor(c) > 0 })
}

func (g *Gate) remove(w *waiter) bool {
	i := slices.Index(g.waiters, w)
	if i >= 0 {
		g.waiters = slices.Delete(g.waiters, i, i+1)
	}
	return i >= 0
}

// worth is the priority of who waits, which grows with the time.
func (w *waiter) worth(now time.Time) int { return w.ask.Priority + int(now.Sub(w.since)/ageing) }

// dispatch lets in whom it can: 1 the most worthy first, of equals who has least running, then who came first; 2 nobody waits
// for what he does not need; 3 what somebody needs who has waited long is kept for him. The caller holds g.mu.
func (g *Gate) dispatch() {
	now := time.Now()
	kept := map[*counter]int{}
	for progress := true; progress; {
		progress = false
		clear(kept)
		slices.SortFunc(g.waiters, func(a, b *waiter) int {
			return cmp.Or(cmp.Compare(b.worth(now), a.worth(now)), cmp.Compare(g.running[a.ask.User], g.running[b.ask.User]), cmp.Compare(a.seq, b.seq))
		})
		for _, w := range g.waiters {
			if !slices.ContainsFunc(w.all, func(c *counter) bool { return c.used+kept[c] >= c.held }) {
				g.remove(w)
				g.take(w.all, w.ask.User)
				close(w.ready)
				progress = true // whoever has more running now comes later
				break
			}
			if now.Sub(w.since) > patience {
				for _, c := range w.all {
					kept[c]++
				}
			}
		}
	}
	g.tellPlaces(now)
}

// tellPlaces tells those who wait where they stand. The caller holds g.mu.
func (g *Gate) tellPlaces(now time.Time) {
	before := map[*counter]int{}
	for _, w := range g.waiters {
		c := blocking(w.all)
		if c == nil {
			c = w.all[0]
		}
		before[c]++
		if n := before[c]; w.told.IsZero() || n != w.place && now.Sub(w.told) >= newsEvery {
			w.told, w.place = now, n
			w.report(fmt.Sprintf("Waits, because the limit on %s is reached: number %d of those who wait; %s", c.words, n, c.pace.estimate(n)))
		}
	}
}
