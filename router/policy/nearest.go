package policy

import (
	"fmt"

	"github.com/sluicedata/sluice/router"
)

// Nearest takes the one with which most of the tables lie that the statement touches; of equal ones that with an engine
// that is ready, then that with the most room.
type Nearest struct{}

// Pick implements router.Policy.
func (Nearest) Pick(_ *router.Request, _ uint64, all []router.Candidate) int {
	return best(all, func(a, b *router.Candidate) bool {
		switch {
		case a.Near != b.Near:
			return a.Near > b.Near
		case a.Warm != b.Warm:
			return a.Warm
		}
		return freer(a, b)
	})
}

// Why implements router.Policy.
func (Nearest) Why(r *router.Request, all []router.Candidate, picked int) string {
	c := &all[picked]
	if !r.SQL.Complete {
		return warm(c) + "what the statement touches is not known; " + room(c)
	}
	return fmt.Sprintf("%s%d of the %d tables that it touches lie there, the most %s", warm(c), c.Near, len(r.SQL.Reads)+len(r.SQL.Writes), among(all))
}
