package route

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
)

// Version is a version of the rules, as administrators see it.
type Version struct {
	Version  string    `json:"version"`
	Name     string    `json:"name,omitempty"`
	LoadedAt time.Time `json:"loaded_at"`
	Force    string    `json:"force,omitempty"` // for whom it is in force; empty: for nobody
	Text     string    `json:"text"`
}

// Status is what is in force.
type Status struct {
	Version  string    `json:"version"`
	Rollout  float64   `json:"rollout"`          // share of sessions
	Rest     string    `json:"rest,omitempty"`   // version of the others
	Pinned   bool      `json:"pinned,omitempty"` // by a rollback
	Broken   string    `json:"broken,omitempty"` // why the file on disk is not in force
	Loaded   string    `json:"file,omitempty"`   // version of the file
	Versions []Version `json:"versions"`
}

// Status tells which versions there are, and which are in force.
func (r *Router) Status(ctx context.Context) (Status, error) {
	all, err := r.opt.Store.AllRules(ctx)
	if err != nil {
		return Status{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.force.Load()
	s := Status{Version: f.set.Version, Rollout: 1, Pinned: f.set.Version != r.file.Version, Loaded: r.file.Version}
	if r.broken != nil {
		s.Broken = r.broken.Error()
	}
	if f.rest != nil {
		s.Rollout, s.Rest = f.set.Rollout, f.rest.Version
	}
	for _, v := range all {
		out := Version{Version: v.Version, Name: v.Name, LoadedAt: v.LoadedAt, Text: v.Text}
		switch v.Version {
		case f.set.Version:
			out.Force = fmt.Sprintf("%g %% of sessions", s.Rollout*100)
		case s.Rest:
			out.Force = fmt.Sprintf("%g %% of sessions", 100-s.Rollout*100)
		}
		s.Versions = append(s.Versions, out)
	}
	return s, nil
}

// Rollback puts an earlier version in force, by its version or name, until the file on disk becomes another one or the
// rollback is ended; an empty version ends it.
func (r *Router) Rollback(ctx context.Context, version, by string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	value := ""
	if version != "" {
		set, err := r.version(ctx, version)
		if err != nil {
			return err
		}
		value = set.Version + " " + r.file.Version
	}
	if err := r.opt.Store.Set(ctx, store.Setting{Name: pinSetting, Value: value, SaidBy: by, SaidAt: time.Now()}); err != nil {
		return err
	}
	r.opt.Log.Info("rules rolled back", "to", version, "by", by)
	if err := r.settings(ctx); err != nil {
		return err
	}
	return r.apply(ctx)
}

// Drain keeps new engines from a cluster, on all gateways, or lets it have them again.
func (r *Router) Drain(ctx context.Context, cluster string, yes bool, by string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := r.opt.Watch.Names()
	if !slices.Contains(names, cluster) {
		return unknown(fmt.Sprintf("there is no cluster %q; clusters are %s", cluster, strings.Join(names, ", ")))
	}
	value := ""
	if yes {
		value = "yes"
	}
	if err := r.opt.Store.Set(ctx, store.Setting{Name: drainSetting + cluster, Value: value, SaidBy: by, SaidAt: time.Now()}); err != nil {
		return err
	}
	r.opt.Log.Info("cluster drains", "cluster", cluster, "drains", yes, "by", by)
	return r.settings(ctx)
}

// Clusters are the clusters as the router sees them.
func (r *Router) Clusters() *router.Snapshot { return r.opt.Watch.Snapshot() }
