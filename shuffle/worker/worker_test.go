package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
	"github.com/sluicedata/sluice/shuffle/worker"
	"github.com/sluicedata/sluice/tests/testbed/shuffleclient"
)

// start runs a worker on disks of that kind until the test ends, or end is called.
func start(t *testing.T, fs tier.FS, change ...func(*worker.Options)) (w *worker.Worker, end func()) {
	t.Helper()
	o := worker.Options{Host: "127.0.0.1", Store: store.Options{Disks: []store.Disk{{Path: t.TempDir(), FS: fs}}, Reserve: 1, Verify: true}}
	for _, f := range change {
		f(&o)
	}
	w, err := worker.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(end)
	return w, end
}

func control(t *testing.T, w *worker.Worker) *rpc.Client {
	t.Helper()
	c, err := rpc.Dial(t.Context(), fmt.Sprintf("%s:%d", w.ID().Host, w.ID().RPC))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func dial(t *testing.T, w *worker.Worker, port int32) *shuffleclient.Conn {
	t.Helper()
	c, err := shuffleclient.Dial(t.Context(), w.ID().Host, port)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func part(id int32) wire.PartitionID { return wire.PartitionID{ID: id} }

// data is that many bytes that follow from a seed.
func data(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// wait is a push whose answer is waited for.
func wait(push func(then func(shuffleclient.Answer))) shuffleclient.Answer {
	ch := make(chan shuffleclient.Answer, 1)
	push(func(a shuffleclient.Answer) { ch <- a })
	return <-ch
}

func kinds() map[string]func() tier.FS {
	return map[string]func() tier.FS{"disk": func() tier.FS { return tier.OS{} }, "memory": func() tier.FS { return tier.NewMem() }}
}

// TestPushCommitFetch pushes batches in both frames, large and small, and reads them back whole and by ranges of maps.
func TestPushCommitFetch(t *testing.T) {
	for name, fs := range kinds() {
		t.Run(name, func(t *testing.T) {
			w, _ := start(t, fs(), func(o *worker.Options) { o.Store.ChunkSize = 300 << 10; o.Store.FlushSize = 200 << 10 })
			rpcs, push := control(t, w), dial(t, w, w.ID().Push)
			const partitions, maps = 3, 10
			var at []wire.Location
			for i := range int32(partitions) {
				at = append(at, wire.Location{PartitionID: part(i), Worker: w.ID()})
			}
			require.NoError(t, shuffleclient.Reserve(t.Context(), rpcs, "app-1", 0, at))
			require.NoError(t, shuffleclient.Reserve(t.Context(), rpcs, "app-1", 0, at), "once more is the same")

			want := map[int32]map[int32][][]byte{} // partition, map
			var answers sync.WaitGroup
			for m := range int32(maps) {
				for i, n := range []int{10, 70 << 10, 5000} {
					var entries []shuffleclient.Entry
					for p := range int32(partitions) {
						d := data(uint64(m)<<32|uint64(p)<<16|uint64(i), n)
						if want[p] == nil {
							want[p] = map[int32][][]byte{}
						}
						want[p][m] = append(want[p][m], d)
						batch := wire.AppendBatch(nil, m, 0, int32(i+1), d)
						if i == 1 {
							answers.Add(1)
							push.Push("app-1-0", part(p), wire.Primary, batch, func(a shuffleclient.Answer) {
								defer answers.Done()
								if a.Err != nil || len(a.Body) != 0 {
									t.Errorf("push: %+v", a)
								}
							})
							continue
						}
						entries = append(entries, shuffleclient.Entry{ID: part(p), Batch: batch})
					}
					if entries != nil {
						answers.Add(1)
						push.PushMerged("app-1-0", wire.Primary, entries, func(a shuffleclient.Answer) {
							defer answers.Done()
							if a.Err != nil || !bytes.Equal(a.Body, []byte{0}) {
								t.Errorf("merged push: %+v", a)
							}
						})
					}
				}
			}
			answers.Wait()
			out, err := shuffleclient.Commit(t.Context(), rpcs, &pb.CommitFiles{ApplicationId: "app-1", ShuffleId: 0, PrimaryIds: []string{"0-0", "1-0", "2-0"}, Epoch: 1, MapAttempts: make([]int32, maps)})
			require.NoError(t, err)
			require.Zero(t, out.GetStatus())
			require.ElementsMatch(t, []string{"0-0", "1-0", "2-0"}, out.GetCommittedPrimaryIds())
			require.EqualValues(t, maps*(10+70<<10+5000+48), out.GetCommittedPrimaryStorageInfos()["1-0"].GetFileSize())

			fetch := dial(t, w, w.ID().Fetch)
			for p := range int32(partitions) {
				for _, r := range [][2]int32{{0, math.MaxInt32}, {2, 5}, {0, 1}, {9, 10}, {20, 30}, {5, 3}} {
					chunks, err := fetch.ReadAll(t.Context(), "app-1-0", fmt.Sprintf("%d-0-0", p), r[0], r[1])
					require.NoError(t, err)
					heads, got, err := shuffleclient.Batches(chunks)
					require.NoError(t, err)
					whole := r[1] < r[0]
					n := 0
					for m, all := range want[p] {
						if whole || m >= r[0] && m < r[1] {
							n += len(all)
						}
					}
					require.Len(t, heads, n, "range %v", r)
					for i, h := range heads {
						require.True(t, whole || h.MapID >= r[0] && h.MapID < r[1])
						require.True(t, bytes.Equal(want[p][h.MapID][h.BatchID-1], got[i]))
					}
				}
			}
			late := wait(func(then func(shuffleclient.Answer)) {
				push.Push("app-1-0", part(0), wire.Primary, wire.AppendBatch(nil, 3, 1, 1, []byte("late")), then)
			})
			require.Equal(t, wire.MapEnded, late.Status(), "the map has ended, by the commit's word")
		})
	}
}

// TestReplication pushes to a primary, and finds the same batches at the replica, also when one of the two goes away.
func TestReplication(t *testing.T) {
	a, _ := start(t, tier.OS{})
	b, endB := start(t, tier.OS{})
	pa, pb1 := a.ID(), b.ID()
	ctlA, ctlB := control(t, a), control(t, b)
	require.NoError(t, shuffleclient.Reserve(t.Context(), ctlA, "app", 7, []wire.Location{{PartitionID: part(0), Worker: pa, Peer: &pb1}, {PartitionID: part(1), Worker: pa, Peer: &pb1}}))
	require.NoError(t, shuffleclient.Reserve(t.Context(), ctlB, "app", 7, []wire.Location{{PartitionID: part(0), Mode: wire.Replica, Worker: pb1, Peer: &pa}, {PartitionID: part(1), Mode: wire.Replica, Worker: pb1, Peer: &pa}}))
	push := dial(t, a, a.ID().Push)
	for i := range int32(20) {
		got := wait(func(then func(shuffleclient.Answer)) {
			push.Push("app-7", part(0), wire.Primary, wire.AppendBatch(nil, i, 0, 1, data(uint64(i), 60<<10)), then)
		})
		require.NoError(t, got.Err)
		require.Empty(t, got.Body)
		got = wait(func(then func(shuffleclient.Answer)) {
			push.PushMerged("app-7", wire.Primary, []shuffleclient.Entry{{ID: part(0), Batch: wire.AppendBatch(nil, i, 0, 2, []byte("x"))}, {ID: part(1), Batch: wire.AppendBatch(nil, i, 0, 3, []byte("y"))}}, then)
		})
		require.NoError(t, got.Err)
		require.Equal(t, []byte{0}, got.Body)
	}
	out, err := shuffleclient.Commit(t.Context(), ctlB, &pb.CommitFiles{ApplicationId: "app", ShuffleId: 7, ReplicaIds: []string{"0-0"}, Epoch: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"0-0"}, out.GetCommittedReplicaIds())
	chunks, err := dial(t, b, b.ID().Fetch).ReadAll(t.Context(), "app-7", "0-0-1", 0, math.MaxInt32)
	require.NoError(t, err)
	heads, _, err := shuffleclient.Batches(chunks)
	require.NoError(t, err)
	require.Len(t, heads, 40)

	sealed := wait(func(then func(shuffleclient.Answer)) {
		push.Push("app-7", part(0), wire.Primary, wire.AppendBatch(nil, 99, 0, 1, []byte("z")), then)
	})
	require.Equal(t, wire.HardSplit, sealed.Status(), "the replica takes no more, so nothing is acknowledged")
	mixed := wait(func(then func(shuffleclient.Answer)) {
		push.PushMerged("app-7", wire.Primary, []shuffleclient.Entry{{ID: part(1), Batch: wire.AppendBatch(nil, 99, 0, 2, []byte("z"))}, {ID: part(0), Batch: wire.AppendBatch(nil, 99, 0, 3, []byte("z"))}}, then)
	})
	require.Equal(t, wire.HardSplit, mixed.Status())
	_, payload, err := wire.ParseRaw(mixed.Body[1:])
	require.NoError(t, err)
	info, err := rpc.Unmarshal(payload, &pb.PushMergedDataSplitPartitionInfo{})
	require.NoError(t, err)
	require.Equal(t, []int32{1}, info.GetSplitPartitionIndexes())

	endB()
	for _, want := range []string{"PUSH_DATA_CONNECTION_EXCEPTION_REPLICA", "PUSH_DATA_CREATE_CONNECTION_FAIL_REPLICA"} {
		require.Eventually(t, func() bool {
			gone := wait(func(then func(shuffleclient.Answer)) {
				push.Push("app-7", part(1), wire.Primary, wire.AppendBatch(nil, 100, 0, 1, []byte("z")), then)
			})
			require.Error(t, gone.Err)
			return slices.ContainsFunc([]string{want}, func(w string) bool { return len(gone.Err.Error()) > len(w) && gone.Err.Error()[:len(w)] == w })
		}, 10*time.Second, 10*time.Millisecond, want)
	}
}

// TestRestart finds what was committed, and only that, after a worker comes back at the same place.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	at := func(o *worker.Options) { o.Store.Disks[0].Path = dir }
	w, end := start(t, tier.OS{}, at)
	ctl, push := control(t, w), dial(t, w, w.ID().Push)
	require.NoError(t, shuffleclient.Reserve(t.Context(), ctl, "app", 1, []wire.Location{{PartitionID: part(0), Worker: w.ID()}, {PartitionID: part(1), Worker: w.ID()}, {PartitionID: part(2), Worker: w.ID()}}))
	body := data(5, 100<<10)
	for i := range int32(2) {
		a := wait(func(then func(shuffleclient.Answer)) {
			push.Push("app-1", part(i), wire.Primary, wire.AppendBatch(nil, 0, 0, 1, body), then)
		})
		require.NoError(t, a.Err)
	}
	commit := &pb.CommitFiles{ApplicationId: "app", ShuffleId: 1, PrimaryIds: []string{"0-0", "2-0"}, Epoch: 1, MapAttempts: []int32{0, -1}}
	out, err := shuffleclient.Commit(t.Context(), ctl, commit)
	require.NoError(t, err)
	require.Equal(t, []string{"0-0"}, out.GetCommittedPrimaryIds(), "partition 2 is empty")
	id := w.ID()
	end()

	w, _ = start(t, tier.OS{}, at, func(o *worker.Options) {
		o.RPC, o.Push, o.Fetch, o.Replicate = int(id.RPC), int(id.Push), int(id.Fetch), int(id.Replicate)
	})
	ctl, push = control(t, w), dial(t, w, w.ID().Push)
	chunks, err := dial(t, w, w.ID().Fetch).ReadAll(t.Context(), "app-1", "0-0-0", 0, math.MaxInt32)
	require.NoError(t, err)
	_, got, err := shuffleclient.Batches(chunks)
	require.NoError(t, err)
	require.True(t, bytes.Equal(body, got[0]))

	commit.PrimaryIds, commit.Epoch = []string{"0-0", "1-0", "2-0"}, 2
	out, err = shuffleclient.Commit(t.Context(), ctl, commit)
	require.NoError(t, err)
	require.Equal(t, []string{"0-0"}, out.GetCommittedPrimaryIds())
	require.Equal(t, []string{"1-0"}, out.GetFailedPrimaryIds(), "what was acknowledged and not committed is lost, and said so")
	require.Equal(t, wire.PartialSuccess, wire.Status(out.GetStatus()))

	unknown, err := shuffleclient.Commit(t.Context(), ctl, &pb.CommitFiles{ApplicationId: "other", ShuffleId: 1, PrimaryIds: []string{"0-0"}, ReplicaIds: []string{"1-0"}})
	require.NoError(t, err)
	require.Equal(t, wire.ShuffleUnregistered, wire.Status(unknown.GetStatus()))
	require.Equal(t, []string{"0-0"}, unknown.GetFailedPrimaryIds())
	require.Equal(t, []string{"1-0"}, unknown.GetFailedReplicaIds())

	for key, want := range map[string]wire.Status{"app-1": wire.MapEnded, "other-1": 0} {
		a := wait(func(then func(shuffleclient.Answer)) {
			push.Push(key, part(1), wire.Primary, wire.AppendBatch(nil, 0, 0, 2, body), then)
		})
		if want != 0 {
			require.Equal(t, want, a.Status())
		} else {
			require.ErrorContains(t, a.Err, "PUSH_DATA_FAIL_PARTITION_NOT_FOUND")
		}
	}
	a := wait(func(then func(shuffleclient.Answer)) {
		push.Push("app-1", part(1), wire.Primary, wire.AppendBatch(nil, 1, 0, 2, body), then)
	})
	require.Equal(t, wire.HardSplit, a.Status(), "the map goes on, elsewhere")
}
