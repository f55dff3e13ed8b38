// Package gateway puts the rooms together: it makes a gateway from its configuration, runs it, and stops it in reverse.
package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/sync/errgroup"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/admission"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/gateway/hs2"
	"github.com/sluicedata/sluice/gateway/ops"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/rest"
	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/gateway/session"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router/watch"
)

// Gateway is a gateway that listens, but does not serve yet.
type Gateway struct {
	cfg       config.Config
	log       *slog.Logger
	locks     []*os.File
	store     *store.Store
	replica   *replica.Replica
	clusters  map[string]engines.Cluster
	router    *route.Router
	gate      *admission.Gate
	watch     *watch.Watch
	record    *lumberjack.Logger // of the router's decisions; nil if they are not recorded
	recorder  *route.Recorder
	launcher  *launch.Launcher
	sessions  *session.Manager
	auth      auth.Authenticator
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
	TLS    bool   `json:"tls"`
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
	secret, err := g.openData(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.listen(ctx); err != nil {
		return nil, err
	}
	if err := g.join(ctx, secret); err != nil {
		return nil, err
	}
	if g.audit, err = g.newAudit(); err != nil {
		return nil, err
	}
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(sdktrace.NewTracerProvider()) // ids for tags and logs; nothing is exported

	if g.clusters, err = newClusters(cfg, secret, supervise, log); err != nil {
		return nil, err
	}
	if err := g.newRouter(ctx); err != nil {
		return nil, err
	}
	g.gate = g.newGate()
	g.launcher = g.newLauncher(secret)
	g.sessions = g.newSessions()
	if err := g.keepWarm(); err != nil {
		return nil, err
	}
	if g.hs2, err = g.newHS2(secret); err != nil {
		return nil, err
	}
	g.metrics.watch(g.sessions, g.launcher, g.audit.trail, g.gate)
	g.metrics.recorder(g.recorder)
	return g, g.announce()
}

func (g *Gateway) listen(ctx context.Context) (err error) {
	// Health checks have no certificate to show, so over HTTP the front end is what asks for one.
	if g.thrift, err = g.open(ctx, "listen.thrift", g.cfg.Listen.Thrift, "SLUICE_LISTEN_THRIFT", tls.RequireAndVerifyClientCert); err != nil {
		return err
	}
	g.http, err = g.open(ctx, "listen.http", g.cfg.Listen.HTTP, "SLUICE_LISTEN_HTTP", tls.VerifyClientCertIfGiven)
	return err
}

func (g *Gateway) open(ctx context.Context, key, address, env string, clients tls.ClientAuthType) (net.Listener, error) {
	var conf *tls.Config
	if g.cfg.TLS.Cert != "" {
		var err error
		if conf, err = newTLS(g.cfg.TLS, clients, g.log); err != nil {
			return nil, err
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, inUse(err, env))
	}
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	return l, nil
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
	return Endpoints{Thrift: g.thrift.Addr().String(), HTTP: g.http.Addr().String(), TLS: g.cfg.TLS.Cert != "", PID: os.Getpid()}
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
	g.runRouter(engineCtx, &engines)
	engines.Go(func() error { return g.gate.Run(engineCtx) })
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
		return ops.Serve(frontCtx, g.http, g.pages(), g.log)
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

// pages are what the HTTP port answers.
func (g *Gateway) pages() http.Handler {
	frontEnds := map[string]http.Handler{}
	for _, path := range hs2.Paths(g.cfg.HS2.HTTPPath) {
		frontEnds[path] = g.hs2
	}
	for name, c := range g.clusters {
		if k, ok := c.(*kube.Cluster); ok {
			frontEnds[filesPath(name)+"/*file"] = http.StripPrefix(filesPath(name), k.Files())
		}
	}
	admins := auth.NewAdmins(g.cfg.Auth.AdminUsers, g.cfg.Auth.AdminGroups)
	frontEnds[rest.Prefix+"/*page"] = rest.Handler(rest.Options{Auth: g.auth, Admins: admins, Router: g.router})
	return ops.Handler(ops.Options{Registry: g.metrics.registry, Checks: g.checks(), FrontEnds: frontEnds, Admin: ops.NewAdmin(g.auth, admins)})
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
	if g.watch != nil {
		g.watch.Close()
	}
	if g.record != nil {
		_ = g.record.Close()
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
