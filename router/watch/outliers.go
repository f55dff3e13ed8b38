package watch

import (
	"fmt"
	"time"
)

const (
	// rememberFor is how long the outcome of a start counts.
	rememberFor = 10 * time.Minute
	// ejectFrom is with how many users a cluster's failures count: one user with a broken setting must not eject it.
	ejectFrom = 3
	// ejectMore is how much larger the share of failed starts must be than that of all other clusters.
	ejectMore = 0.5
	ejectFor  = 30 * time.Second
	ejectMost = 5 * time.Minute
)

// outcome is how the last start of a user went.
type outcome struct {
	at     time.Time
	failed bool
}

// rate is the share of users whose last start failed, of how many.
func (c *cluster) rate(now time.Time) (share float64, users int) {
	failed := 0
	for user, o := range c.outcomes {
		if now.Sub(o.at) > rememberFor {
			delete(c.outcomes, user)
			continue
		}
		users++
		if o.failed {
			failed++
		}
	}
	return float64(failed) / float64(max(1, users)), users
}

// eject gives a cluster no engines for a while if starts fail there far more often than on all others. At most half of all
// clusters are ejected: when most fail, the fault is elsewhere. The caller holds w.mu.
func (w *Watch) eject(c *cluster, now time.Time) {
	mine, users := c.rate(now)
	if mine == 0 {
		c.times = 0
	}
	if users < ejectFrom || now.Before(c.ejected) {
		return
	}
	sum, others, ejected := 0.0, 0, 1
	for _, o := range w.all {
		if o == c {
			continue
		}
		if now.Before(o.ejected) {
			ejected++
		}
		if share, n := o.rate(now); n > 0 {
			sum += share
			others++
		}
	}
	if others == 0 || mine-sum/float64(others) < ejectMore || ejected*2 > len(w.all) {
		return
	}
	c.times++
	d := min(ejectFor<<min(c.times-1, 8), ejectMost)
	c.ejected = now.Add(d)
	c.rates = fmt.Sprintf("the last starts of %.0f %% of its users failed, and %.0f %% elsewhere", mine*100, sum/float64(others)*100)
	clear(c.outcomes)
	w.after(d)
}
