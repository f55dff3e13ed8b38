package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/admission"
	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/watch"
)

func (g *Gateway) newRouter(ctx context.Context) (err error) {
	var known []watch.Cluster
	for _, name := range g.cfg.ClusterNames() {
		c := watch.Cluster{Name: name, Kind: g.cfg.Clusters[name].Kind}
		if c.Kind == "yarn" {
			c.Queue = queueOf(g.cfg.Clusters[name].YARN)
		}
		known = append(known, c)
	}
	g.watch = watch.New(known)
	if g.cfg.Route.Record {
		g.record = &lumberjack.Logger{Filename: filepath.Join(g.cfg.DataDir, "routes.jsonl"), MaxSize: int(g.cfg.Route.RecordSize >> 20), MaxBackups: g.cfg.Route.RecordFiles}
		g.recorder = route.NewRecorder(g.record, g.log)
	}
	g.router, err = route.New(ctx, route.Options{
		Watch: g.watch, File: g.cfg.Route.File, Standard: g.cfg.Engine.Cluster, Store: g.store, Record: g.recorder,
		Decided: g.metrics.decided, Changed: g.metrics.rules, Log: g.log,
	})
	return err
}

// runRouter runs the router and what it knows of the clusters.
func (g *Gateway) runRouter(ctx context.Context, all *errgroup.Group) {
	all.Go(func() error { return g.router.Run(ctx) })
	if g.recorder != nil {
		all.Go(func() error { return g.recorder.Run(ctx) })
	}
	for name, c := range g.clusters {
		if m, ok := c.(engines.Measurer); ok {
			all.Go(func() error {
				if err := m.WatchCapacity(ctx, func(c engines.Capacity, err error) { g.read(name, c, err) }); err != nil && ctx.Err() == nil {
					return fmt.Errorf("watch the capacity of cluster %s: %w", name, err)
				}
				return nil
			})
		}
	}
}

// read passes what a cluster tells of its room on to the router.
func (g *Gateway) read(name string, c engines.Capacity, err error) {
	if err != nil {
		g.watch.Silent(name, err)
		return
	}
	// What a quota gives us is a bound, too, where nodes may not be counted.
	s := router.State{Known: c.Known || c.Total != engines.Room{}, Note: c.Note, Total: router.Room(c.Total), Free: router.Room(c.Free), Waiting: c.Waiting, Drivers: c.Drivers, MaxDrivers: c.MaxDrivers}
	if c.Queues != nil {
		s.Queues = make(map[string]*router.Queue, len(c.Queues))
		for path, q := range c.Queues {
			s.Queues[path] = &router.Queue{Accepts: q.Accepts, Free: router.Room(q.Free), Drivers: router.Room(q.Drivers), Waiting: q.Waiting}
		}
	}
	g.watch.Read(name, s)
}

// tried adds the router to the hooks of the launcher: it allows starts, and hears how they went.
func (g *Gateway) tried(h launch.Hooks) launch.Hooks {
	h.Start = func(key launch.Key) (func(string, error), error) {
		end, err := g.watch.Start(key.Cluster)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", engines.ErrAway, err)
		}
		return func(user string, err error) { end(user, err, errors.Is(err, engines.ErrAway)) }, nil
	}
	return h
}

// newGate makes the gate of the limits in the rules. Alone on a store of its own the gateway has all of each limit.
func (g *Gateway) newGate() *admission.Gate {
	opt := admission.Options{Limits: g.router.Limits, Replica: g.replica.ID, Log: g.log}
	if store.IsPostgres(g.cfg.Store.URL) {
		opt.Store = g.store
	}
	return admission.New(opt)
}

// engineLimits are the limits that a new engine must fit into. The store counts the engines of all gateways.
func (g *Gateway) engineLimits(cluster, queue, user string) (limits []store.EngineLimit, words string) {
	columns := map[string]string{rules.PerUser: "user_name", rules.PerQueue: "queue", rules.PerPlace: "cluster", rules.Everybody: ""}
	asked := admission.Ask{User: user, Queue: queue, Cluster: cluster}
	var said []string
	for owner, l := range admission.Holding(g.router.Limits(), asked, func(l rules.Limit) float64 { return float64(l.Engines) }) {
		_, value, _ := strings.Cut(owner, "/")
		limits = append(limits, store.EngineLimit{Column: columns[l.Scope], Value: value, Max: l.Engines})
		said = append(said, fmt.Sprintf("%s may have %d", l, l.Engines))
	}
	slices.SortFunc(limits, func(a, b store.EngineLimit) int { return cmp.Compare(a.Column+"/"+a.Value, b.Column+"/"+b.Value) })
	slices.Sort(said)
	return limits, strings.Join(said, ", ")
}
