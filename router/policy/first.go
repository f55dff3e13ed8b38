package policy

import "github.com/sluicedata/sluice/router"

// First takes the first that can have the work: a chain, of which the later ones are a fallback.
type First struct{}

// Pick implements router.Policy.
func (First) Pick(_ *router.Request, _ uint64, all []router.Candidate) int {
	for i := range all {
		if all[i].Loss == router.None {
			return i
		}
	}
	return -1
}

// Why implements router.Policy.
func (First) Why(_ *router.Request, all []router.Candidate, picked int) string {
	switch {
	case len(all) == 1:
		return "the rule names it"
	case picked == 0:
		return "it comes first"
	}
	why := "it comes first of those that can take it"
	for i := range all[:picked] {
		why += "; not " + all[i].Name + ": " + all[i].Lost()
	}
	return why
}
