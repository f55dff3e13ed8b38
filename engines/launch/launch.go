// Package launch gives sessions the engines they need: it finds a warm one, or starts one, shares it among those who
// may share it, renews its lease while it is wanted, and ends it when nobody has wanted it for a while.
package launch

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/engines"
)

// Request asks for an engine.
type Request struct {
	Key  Key
	User string            // in whose name it runs
	Name string            // what people see in the cluster's lists
	Conf map[string]string // settings for the engine, if this request is the one that starts it
}

// Record is what is stored of an engine, before its cluster hears of it.
type Record struct {
	ID, Key, Cluster, Kind, User string
	App                          engines.App
	CreatedAt                    time.Time
}

// Store keeps the records of engines.
type Store interface {
	SaveEngine(context.Context, Record) error
	// FindEngine returns what is stored of an engine; false if nothing is.
	FindEngine(ctx context.Context, id string) (Record, bool, error)
}

// Hooks observe; each may be nil.
type Hooks struct {
	Started func(key Key, took time.Duration, err error)
	Ended   func(key Key, reason string)
}

// Options of a Launcher.
type Options struct {
	Clusters     map[string]engines.Cluster
	Drivers      map[engines.Kind]engines.Driver
	Store        Store
	Secret       []byte            // master secret; engine tokens are derived from it
	Memory       string            // heap of engines
	Conf         map[string]string // settings of every engine
	StartTimeout time.Duration
	IdleTimeout  time.Duration
	Lease        time.Duration
	Hooks        Hooks
	Log          *slog.Logger
}

// Launcher hands out leases on engines.
type Launcher struct {
	opt  Options
	life context.Context // ends with Run; what is started belongs to it
	stop context.CancelCauseFunc
	wait sync.WaitGroup
	// listed is closed once the engines that were there before us are known: nobody starts one beside them.
	listed chan struct{}

	mu     sync.Mutex
	byKey  map[Key]*entry
	byTag  map[engines.Tag]*entry
	closed bool
}

// New makes a Launcher. Run must be called for engines to be watched, renewed and ended.
func New(opt Options) *Launcher {
	life, stop := context.WithCancelCause(context.Background())
	return &Launcher{opt: opt, life: life, stop: stop, byKey: map[Key]*entry{}, byTag: map[engines.Tag]*entry{},
		listed: make(chan struct{})}
}

// Lease is the right to use an engine. Release must be called once.
type Lease struct {
	entry *entry
	once  sync.Once
	owner *Launcher
}

// Engine is the engine of the lease.
func (l *Lease) Engine() engines.Engine { return l.entry.engine }

// EngineID is the id under which the engine is stored and tagged.
func (l *Lease) EngineID() string { return l.entry.id }

// Version is the version of the engine's software.
func (l *Lease) Version() string { return l.entry.identity.Version }

// Done is closed when the engine is gone; Err says then why.
func (l *Lease) Done() <-chan struct{} { return l.entry.gone }

// Err returns why the engine is gone, wrapping engines.ErrLost, or nil while it is there.
func (l *Lease) Err() error {
	select {
	case <-l.entry.gone:
		return l.entry.err
	default:
		return nil
	}
}

// Release gives the engine back. An engine without a lease idles out.
func (l *Lease) Release() { l.once.Do(func() { l.owner.release(l.entry) }) }

// Acquire returns a lease on the engine of the key, starting one if there is none. The start belongs to the launcher:
// a caller that goes away leaves it to the others. report is told in words what is being waited for.
func (l *Launcher) Acquire(ctx context.Context, req Request, report func(string)) (*Lease, error) {
	select {
	case <-l.listed:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	e, err := l.entry(req)
	if err != nil {
		return nil, err
	}
	defer e.listen(report)()
	select {
	case <-e.ready:
		return &Lease{entry: e, owner: l}, nil
	case <-e.gone:
		l.release(e)
		return nil, e.err
	case <-ctx.Done():
		l.release(e)
		return nil, context.Cause(ctx)
	}
}

// entry finds the engine of the key or begins to start one; the caller holds a use of it.
func (l *Launcher) entry(req Request) (*entry, error) {
	cluster, ok := l.opt.Clusters[req.Key.Cluster]
	if !ok {
		return nil, fmt.Errorf("there is no cluster %q", req.Key.Cluster)
	}
	driver, ok := l.opt.Drivers[req.Key.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no driver for engines of kind %q", req.Key.Kind)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the gateway is stopping")
	}
	if e := l.byKey[req.Key]; e != nil {
		e.uses++
		return e, nil
	}
	e := newEntry(req, uuid.NewString(), cluster, driver)
	l.byKey[req.Key], l.byTag[engines.Tag(e.id)] = e, e
	l.wait.Add(1)
	go func() {
		defer l.wait.Done()
		l.start(e, req)
	}()
	return e, nil
}

func (l *Launcher) release(e *entry) {
	l.mu.Lock()
	e.uses--
	e.idleSince = time.Now()
	over := e.key.Level == Connection && e.uses == 0 && e.isReady() && !l.closed
	if over {
		l.wait.Add(1)
	}
	l.mu.Unlock()
	if over { // nobody else can ever want it
		go func() {
			defer l.wait.Done()
			l.retire(e, fmt.Errorf("%w: its session ended", engines.ErrLost))
		}()
	}
}

// token derives an engine's secret, so that any gateway with the master secret can reach any engine.
func (l *Launcher) token(id string) string {
	mac := hmac.New(sha256.New, l.opt.Secret)
	mac.Write([]byte("engine:" + id))
	return hex.EncodeToString(mac.Sum(nil))
}

// start brings an engine up: 1 plan, 2 store, 3 submit, 4 wait for its address, 5 ask it who it is.
func (l *Launcher) start(e *entry, req Request) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(l.life, l.opt.StartTimeout,
		fmt.Errorf("the engine did not start within engine.start_timeout (%s)", l.opt.StartTimeout))
	defer cancel()
	err := l.bringUp(ctx, e, req)
	if l.opt.Hooks.Started != nil {
		l.opt.Hooks.Started(e.key, time.Since(began), err)
	}
	if err != nil {
		l.forget(e, fmt.Errorf("start an engine on cluster %s: %w", e.key.Cluster, err))
		l.kill(e)
		return
	}
	e.tell(fmt.Sprintf("Engine %s is ready: Spark %s on cluster %s, started in %.1f s", e.id, e.identity.Version, e.key.Cluster, time.Since(began).Seconds()))
	l.opt.Log.Info("engine ready", "engine", e.id, "key", e.key.String(), "took", time.Since(began))
	close(e.ready)
}

func (l *Launcher) bringUp(ctx context.Context, e *entry, req Request) error {
	e.tell(fmt.Sprintf("Starting a %s engine on cluster %s", e.key.Kind, e.key.Cluster))
	platform, err := e.cluster.Platform(ctx, e.key.Runtime, e.tell)
	if err != nil {
		return err
	}
	conf := maps.Clone(l.opt.Conf)
	if conf == nil {
		conf = map[string]string{}
	}
	maps.Copy(conf, req.Conf)
	plan, err := e.driver.Plan(engines.Spec{ID: e.id, User: e.user, Name: req.Name, Memory: l.opt.Memory, Conf: conf, Token: l.token(e.id)}, platform)
	if err != nil {
		return err
	}
	if err := l.save(ctx, e, engines.App{Tag: plan.Tag, State: engines.Pending}); err != nil {
		return err
	}
	app, err := e.cluster.Submit(ctx, plan)
	if err != nil {
		return err
	}
	l.observe(e, app)
	return l.connect(ctx, e)
}

// connect waits for the engine's address and asks it who it is.
func (l *Launcher) connect(ctx context.Context, e *entry) error {
	address, err := e.address(ctx)
	if err != nil {
		return l.explain(e, err)
	}
	e.engine, err = e.driver.Dial(ctx, engines.Endpoint{Address: address, Token: l.token(e.id)})
	if err != nil {
		return err
	}
	e.identity, err = e.engine.Identify(ctx)
	if err != nil {
		return l.explain(e, err)
	}
	if e.identity.Tag != engines.Tag(e.id) {
		return fmt.Errorf("%w: at %s we expected %s and met %q", engines.ErrDenied, address, e.id, e.identity.Tag)
	}
	return nil
}

// explain adds the engine's own root cause to a failed start, and where its log is.
func (l *Launcher) explain(e *entry, err error) error {
	app := e.last()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), 5*time.Second)
	defer cancel()
	cause := ""
	if log, lerr := e.cluster.Log(ctx, engines.Tag(e.id), 256<<10); lerr == nil {
		cause = e.driver.RootCause(log)
	}
	if cause != "" {
		err = fmt.Errorf("%w: %s", err, cause)
	}
	if app.Log != "" {
		err = fmt.Errorf("%w (its log: %s)", err, app.Log)
	}
	return err
}

func (l *Launcher) save(ctx context.Context, e *entry, app engines.App) error {
	return l.opt.Store.SaveEngine(ctx, Record{ID: e.id, Key: e.key.String(), Cluster: e.key.Cluster, Kind: string(e.key.Kind),
		User: e.user, App: app, CreatedAt: e.created})
}

// observe takes in what a cluster tells of an engine.
func (l *Launcher) observe(e *entry, app engines.App) {
	if !e.observe(app) {
		return
	}
	if err := l.save(context.WithoutCancel(l.life), e, app); err != nil {
		l.opt.Log.Warn("cannot store the state of an engine", "engine", e.id, "error", err)
	}
	if app.State == engines.Ended && e.isReady() {
		l.forget(e, fmt.Errorf("%w: %s (its log: %s)", engines.ErrLost, app.Reason, app.Log))
	}
}

// forget takes an engine out of the tables and tells everybody who waits for it or uses it.
func (l *Launcher) forget(e *entry, why error) {
	l.mu.Lock()
	if l.byKey[e.key] == e {
		delete(l.byKey, e.key)
	}
	l.mu.Unlock()
	if e.end(why) {
		l.opt.Log.Info("engine gone", "engine", e.id, "key", e.key.String(), "reason", why)
		if l.opt.Hooks.Ended != nil {
			l.opt.Hooks.Ended(e.key, why.Error())
		}
	}
}

// kill ends the application of an engine that is no longer in the tables.
func (l *Launcher) kill(e *entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), 30*time.Second)
	defer cancel()
	if err := e.cluster.Kill(ctx, engines.Tag(e.id)); err != nil {
		l.opt.Log.Warn("cannot end an engine; its lease will", "engine", e.id, "error", err)
	}
	if e.engine != nil {
		_ = e.engine.Close()
	}
	l.mu.Lock()
	delete(l.byTag, engines.Tag(e.id))
	l.mu.Unlock()
}

// Run finds the engines that a gateway before this one has left, watches the clusters, renews leases and ends idle engines
// until ctx ends. Then it ends the engines it has.
func (l *Launcher) Run(ctx context.Context) error {
	watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var g errgroup.Group
	for name, c := range l.opt.Clusters {
		events, err := c.Watch(watch)
		if err != nil {
			return fmt.Errorf("watch cluster %s: %w", name, err)
		}
		g.Go(func() error {
			for ev := range events {
				l.mu.Lock()
				e := l.byTag[ev.App.Tag]
				l.mu.Unlock()
				if e != nil {
					l.observe(e, ev.App)
				}
			}
			return nil
		})
	}
	l.adopt(ctx)
	close(l.listed)
	tick := time.NewTicker(min(l.opt.Lease/3, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.renew(ctx)
			l.endIdle()
		case <-ctx.Done():
			l.endAll()
			cancel()
			return g.Wait()
		}
	}
}

func (l *Launcher) snapshot() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*entry, 0, len(l.byTag))
	for _, e := range l.byTag {
		all = append(all, e)
	}
	return all
}

func (l *Launcher) renew(ctx context.Context) {
	for _, e := range l.snapshot() {
		if err := e.cluster.Renew(ctx, engines.Tag(e.id)); err != nil && ctx.Err() == nil {
			l.opt.Log.Warn("cannot renew the lease of an engine", "engine", e.id, "error", err)
		}
	}
}

func (l *Launcher) endIdle() {
	now := time.Now()
	for _, e := range l.snapshot() {
		l.mu.Lock()
		idle := e.uses == 0 && e.isReady() && now.Sub(e.idleSince) > l.opt.IdleTimeout
		if idle && l.byKey[e.key] == e {
			delete(l.byKey, e.key) // nobody gets it any more
		}
		l.mu.Unlock()
		if idle {
			l.retire(e, fmt.Errorf("%w: nobody has used it for engine.idle_timeout (%s)", engines.ErrLost, l.opt.IdleTimeout))
		} else if e.isGone() {
			l.retire(e, e.err)
		}
	}
}

func (l *Launcher) retire(e *entry, why error) {
	l.forget(e, why)
	l.kill(e)
}

func (l *Launcher) endAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	why := errors.New("the gateway is stopping")
	l.stop(why)
	l.wait.Wait()
	var g errgroup.Group
	for _, e := range l.snapshot() {
		g.Go(func() error { l.retire(e, fmt.Errorf("%w: %w", engines.ErrLost, why)); return nil })
	}
	_ = g.Wait()
}

// Counts tells how many engines there are in each state.
func (l *Launcher) Counts() (starting, ready, used int) {
	for _, e := range l.snapshot() {
		l.mu.Lock()
		inUse := e.uses > 0
		l.mu.Unlock()
		switch {
		case e.isGone():
		case e.isReady():
			ready++
			if inUse {
				used++
			}
		default:
			starting++
		}
	}
	return starting, ready, used
}
