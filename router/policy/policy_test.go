package policy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/sql"
)

// option changes a candidate.
type option func(*router.Candidate)

func lost(l router.Loss) option { return func(c *router.Candidate) { c.Loss = l } }
func share(percent int) option  { return func(c *router.Candidate) { c.Share = percent * Whole / 100 } }
func cost(v float64) option     { return func(c *router.Candidate) { c.Cost = v } }
func near(n int) option         { return func(c *router.Candidate) { c.Near = n } }
func ready(c *router.Candidate) { c.Warm = true }

func free(mib int64) option {
	return func(c *router.Candidate) { c.Known, c.Free = true, router.Room{Memory: mib, MilliCores: 1000} }
}

// queue gives a candidate a queue with so much free.
func queue(mib int64) option {
	return func(c *router.Candidate) {
		c.Queue, c.Queues = "etl", map[string]*router.Queue{"root.etl": {Accepts: true, Free: router.Room{Memory: mib, MilliCores: 1000}}}
	}
}

// candidate is up, and its name is for people who read why.
func candidate(name string, with ...option) router.Candidate {
	c := router.Candidate{State: &router.State{Name: name, Health: router.Up, Why: "it does not answer"}}
	for _, w := range with {
		w(&c)
	}
	return c
}

func TestPolicies(t *testing.T) {
	known := &router.Request{SQL: sql.Facts{Complete: true, Reads: []string{"a", "b", "c"}, Writes: []string{"d"}}}
	for name, tc := range map[string]struct {
		policy router.Policy
		key    uint64
		all    []router.Candidate
		want   int
		why    string
		r      *router.Request // known, if it is nil
	}{
		"first: one":                  {policy: First{}, all: []router.Candidate{candidate("a")}, want: 0, why: "the rule names it"},
		"first: of two":               {policy: First{}, all: []router.Candidate{candidate("a"), candidate("b", free(1<<20))}, want: 0, why: "it comes first"},
		"first: falls back":           {policy: First{}, all: []router.Candidate{candidate("a", lost(router.Away)), candidate("b", lost(router.Drains)), candidate("c")}, want: 2, why: "it comes first of those that can take it; not a: it does not answer; not b: it drains: it gets no new engines"},
		"first: all lost":             {policy: First{}, all: []router.Candidate{candidate("a", lost(router.Full))}, want: -1},
		"first: none":                 {policy: First{}, want: -1},
		"most free: more memory":      {policy: MostFree{}, all: []router.Candidate{candidate("a", free(1)), candidate("b", free(3)), candidate("c", free(2))}, want: 1, why: "3 MiB and 1 cores free, the most of 3 that could take it"},
		"most free: the first":        {policy: MostFree{}, all: []router.Candidate{candidate("a", free(3)), candidate("b", free(3))}, want: 0, why: "3 MiB and 1 cores free, the most of 2 that could take it"},
		"most free: what is known":    {policy: MostFree{}, all: []router.Candidate{candidate("a"), candidate("b", free(0))}, want: 1, why: "0 MiB and 1 cores free, the most of 2 that could take it"},
		"most free: nothing is known": {policy: MostFree{}, all: []router.Candidate{candidate("a"), candidate("b")}, want: 0, why: "not known how much is free, the most of 2 that could take it"},
		"most free: a ready engine":   {policy: MostFree{}, all: []router.Candidate{candidate("a", free(9)), candidate("b", ready)}, want: 1, why: "an engine is ready there; not known how much is free, the most of 2 that could take it"},
		"most free: its queue":        {policy: MostFree{}, all: []router.Candidate{candidate("a", free(900), queue(1)), candidate("b", free(2))}, want: 1, why: "2 MiB and 1 cores free, the most of 2 that could take it"},
		"most free: the largest lost": {policy: MostFree{}, all: []router.Candidate{candidate("a", free(9), lost(router.Stopped)), candidate("b", free(2))}, want: 1, why: "2 MiB and 1 cores free, the most of 1 that could take it"},
		"most free: all lost":         {policy: MostFree{}, all: []router.Candidate{candidate("a", ready, lost(router.Failed))}, want: -1},
		"cheapest":                    {policy: Cheapest{}, all: []router.Candidate{candidate("a", cost(0.05), ready), candidate("b", cost(0.03))}, want: 1, why: "a core costs 0.03 an hour, the least of 2 that could take it"},
		"cheapest: no price is most":  {policy: Cheapest{}, all: []router.Candidate{candidate("a"), candidate("b", cost(7))}, want: 1, why: "a core costs 7 an hour, the least of 2 that could take it"},
		"cheapest: no price first":    {policy: Cheapest{}, all: []router.Candidate{candidate("b", cost(7)), candidate("a")}, want: 0, why: "a core costs 7 an hour, the least of 2 that could take it"},
		"cheapest: no price at all":   {policy: Cheapest{}, all: []router.Candidate{candidate("a", free(1)), candidate("b", free(2))}, want: 1, why: "no price is known of 2 that could take it"},
		"cheapest: ready of equal":    {policy: Cheapest{}, all: []router.Candidate{candidate("a", cost(1), free(9)), candidate("b", cost(1), ready)}, want: 1, why: "an engine is ready there; a core costs 1 an hour, the least of 2 that could take it"},
		"cheapest: room of equal":     {policy: Cheapest{}, all: []router.Candidate{candidate("a", cost(1), free(1)), candidate("b", cost(1), free(2))}, want: 1, why: "a core costs 1 an hour, the least of 2 that could take it"},
		"cheapest: the least lost":    {policy: Cheapest{}, all: []router.Candidate{candidate("a", cost(1), lost(router.Full)), candidate("b", cost(2))}, want: 1, why: "a core costs 2 an hour, the least of 1 that could take it"},
		"nearest":                     {policy: Nearest{}, all: []router.Candidate{candidate("a", near(1), ready, free(9)), candidate("b", near(3))}, want: 1, why: "3 of the 4 tables that it touches lie there, the most of 2 that could take it"},
		"nearest: ready of equal":     {policy: Nearest{}, all: []router.Candidate{candidate("a", near(1), free(9)), candidate("b", near(1), ready)}, want: 1, why: "an engine is ready there; 1 of the 4 tables that it touches lie there, the most of 2 that could take it"},
		"nearest: room of equal":      {policy: Nearest{}, all: []router.Candidate{candidate("a", free(1)), candidate("b", free(2))}, want: 1, why: "0 of the 4 tables that it touches lie there, the most of 2 that could take it"},
		"nearest: not known":          {policy: Nearest{}, r: &router.Request{}, all: []router.Candidate{candidate("a", free(1)), candidate("b", free(2))}, want: 1, why: "what the statement touches is not known; 2 MiB and 1 cores free"},
		"weighted: the first part":    {policy: Weighted{}, key: 8999, all: []router.Candidate{candidate("a", share(90)), candidate("b", share(10))}, want: 0, why: "it has 90 %"},
		"weighted: the last part":     {policy: Weighted{}, key: 9000, all: []router.Candidate{candidate("a", share(90)), candidate("b", share(10))}, want: 1, why: "it has 10 %"},
		"weighted: nothing for none":  {policy: Weighted{}, key: 0, all: []router.Candidate{candidate("a", share(0)), candidate("b", share(100))}, want: 1, why: "it has 100 %"},
		"weighted: what falls to a":   {policy: Weighted{}, key: 0, all: []router.Candidate{candidate("a", share(60), lost(router.Away)), candidate("b", share(30)), candidate("c", share(10))}, want: 1, why: "it has 30 %, and a part of the 60 % of a, where it does not answer"},
		"weighted: by the shares":     {policy: Weighted{}, key: 3999 * Whole, all: []router.Candidate{candidate("a", share(60), lost(router.Away)), candidate("b", share(30)), candidate("c", share(10))}, want: 2, why: "it has 10 %, and a part of the 60 % of a, where it does not answer"},
		"weighted: one has nothing":   {policy: Weighted{}, key: 0, all: []router.Candidate{candidate("a", share(100), lost(router.Away)), candidate("b", share(0))}, want: -1},
		"weighted: all lost":          {policy: Weighted{}, key: 7, all: []router.Candidate{candidate("a", share(100), lost(router.Away))}, want: -1},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.r
			if r == nil {
				r = known
			}
			for i := range tc.all {
				c := &tc.all[i]
				loss, warm := c.Loss, c.Warm
				c.Judge(&router.Request{}) // finds its queue
				c.Loss, c.Warm = loss, warm
			}
			got := tc.policy.Pick(r, tc.key, tc.all)
			require.Equal(t, tc.want, got)
			if got >= 0 {
				require.Equal(t, tc.why, tc.policy.Why(r, tc.all, got))
			}
		})
	}
}

// A pool of any policy picks nobody who cannot have the work, and somebody if anybody can.
func TestPoliciesPickWhoCan(t *testing.T) {
	for name, p := range All {
		for mask := range 1 << 4 {
			var all []router.Candidate
			for i := range 4 {
				loss := router.Away
				if mask>>i&1 == 1 {
					loss = router.None
				}
				all = append(all, candidate(fmt.Sprint(i), free(int64(i*7%5)), cost(float64(i*3%4)), near(i%2), lost(loss)))
			}
			got := p.Pick(&router.Request{}, 0, all)
			require.Equal(t, mask != 0, got >= 0, name)
			if got >= 0 {
				require.Equal(t, router.None, all[got].Loss, name)
			}
		}
	}
}

// A decision is made with each statement: picking leaves nothing to be collected.
func TestPickAllocatesNothing(t *testing.T) {
	all := []router.Candidate{candidate("a", free(1), cost(1), share(20), lost(router.Away)), candidate("b", queue(4), share(30)), candidate("c", free(2), ready, cost(2), share(50))}
	r := &router.Request{}
	policies := map[string]router.Policy{"chain": First{}, "weighted": Weighted{}}
	for name, p := range All {
		policies[name] = p
	}
	for name, p := range policies {
		key := uint64(0)
		require.Zero(t, testing.AllocsPerRun(100, func() { key += 12345; p.Pick(r, key, all) }), name)
	}
}
