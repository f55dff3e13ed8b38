package sim

import (
	"time"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/watch"
)

// Router decides by rules over clusters that are up unless a test says otherwise.
type Router struct {
	*watch.Watch
	Rules *rules.Set
}

// NewRouter makes a router whose rules send all work to the first cluster, unless its client names another.
func NewRouter(clusters ...string) *Router {
	known := make([]watch.Cluster, len(clusters))
	for i, c := range clusters {
		known[i].Name = c
	}
	return &Router{watch.New(known), rules.BuiltIn(clusters, clusters[0])}
}

// Route implements session.Router.
func (r *Router) Route(req *router.Request) (rules.Decision, error) {
	req.At = time.Now()
	return r.Rules.Decide(req, r.Snapshot())
}

// Preview implements session.Router.
func (r *Router) Preview(req *router.Request) (rules.Decision, error) { return r.Route(req) }

// QueueOf implements session.Router.
func (r *Router) QueueOf(string) string { return "" }

// Explain implements session.Router.
func (r *Router) Explain(req *router.Request) *rules.Trace {
	req.At = time.Now()
	return r.Rules.Explain(req, r.Snapshot())
}
