// Package route is the router at work in a gateway: it holds the rules that are in force, in one version or two, watches
// their file, keeps what administrators say (drains, a rollback) and what the clusters tell, and records each decision, so
// that it can be replayed.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/gateway/reload"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/watch"
)

// Store keeps what all gateways must know of the rules.
type Store interface {
	Set(context.Context, store.Setting) error
	Settings(context.Context) ([]store.Setting, error)
	AddRules(context.Context, store.Rules) error
	AllRules(context.Context) ([]store.Rules, error)
}

// Options of a Router.
type Options struct {
	Watch    *watch.Watch
	File     string // of the rules; empty: Standard for all who name no cluster
	Standard string // cluster
	Store    Store
	Record   *Recorder // nil records nothing
	Decided  func(d rules.Decision, err error)
	Changed  func(version string, err error) // the rules in force, or why a new file is not
	Log      *slog.Logger
}

// Router decides for the sessions of a gateway. It is safe for concurrent use.
type Router struct {
	opt   Options
	force atomic.Pointer[force]

	mu      sync.Mutex // of what follows, which only Run and administrators change
	file    *rules.Set // as it is on disk
	broken  error      // the file on disk, if it cannot be loaded
	stable  string     // the version that was in force for everybody last
	pinned  string     // rolled back to; empty if not
	over    string     // the version from which it was rolled back: another file ends the rollback
	drained []string
	kept    string // the version that the store has for sure
	said    string // the version that we have called stable
	gone    bool   // the file could not be looked at
	behind  bool   // the store or a version could not be read the last time
	seen    *reload.Files
}

// force are the rules in force.
type force struct {
	set  *rules.Set
	rest *rules.Set // for the sessions to which set is not rolled out; nil if it is for all
}

// The names of settings.
const (
	drainSetting  = "drain/"
	stableSetting = "rules/stable"
	pinSetting    = "rules/pinned"
)

// New makes a router. A file that cannot be loaded is an error here; later it only keeps the rules in force as they are.
func New(ctx context.Context, opt Options) (*Router, error) {
	r := &Router{opt: opt}
	if err := r.load(); err != nil {
		return nil, err
	}
	if err := r.settings(ctx); err != nil {
		return nil, fmt.Errorf("read what is set for the router: %w", err)
	}
	return r, r.apply(ctx)
}

// load reads the file.
func (r *Router) load() (err error) {
	if r.opt.File == "" {
		r.file = rules.BuiltIn(r.opt.Watch.Names(), r.opt.Standard)
		return nil
	}
	if r.seen, err = reload.Watch(r.opt.File); err != nil {
		return fmt.Errorf("route.file: %w", err)
	}
	set, err := rules.LoadFile(r.opt.File, r.opt.Watch.Names())
	if err != nil {
		return fmt.Errorf("route.file: %w", err)
	}
	r.file = set
	return nil
}

// settings reads what administrators have said.
func (r *Router) settings(ctx context.Context) error {
	all, err := r.opt.Store.Settings(ctx)
	if err != nil {
		return err
	}
	r.drained, r.stable, r.pinned, r.over = nil, "", "", ""
	for _, s := range all {
		switch {
		case strings.HasPrefix(s.Name, drainSetting):
			r.drained = append(r.drained, strings.TrimPrefix(s.Name, drainSetting))
		case s.Name == stableSetting:
			r.stable = s.Value
		case s.Name == pinSetting:
			r.pinned, r.over, _ = strings.Cut(s.Value, " ")
		}
	}
	for _, name := range r.opt.Watch.Names() {
		r.opt.Watch.Drain(name, slices.Contains(r.drained, name))
	}
	return nil
}

// apply puts the right versions in force: 1 the one that was rolled back to, 2 the file for all, 3 the file for its share
// and the last one that was for all for the rest.
func (r *Router) apply(ctx context.Context) error {
	now := &force{set: r.file}
	switch {
	case r.pinned != "" && r.over == r.file.Version:
		set, err := r.earlier(ctx, r.pinned)
		if err != nil {
			return err
		}
		if set != nil {
			now.set = set
		}
	case r.file.Rollout < 1 && r.stable != "" && r.stable != r.file.Version:
		rest, err := r.earlier(ctx, r.stable)
		if err != nil {
			return err
		}
		now.rest = rest
	case r.file.Rollout < 1 && r.stable != r.file.Version:
		r.opt.Log.Warn("the rules have a rollout, and there is no earlier version for the rest: they hold for all", "version", r.file.Title())
	}
	if err := r.keep(ctx, now); err != nil {
		return err
	}
	if was := r.force.Swap(now); was == nil || was.set.Version != now.set.Version || (was.rest == nil) != (now.rest == nil) {
		r.opt.Log.Info("rules in force", "version", now.set.Title(), "rollout", now.set.Rollout, "rules", len(now.set.Rules))
		r.changed(now.set.Title(), r.broken)
	}
	return nil
}

// keep stores the version of the file, and which one is in force for all.
func (r *Router) keep(ctx context.Context, now *force) error {
	if r.opt.File == "" {
		return nil
	}
	if r.kept != r.file.Version {
		if err := r.opt.Store.AddRules(ctx, store.Rules{Version: r.file.Version, Name: r.file.Name, Text: r.file.Text, LoadedAt: time.Now()}); err != nil {
			return fmt.Errorf("keep this version of the rules: %w", err)
		}
		r.kept = r.file.Version
	}
	if now.rest == nil && now.set.Version != r.stable && now.set.Version != r.said { // gateways may have different files for a while
		if err := r.opt.Store.Set(ctx, store.Setting{Name: stableSetting, Value: now.set.Version, SaidBy: "sluice", SaidAt: time.Now()}); err != nil {
			return fmt.Errorf("keep which rules are in force: %w", err)
		}
		r.stable, r.said = now.set.Version, now.set.Version
	}
	return nil
}

func (r *Router) changed(version string, err error) {
	if r.opt.Changed != nil {
		r.opt.Changed(version, err)
	}
}

// earlier loads a version that is to be in force beside or before the file; nil if it cannot be any more, which is told: then
// the file holds.
func (r *Router) earlier(ctx context.Context, version string) (*rules.Set, error) {
	set, err := r.version(ctx, version)
	if !errors.Is(err, ErrUnknown) {
		return set, err
	}
	if !r.behind {
		r.opt.Log.Error("an earlier version of the rules cannot be in force; the file is", "version", version, "error", err)
	}
	return nil, nil
}

// version loads a version that the store has kept, by its hash or its name; of a name the newest one.
func (r *Router) version(ctx context.Context, version string) (*rules.Set, error) {
	if version == r.file.Version {
		return r.file, nil
	}
	if f := r.force.Load(); f != nil {
		for _, set := range []*rules.Set{f.set, f.rest} {
			if set != nil && set.Version == version {
				return set, nil
			}
		}
	}
	all, err := r.opt.Store.AllRules(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		if v.Version == version || v.Name == version {
			set, err := rules.Load([]byte(v.Text), r.opt.Watch.Names())
			if err != nil {
				return nil, unknown(fmt.Sprintf("version %s of the rules does not fit any more: %v", version, err))
			}
			return set, nil
		}
	}
	return nil, unknown(fmt.Sprintf("the store has no version %q of the rules; sluice route versions lists them", version))
}

// ErrUnknown says that there is no such version or cluster.
var ErrUnknown = errors.New("there is none of that name")

// unknown is an ErrUnknown in words.
type unknown string

func (u unknown) Error() string { return string(u) }

// Is makes it an ErrUnknown.
func (u unknown) Is(target error) bool { return target == ErrUnknown }

// Route decides where work goes, and records it.
func (r *Router) Route(req *router.Request) (rules.Decision, error) {
	set, now := r.ask(req)
	d, err := set.Decide(req, now)
	if r.opt.Record != nil {
		r.opt.Record.add(req, now, d, err)
	}
	if r.opt.Decided != nil {
		r.opt.Decided(d, err)
	}
	return d, err
}

// Preview says where work would go now.
func (r *Router) Preview(req *router.Request) (rules.Decision, error) {
	set, now := r.ask(req)
	return set.Decide(req, now)
}

// QueueOf is the queue of a cluster for those who name none; empty where there are no queues.
func (r *Router) QueueOf(cluster string) string {
	if c := r.opt.Watch.Snapshot().Find(cluster); c != nil {
		return c.Queue
	}
	return ""
}

// Explain says how it would decide now.
func (r *Router) Explain(req *router.Request) *rules.Trace {
	set, now := r.ask(req)
	return set.Explain(req, now)
}

func (r *Router) ask(req *router.Request) (*rules.Set, *router.Snapshot) {
	f := r.force.Load()
	set := f.set
	if f.rest != nil && !set.In(req.Session) {
		set = f.rest
	}
	if req.At.IsZero() {
		req.At = time.Now().In(set.Zone)
	}
	return set, r.opt.Watch.Snapshot()
}

// Zone is that in which the rules mean times of day.
func (r *Router) Zone() *time.Location { return r.force.Load().set.Zone }

// Limits are the limits in force.
func (r *Router) Limits() []rules.Limit { return r.force.Load().set.Limits }

// Away is closed once a cluster does not answer; nil if there is no such cluster.
func (r *Router) Away(cluster string) <-chan struct{} { return r.opt.Watch.Away(cluster) }

// every is how often the file and the store are looked at.
const every = time.Second

// Run looks for new rules and new settings until ctx ends.
func (r *Router) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.look(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes in a new file, if it is valid, and what other gateways were told.
func (r *Router) look(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen != nil {
		changed, err := r.seen.Changed()
		changed, r.gone = changed || r.gone && err == nil, err != nil // one that comes back counts as a new one
		if err == nil && changed {
			err = r.load()
		}
		if err != nil && (r.broken == nil || r.broken.Error() != err.Error()) {
			r.opt.Log.Error("the new rules are not taken; the old ones stay in force", "error", err)
			r.changed(r.force.Load().set.Title(), err)
		}
		if err != nil || changed {
			r.broken = err
		}
		if err == nil && changed {
			r.changed(r.file.Title(), nil)
		}
	}
	err := r.settings(ctx)
	if err == nil {
		err = r.apply(ctx)
	}
	if err != nil && ctx.Err() == nil && !r.behind {
		r.opt.Log.Warn("cannot bring the rules up to date; those in force stay", "error", err)
	}
	r.behind = err != nil
}
