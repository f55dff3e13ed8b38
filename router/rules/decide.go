package rules

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/policy"
)

// Decision is where work goes, and why.
type Decision struct {
	router.Place
	Reason   string
	Rule     string
	Line     int
	Version  string // of the rules
	RuleID   uint64 // changes when the rule does; see Request.CurrentRule
	Priority int
	Waits    bool // every cluster that may have it is full: it waits there
}

// Refusal says that the work goes nowhere, and why.
type Refusal struct {
	Never   bool // whatever the statement and the state of the clusters
	Rule    string
	Line    int
	Version string
	Text    string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s (rule %q, line %d of version %s)", r.Text, r.Rule, r.Line, r.Version)
}

// Decide says where the work of a request goes. It neither waits nor changes anything.
func (s *Set) Decide(r *router.Request, now *router.Snapshot) (Decision, error) {
	return s.decide(r, now, nil)
}

// decide 1 finds the rule, 2 judges its clusters, 3 hears the client's wish, 4 leaves a session where it is if the rule lets
// it, 5 picks, 6 lets the work wait where all are full, or else away, and 7 refuses.
func (s *Set) decide(r *router.Request, now *router.Snapshot, t *Trace) (Decision, error) {
	m := s.machines.Get().(*machine)
	defer s.release(m)

	rule := s.match(m, r, t) // 1
	d := Decision{Rule: rule.Name, Line: rule.Line, Version: s.Title(), RuleID: rule.id, Priority: rule.Priority}
	if rule.target.refuse != "" {
		return d, rule.refusal(s, rule.target.refuse)
	}
	all := s.candidates(m, rule, r, now) // 2
	if t != nil {
		t.judged(all)
	}
	done, err := s.wish(&d, rule, r, now, all) // 3
	if done || err != nil {
		return d, err
	}
	if i := stays(rule, r, all); i >= 0 { // 4
		d.Place = r.Current
		d.Reason = rule.words("the session has its engine there")
		return d, nil
	}
	key := s.key(m, rule, r)
	picked := rule.target.policy.Pick(r, key, all) // 5
	if picked < 0 {                                // 6
		picked = waitFor(rule.target.policy, r, key, all)
		d.Waits = picked >= 0
	}
	if picked < 0 { // 7
		return d, rule.refusal(s, "no cluster can take the work now: "+losses(all))
	}
	d.Place = all[picked].Place()
	why := ""
	if d.Waits {
		why = "it waits there: " + losses(all)
	} else {
		why = rule.target.policy.Why(r, all, picked)
	}
	d.Reason = rule.words(why)
	if r.Cluster != "" && s.Choice == Ignore && r.Cluster != d.Cluster {
		d.Reason += "; the client's own choice of " + r.Cluster + " is ignored by client_choice"
	}
	return d, nil
}

func (s *Set) release(m *machine) {
	m.request = nil
	s.machines.Put(m)
}

// words are a rule's name and why it leads there.
func (r *Rule) words(why string) string { return "rule " + r.Name + ": " + why }

func (r *Rule) refusal(s *Set, text string) *Refusal {
	return &Refusal{Rule: r.Name, Line: r.Line, Version: s.Title(), Text: text}
}

func (r *Refusal) never() *Refusal {
	r.Never = true
	return r
}

// match finds the first rule that holds; the last one always does.
func (s *Set) match(m *machine, r *router.Request, t *Trace) *Rule {
	m.hits = s.index.gather(r, m.hits)
	for i := s.index.next(0, m.hits); i >= 0; i = s.index.next(i+1, m.hits) {
		rule := s.Rules[i]
		if !rule.window.open(r.At) {
			continue
		}
		if rule.when != nil && rule.when.program != nil {
			if yes, _ := m.holds(r, rule.when.program); !yes { // what cannot be computed does not hold; Explain says so
				continue
			}
		}
		if t != nil {
			t.matched(s, m, r, i)
		}
		return rule
	}
	return s.Rules[len(s.Rules)-1]
}

// candidates judges the clusters of a rule.
func (s *Set) candidates(m *machine, rule *Rule, r *router.Request, now *router.Snapshot) []router.Candidate {
	all := m.all[:0]
	for _, member := range rule.target.members {
		c := router.Candidate{State: &now.Clusters[member.cluster], Queue: member.queue, Share: member.share, Cost: s.costs[member.cluster]}
		c.Near = s.nearness(member.cluster, r)
		s.judge(&c, r)
		all = append(all, c)
	}
	m.all = all
	return all
}

// judge completes a candidate. Where a rule names no queue the client's own counts, on clusters that have queues.
func (s *Set) judge(c *router.Candidate, r *router.Request) {
	if c.Queue == "" && c.State.Queue != "" {
		c.Queue = r.Queue
	}
	c.Judge(r)
}

func (s *Set) nearness(cluster int, r *router.Request) (n int) {
	if !r.SQL.Complete {
		return 0
	}
	for _, p := range s.near[cluster] {
		for _, t := range r.SQL.Reads {
			if p.match(t) {
				n++
			}
		}
		for _, t := range r.SQL.Writes {
			if p.match(t) {
				n++
			}
		}
	}
	return n
}

// wish decides by the client's own choice, if it has one and may.
func (s *Set) wish(d *Decision, rule *Rule, r *router.Request, now *router.Snapshot, all []router.Candidate) (bool, error) {
	at := s.find(r.Cluster)
	switch {
	case r.Cluster == "" || s.Choice == Ignore:
		return false, nil
	case s.Choice == Refuse:
		return false, rule.refusal(s, "clients may not choose their cluster (client_choice: refuse): leave sluice.cluster out").never()
	case at < 0:
		return false, rule.refusal(s, fmt.Sprintf("there is no cluster %q%s; sluice.cluster may be one of: %s", r.Cluster, nearest(r.Cluster, s.clusters), strings.Join(s.clusters, ", "))).never()
	}
	c := router.Candidate{State: &now.Clusters[at]}
	if i := slices.IndexFunc(all, func(c router.Candidate) bool { return c.Name == r.Cluster }); i >= 0 {
		c = all[i]
	} else if rule.Strict {
		return false, rule.refusal(s, fmt.Sprintf("the rule is strict and allows %s only: leave sluice.cluster=%s out", placesOf(all), r.Cluster))
	} else {
		s.judge(&c, r)
	}
	if r.Current == c.Place() {
		c.Loss = router.None
	}
	if c.Loss == router.Drains || c.Loss == router.Stopped {
		return false, rule.refusal(s, fmt.Sprintf("cluster %s, which the client asked for with sluice.cluster, cannot take the work: %s", r.Cluster, c.Lost()))
	}
	d.Place, d.Waits = c.Place(), c.Loss != router.None
	d.Reason = "the client asked for it with sluice.cluster"
	if d.Waits {
		d.Reason += "; it waits there: " + c.Lost()
	}
	return true, nil
}

// stays finds the place where a session has its engine already: it moves only when its rule has changed, or its cluster
// drains.
func stays(rule *Rule, r *router.Request, all []router.Candidate) int {
	if r.Current.Cluster == "" || r.CurrentRule != 0 && r.CurrentRule != rule.id {
		return -1
	}
	_, weighted := rule.target.policy.(policy.Weighted)
	if weighted && r.CurrentRule == 0 {
		return -1 // its key says where it belongs
	}
	return slices.IndexFunc(all, func(c router.Candidate) bool {
		return c.Place() == r.Current && !c.Draining && (!weighted || c.Share > 0)
	})
}

// waitFor picks as if those that are full were not, and if there are none, as if those that are away were there: work waits
// for a cluster that restarts, as it would if there were no router, rather than fail.
func waitFor(p router.Policy, r *router.Request, key uint64, all []router.Candidate) int {
	for _, last := range []router.Loss{router.Full, router.Away} {
		picked := pickAsIf(p, r, key, all, func(l router.Loss) bool {
			return l == router.Full || last == router.Away && (l == router.Failed || l == router.Away)
		})
		if picked >= 0 {
			return picked
		}
	}
	return -1
}

func pickAsIf(p router.Policy, r *router.Request, key uint64, all []router.Candidate, ignore func(router.Loss) bool) int {
	before := make([]router.Loss, len(all))
	for i := range all {
		if before[i] = all[i].Loss; ignore(before[i]) {
			all[i].Loss = router.None
		}
	}
	picked := p.Pick(r, key, all)
	for i := range all {
		all[i].Loss = before[i]
	}
	return picked
}

func losses(all []router.Candidate) string {
	var b strings.Builder
	for i := range all {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(all[i].Name + ": ")
		b.WriteString(all[i].Lost())
	}
	return b.String()
}

func placesOf(all []router.Candidate) string {
	var out []string
	for i := range all {
		out = append(out, all[i].Name)
	}
	return strings.Join(out, ", ")
}

// key is a hash of what a weighted set sticks to.
func (s *Set) key(m *machine, rule *Rule, r *router.Request) uint64 {
	text := r.Session
	switch {
	case rule.target.sticky.by == "user":
		text = r.User
	case rule.target.sticky.program != nil:
		m.fill(r)
		out, err := m.vm.Run(rule.target.sticky.program.program, &m.env)
		if named, ok := out.(string); ok && err == nil && named != "" {
			text = named
		}
	}
	return xxhash.Sum64String(text)
}

// In says whether a session is one of those for which this version holds while it is rolled out.
func (s *Set) In(session string) bool {
	if s.Rollout >= 1 {
		return true
	}
	return float64(xxhash.Sum64String("rollout "+session)>>11)/(1<<53) < math.Max(s.Rollout, 0)
}
