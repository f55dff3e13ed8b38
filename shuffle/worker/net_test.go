package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
	"github.com/sluicedata/sluice/tests/testbed/shuffleclient"
)

// bench is a worker whose connections are pipes and whose clock is the test's.
type bench struct {
	t   *testing.T
	w   *Worker
	ctx context.Context
}

func inBubble(t *testing.T, f func(b *bench), change ...func(*Options)) {
	dir := t.TempDir()
	o := Options{Host: "127.0.0.1", Store: store.Options{Disks: []store.Disk{{Path: path.Join(dir, "d"), FS: tier.NewMem()}}, Memory: 64 << 10, Reserve: 2}}
	for _, c := range change {
		c(&o)
	}
	synctest.Test(t, func(t *testing.T) {
		w, err := New(o)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		w.peers = &peers{ctx: ctx, dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }}
		all.Go(func() { w.store.Run(ctx) })
		all.Go(func() { w.pushes.beats(ctx) })
		require.NoError(t, w.store.Reserve("app-1", nil, store.Limits{}, []wire.Location{
			{PartitionID: wire.PartitionID{ID: 0}}, {PartitionID: wire.PartitionID{ID: 1}, Peer: &wire.WorkerID{Host: "other"}},
		}))
		f(&bench{t: t, w: w, ctx: ctx})
		cancel()
		all.Wait()
		w.peers.run.Wait()
		w.close()
	})
}

// talk is what one end of a connection hears.
type talk struct {
	net.Conn
	mu      sync.Mutex
	beats   int
	answers map[int64]string // by request: a status, or a failure's text
	ended   chan struct{}
}

func (b *bench) connect() *talk {
	ours, theirs := net.Pipe()
	go func() {
		b.w.pushes.serve(theirs, func(c *conn) { (&pusher{w: b.w, c: c, mode: wire.Primary}).serve(b.ctx) })
		_ = theirs.Close()
	}()
	context.AfterFunc(b.ctx, func() { _ = ours.Close() })
	return hear(ours)
}

func hear(c net.Conn) *talk {
	k := &talk{Conn: c, answers: map[int64]string{}, ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		r := wire.NewReader(c)
		for {
			h, message, err := r.Next()
			if err != nil {
				return
			}
			body := make([]byte, h.Body)
			message = append([]byte(nil), message...)
			if r.ReadBody(body) != nil {
				return
			}
			k.mu.Lock()
			switch h.Type {
			case wire.Heartbeat:
				k.beats++
			case wire.RPCResponse:
				id, _ := wire.ParseRPC(message)
				k.answers[id] = wire.Success.String()
				if len(body) > 0 {
					k.answers[id] = wire.Status(body[0]).String()
				}
			case wire.RPCFailure:
				id, text, _ := wire.ParseFailure(message)
				k.answers[id] = text
			}
			k.mu.Unlock()
		}
	}()
	return k
}

func (k *talk) heard() (beats int, answers map[int64]string) {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[int64]string{}
	for id, a := range k.answers {
		out[id] = a
	}
	return k.beats, out
}

func frame(id int64, part int32, data []byte) []byte {
	batch := wire.AppendBatch(nil, 0, 0, int32(id), data)
	return append(wire.AppendPush(nil, id, wire.Primary, "app-1", fmt.Sprintf("%d-0", part), len(batch)), batch...)
}

func pause(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestBeatsWithoutMemory: a push waits for memory, its connection hears of this worker meanwhile, and after a while the push is sent
// elsewhere. One that can never fit fails at once, and says why.
func TestBeatsWithoutMemory(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := b.connect()
		all, err := b.w.store.Memory(wire.Primary).Get(t.Context(), 48<<10)
		require.NoError(t, err)
		_, err = k.Write(frame(1, 0, make([]byte, 100)))
		require.NoError(t, err)
		pause(20 * time.Second)
		beats, answers := k.heard()
		require.Empty(t, answers)
		require.InDelta(t, 20, beats, 3)
		pause(11 * time.Second)
		_, answers = k.heard()
		require.Equal(t, map[int64]string{1: "HARD_SPLIT"}, answers)

		_, err = k.Write(frame(2, 0, make([]byte, 100)))
		require.NoError(t, err)
		pause(5 * time.Second)
		all.Release()
		_, answers = k.heard()
		require.Equal(t, "SUCCESS", answers[2])
		before, _ := k.heard()
		pause(20 * time.Second)
		after, _ := k.heard()
		require.Equal(t, before, after, "who waits for nothing hears nothing")

		_, err = k.Write(frame(3, 0, make([]byte, 60<<10)))
		require.NoError(t, err)
		_, answers = k.heard()
		require.Contains(t, answers[3], "PUSH_DATA_FAIL_NON_CRITICAL_CAUSE_PRIMARY: a push of")
	})
}

// TestNoDiskNoMemory: while no disk takes data, a push that finds no memory is sent elsewhere at once.
func TestNoDiskNoMemory(t *testing.T) {
	broken := errors.New("broken")
	inBubble(t, func(b *bench) {
		k := b.connect()
		last := ""
		for i := int64(1); last != "HARD_SPLIT" && i < 20; i++ {
			_, err := k.Write(frame(i, 0, make([]byte, 20<<10)))
			require.NoError(t, err)
			_, answers := k.heard()
			last = answers[i]
		}
		require.Equal(t, "HARD_SPLIT", last)
	}, func(o *Options) {
		o.Store.Disks[0].FS = &tier.Faulty{FS: o.Store.Disks[0].FS, Fail: func(op tier.Op, _ string) error {
			if op == tier.OpWrite {
				return broken
			}
			return nil
		}}
	})
}

// TestStalledBody: a body that stands still, or whose connection ends, gives its memory back.
func TestStalledBody(t *testing.T) {
	inBubble(t, func(b *bench) {
		memory := b.w.store.Memory(wire.Primary)
		whole := frame(1, 0, make([]byte, 20<<10))
		for _, stalls := range []bool{true, false} {
			k := b.connect()
			_, err := k.Write(whole[:10_000])
			require.NoError(t, err)
			synctest.Wait()
			require.Positive(t, memory.Used())
			if stalls {
				pause(31 * time.Second)
			} else {
				require.NoError(t, k.Close())
			}
			<-k.ended
			synctest.Wait()
			require.Zero(t, memory.Used())
		}
	})
}

// replica makes the bench's peer a pipe, and returns its other end.
func (b *bench) replica() <-chan net.Conn {
	out := make(chan net.Conn, 10)
	b.w.peers.dial = func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		context.AfterFunc(b.ctx, func() { _ = theirs.Close() })
		out <- theirs
		return ours, nil
	}
	return out
}

// TestReplicas: what a client hears while the replica is slow, silent, gone or of another opinion. Nothing is acknowledged before
// the replica has it.
func TestReplicas(t *testing.T) {
	type step struct {
		do    func(t *testing.T, c net.Conn, id int64) // at the replica, when the push is there
		lasts time.Duration
		want  string
	}
	say := func(frame func(id int64) []byte) func(*testing.T, net.Conn, int64) {
		return func(t *testing.T, c net.Conn, id int64) {
			_, err := c.Write(frame(id))
			require.NoError(t, err)
		}
	}
	for name, s := range map[string]step{
		"takes it":          {say(func(id int64) []byte { return wire.AppendResponse(nil, id, nil) }), 0, "SUCCESS"},
		"is sealed":         {say(func(id int64) []byte { return wire.AppendResponse(nil, id, []byte{byte(wire.HardSplit)}) }), 0, "HARD_SPLIT"},
		"has another map":   {say(func(id int64) []byte { return wire.AppendResponse(nil, id, []byte{byte(wire.MapEnded)}) }), 0, "MAP_ENDED"},
		"has a broken disk": {say(func(id int64) []byte { return wire.AppendFailure(nil, id, "PUSH_DATA_WRITE_FAIL_REPLICA: x") }), 0, "PUSH_DATA_WRITE_FAIL_REPLICA: x"},
		"goes away":         {func(_ *testing.T, c net.Conn, _ int64) { _ = c.Close() }, 0, "PUSH_DATA_CONNECTION_EXCEPTION_REPLICA"},
		"says nothing":      {func(*testing.T, net.Conn, int64) {}, 5 * time.Second, "PUSH_DATA_TIMEOUT_REPLICA"},
		"speaks in riddles": {say(func(int64) []byte { return wire.AppendRequest(nil, 1, []byte("?")) }), 0, "PUSH_DATA_CONNECTION_EXCEPTION_REPLICA"},
		"answers others":    {say(func(id int64) []byte { return wire.AppendResponse(nil, id+7, nil) }), 5 * time.Second, "PUSH_DATA_TIMEOUT_REPLICA"},
		"ends in its answer": {func(_ *testing.T, c net.Conn, id int64) {
			_, _ = c.Write(wire.AppendResponse(nil, id, []byte{0})[:12])
			_ = c.Close()
		}, 0, "PUSH_DATA_CONNECTION_EXCEPTION_REPLICA"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				dialled := b.replica()
				k := b.connect()
				_, err := k.Write(frame(1, 1, make([]byte, 100)))
				require.NoError(t, err)
				c := <-dialled
				r := wire.NewReader(c)
				h, message, err := r.Next()
				require.NoError(t, err)
				m, err := wire.ParsePush(message)
				require.NoError(t, err)
				require.Equal(t, wire.Replica, m.Mode)
				id := m.RequestID
				require.NoError(t, r.Discard())
				require.Equal(t, 116, h.Body)
				for range 10 { // slow, and alive
					pause(time.Second)
					_, err := c.Write(wire.AppendHeartbeat(nil))
					require.NoError(t, err)
				}
				beats, answers := k.heard()
				require.InDelta(t, 10, beats, 3)
				require.Empty(t, answers)
				s.do(t, c, id)
				pause(s.lasts)
				_, answers = k.heard()
				require.True(t, strings.HasPrefix(answers[1], s.want), answers[1])
				if strings.Contains(s.want, "CONNECTION") || strings.Contains(s.want, "TIMEOUT") { // and for a moment nobody waits for it again
					_, err = k.Write(frame(2, 1, make([]byte, 100)))
					require.NoError(t, err)
					_, answers = k.heard()
					require.True(t, strings.HasPrefix(answers[2], s.want), answers[2])
					pause(3 * time.Second)
					_, err = k.Write(frame(3, 1, make([]byte, 100)))
					require.NoError(t, err)
					require.NotNil(t, <-dialled)
				}
			})
		})
	}
}

// TestAnswersWhileWaiting: the replica's answers reach the client also while its next push waits for memory.
func TestAnswersWhileWaiting(t *testing.T) {
	inBubble(t, func(b *bench) {
		dialled := b.replica()
		k := b.connect()
		_, err := k.Write(frame(1, 1, make([]byte, 100)))
		require.NoError(t, err)
		c := <-dialled
		r := wire.NewReader(c)
		_, message, err := r.Next()
		require.NoError(t, err)
		m, err := wire.ParsePush(message)
		require.NoError(t, err)
		require.NoError(t, r.Discard())
		all, err := b.w.store.Memory(wire.Primary).Get(t.Context(), 40<<10)
		require.NoError(t, err)
		defer all.Release()
		go func() { _, _ = k.Write(frame(2, 0, make([]byte, 20<<10))) }()
		synctest.Wait()
		_, err = c.Write(wire.AppendResponse(nil, m.RequestID, nil))
		require.NoError(t, err)
		_, answers := k.heard()
		require.Equal(t, map[int64]string{1: "SUCCESS"}, answers)
	})
}

// TestCutEverywhere ends a conversation of pushes at every byte, to and from the worker, with and without a replica: what was
// acknowledged is in every committed copy, and what is in one is whole batches.
func TestCutEverywhere(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
	var workers []*Worker
	var ctls []*rpc.Client
	for range 2 {
		w, err := New(Options{Host: "127.0.0.1", Store: store.Options{Disks: []store.Disk{{Path: t.TempDir(), FS: tier.NewMem()}}, Reserve: 2}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
		c, err := rpc.Dial(t.Context(), w.listeners["rpc"].Addr().String())
		require.NoError(t, err)
		t.Cleanup(c.Close)
		workers, ctls = append(workers, w), append(ctls, c)
	}
	a, b := workers[0].ID(), workers[1].ID()
	conversation := func(key string) (out []byte) {
		for i := range int64(3) {
			batch := wire.AppendBatch(nil, 0, 0, int32(i), make([]byte, 5+i*20))
			out = append(append(out, wire.AppendPush(nil, i, wire.Primary, key, "0-0", len(batch))...), batch...)
		}
		one, two := wire.AppendBatch(nil, 0, 0, 3, []byte("abc")), wire.AppendBatch(nil, 0, 0, 4, []byte("d"))
		out = wire.AppendMergedPush(out, 3, wire.Primary, key, []string{"0-0", "0-0"}, []int32{0, int32(len(one))}, len(one)+len(two))
		return append(append(out, one...), two...)
	}
	shuffle := int32(0)
	acknowledged := 0
	run := func(replicated bool, cut int) {
		shuffle++
		key := wire.ShuffleKey("app", shuffle+1000)
		primary := wire.Location{Worker: a}
		if replicated {
			primary.Peer = &b
			require.NoError(t, shuffleclient.Reserve(t.Context(), ctls[1], "app", shuffle+1000, []wire.Location{{Mode: wire.Replica, Worker: b, Peer: &a}}))
		}
		require.NoError(t, shuffleclient.Reserve(t.Context(), ctls[0], "app", shuffle+1000, []wire.Location{primary}))
		c, err := net.Dial("tcp", workers[0].listeners["push"].Addr().String())
		require.NoError(t, err)
		all := conversation(key)
		_, err = c.Write(all[:min(cut, len(all))])
		require.NoError(t, err)
		if over := cut - len(all); over > 0 { // the answers are cut
			_, err := io.ReadFull(c, make([]byte, over))
			require.NoError(t, err)
			require.NoError(t, c.Close())
		}
		_ = c.(*net.TCPConn).CloseWrite()
		k := hear(c)
		<-k.ended
		_ = c.Close()
		k.mu.Lock()
		defer k.mu.Unlock()
		for i, ctl := range ctls {
			if i == 1 && !replicated {
				continue
			}
			m := &pb.CommitFiles{ApplicationId: "app", ShuffleId: shuffle + 1000, Epoch: 1}
			if i == 0 {
				m.PrimaryIds = []string{"0-0"}
			} else {
				m.ReplicaIds = []string{"0-0"}
			}
			out, err := shuffleclient.Commit(t.Context(), ctl, m)
			require.NoError(t, err)
			require.Zero(t, out.GetStatus())
			got := map[int32]bool{}
			if len(out.GetCommittedPrimaryIds())+len(out.GetCommittedReplicaIds()) > 0 {
				st, err := workers[i].store.OpenStream(key, fmt.Sprintf("0-0-%d", i), 0, math.MaxInt32)
				require.NoError(t, err)
				ch, err := workers[i].store.Chunk(wire.ChunkSlice{StreamID: st.ID, Len: math.MaxInt32})
				require.NoError(t, err)
				b := make([]byte, ch.Length)
				_, err = ch.Pieces[0].File.ReadAt(b, ch.Pieces[0].Off)
				require.NoError(t, err)
				ch.Release()
				heads, _, err := shuffleclient.Batches([][]byte{b})
				require.NoError(t, err)
				for _, h := range heads {
					got[h.BatchID] = true
				}
			}
			for id, answer := range k.answers {
				require.Equal(t, "SUCCESS", answer)
				require.True(t, got[int32(id)], "cut at %d: batch %d was acknowledged and is not in copy %d", cut, id, i)
				require.True(t, id < 3 || got[4])
			}
		}
		acknowledged += len(k.answers)
	}
	for _, replicated := range []bool{false, true} {
		n := len(conversation("app-1001"))
		for cut := range n + 1 {
			run(replicated, cut)
		}
		for over := 1; over < 60; over++ {
			run(replicated, n+over)
		}
	}
	require.Greater(t, acknowledged, 100)
	for _, w := range workers {
		require.Eventually(t, func() bool { return w.store.Memory(wire.Primary).Used()+w.store.Memory(wire.Replica).Used() == 0 }, 10*time.Second, time.Millisecond)
	}
}
