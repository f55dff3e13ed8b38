package policy

import (
	"fmt"

	"github.com/sluicedata/sluice/router"
)

// Whole is what the shares of a weighted set sum up to.
const Whole = 10_000

// Weighted gives each its share of all keys. A key always has the same place, and moves only when the shares move over it.
// What falls to one that cannot have it is divided among the others by their shares.
type Weighted struct{}

// Pick implements router.Policy.
func (Weighted) Pick(_ *router.Request, key uint64, all []router.Candidate) int {
	point, at := int(key%Whole), -1
	for i := range all {
		if point < all[i].Share {
			at = i
			break
		}
		point -= all[i].Share
	}
	if at >= 0 && all[at].Loss == router.None {
		return at
	}
	rest := 0
	for i := range all {
		if all[i].Loss == router.None {
			rest += all[i].Share
		}
	}
	if rest == 0 {
		return -1 // a share of 0 gets nothing, even if it could
	}
	point = int(key / Whole % uint64(rest)) // other digits of the key: what is left is spread anew
	for i := range all {
		if all[i].Loss != router.None {
			continue
		}
		if point < all[i].Share {
			return i
		}
		point -= all[i].Share
	}
	return -1
}

// Why implements router.Policy.
func (Weighted) Why(_ *router.Request, all []router.Candidate, picked int) string {
	why := fmt.Sprintf("it has %g %%", float64(all[picked].Share)/(Whole/100))
	for i := range all {
		if all[i].Loss != router.None && all[i].Share > 0 {
			why += fmt.Sprintf(", and a part of the %g %% of %s, where %s", float64(all[i].Share)/(Whole/100), all[i].Name, all[i].Lost())
		}
	}
	return why
}
