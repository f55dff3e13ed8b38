// Package admission lets work in: what one user, group, queue or cluster may have at a time, on all gateways together. Who
// has to wait does so in an order that starves nobody, and is told his place and how long that may take.
//
// Several gateways share a limit by portions: each holds a part of it, which the store gives out and which together never
// exceed it. A gateway admits within its portions without asking anybody, gets more when it needs them, and gives back what
// others want. What a dead gateway held goes to the one that takes over its sessions.
package admission

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicedata/sluice/router/rules"
)

// Ask is who wants to be let in, and for what.
type Ask struct {
	User     string
	Groups   []string
	Queue    string
	Cluster  string
	Priority int // of those who wait, 0 to 9
}

// Refused says that somebody is not let in, and what to do.
type Refused struct{ Text string }

func (r *Refused) Error() string { return r.Text }

// Store gives out portions of limits.
type Store interface {
	// LeasePortion asks that a gateway hold so much of a limit in all, and returns how much it holds then: less if others hold
	// the rest, never less than it held before unless it wants less.
	LeasePortion(ctx context.Context, name, replica string, want, limit int) (held int, err error)
	// Portions are what a gateway holds, and of which limits others want more than they could get just now.
	Portions(ctx context.Context, replica string) (held map[string]int, wanted []string, err error)
	// SettlePortions makes what the gateway has of others that are gone a part of its own portions, and returns how much it was.
	SettlePortions(ctx context.Context, replica string) (map[string]int, error)
	// TakeToken takes one token of a bucket that fills up by rate a second to burst, and returns after how long it may be used;
	// none is taken if that is longer than most.
	TakeToken(ctx context.Context, name string, rate float64, burst int, most time.Duration) (time.Duration, error)
}

// Options of a Gate.
type Options struct {
	Limits  func() []rules.Limit // in force now
	Store   Store                // nil: this gateway is the only one
	Replica func() string        // who we are among the gateways
	Log     *slog.Logger
}

// Gate lets work in. It is safe for concurrent use.
type Gate struct {
	opt  Options
	kick chan struct{}

	failing  bool       // the store failed the last time; used by Run alone, so that an outage is told once
	calls    sync.Mutex // of the store about portions; taken before mu
	mu       sync.Mutex
	counters map[string]*counter
	buckets  map[string]*bucket // where there is no store
	waiters  []*waiter
	replica  string         // whose portions are held
	running  map[string]int // statements of users
	seq      int
}

// counter is one limited thing: the running statements of a user, say.
type counter struct {
	name   string
	words  string // the limit, for people
	limit  int
	bound  int // of those who wait
	held   int // our portion
	used   int
	wanted bool // others want more
	pace   pace
}

// New makes a gate. Run must be called where there is a store.
func New(opt Options) *Gate {
	return &Gate{opt: opt, kick: make(chan struct{}, 1), counters: map[string]*counter{}, buckets: map[string]*bucket{}, running: map[string]int{}}
}

// of is what a limit is of.
type of struct {
	key    string
	amount func(rules.Limit) int
}

var (
	sessions = of{"sessions", func(l rules.Limit) int { return l.Sessions }}
	running  = of{"running", func(l rules.Limit) int { return l.Running }}
)

// owners are whose limits of one scope hold for who asks.
func (a Ask) owners(scope string) []string {
	one := func(name string) []string {
		if name == "" {
			return nil
		}
		return []string{name}
	}
	switch scope {
	case rules.Everybody:
		return []string{""}
	case rules.PerUser:
		return one(a.User)
	case rules.PerGroup:
		return a.Groups
	case rules.PerQueue:
		return one(a.Queue)
	}
	return one(a.Cluster)
}

// Holding are the limits of a kind that hold for who asks: by name, or where there is none of the name, the one for each.
func Holding(all []rules.Limit, a Ask, amount func(rules.Limit) float64) map[string]rules.Limit {
	out := map[string]rules.Limit{}
	for _, l := range all {
		if amount(l) == 0 {
			continue
		}
		for _, owner := range a.owners(l.Scope) {
			if l.Scope != rules.Everybody && l.Name != owner && l.Name != rules.Each {
				continue
			}
			key := l.Scope + "/" + owner
			if old, there := out[key]; !there || old.Name == rules.Each {
				out[key] = l
			}
		}
	}
	return out
}

// find returns the counters that count for who asks, in one order. The caller holds g.mu.
func (g *Gate) find(what of, a Ask) []*counter {
	var out []*counter
	for key, l := range Holding(g.opt.Limits(), a, func(l rules.Limit) float64 { return float64(what.amount(l)) }) {
		name := what.key + "/" + key
		c := g.counters[name]
		if c == nil {
			c = &counter{name: name}
			g.counters[name] = c
		}
		limit := what.amount(l)
		c.bound = cmp.Or(l.Waiting, max(100, 10*limit))
		if c.limit != limit || c.words == "" {
			c.limit, c.words = limit, fmt.Sprintf("%s of %s (%d)", what.key, ownerOf(l, key), limit)
		}
		if g.opt.Store == nil {
			c.held = limit
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *counter) int { return cmp.Compare(a.name, b.name) })
	return out
}

// ownerOf says in words whose a limit is.
func ownerOf(l rules.Limit, key string) string {
	return strings.TrimSpace(l.Scope + " " + strings.TrimPrefix(key, l.Scope+"/"))
}

func fits(all []*counter) bool {
	return !slices.ContainsFunc(all, func(c *counter) bool { return c.used >= c.held })
}

// blocking is the first of the counters that has no room.
func blocking(all []*counter) *counter {
	for _, c := range all {
		if c.used >= c.held {
			return c
		}
	}
	return nil
}

// take counts somebody in. The caller holds g.mu.
func (g *Gate) take(all []*counter, user string) {
	for _, c := range all {
		c.used++
	}
	g.running[user]++
}

// leave returns a function that counts somebody out, once.
func (g *Gate) leave(all []*counter, user string) func() {
	var once sync.Once
	return func() {
		once.Do(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			now := time.Now()
			for _, c := range all {
				c.used--
				c.pace.left(now)
			}
			if g.running[user]--; g.running[user] <= 0 {
				delete(g.running, user)
			}
			g.dispatch()
		})
	}
}

// Limits says whether there are any.
func (g *Gate) Limits() bool { return g != nil && len(g.opt.Limits()) > 0 }

// Session lets a session in, or refuses it: nobody waits for that.
func (g *Gate) Session(ctx context.Context, a Ask) (leave func(), err error) {
	if !g.Limits() {
		return func() {}, nil
	}
	g.mu.Lock()
	all := g.find(sessions, a)
	for try := 0; !fits(all); try++ { // what is found anew may be others: limits change
		full := blocking(all)
		if g.opt.Store == nil || try > len(all) {
			g.mu.Unlock()
			return nil, &Refused{fmt.Sprintf("no session can be opened: the limit on %s is reached; close some, or try again later", full.words)}
		}
		g.mu.Unlock()
		if err := g.lease(ctx, full, 1); err != nil {
			return nil, err
		}
		g.mu.Lock()
		all = g.find(sessions, a)
	}
	defer g.mu.Unlock()
	g.take(all, "")
	return g.leave(all, ""), nil
}

// Statement lets a statement run, after a while if need be; report is told what is waited for. It has to leave in the end.
func (g *Gate) Statement(ctx context.Context, a Ask, report func(string)) (leave func(), err error) {
	if err := g.Pause(ctx, a, report); err != nil {
		return nil, err
	}
	return g.Enter(ctx, a, report)
}

// Enter is Statement for one whose rate counts already.
func (g *Gate) Enter(ctx context.Context, a Ask, report func(string)) (leave func(), err error) {
	g.mu.Lock()
	all := g.find(running, a)
	if len(all) == 0 {
		g.mu.Unlock()
		return func() {}, nil
	}
	if fits(all) && !g.overtakes(all) {
		g.take(all, a.User)
		g.mu.Unlock()
		return g.leave(all, a.User), nil
	}
	w, err := g.queue(a, all, report)
	if err == nil {
		g.dispatch()
	}
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	g.wake()
	select {
	case <-w.ready:
		return g.leave(all, a.User), nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.remove(w) { // it was let in just now
		g.mu.Unlock()
		g.leave(all, a.User)()
		g.mu.Lock()
	}
	return nil, context.Cause(ctx)
}

// Running counts in what runs already: it was let in by a gateway that is gone, whose portions are ours now.
func (g *Gate) Running(a Ask) (leave func()) { return g.force(running, a, a.User) }

// Open counts in a session that is open already.
func (g *Gate) Open(a Ask) (leave func()) { return g.force(sessions, a, "") }

// Adopted takes in the portions of gateways that are gone, once all that came from them is counted in.
func (g *Gate) Adopted(ctx context.Context) error {
	if g.opt.Store == nil {
		return nil
	}
	g.calls.Lock()
	defer g.calls.Unlock()
	me := g.opt.Replica()
	more, err := g.opt.Store.SettlePortions(ctx, me) // what it returns beside an error counts, too
	g.mu.Lock()
	defer g.mu.Unlock()
	g.are(me)
	for name, amount := range more {
		if g.counters[name] == nil {
			g.counters[name] = &counter{name: name, limit: amount}
		}
		g.counters[name].held += amount
	}
	g.dispatch()
	if err != nil {
		return fmt.Errorf("take over portions of limits: %w", err)
	}
	return nil
}

// are takes in who we are: under another name nothing is held any more. The caller holds g.mu.
func (g *Gate) are(me string) {
	if g.replica == me {
		return
	}
	for _, c := range g.counters {
		c.held = 0
	}
	g.replica = me
}

func (g *Gate) force(what of, a Ask, user string) func() {
	if !g.Limits() {
		return func() {}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	all := g.find(what, a)
	g.take(all, user)
	return g.leave(all, user)
}

// Waiting is how many statements wait.
func (g *Gate) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiters)
}

// pace is how often somebody leaves.
type pace struct {
	last time.Time
	mean float64 // seconds between two, of late; 0 is not known
}

func (p *pace) left(now time.Time) {
	if !p.last.IsZero() {
		const weight = 0.2
		d := now.Sub(p.last).Seconds()
		if p.mean == 0 {
			p.mean = d
		}
		p.mean += weight * (d - p.mean)
	}
	p.last = now
}

// estimate says how long it may take until so many have left.
func (p *pace) estimate(n int) string {
	if p.mean == 0 {
		return "how long that takes is not known yet"
	}
	d := time.Duration(p.mean * float64(n) * float64(time.Second))
	return "about " + d.Round(time.Duration(math.Max(float64(time.Second), math.Pow(10, math.Floor(math.Log10(float64(d)))-1)))).String() + ", at the pace of late"
}
