// Package gateway puts the rooms together: it makes a gateway from its configuration, runs it, and stops it in reverse.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/engines/local"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/engines/spark/dist"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/gateway/hs2"
	"github.com/sluicedata/sluice/gateway/ops"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/session"
	"github.com/sluicedata/sluice/gateway/spool"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
)

// Gateway is a gateway that listens, but does not serve yet.
type Gateway struct {
	cfg       config.Config
	log       *slog.Logger
	locks     []*os.File
	store     *store.Store
	replica   *replica.Replica
	clusters  map[string]engines.Cluster
	launcher  *launch.Launcher
	sessions  *session.Manager
	hs2       *hs2.Server
	metrics   *metrics
	audit     *audit
	thrift    net.Listener
	http      net.Listener
	endpoints string // the file that tells the ports
}

// Endpoints is what data_dir/endpoints.json holds: where a gateway really listens, for those who asked for any port.
type Endpoints struct {
	Thrift string `json:"thrift"`
	HTTP   string `json:"http"`
	PID    int    `json:"pid"`
}

// New makes a gateway from a valid configuration and opens its ports. supervise is the command that runs the
// supervisor of a local engine.
func New(ctx context.Context, cfg config.Config, supervise []string, log *slog.Logger) (_ *Gateway, err error) {
	g := &Gateway{cfg: cfg, log: log, metrics: newMetrics()}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	spoolDir := cfg.Spool.Dir
	if spoolDir == "" {
		spoolDir = filepath.Join(cfg.DataDir, "spool")
	}
	for _, d := range []struct{ key, dir, env string }{{"data_dir", cfg.DataDir, "SLUICE_DATA_DIR"}, {"spool.dir", spoolDir, "SLUICE_SPOOL_DIR"}} {
		lock, err := lockDir(d.key, d.dir, d.env)
		if err != nil {
			return nil, err
		}
		g.locks = append(g.locks, lock)
	}
	secret, err := masterSecret(cfg)
	if err != nil {
		return nil, err
	}
	at := cfg.Store.URL
	if at == "" {
		at = filepath.Join(cfg.DataDir, "sluice.db")
	}
	if g.store, err = store.Open(ctx, at); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	authenticator, err := newAuthenticator(cfg, log)
	if err != nil {
		return nil, err
	}
	proxies, err := cfg.Auth.ProxyRules()
	if err != nil {
		return nil, err
	}
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(sdktrace.NewTracerProvider()) // ids for tags and logs; nothing is exported

	if err := g.listen(ctx); err != nil {
		return nil, err
	}
	if err := g.join(ctx); err != nil {
		return nil, err
	}
	if g.audit, err = g.newAudit(); err != nil {
		return nil, err
	}
	g.clusters = newClusters(cfg, supervise, log)
	g.launcher = launch.New(launch.Options{
		Clusters: g.clusters, Drivers: map[engines.Kind]engines.Driver{spark.Kind: spark.Driver{}},
		Store: replica.Engines{Replica: g.replica}, Secret: secret, Memory: cfg.Engine.Memory, Conf: cfg.Engine.Conf,
		StartTimeout: cfg.Engine.StartTimeout, IdleTimeout: cfg.Engine.IdleTimeout, MaxLifetime: cfg.Engine.MaxLifetime,
		DrainTimeout: cfg.Engine.DrainTimeout, Lease: cfg.Engine.Lease, Hooks: g.metrics.launch(), Log: log,
	})
	g.sessions = session.NewManager(session.Options{
		Store: g.store, Replica: g.replica.ID, Engines: g.launcher, Kind: spark.Kind, ShareLevel: launch.Level(cfg.Engine.ShareLevel), Route: g.route,
		Profiles: profiles(cfg), Runtimes: slices.Sorted(maps.Keys(cfg.Runtimes)), Limits: session.Limits(cfg.Limits),
		Spool: spool.Limits{Dir: spoolDir, Memory: int64(cfg.Spool.Memory), Disk: int64(cfg.Spool.Disk),
			TotalMemory: int64(cfg.Spool.TotalMemory), TotalDisk: int64(cfg.Spool.TotalDisk)},
		LogLines: cfg.Session.LogLines, QueryTimeout: cfg.Session.QueryTimeout, IdleTimeout: cfg.Session.IdleTimeout,
		OperationIdleTimeout: cfg.Session.OperationIdleTimeout, Hooks: g.audit.sessions(g.metrics.sessions()), Log: log,
	})
	if err := g.keepWarm(); err != nil {
		return nil, err
	}
	g.metrics.watch(g.sessions, g.launcher, g.audit.trail)
	g.hs2 = hs2.New(hs2.Options{
		Sessions: g.sessions, Auth: authenticator, Proxies: proxies, OpenProxy: cfg.Auth.Mode == "none", SASL: cfg.HS2.SASL,
		MaxMessage: int64(cfg.HS2.MaxMessageSize), MaxConnections: cfg.HS2.MaxConnections, LoginTimeout: cfg.HS2.LoginTimeout,
		PollTimeout: cfg.HS2.PollTimeout, FetchBytes: int64(cfg.HS2.FetchBytes), StackTraces: cfg.HS2.StackTraces,
		CloseOnDisconnect: cfg.HS2.CloseOnDisconnect, DisconnectGrace: cfg.HS2.DisconnectGrace,
		SparkVersion: cfg.Spark.Version, Hooks: g.audit.hs2(g.metrics.hs2()), Log: log,
	})
	return g, g.announce()
}

// join makes the gateway one of those that share its store. Alone on a store of its own, or started anew in its
// directory, it knows who is gone.
func (g *Gateway) join(ctx context.Context) error {
	file := filepath.Join(g.cfg.DataDir, "replica")
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data_dir: %w", err)
	}
	g.replica, err = replica.Join(ctx, replica.Options{
		Store: g.store, Address: g.http.Addr().String(), Timeout: g.cfg.Store.ReplicaTimeout,
		Before: strings.TrimSpace(string(before)), Only: !store.IsPostgres(g.cfg.Store.URL),
		Lost: func(was string) {
			g.sessions.Lost(was)
			if err := g.remember(); err != nil {
				g.log.Warn("cannot keep who we are", "error", err)
			}
		},
		Inherited: func() {
			if err := g.adopt(context.WithoutCancel(ctx)); err != nil {
				g.log.Warn("cannot take over sessions", "error", err)
			}
		},
		Log: g.log,
	})
	if err != nil {
		return err
	}
	return g.remember()
}

// remember keeps who we are for the gateway that is started here after us.
func (g *Gateway) remember() error {
	return writeFile(filepath.Join(g.cfg.DataDir, "replica"), []byte(g.replica.ID()+"\n"))
}

// adopt takes over the sessions that became ours.
func (g *Gateway) adopt(ctx context.Context) error {
	adopted, err := g.sessions.Adopt(ctx)
	g.hs2.Adopted(adopted)
	return err
}

func profiles(cfg config.Config) map[string]session.Profile {
	out := map[string]session.Profile{}
	for name, p := range cfg.Profiles {
		out[name] = session.Profile{Cluster: p.Cluster, Runtime: p.Runtime, ShareLevel: p.ShareLevel, Memory: p.Memory, Conf: p.Conf, InitSQL: p.InitSQL, Engines: p.Engines}
	}
	return out
}

// keepWarm tells the launcher which engines are to be ready before anybody asks.
func (g *Gateway) keepWarm() error {
	for _, name := range slices.Sorted(maps.Keys(g.cfg.Profiles)) {
		p := g.cfg.Profiles[name]
		if !p.Warm {
			continue
		}
		for _, owner := range strings.Split(p.WarmFor, ",") {
			req, err := g.sessions.WarmRequest(name, strings.TrimSpace(owner), g.cfg.Engine.Cluster)
			if err != nil {
				return fmt.Errorf("profiles.%s.warm: %w", name, err)
			}
			g.launcher.KeepWarm(req)
		}
	}
	return nil
}

func newAuthenticator(cfg config.Config, log *slog.Logger) (auth.Authenticator, error) {
	if cfg.Auth.Mode == "file" {
		return auth.NewFile(cfg.Auth.File, log)
	}
	return auth.None{}, nil
}

func newClusters(cfg config.Config, supervise []string, log *slog.Logger) map[string]engines.Cluster {
	out := map[string]engines.Cluster{}
	runtimes := newRuntimes(cfg)
	for name, c := range cfg.Clusters {
		dir := c.Dir
		if dir == "" {
			dir = filepath.Join(cfg.DataDir, "clusters", name)
		}
		out[name] = local.New(local.Options{
			Name: name, Dir: dir, Cores: c.Cores, Lease: cfg.Engine.Lease, Supervise: supervise,
			Runtime: runtimes.find, Closed: c.ClosedNetwork, Log: log,
		})
	}
	return out
}

// runtimes are the Sparks that engines may run from, by their names; the default one has none.
type runtimes map[string]dist.Wanted

func newRuntimes(cfg config.Config) runtimes {
	out := runtimes{"": dist.Default(cfg.Spark.Home, cfg.Spark.Version, cfg.Spark.JavaHome)}
	for name, r := range cfg.Runtimes {
		out[name] = dist.Wanted{Key: "runtimes." + name, Home: r.Home, Version: r.Version, JavaHome: r.JavaHome}
	}
	return out
}

func (r runtimes) find(ctx context.Context, name string, report func(string)) (local.Runtime, error) {
	wanted, ok := r[name]
	if !ok {
		return local.Runtime{}, fmt.Errorf("runtimes.%s: there is no such runtime any more", name)
	}
	home, version, err := wanted.Spark(ctx, report)
	if err != nil {
		return local.Runtime{}, err
	}
	java, err := wanted.Java(version)
	return local.Runtime{Home: home, Version: version, Java: java}, err
}

// route asks the router with what is known of the clusters now.
func (g *Gateway) route(user, wish string) (router.Decision, error) {
	var states []router.State
	for name, c := range g.cfg.Clusters {
		states = append(states, router.State{Name: name, Kind: c.Kind})
	}
	return router.Named{Default: g.cfg.Engine.Cluster}.Pick(router.Request{User: user, Cluster: wish}, states)
}

func (g *Gateway) listen(ctx context.Context) (err error) {
	var lc net.ListenConfig
	if g.thrift, err = lc.Listen(ctx, "tcp", g.cfg.Listen.Thrift); err != nil {
		return fmt.Errorf("listen.thrift: %w", inUse(err, "SLUICE_LISTEN_THRIFT"))
	}
	if g.http, err = lc.Listen(ctx, "tcp", g.cfg.Listen.HTTP); err != nil {
		return fmt.Errorf("listen.http: %w", inUse(err, "SLUICE_LISTEN_HTTP"))
	}
	return nil
}

// announce tells in a file where the gateway listens.
func (g *Gateway) announce() error {
	data, err := json.MarshalIndent(g.Endpoints(), "", "  ")
	if err != nil {
		return err
	}
	g.endpoints = filepath.Join(g.cfg.DataDir, "endpoints.json")
	return writeFile(g.endpoints, append(data, '\n'))
}

func inUse(err error, env string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another process has the port; choose another one there or with %s (port 0 is any free one)", err, env)
	}
	return err
}

// writeFile writes at once: whoever reads the file sees all of it.
func writeFile(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Endpoints tells where the gateway listens.
func (g *Gateway) Endpoints() Endpoints {
	return Endpoints{Thrift: g.thrift.Addr().String(), HTTP: g.http.Addr().String(), PID: os.Getpid()}
}

// Run serves until ctx ends, then stops in reverse: no new work, the statements that run for a while, the connections,
// the sessions, the engines.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.close()
	e := g.Endpoints()
	g.log.Info("gateway serves", "thrift", e.Thrift, "http", e.HTTP, "data_dir", g.cfg.DataDir, "auth", g.cfg.Auth.Mode)

	if err := g.adopt(ctx); err != nil {
		return err
	}

	// Each layer ends when the one above it is gone.
	engineCtx, stopEngines := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngines()
	trailCtx, stopTrail := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTrail()
	sessionCtx, stopSessions := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSessions()
	frontLife, stopFront := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFront()
	front, frontCtx := errgroup.WithContext(frontLife)
	var sessions, engines, trail errgroup.Group
	trail.Go(func() error { return g.audit.trail.Run(trailCtx) })
	engines.Go(func() error { return g.launcher.Run(engineCtx) })
	engines.Go(func() error { return g.replica.Run(engineCtx) })
	sessions.Go(func() error { return g.sessions.Run(sessionCtx) })
	front.Go(func() error { return g.hs2.Serve(frontCtx, g.thrift) })
	front.Go(func() error {
		select {
		case <-ctx.Done():
			g.drain(frontCtx)
		case <-frontCtx.Done():
		}
		stopFront()
		return nil
	})
	front.Go(func() error {
		return ops.Serve(frontCtx, g.http, ops.Handler(g.metrics.registry, g.checks(), map[string]http.Handler{"/cliservice": g.hs2}), g.log)
	})

	err := front.Wait()
	stopSessions()
	err = errors.Join(err, sessions.Wait())
	stopEngines()
	err = errors.Join(err, engines.Wait())
	stopTrail()
	err = errors.Join(err, trail.Wait())
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if lerr := g.replica.Leave(left); lerr != nil {
		g.log.Warn("cannot leave the replicas; the others will notice", "error", lerr)
	}
	return err
}

// drain lets the statements that run end, for a while.
func (g *Gateway) drain(ctx context.Context) {
	g.log.Info("gateway stops: new work is refused", "grace", g.cfg.ShutdownGrace)
	_ = g.thrift.Close() // nobody comes in any more
	ctx, cancel := context.WithTimeout(ctx, g.cfg.ShutdownGrace)
	defer cancel()
	g.sessions.Drain(ctx)
}

// checks are what must have been seen before the gateway is ready.
func (g *Gateway) checks() []ops.Check {
	checks := []ops.Check{{Name: "store", See: g.store.Ping}, {Name: "gateway", See: func(context.Context) error {
		if g.sessions.Stopping() {
			return errors.New("it is stopping")
		}
		return nil
	}}}
	for _, name := range slices.Sorted(maps.Keys(g.clusters)) {
		c := g.clusters[name]
		checks = append(checks, ops.Check{Name: "cluster " + name, See: func(ctx context.Context) error {
			_, err := c.List(ctx)
			return err
		}})
	}
	return checks
}

func (g *Gateway) close() {
	for _, l := range []net.Listener{g.thrift, g.http} {
		if l != nil {
			_ = l.Close()
		}
	}
	if g.endpoints != "" {
		_ = os.Remove(g.endpoints)
	}
	if g.audit != nil {
		g.audit.close()
	}
	for name, c := range g.clusters {
		if err := c.Close(); err != nil {
			g.log.Warn("cannot close a cluster", "cluster", name, "error", err)
		}
	}
	if g.store != nil {
		_ = g.store.Close()
	}
	for _, l := range g.locks {
		_ = l.Close()
	}
}

// lockDir makes a directory and keeps a second gateway out of it.
func lockDir(key, dir, env string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: another gateway uses %s; stop it, or give this one a directory of its own with %s", key, dir, env)
	}
	return f, nil
}

// masterSecret is the configured one, or one that is made once and kept.
func masterSecret(cfg config.Config) ([]byte, error) {
	if cfg.Secret != "" {
		return []byte(cfg.Secret), nil
	}
	file := filepath.Join(cfg.DataDir, "secret")
	data, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(data))) >= 32 {
		return []byte(strings.TrimSpace(string(data))), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the master secret: %w", err)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	secret := []byte(hex.EncodeToString(raw))
	return secret, writeFile(file, append(secret, '\n'))
}
