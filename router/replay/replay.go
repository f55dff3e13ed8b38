// Package replay is the wind tunnel: it runs recorded requests, over the states that the clusters had, through other rules,
// and says what would change. A record is lines of JSON: states, of which each holds what has changed since the one before,
// and decisions over the state before them.
package replay

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
)

// Line is a line of a record: a state or a decision.
type Line struct {
	At       time.Time       `json:"at"`
	Clusters []router.State  `json:"clusters,omitempty"` // that have changed
	Names    []string        `json:"names,omitempty"`    // all clusters, in their order, when it changes
	Request  *router.Request `json:"request,omitempty"`
	Decision *Decision       `json:"decision,omitempty"`
}

// Decision is what was decided about a request.
type Decision struct {
	router.Place
	Rule    string `json:"rule"`
	Version string `json:"version"`
	Refused string `json:"refused,omitempty"`
}

// Of is a decision as it is recorded.
func Of(d rules.Decision, err error) *Decision {
	out := &Decision{Place: d.Place, Rule: d.Rule, Version: d.Version}
	if err != nil {
		out.Refused = err.Error()
	}
	return out
}

// where is the place of a decision, for people.
func (d *Decision) where() string {
	if d.Refused != "" {
		return "refused"
	}
	return d.String()
}

// Change is a kind of change: work that would go elsewhere.
type Change struct {
	From, To string
	Rule     string // of the new rules
	Count    int
	Example  *router.Request
	Reason   string
}

// Report is what would be different.
type Report struct {
	Requests int
	Changes  []Change       // the most frequent first
	Before   map[string]int // requests by place
	After    map[string]int
	Skipped  int // lines that are no record, such as the last one of a gateway that was killed
}

// Changed is how many requests would go elsewhere.
func (r *Report) Changed() (n int) {
	for _, c := range r.Changes {
		n += c.Count
	}
	return n
}

// Run reads a record and asks the new rules, which load makes for the clusters of the record.
func Run(record io.Reader, load func(clusters []string) (*rules.Set, error)) (*Report, error) {
	out := &Report{Before: map[string]int{}, After: map[string]int{}}
	changes := map[[3]string]*Change{}
	var names []string
	var set *rules.Set
	now := &router.Snapshot{}
	lines := bufio.NewScanner(record)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 { // where a gateway has begun
			continue
		}
		var l Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			out.Skipped++
			continue
		}
		if l.Names != nil && !slices.Equal(l.Names, names) {
			var err error
			if set, err = load(l.Names); err != nil {
				return nil, err
			}
			names, now = l.Names, &router.Snapshot{Clusters: make([]router.State, len(l.Names))}
		}
		for _, c := range l.Clusters {
			if i := slices.Index(names, c.Name); i >= 0 {
				now.Clusters[i] = c
			}
		}
		if l.Request == nil || l.Decision == nil {
			continue
		}
		if set == nil {
			out.Skipped++ // the file begins in the middle
			continue
		}
		out.Requests++
		l.Request.At = l.Request.At.In(set.Zone)
		d := Of(set.Decide(l.Request, now))
		from, to := l.Decision.where(), d.where()
		out.Before[from]++
		out.After[to]++
		if from == to {
			continue
		}
		key := [3]string{from, to, d.Rule}
		if changes[key] == nil {
			changes[key] = &Change{From: from, To: to, Rule: d.Rule, Example: l.Request, Reason: set.Explain(l.Request, now).Reason}
		}
		changes[key].Count++
	}
	for _, c := range changes {
		out.Changes = append(out.Changes, *c)
	}
	slices.SortFunc(out.Changes, func(a, b Change) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return slices.Compare([]string{a.From, a.To, a.Rule}, []string{b.From, b.To, b.Rule})
	})
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	if out.Requests == 0 {
		return nil, errors.New("the record has no decisions")
	}
	return out, nil
}

// Write prints a report for people.
func (r *Report) Write(w io.Writer) {
	fmt.Fprintf(w, "%d requests, of which %d would go elsewhere (%.1f %%)\n", r.Requests, r.Changed(), 100*float64(r.Changed())/float64(r.Requests))
	if r.Skipped > 0 {
		fmt.Fprintf(w, "%d lines could not be used\n", r.Skipped)
	}
	places := map[string]bool{}
	for _, m := range []map[string]int{r.Before, r.After} {
		for p := range m {
			places[p] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(places)) {
		fmt.Fprintf(w, "  %-32s %8d -> %d\n", p, r.Before[p], r.After[p])
	}
	for _, c := range r.Changes {
		fmt.Fprintf(w, "%6d × %s -> %s by rule %q\n         for example user %s, %s: %s\n", c.Count, c.From, c.To, c.Rule, c.Example.User, c.Example.Work, c.Reason)
	}
}
