// Package worker is the shuffle worker: it takes pushes of stock Celeborn clients, replicates them, commits partitions and serves
// their chunks. What it keeps is in package store; here are its ports.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// Options of a worker.
type Options struct {
	// Host is how executors and other workers reach this machine; Bind is the address to listen on, Host if empty.
	Host, Bind string
	// Ports; 0 takes a free one. A worker that comes back must have the ports it had to serve what it holds.
	RPC, Push, Fetch, Replicate int
	HTTP                        string   // address of /metrics and /healthz; empty for none
	Masters                     []string // host:port
	Rack                        string
	Heartbeat                   time.Duration
	Store                       store.Options
	Log                         *slog.Logger
}

// Worker is a running worker.
type Worker struct {
	opts        Options
	log         *slog.Logger
	id          wire.WorkerID
	incarnation string
	store       *store.Store
	listeners   map[string]net.Listener
	http        net.Listener
	peers       *peers
	pushes      conns
	fetches     conns
	metrics     *metrics
	registry    *prometheus.Registry
	masters     []*master
}

// New opens the worker's store and its ports. Run must be called.
func New(o Options) (*Worker, error) {
	o.Heartbeat = cmp.Or(o.Heartbeat, time.Second/2)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Host == "" {
		return nil, errors.New("a shuffle worker needs the name by which executors reach it (--host)")
	}
	o.Store.Log = o.Log
	w := &Worker{opts: o, log: o.Log, incarnation: uuid.NewString(), listeners: map[string]net.Listener{}, registry: prometheus.NewRegistry()}
	if err := w.listen(); err != nil {
		w.close()
		return nil, err
	}
	var err error
	if w.store, err = store.Open(o.Store); err != nil { // after the ports: a second worker of this address stops before it touches the data
		w.close()
		return nil, err
	}
	for _, m := range o.Masters {
		w.masters = append(w.masters, &master{w: w, address: m})
	}
	w.metrics = newMetrics(w)
	return w, nil
}

func (w *Worker) listen() error {
	bind := cmp.Or(w.opts.Bind, w.opts.Host)
	w.id.Host = w.opts.Host
	var lc net.ListenConfig
	for _, p := range []struct {
		name string
		port int
		into *int32
	}{{"rpc", w.opts.RPC, &w.id.RPC}, {"push", w.opts.Push, &w.id.Push}, {"fetch", w.opts.Fetch, &w.id.Fetch}, {"replicate", w.opts.Replicate, &w.id.Replicate}} {
		ln, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(bind, strconv.Itoa(p.port)))
		if err != nil {
			return fmt.Errorf("--%s-port: %w", p.name, err)
		}
		w.listeners[p.name] = ln
		*p.into = int32(ln.Addr().(*net.TCPAddr).Port)
	}
	if w.opts.HTTP != "" {
		ln, err := lc.Listen(context.Background(), "tcp", w.opts.HTTP)
		if err != nil {
			return fmt.Errorf("--http: %w", err)
		}
		w.http = ln
	}
	return nil
}

func (w *Worker) close() {
	for _, ln := range w.listeners {
		_ = ln.Close()
	}
	if w.http != nil {
		_ = w.http.Close()
	}
}

// ID is who the worker is to clients.
func (w *Worker) ID() wire.WorkerID { return w.id }

// HTTPAddress is where /metrics and /healthz are, or empty.
func (w *Worker) HTTPAddress() string {
	if w.http == nil {
		return ""
	}
	return w.http.Addr().String()
}

// Run serves until the context ends.
func (w *Worker) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	w.peers = &peers{ctx: ctx, dial: dialTCP}
	w.log.Info("shuffle worker serves", "worker", w.id.String(), "incarnation", w.incarnation, "http", w.HTTPAddress())
	serve := func(name string, cs *conns, f func(context.Context, *conn)) {
		group.Go(func() error {
			return rpc.Accept(ctx, w.listeners[name], func(ctx context.Context, c net.Conn) {
				cs.serve(c, func(k *conn) { f(ctx, k) })
			})
		})
	}
	serve("push", &w.pushes, func(ctx context.Context, c *conn) { (&pusher{w: w, c: c, mode: wire.Primary}).serve(ctx) })
	serve("replicate", &w.pushes, func(ctx context.Context, c *conn) { (&pusher{w: w, c: c, mode: wire.Replica}).serve(ctx) })
	serve("fetch", &w.fetches, func(ctx context.Context, c *conn) { (&fetcher{w: w, c: c}).serve(ctx) })
	group.Go(func() error {
		s := &rpc.Server{Endpoints: map[string]rpc.Handler{wire.WorkerEndpoint: w.control}, Log: w.log}
		return s.Serve(ctx, w.listeners["rpc"])
	})
	group.Go(func() error { w.store.Run(ctx); return nil })
	group.Go(func() error { w.pushes.beats(ctx); return nil })
	group.Go(func() error { w.fetches.beats(ctx); return nil })
	for _, m := range w.masters {
		group.Go(func() error { m.run(ctx); return nil })
	}
	if w.http != nil {
		group.Go(func() error { return w.serveHTTP(ctx) })
	}
	err := group.Wait()
	w.peers.run.Wait()
	w.store.Close()
	return err
}

func (w *Worker) serveHTTP(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(w.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(out http.ResponseWriter, _ *http.Request) {
		if problem := w.problem(); problem != "" {
			http.Error(out, problem, http.StatusServiceUnavailable)
			return
		}
		_, _ = out.Write([]byte("ok\n"))
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(w.http); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// problem is why the worker is of no use now, or empty.
func (w *Worker) problem() string {
	usable := false
	reason := "no disk"
	for _, d := range w.store.Disks() {
		usable = usable || d.Problem == ""
		reason = cmp.Or(d.Problem, reason)
	}
	if !usable {
		return "no disk takes data: " + reason
	}
	for _, m := range w.masters {
		if m.connected.Load() {
			return ""
		}
	}
	if len(w.masters) > 0 {
		return "no master answers"
	}
	return ""
}
