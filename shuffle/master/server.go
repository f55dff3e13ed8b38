package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

const (
	tick = time.Second
	// slotsWait is how long a request waits for workers that may come. A 0.5 driver asks twice at once and each executor makes it
	// do so three times, 3 s apart; then the task fails, and when it asks whether workers are there and none is, the job quietly
	// does without this service. An ask may take 60 s.
	slotsWait = 10 * time.Second
	stopTime  = 5 * time.Second
	headTime  = 10 * time.Second
)

// Server is a master on its two ports.
type Server struct {
	log *slog.Logger

	mu      sync.Mutex
	state   *State
	links   map[wire.WorkerID]link
	changed chan struct{} // closed when a worker became available
}

// link is the connection over which a worker's heartbeats come. All requests of a connection have one context.
type link struct {
	conn        <-chan struct{}
	incarnation string
}

// NewServer makes a master that starts now. What happens to workers and applications is logged.
func NewServer(opt Options, log *slog.Logger) *Server {
	if opt.Incarnation == "" {
		opt.Incarnation = uuid.NewString()
	}
	if opt.On == nil {
		opt.On = func(e Event) { logEvent(log, e) }
	}
	return &Server{log: log, state: New(time.Now(), opt), links: map[wire.WorkerID]link{}, changed: make(chan struct{})}
}

func logEvent(log *slog.Logger, e Event) {
	level := slog.LevelInfo
	switch e.Kind {
	case "worker silent", "worker lost", "worker excluded", "slots refused", "expiry held", "paused", "application back":
		level = slog.LevelWarn
	}
	args := []any{"why", e.Text}
	if e.Worker != "" {
		args = append(args, "worker", e.Worker)
	}
	if e.App != "" {
		args = append(args, "app", e.App)
	}
	log.Log(context.Background(), level, "shuffle "+e.Kind, args...)
}

// Run listens on the two addresses and serves until the context ends.
func (s *Server) Run(ctx context.Context, address, httpAddress string) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for drivers and workers (--listen): %w", err)
	}
	hl, err := lc.Listen(ctx, "tcp", httpAddress)
	if err != nil {
		_ = ln.Close()
		return fmt.Errorf("listen for metrics (--http): %w", err)
	}
	s.log.Info("shuffle master serves", "rpc", ln.Addr(), "http", hl.Addr())
	return s.Serve(ctx, ln, hl)
}

// Serve serves on listeners until the context ends; it closes them.
func (s *Server) Serve(ctx context.Context, ln, httpLn net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	srv := &rpc.Server{Endpoints: map[string]rpc.Handler{wire.MasterEndpoint: s.handle}, Log: s.log}
	g.Go(func() error { return srv.Serve(ctx, ln) })
	g.Go(func() error { return s.serveHTTP(ctx, httpLn) })
	g.Go(func() error {
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
				s.locked(func(now time.Time) { s.state.Tick(now) })
			}
		}
	})
	return g.Wait()
}

func (s *Server) serveHTTP(ctx context.Context, ln net.Listener) error {
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{see: func() (status *pb.StatusResponse, counts Counts) {
		s.locked(func(now time.Time) { status, counts = s.state.Status(now), s.state.Counts() })
		return status, counts
	}})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headTime, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		bg, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		_ = srv.Shutdown(bg)
	})
	err := srv.Serve(ln)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics on %s: %w", ln.Addr(), err)
}

// locked calls f with the state held.
func (s *Server) locked(f func(now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(time.Now())
}

// handle answers one message to the master's endpoint. Whatever will stay wrong is an answer with a status, because a driver asks
// again fifteen times on an error.
func (s *Server) handle(ctx context.Context, t wire.MessageType, payload []byte) (wire.MessageType, proto.Message, error) {
	switch t {
	case wire.HeartbeatFromWorker:
		return answer(s, payload, wire.HeartbeatFromWorkerResponse, &pb.HeartbeatFromWorker{}, func(now time.Time, m *pb.HeartbeatFromWorker) proto.Message {
			return s.workerHeartbeat(ctx, now, m)
		})
	case wire.HeartbeatFromApplication:
		m, err := rpc.Unmarshal(payload, &pb.HeartbeatFromApplication{})
		if err != nil {
			return 0, nil, err
		}
		var out proto.Message
		s.locked(func(now time.Time) { out = s.state.ApplicationHeartbeat(now, m) })
		if !m.GetShouldResponse() {
			return wire.OneWayMessageResponse, nil, nil
		}
		return wire.HeartbeatFromApplicationResponse, out, nil
	case wire.RegisterApplicationInfo:
		m, err := rpc.Unmarshal(payload, &pb.RegisterApplicationInfo{})
		if err == nil {
			s.locked(func(now time.Time) { s.state.RegisterApplicationInfo(now, m) })
		}
		return wire.OneWayMessageResponse, nil, err
	case wire.RequestSlots:
		m, err := rpc.Unmarshal(payload, &pb.RequestSlots{})
		if err != nil {
			return 0, nil, err
		}
		out, err := s.requestSlots(ctx, m)
		return wire.RequestSlotsResponse, out, err
	case wire.CheckWorkersAvailable:
		ok, err := s.await(ctx, func(now time.Time) bool { return s.state.CheckWorkersAvailable(now) })
		return wire.CheckWorkersAvailableResponse, &pb.CheckWorkersAvailableResponse{Available: ok}, err
	case wire.CheckQuota:
		return answer(s, payload, wire.CheckQuotaResponse, &pb.CheckQuota{}, func(now time.Time, m *pb.CheckQuota) proto.Message { return s.state.CheckQuota(now, m) })
	}
	return s.handleRest(t, payload)
}

func (s *Server) handleRest(t wire.MessageType, payload []byte) (wire.MessageType, proto.Message, error) {
	switch t {
	case wire.UnregisterShuffle:
		return answer(s, payload, wire.UnregisterShuffleResponse, &pb.UnregisterShuffle{}, func(now time.Time, m *pb.UnregisterShuffle) proto.Message { return s.state.Unregister(now, m) })
	case wire.BatchUnregisterShuffles:
		return answer(s, payload, wire.BatchUnregisterShuffleResponse, &pb.BatchUnregisterShuffles{}, func(now time.Time, m *pb.BatchUnregisterShuffles) proto.Message {
			return s.state.BatchUnregister(now, m)
		})
	case wire.ApplicationLost:
		return answer(s, payload, wire.ApplicationLostResponse, &pb.ApplicationLost{}, func(now time.Time, m *pb.ApplicationLost) proto.Message { return s.state.ApplicationLost(now, m) })
	case wire.ReviseLostShuffles:
		return answer(s, payload, wire.ReviseLostShufflesResponse, &pb.ReviseLostShuffles{}, func(now time.Time, m *pb.ReviseLostShuffles) proto.Message {
			return s.state.ReviseLostShuffles(now, m)
		})
	case wire.StatusRequest:
		return answer(s, payload, wire.StatusResponse, &pb.StatusRequest{}, func(now time.Time, _ *pb.StatusRequest) proto.Message { return s.state.Status(now) })
	case wire.ExcludeWorkers:
		m, err := rpc.Unmarshal(payload, &pb.ExcludeWorkers{})
		if err != nil {
			return 0, nil, err
		}
		out := &pb.ExcludeWorkersResponse{}
		s.locked(func(now time.Time) {
			if m.GetInclude() {
				err = s.state.Include(now, m.GetPattern())
			} else {
				err = s.state.Exclude(now, m.GetPattern())
			}
			out.Patterns, out.Workers = s.state.Excluded()
		})
		return wire.ExcludeWorkersResponse, out, err
	}
	return 0, nil, fmt.Errorf("the shuffle master knows no message of type %d", t)
}

// answer reads a message, asks the state and gives its answer.
func answer[M proto.Message](s *Server, payload []byte, t wire.MessageType, into M, ask func(time.Time, M) proto.Message) (wire.MessageType, proto.Message, error) {
	m, err := rpc.Unmarshal(payload, into)
	if err != nil {
		return 0, nil, err
	}
	var out proto.Message
	s.locked(func(now time.Time) { out = ask(now, m) })
	return t, out, nil
}

// workerHeartbeat binds the worker to the connection, so that its end is known at once, and wakes who waits for workers.
func (s *Server) workerHeartbeat(ctx context.Context, now time.Time, m *pb.HeartbeatFromWorker) proto.Message {
	before := s.state.Arrivals()
	out := s.state.WorkerHeartbeat(now, m)
	if !out.GetRegistered() {
		return out
	}
	id := wire.WorkerID{Host: m.GetHost(), RPC: m.GetRpcPort(), Push: m.GetPushPort(), Fetch: m.GetFetchPort(), Replicate: m.GetReplicatePort()}
	if l := (link{ctx.Done(), m.GetIncarnation()}); s.links[id] != l {
		s.links[id] = l
		context.AfterFunc(ctx, func() { s.ended(id, l) })
	}
	if s.state.Arrivals() != before {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return out
}

// ended is called when a connection of heartbeats is over; a worker that has come back over another one is not concerned.
func (s *Server) ended(id wire.WorkerID, l link) {
	s.locked(func(now time.Time) {
		if s.links[id] == l {
			delete(s.links, id)
			s.state.WorkerGone(now, id, l.incarnation)
		}
	})
}

// requestSlots places a shuffle. Right after the start, and while workers may come that are needed, it waits: an answer without
// slots makes tasks fail, and one with the first few workers only makes those few carry all.
func (s *Server) requestSlots(ctx context.Context, m *pb.RequestSlots) (*pb.RequestSlotsResponse, error) {
	if _, err := s.await(ctx, func(now time.Time) bool { return s.state.Settled(now) && s.state.CanPlace(now, m) }); err != nil {
		return nil, err
	}
	var out *pb.RequestSlotsResponse
	s.locked(func(now time.Time) { out = s.state.RequestSlots(now, m) })
	return out, nil
}

// await waits until something holds, or will not within slotsWait, and says whether it does.
func (s *Server) await(ctx context.Context, holds func(now time.Time) bool) (bool, error) {
	timeout := time.NewTimer(slotsWait)
	defer timeout.Stop()
	again := time.NewTicker(tick) // what time alone brings about
	defer again.Stop()
	for {
		var done, expecting bool
		var changed chan struct{}
		s.locked(func(now time.Time) { done, expecting, changed = holds(now), s.state.Expecting(now), s.changed })
		if done || !expecting {
			return done, nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-timeout.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
