package master

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// copies is what an answer puts on each worker: primaries and replicas, by host.
func copies(out *pb.RequestSlotsResponse) map[string][2]int {
	m := map[string][2]int{}
	for key, r := range out.WorkerResource {
		w, _ := wire.ParseWorkerID(key)
		n := m[w.Host]
		m[w.Host] = [2]int{n[0] + len(r.PrimaryPartitions), n[1] + len(r.ReplicaPartitions)}
	}
	return m
}

func TestSlots(t *testing.T) {
	s := workers(3, Options{})
	out := s.RequestSlots(t0, ask("a", 0, 6, replicated))
	require.Equal(t, int32(wire.Success), out.Status)
	require.Equal(t, map[string][2]int{"w0": {2, 2}, "w1": {2, 2}, "w2": {2, 2}}, copies(out))
	for key, r := range out.WorkerResource {
		require.Equal(t, "/default-rack", r.NetworkLocation)
		for _, p := range r.PrimaryPartitions {
			require.Equal(t, key, fmt.Sprintf("%s:%d:%d:%d:%d", p.Host, p.RpcPort, p.PushPort, p.FetchPort, p.ReplicatePort))
			require.Zero(t, p.Epoch)
			require.Equal(t, pb.PartitionLocation_PRIMARY, p.Mode)
			require.Equal(t, pb.PartitionLocation_REPLICA, p.Peer.Mode)
			require.Equal(t, p.Id, p.Peer.Id)
			require.Nil(t, p.Peer.Peer)
			require.Equal(t, &pb.StorageInfo{Type: 1, AvailableStorageTypes: 2}, p.StorageInfo)
			peer := out.WorkerResource[fmt.Sprintf("%s:1:2:3:4", p.Peer.Host)]
			found := 0
			for _, q := range peer.ReplicaPartitions {
				if q.Id == p.Id {
					require.Equal(t, p.Host, q.Peer.Host)
					found++
				}
			}
			require.Equal(t, 1, found)
		}
	}
}

func TestSlotsStatus(t *testing.T) {
	avoid := func(hosts ...int) func(*pb.RequestSlots) {
		return func(m *pb.RequestSlots) {
			for _, i := range hosts {
				m.ExcludedWorkerSet = append(m.ExcludedWorkerSet, idOf(beat(i)).Info())
			}
		}
	}
	for name, c := range map[string]struct {
		workers int
		ask     *pb.RequestSlots
		status  wire.Status
		why     string
	}{
		"no worker":          {0, ask("a", 0, 1), wire.SlotNotAvailable, "0 of 0 workers can take partitions and 1 are needed; sluice shuffle status says why the others cannot"},
		"one for two copies": {1, ask("a", 0, 1, replicated), wire.SlotNotAvailable, "1 of 1 workers can take partitions and 2 are needed; sluice shuffle status says why the others cannot"},
		"all avoided":        {2, ask("a", 0, 1, avoid(0, 1)), wire.WorkerExcluded, "its driver avoids 2 of the 2 workers that can take partitions, and 1 are needed"},
		"one avoided":        {2, ask("a", 0, 1, avoid(0)), wire.Success, ""},
		"no partitions":      {1, ask("a", 0, 0), wire.Success, ""},
	} {
		s := workers(c.workers, Options{})
		require.Equal(t, c.status == wire.Success, s.CanPlace(t0, c.ask), name)
		out := s.RequestSlots(t0, c.ask)
		require.Equal(t, int32(c.status), out.Status, name)
		if c.why != "" {
			require.Empty(t, out.WorkerResource, name)
			require.Equal(t, "a-0", s.Status(t0).Refusals[0].ShuffleKey)
			require.Equal(t, c.why, s.Status(t0).Refusals[0].Reason)
			require.EqualValues(t, 1, s.Counts().Refused[c.status.String()])
		}
	}
}

func TestSlotsAgain(t *testing.T) {
	s := workers(3, Options{})
	load := func() (sum int64) {
		for _, w := range s.Status(t0).Workers {
			sum += w.Slots
		}
		return sum
	}
	first := s.RequestSlots(t0, ask("a", 0, 10))
	require.EqualValues(t, 10, load())
	again := s.RequestSlots(t0, ask("a", 0, 10))
	require.EqualValues(t, 10, load(), "counted once")
	require.True(t, proto.Equal(first, again))
	s.RequestSlots(t0, ask("a", 1, 5))
	require.EqualValues(t, 15, load())
	s.WorkerHeartbeat(t0, beat(0, holds("a", 0, 1)))
	require.EqualValues(t, 15-len(first.WorkerResource["w0:1:2:3:4"].PrimaryPartitions)+1, load(), "what it reports is what it has")
	s.Unregister(t0, &pb.UnregisterShuffle{AppId: "a", ShuffleId: 1})
	s.ApplicationLost(t0, &pb.ApplicationLost{AppId: "a"})
	s.WorkerHeartbeat(t0, beat(0))
	require.Zero(t, load())
	s.RequestSlots(t0, ask("b", 0, 5))
	for i := range 3 {
		s.WorkerHeartbeat(t0.Add(pendingTime), beat(i))
	}
	s.Tick(t0.Add(pendingTime + time.Second))
	require.Zero(t, load(), "the driver went elsewhere")
}

func TestSpares(t *testing.T) {
	s := workers(20, Options{})
	require.Len(t, s.RequestSlots(t0, ask("a", 0, 1)).WorkerResource, 8)
	require.Len(t, s.RequestSlots(t0, ask("a", 1, 1, replicated)).WorkerResource, 8)
	require.Len(t, s.RequestSlots(t0, ask("a", 2, 12)).WorkerResource, 14)
	require.Len(t, s.RequestSlots(t0, ask("a", 3, 100)).WorkerResource, 20)
	few := func(m *pb.RequestSlots) { m.MaxWorkers = 3 }
	out := s.RequestSlots(t0, ask("a", 4, 100, few))
	require.Len(t, out.WorkerResource, 8)
	used := 0
	for _, n := range copies(out) {
		if n[0] > 0 {
			used++
		}
	}
	require.Equal(t, 3, used)
}

// TestOtherHost: two workers on one host are one failure.
func TestOtherHost(t *testing.T) {
	on := func(host string, port int32, rack string) *pb.HeartbeatFromWorker {
		return beat(0, func(hb *pb.HeartbeatFromWorker) { hb.Host, hb.RpcPort, hb.NetworkLocation = host, port, rack })
	}
	for name, c := range map[string]struct {
		workers []*pb.HeartbeatFromWorker
		change  func(*pb.RequestSlots)
		apart   func(p *pb.PartitionLocation) bool
	}{
		"two hosts of two": {[]*pb.HeartbeatFromWorker{on("a", 1, ""), on("a", 2, ""), on("b", 1, ""), on("b", 2, "")}, nil,
			func(p *pb.PartitionLocation) bool { return p.Host != p.Peer.Host }},
		"three on one of two": {[]*pb.HeartbeatFromWorker{on("a", 1, ""), on("a", 2, ""), on("a", 3, ""), on("b", 2, "")}, nil,
			func(p *pb.PartitionLocation) bool { return p.Host != p.Peer.Host }},
		"one host": {[]*pb.HeartbeatFromWorker{on("a", 1, ""), on("a", 2, "")}, nil,
			func(p *pb.PartitionLocation) bool { return p.RpcPort != p.Peer.RpcPort }},
		"racks": {[]*pb.HeartbeatFromWorker{on("a", 1, "/1"), on("b", 1, "/1"), on("c", 1, "/2"), on("d", 1, "/2")}, func(m *pb.RequestSlots) { m.ShouldRackAware = true },
			func(p *pb.PartitionLocation) bool { return (p.Host < "c") != (p.Peer.Host < "c") }},
		"two workers of many": {[]*pb.HeartbeatFromWorker{on("a", 1, ""), on("a", 2, ""), on("a", 3, ""), on("b", 1, "")}, func(m *pb.RequestSlots) { m.MaxWorkers = 2 },
			func(p *pb.PartitionLocation) bool { return p.Host != p.Peer.Host }},
	} {
		s := New(t0, Options{})
		for _, hb := range c.workers {
			s.WorkerHeartbeat(t0, hb)
		}
		m := ask("a", 0, 10, replicated)
		if c.change != nil {
			c.change(m)
		}
		n := 0
		for _, r := range s.RequestSlots(t0, m).WorkerResource {
			for _, p := range append(r.PrimaryPartitions, r.ReplicaPartitions...) {
				require.True(t, c.apart(p), "%s: %v", name, p)
				n++
			}
		}
		require.Equal(t, 20, n, name)
	}
}

func TestUnequalWorkers(t *testing.T) {
	space := func(n int64) func(*pb.HeartbeatFromWorker) {
		return func(hb *pb.HeartbeatFromWorker) { hb.Disks[0].UsableSpace = n }
	}
	for name, c := range map[string]struct {
		odd  func(*pb.HeartbeatFromWorker) // of w0
		n    int
		want [2]int // of w0, from and to
	}{
		"plenty of room, though less": {space(500 * gib), 90, [2]int{30, 30}},
		"room for few":                {space(640 << 20), 90, [2]int{1, 10}},
		"slow":                        {func(hb *pb.HeartbeatFromWorker) { hb.PushSeconds = 0.5 }, 90, [2]int{8, 12}},
		"a little slower":             {func(hb *pb.HeartbeatFromWorker) { hb.PushSeconds = 0.009 }, 90, [2]int{30, 30}},
		"short of memory":             {func(hb *pb.HeartbeatFromWorker) { hb.MemoryUsed = gib * 9 / 10 }, 90, [2]int{15, 20}},
		"loaded": {func(hb *pb.HeartbeatFromWorker) {
			hb.Shuffles = []*pb.HeldShuffle{{AppId: "x", Partitions: 10000}}
		}, 90, [2]int{15, 25}},
		"a little more loaded": {func(hb *pb.HeartbeatFromWorker) {
			hb.Shuffles = []*pb.HeldShuffle{{AppId: "x", Partitions: 60}}
		}, 90, [2]int{30, 30}},
	} {
		s := workers(3, Options{})
		s.WorkerHeartbeat(t0, beat(0, c.odd))
		got := copies(s.RequestSlots(t0, ask("a", 0, c.n)))["w0"][0]
		require.GreaterOrEqual(t, got, c.want[0], name)
		require.LessOrEqual(t, got, c.want[1], name)
	}
}

// TestSizeOfPartitions: what drivers say they wrote decides what a disk can hold.
func TestSizeOfPartitions(t *testing.T) {
	var z sizes
	require.EqualValues(t, usualPartition, z.estimate())
	z.add(100<<20, 10)
	require.EqualValues(t, 10<<20, z.estimate())
	z.add(1, 1_000_000)
	require.EqualValues(t, smallPartition, z.estimate())
	z.add(-1, -1)
	z.add(1<<50, 1000)
	require.EqualValues(t, largePartition, z.estimate())
}

// TestSmallShufflesRotate: shuffles of one partition do not all go to one worker.
func TestSmallShufflesRotate(t *testing.T) {
	s := workers(5, Options{})
	on := map[string]int{}
	for i := range int32(10) {
		for host, n := range copies(s.RequestSlots(t0, ask("a", i, 1))) {
			on[host] += n[0]
		}
	}
	require.Equal(t, map[string]int{"w0": 2, "w1": 2, "w2": 2, "w3": 2, "w4": 2}, on)
}

func BenchmarkRequestSlots(b *testing.B) {
	for _, c := range []struct {
		name    string
		workers int
		change  func(*pb.RequestSlots)
	}{{"plain", 1000, func(*pb.RequestSlots) {}}, {"replicated", 1000, replicated}, {"replicated on 3", 3, replicated}} {
		b.Run(c.name, func(b *testing.B) {
			s := workers(c.workers, Options{})
			m := ask("a", 0, 100_000, c.change)
			for b.Loop() {
				out := s.RequestSlots(t0, m)
				payload, err := proto.Marshal(out)
				require.NoError(b, err)
				b.ReportMetric(float64(len(payload)), "answer-bytes")
			}
		})
	}
}

func BenchmarkWorkerHeartbeat(b *testing.B) {
	s := workers(1000, Options{})
	hb := beat(0)
	for i := range int32(1000) {
		holds(fmt.Sprint("app", i%50), i, 1)(hb)
	}
	for b.Loop() {
		s.WorkerHeartbeat(t0, hb)
	}
}
