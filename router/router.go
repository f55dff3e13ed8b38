// Package router decides on which cluster work runs. It is pure: a decision follows from a request, a snapshot of the
// clusters and the policy, and says its reason in words. It imports nothing else of ours.
package router

import (
	"fmt"
	"slices"
	"strings"
)

// Request is what is known of work that needs a cluster.
type Request struct {
	User    string
	Cluster string // the one that the client named, or empty
}

// State is one cluster as the router sees it.
type State struct {
	Name string
	Kind string
}

// Decision is where work goes, and why.
type Decision struct {
	Cluster string
	Reason  string
}

// Policy picks a cluster. It is pure, and safe for concurrent use.
type Policy interface {
	Pick(Request, []State) (Decision, error)
}

// Named takes the cluster that the client named, and Default otherwise.
type Named struct{ Default string }

// Pick implements Policy.
func (n Named) Pick(r Request, clusters []State) (Decision, error) {
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
	}
	slices.Sort(names)
	d := Decision{Cluster: n.Default, Reason: "engine.cluster names it for sessions that name none"}
	if r.Cluster != "" {
		d = Decision{Cluster: r.Cluster, Reason: "the client asked for it with sluice.cluster"}
	}
	if !slices.Contains(names, d.Cluster) {
		return Decision{}, fmt.Errorf("there is no cluster %q; sluice.cluster may be one of: %s", d.Cluster, strings.Join(names, ", "))
	}
	return d, nil
}
