package policy

import (
	"fmt"

	"github.com/sluicedata/sluice/router"
)

// Cheapest takes the one that costs least; of equal ones that with an engine that is ready, then that with the most room.
// One without a price costs more than any with one.
type Cheapest struct{}

// Pick implements router.Policy.
func (Cheapest) Pick(_ *router.Request, _ uint64, all []router.Candidate) int {
	return best(all, func(a, b *router.Candidate) bool {
		switch {
		case a.Cost != b.Cost:
			return b.Cost == 0 || a.Cost != 0 && a.Cost < b.Cost
		case a.Warm != b.Warm:
			return a.Warm
		}
		return freer(a, b)
	})
}

// Why implements router.Policy.
func (Cheapest) Why(_ *router.Request, all []router.Candidate, picked int) string {
	c := &all[picked]
	if c.Cost == 0 {
		return warm(c) + "no price is known " + among(all)
	}
	return fmt.Sprintf("%sa core costs %g an hour, the least %s", warm(c), c.Cost, among(all))
}
