package policy

import "github.com/sluicedata/sluice/router"

// MostFree takes the one with the most free memory, for which a queue counts by itself; one with an engine that is ready
// needs no room, and comes before all others.
type MostFree struct{}

// Pick implements router.Policy.
func (MostFree) Pick(_ *router.Request, _ uint64, all []router.Candidate) int {
	return best(all, func(a, b *router.Candidate) bool {
		if a.Warm != b.Warm {
			return a.Warm
		}
		return freer(a, b)
	})
}

// Why implements router.Policy.
func (MostFree) Why(_ *router.Request, all []router.Candidate, picked int) string {
	return warm(&all[picked]) + room(&all[picked]) + ", the most " + among(all)
}
