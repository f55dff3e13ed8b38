// Package policy has the ways in which one of several clusters is picked, one in each file. A new one is a file, a line
// in All and a table test.
package policy

import (
	"fmt"

	"github.com/sluicedata/sluice/router"
)

// All are the policies that a pool may name.
var All = map[string]router.Policy{
	"most_free": MostFree{},
	"cheapest":  Cheapest{},
	"nearest":   Nearest{},
}

// best is the candidate that can have the work and that no other one is better than; the first of equals, or -1.
func best(all []router.Candidate, better func(a, b *router.Candidate) bool) int {
	found := -1
	for i := range all {
		if all[i].Loss == router.None && (found < 0 || better(&all[i], &all[found])) {
			found = i
		}
	}
	return found
}

// freer compares by free memory; what is not known is less than anything that is.
func freer(a, b *router.Candidate) bool {
	x, known := a.Room()
	y, other := b.Room()
	if known != other {
		return known
	}
	return x.Memory > y.Memory
}

func room(c *router.Candidate) string {
	if r, known := c.Room(); known {
		return r.String() + " free"
	}
	return "not known how much is free"
}

func warm(c *router.Candidate) string {
	if c.Warm {
		return "an engine is ready there; "
	}
	return ""
}

// able is how many candidates can have the work.
func able(all []router.Candidate) (n int) {
	for i := range all {
		if all[i].Loss == router.None {
			n++
		}
	}
	return n
}

func among(all []router.Candidate) string {
	return fmt.Sprintf("of %d that could take it", able(all))
}
