package master

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// running is a server on real sockets; events come in a channel.
type running struct {
	*Server
	rpc, http string
	events    chan Event
}

func serve(t *testing.T, opt Options) *running {
	t.Helper()
	r := &running{events: make(chan Event, 100)}
	opt.On = func(e Event) { r.events <- e }
	r.Server = NewServer(opt, slog.New(slog.DiscardHandler))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	hl, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.rpc, r.http = ln.Addr().String(), hl.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, ln, hl) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return r
}

func (r *running) dial(t *testing.T) *rpc.Client {
	t.Helper()
	c, err := rpc.Dial(t.Context(), r.rpc)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func (r *running) until(t *testing.T, kind string) Event {
	t.Helper()
	for {
		select {
		case e := <-r.events:
			if e.Kind == kind {
				return e
			}
		case <-time.After(20 * time.Second):
			require.Fail(t, "no event "+kind)
		}
	}
}

func sendBeat(t *testing.T, c *rpc.Client, hb *pb.HeartbeatFromWorker) *pb.HeartbeatFromWorkerResponse {
	t.Helper()
	out := &pb.HeartbeatFromWorkerResponse{}
	require.NoError(t, c.Call(t.Context(), wire.MasterEndpoint, wire.HeartbeatFromWorker, hb, wire.HeartbeatFromWorkerResponse, out))
	return out
}

func TestServer(t *testing.T) {
	r := serve(t, Options{Incarnation: "m1", Settle: time.Nanosecond})
	c := r.dial(t)
	require.Equal(t, "m1", sendBeat(t, c, beat(0)).MasterIncarnation)
	sendBeat(t, c, beat(1))
	slots := &pb.RequestSlotsResponse{}
	require.NoError(t, c.Call(t.Context(), wire.MasterEndpoint, wire.RequestSlots, ask("a", 0, 4, replicated), wire.RequestSlotsResponse, slots))
	require.Len(t, slots.WorkerResource, 2)

	excluded := &pb.ExcludeWorkersResponse{}
	require.NoError(t, c.Call(t.Context(), wire.MasterEndpoint, wire.ExcludeWorkers, &pb.ExcludeWorkers{Pattern: "w1"}, wire.ExcludeWorkersResponse, excluded))
	require.Equal(t, []string{"w1:1:2:3:4"}, excluded.Workers)
	require.ErrorContains(t, c.Call(t.Context(), wire.MasterEndpoint, wire.ExcludeWorkers, &pb.ExcludeWorkers{Pattern: "w2", Include: true}, wire.ExcludeWorkersResponse, excluded),
		`"w2" is not excluded; excluded are: w1`)
	require.ErrorContains(t, c.Call(t.Context(), wire.MasterEndpoint, 4711, &pb.StatusRequest{}, wire.StatusResponse, excluded), "knows no message of type 4711")

	status := &pb.StatusResponse{}
	require.NoError(t, c.Call(t.Context(), wire.MasterEndpoint, wire.StatusRequest, &pb.StatusRequest{}, wire.StatusResponse, status))
	require.Equal(t, "m1", status.MasterIncarnation)
	require.Equal(t, "available excluded", status.Workers[0].State+" "+status.Workers[1].State)
	require.Equal(t, int32(1), status.Applications[0].Shuffles)
	require.Equal(t, []string{"w1"}, status.ExcludedPatterns)
}

// TestConnectionEndIsSeen: a worker is silent as soon as its connection ends.
func TestConnectionEndIsSeen(t *testing.T) {
	r := serve(t, Options{})
	c := r.dial(t)
	sendBeat(t, c, beat(0))
	r.until(t, "worker available")
	c.Close()
	e := r.until(t, "worker silent")
	require.Equal(t, Event{Kind: "worker silent", Worker: "w0:1:2:3:4", Text: "its connection to this master ended"}, e)
	sendBeat(t, r.dial(t), beat(0))
	r.until(t, "worker available")
}

// TestEarlierConnectionEnds: a worker that has come back over another connection is not concerned.
func TestEarlierConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble()
		beatOver := func(ctx context.Context) {
			payload, err := proto.Marshal(beat(0))
			require.NoError(t, err)
			_, _, err = s.handle(ctx, wire.HeartbeatFromWorker, payload)
			require.NoError(t, err)
		}
		first, endFirst := context.WithCancel(t.Context())
		second, endSecond := context.WithCancel(t.Context())
		beatOver(first)
		beatOver(first)
		beatOver(second)
		endFirst()
		synctest.Wait()
		require.True(t, s.state.CheckWorkersAvailable(time.Now()))
		endSecond()
		synctest.Wait()
		require.False(t, s.state.CheckWorkersAvailable(time.Now()))
		require.Empty(t, s.links)
	})
}

func TestHTTP(t *testing.T) {
	r := serve(t, Options{})
	c := r.dial(t)
	sendBeat(t, c, beat(0, holds("app", 0, 5), func(hb *pb.HeartbeatFromWorker) { hb.BytesPushed = 77 }))
	get := func(path string) string {
		resp, err := http.Get("http://" + r.http + path)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(b)
	}
	require.JSONEq(t, `{"status":"ok"}`, get("/healthz"))
	metrics := get("/metrics")
	for _, line := range []string{
		`sluice_shuffle_workers{state="available"} 1`,
		`sluice_shuffle_workers{state="lost"} 0`,
		`sluice_shuffle_worker_pushed_bytes_total{worker="w0:1:2:3:4"} 77`,
		`sluice_shuffle_worker_disk_usable_bytes{worker="w0:1:2:3:4"} 1.073741824e+12`,
		`sluice_shuffle_applications{adopted="true"} 1`,
		`sluice_shuffle_user_bytes{user="ann"} 5`,
		`sluice_shuffle_shuffles_adopted_total 1`,
	} {
		require.Contains(t, metrics, line+"\n")
	}
}

// frames are the captured frames of a file.
func frames(t *testing.T, file string) (out [][]byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			out = append(out, nil)
			continue
		}
		b, err := hex.DecodeString(strings.TrimSpace(line))
		require.NoError(t, err)
		out[len(out)-1] = append(out[len(out)-1], b...)
	}
	return out
}

// TestRecordedClients plays what real clients sent to a master, in their order, and checks type, form and bytes of the answers.
func TestRecordedClients(t *testing.T) {
	empty := &pb.StatusRequest{}
	for _, c := range []struct {
		client string
		form   wire.Form
		calls  []string
	}{
		{"client-0.5.4", wire.Java2, []string{"CheckExistence", "CHECK_QUOTA", "HEARTBEAT_FROM_APPLICATION", "CHECK_WORKERS_AVAILABLE", "REQUEST_SLOTS", "APPLICATION_LOST"}},
		{"client-0.7.0", wire.Neutral, []string{"CheckExistence", "CHECK_QUOTA", "REGISTER_APPLICATION_INFO", "HEARTBEAT_FROM_APPLICATION", "CHECK_WORKERS_AVAILABLE", "REQUEST_SLOTS"}},
	} {
		t.Run(c.client, func(t *testing.T) {
			r := serve(t, Options{Settle: time.Nanosecond})
			sendBeat(t, r.dial(t), beat(0))
			conn, err := net.Dial("tcp", r.rpc)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			in := wire.NewReader(conn)
			answers := map[string]struct {
				t wire.MessageType
				m proto.Message
			}{
				"CHECK_QUOTA":                {wire.CheckQuotaResponse, &pb.CheckQuotaResponse{Available: true}},
				"CHECK_WORKERS_AVAILABLE":    {wire.CheckWorkersAvailableResponse, &pb.CheckWorkersAvailableResponse{Available: true}},
				"REGISTER_APPLICATION_INFO":  {wire.OneWayMessageResponse, nil},
				"APPLICATION_LOST":           {wire.ApplicationLostResponse, empty}, // status 0 is left out
				"HEARTBEAT_FROM_APPLICATION": {wire.HeartbeatFromApplicationResponse, &pb.HeartbeatFromApplicationResponse{CheckQuotaResponse: &pb.CheckQuotaResponse{Available: true}}},
			}
			for _, call := range c.calls {
				for _, request := range frames(t, filepath.Join("..", "wire", "testdata", c.client, "master_to_RpcRequest_java_"+call+".hex")) {
					_, err = conn.Write(request)
					require.NoError(t, err)
					h, message, err := in.Next()
					require.NoError(t, err)
					require.Equal(t, wire.RPCResponse, h.Type, call)
					require.Equal(t, request[wire.HeaderSize:wire.HeaderSize+8], message[:8], "the request's id")
					body := make([]byte, h.Body)
					require.NoError(t, in.ReadBody(body))
					if call == "CheckExistence" {
						require.Equal(t, wire.AppendBoolean(nil, true), body)
						continue
					}
					want, ok := answers[call]
					if !ok {
						requireSlots(t, c.form, body)
						continue
					}
					var payload []byte
					if want.m != nil {
						payload, err = proto.Marshal(want.m)
						require.NoError(t, err)
						payload = append([]byte{}, payload...)
					}
					require.Equal(t, wire.AppendContent(nil, c.form, want.t, payload), body, call)
				}
			}
		})
	}
}

func requireSlots(t *testing.T, form wire.Form, body []byte) {
	t.Helper()
	got, kind, payload, err := wire.ParseContent(body)
	require.NoError(t, err)
	require.Equal(t, form, got)
	require.Equal(t, wire.RequestSlotsResponse, kind)
	m := &pb.RequestSlotsResponse{}
	require.NoError(t, proto.Unmarshal(payload, m))
	require.Len(t, m.WorkerResource, 1)
	require.True(t, bytes.HasPrefix(body, []byte{0xff}) == (form == wire.Neutral))
	require.Len(t, m.WorkerResource["w0:1:2:3:4"].PrimaryPartitions, 1)
}

// bubble is a server without sockets, in the time of a test.
func bubble() *Server { return NewServer(Options{}, slog.New(slog.DiscardHandler)) }

func call[M proto.Message](t *testing.T, s *Server, kind wire.MessageType, m proto.Message, into M) M {
	t.Helper()
	payload, err := proto.Marshal(m)
	require.NoError(t, err)
	_, out, err := s.handle(t.Context(), kind, payload)
	require.NoError(t, err)
	proto.Merge(into, out)
	return into
}

// TestWaitsForWorkers: a job that starts together with the workers, or meets a master that has just started, is not turned away.
func TestWaitsForWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := bubble(), time.Now()
		slots := make(chan *pb.RequestSlotsResponse, 1)
		there := make(chan bool, 1)
		go func() {
			slots <- call(t, s, wire.RequestSlots, ask("a", 0, 2, replicated), &pb.RequestSlotsResponse{})
		}()
		go func() {
			there <- call(t, s, wire.CheckWorkersAvailable, &pb.StatusRequest{}, &pb.CheckWorkersAvailableResponse{}).Available
		}()
		time.AfterFunc(time.Second, func() { call(t, s, wire.HeartbeatFromWorker, beat(0), &pb.HeartbeatFromWorkerResponse{}) })
		require.True(t, <-there)
		require.Equal(t, time.Second, time.Since(start))
		time.AfterFunc(time.Second, func() {
			call(t, s, wire.HeartbeatFromWorker, beat(0), &pb.HeartbeatFromWorkerResponse{})
			call(t, s, wire.HeartbeatFromWorker, beat(1), &pb.HeartbeatFromWorkerResponse{})
		})
		require.Len(t, (<-slots).WorkerResource, 2)
		require.Equal(t, 3*time.Second, time.Since(start), "not before others had time to come")
	})
}

// TestWaitsNotForEver: without workers a driver learns of it in time to do without, and at once when none can be expected.
func TestWaitsNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := bubble(), time.Now()
		require.False(t, call(t, s, wire.CheckWorkersAvailable, &pb.StatusRequest{}, &pb.CheckWorkersAvailableResponse{}).Available)
		require.Equal(t, 10*time.Second, time.Since(start))
		require.EqualValues(t, wire.SlotNotAvailable, call(t, s, wire.RequestSlots, ask("a", 0, 2), &pb.RequestSlotsResponse{}).Status)
		require.Equal(t, 20*time.Second, time.Since(start))
		<-time.After(10 * time.Second)
		require.False(t, call(t, s, wire.CheckWorkersAvailable, &pb.StatusRequest{}, &pb.CheckWorkersAvailableResponse{}).Available)
		require.EqualValues(t, wire.SlotNotAvailable, call(t, s, wire.RequestSlots, ask("a", 0, 2), &pb.RequestSlotsResponse{}).Status)
		require.Equal(t, 30*time.Second, time.Since(start))

		s.locked(func(now time.Time) { s.state.WorkerHeartbeat(now, beat(0)) })
		<-time.After(4 * time.Second)
		time.AfterFunc(5*time.Second, func() { call(t, s, wire.HeartbeatFromWorker, beat(0), &pb.HeartbeatFromWorkerResponse{}) })
		require.True(t, call(t, s, wire.CheckWorkersAvailable, &pb.StatusRequest{}, &pb.CheckWorkersAvailableResponse{}).Available, "a silent worker came back")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := bubble().handle(ctx, wire.CheckWorkersAvailable, nil)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestRunSaysWhichPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	s := bubble()
	require.ErrorContains(t, s.Run(t.Context(), ln.Addr().String(), "127.0.0.1:0"), "listen for drivers and workers (--listen)")
	require.ErrorContains(t, s.Run(t.Context(), "127.0.0.1:0", ln.Addr().String()), "listen for metrics (--http)")
}
