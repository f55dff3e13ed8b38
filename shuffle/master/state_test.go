package master

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

var t0 = time.Unix(1_800_000_000, 0)

const gib = 1 << 30

// beat is a healthy worker's heartbeat; change it as a test needs.
func beat(i int, change ...func(*pb.HeartbeatFromWorker)) *pb.HeartbeatFromWorker {
	hb := &pb.HeartbeatFromWorker{Host: fmt.Sprintf("w%d", i), RpcPort: 1, PushPort: 2, FetchPort: 3, ReplicatePort: 4, Incarnation: "first", MemoryLimit: gib,
		Disks: []*pb.DiskInfo{{MountPoint: "/d", UsableSpace: 1000 * gib, TotalSpace: 2000 * gib}}}
	for _, f := range change {
		f(hb)
	}
	return hb
}

func idOf(hb *pb.HeartbeatFromWorker) wire.WorkerID {
	return wire.WorkerID{Host: hb.Host, RPC: hb.RpcPort, Push: hb.PushPort, Fetch: hb.FetchPort, Replicate: hb.ReplicatePort}
}

func holds(app string, shuffle int32, bytes int64) func(*pb.HeartbeatFromWorker) {
	return func(hb *pb.HeartbeatFromWorker) {
		hb.Shuffles = append(hb.Shuffles, &pb.HeldShuffle{AppId: app, ShuffleId: shuffle, Bytes: bytes, Partitions: 1, UserIdentifier: &pb.UserIdentifier{TenantId: "default", Name: "ann"}})
	}
}

// workers is a state that settled, with n equal workers.
func workers(n int, opt Options) *State {
	s := New(t0.Add(-time.Minute), opt)
	for i := range n {
		s.WorkerHeartbeat(t0, beat(i))
	}
	return s
}

func ask(app string, shuffle int32, n int, change ...func(*pb.RequestSlots)) *pb.RequestSlots {
	m := &pb.RequestSlots{ApplicationId: app, ShuffleId: shuffle, MaxWorkers: 10000, AvailableStorageTypes: 2}
	for id := range int32(n) {
		m.PartitionIdList = append(m.PartitionIdList, id)
	}
	for _, f := range change {
		f(m)
	}
	return m
}

func replicated(m *pb.RequestSlots) { m.ShouldReplicate = true }

// first is what the master says of worker 0.
func first(s *State, now time.Time) *pb.WorkerStatus {
	for _, w := range s.Status(now).Workers {
		if w.Id == idOf(beat(0)).String() {
			return w
		}
	}
	return &pb.WorkerStatus{State: "not known"}
}

func heartbeat(s *State, now time.Time, app string, check ...int) *pb.HeartbeatFromApplicationResponse {
	m := &pb.HeartbeatFromApplication{AppId: app, ShouldResponse: true}
	for _, i := range check {
		m.NeedCheckedWorkerList = append(m.NeedCheckedWorkerList, idOf(beat(i)).Info())
	}
	return s.ApplicationHeartbeat(now, m)
}

func hosts(infos []*pb.WorkerInfo) []string {
	var out []string
	for _, w := range infos {
		out = append(out, w.Host)
	}
	return out
}

// pass lets time go by as a server does.
func pass(s *State, from time.Time, d time.Duration, each func(now time.Time)) time.Time {
	for now := from; now.Before(from.Add(d)); {
		now = now.Add(time.Second)
		if each != nil {
			each(now)
		}
		s.Tick(now)
	}
	return from.Add(d)
}

func TestStanding(t *testing.T) {
	set := func(f func(*pb.HeartbeatFromWorker)) func(*pb.HeartbeatFromWorker) { return f }
	for name, c := range map[string]struct {
		change func(*pb.HeartbeatFromWorker)
		after  time.Duration
		state  string
		why    string
	}{
		"well":           {nil, 0, stateAvailable, ""},
		"two late beats": {nil, 2 * time.Second, stateAvailable, ""},
		"silent":         {nil, 2*time.Second + 1, stateSilent, "no heartbeat for more than 2s"},
		"lost":           {nil, 30*time.Second + 1, stateLost, "no heartbeat for more than 30s"},
		"draining":       {set(func(hb *pb.HeartbeatFromWorker) { hb.Draining = true }), 0, stateDraining, "it takes no new partitions and ends when its shuffles are read"},
		"leaving":        {set(func(hb *pb.HeartbeatFromWorker) { hb.Leaving = true }), 0, stateLost, "it said that it ends"},
		"no disk":        {set(func(hb *pb.HeartbeatFromWorker) { hb.Disks = nil }), 0, stateExcluded, "it has no disk"},
		"broken disk":    {set(func(hb *pb.HeartbeatFromWorker) { hb.Disks[0].Status = 1 }), 0, stateExcluded, "none of its 1 disks can be written; see the worker's log"},
		"full disk": {set(func(hb *pb.HeartbeatFromWorker) { hb.Disks[0].UsableSpace = 1 << 20 }), 0, stateExcluded,
			"its disks are full: each of 1 has less than 128.0 MiB; give it space or wait for shuffles to end"},
		"one disk of two": {set(func(hb *pb.HeartbeatFromWorker) {
			hb.Disks = append(hb.Disks, &pb.DiskInfo{Status: 1, UsableSpace: 1 << 40})
		}), 0, stateAvailable, ""},
		"full memory": {set(func(hb *pb.HeartbeatFromWorker) { hb.MemoryUsed = gib }), 0, stateAvailable, ""}, // its pushes wait for each other; a worker under load is no broken one
	} {
		s := New(t0, Options{})
		change := []func(*pb.HeartbeatFromWorker){}
		if c.change != nil {
			change = append(change, c.change)
		}
		require.True(t, s.WorkerHeartbeat(t0, beat(0, change...)).Registered, name)
		for now := t0; now.Before(t0.Add(c.after)); now = now.Add(time.Second) {
			s.Tick(now)
		}
		w := first(s, t0.Add(c.after))
		require.Equal(t, c.state, w.State, name)
		require.Equal(t, c.why, w.Reason, name)
	}
}

func TestConnectionEnds(t *testing.T) {
	s := workers(2, Options{})
	s.WorkerGone(t0, idOf(beat(0)), "another")
	require.Equal(t, stateAvailable, first(s, t0).State, "an earlier incarnation's connection")
	s.WorkerGone(t0, idOf(beat(0)), "first")
	require.Equal(t, stateSilent, first(s, t0).State)
	require.Equal(t, []string{"w0"}, hosts(heartbeat(s, t0, "a").ExcludedWorkers), "a driver looks elsewhere")
	require.Len(t, s.RequestSlots(t0, ask("a", 0, 4)).WorkerResource, 1)
	s.WorkerHeartbeat(t0.Add(time.Second), beat(0))
	require.Equal(t, stateAvailable, first(s, t0.Add(time.Second)).State)
}

func TestRestartedWorkerHoldsNothing(t *testing.T) {
	s := workers(1, Options{})
	s.RequestSlots(t0, ask("a", 0, 10))
	s.WorkerHeartbeat(t0, beat(0, holds("a", 1, 5)))
	require.EqualValues(t, 11, first(s, t0).Slots)
	second := func(hb *pb.HeartbeatFromWorker) { hb.Incarnation = "second" }
	require.True(t, s.WorkerHeartbeat(t0, beat(0, second)).Registered)
	require.EqualValues(t, 0, first(s, t0).Slots)
	require.EqualValues(t, 0, s.Status(t0).Applications[0].Bytes)
	require.False(t, s.WorkerHeartbeat(t0, beat(0)).Registered, "a late word of the first one")
	require.Equal(t, "second", first(s, t0).Last.Incarnation)
	s.WorkerGone(t0, idOf(beat(0)), "first")
	require.Equal(t, stateAvailable, first(s, t0).State)
}

func TestUnknownWorkers(t *testing.T) {
	s := New(t0, Options{})
	s.WorkerHeartbeat(t0, beat(0))
	require.Empty(t, heartbeat(s, t0, "a", 0, 1).UnknownWorkers, "workers have had no time to register yet")
	now := pass(s, t0, 29*time.Second, func(now time.Time) { s.WorkerHeartbeat(now, beat(0)) })
	require.Empty(t, heartbeat(s, now, "a", 0, 1).UnknownWorkers)
	now = pass(s, now, time.Second, nil)
	require.Equal(t, []string{"w1"}, hosts(heartbeat(s, now, "a", 0, 1).UnknownWorkers))
	now = pass(s, now, 30*time.Second, nil)
	require.Equal(t, []string{"w0"}, hosts(heartbeat(s, now, "a", 0).UnknownWorkers), "lost")
	s.WorkerHeartbeat(now, beat(0))
	require.Empty(t, heartbeat(s, now, "a", 0).UnknownWorkers, "it is back")
	s.WorkerHeartbeat(now, beat(0, func(hb *pb.HeartbeatFromWorker) { hb.Leaving = true }))
	require.Equal(t, []string{"w0"}, hosts(heartbeat(s, now, "a", 0).UnknownWorkers))
}

func TestApplicationHeartbeatReply(t *testing.T) {
	s := workers(2, Options{})
	s.WorkerHeartbeat(t0, beat(2, func(hb *pb.HeartbeatFromWorker) { hb.Draining = true }))
	s.RequestSlots(t0, ask("a", 7, 1))
	s.RequestSlots(t0, ask("a", 2, 1))
	out := heartbeat(s, t0, "a")
	require.Equal(t, []int32{2, 7}, out.RegisteredShuffles)
	require.Equal(t, []string{"w2"}, hosts(out.ShuttingWorkers))
	require.Empty(t, out.ExcludedWorkers)
	require.True(t, out.CheckQuotaResponse.Available)
}

func TestExclude(t *testing.T) {
	s := workers(2, Options{Exclude: []string{"nothing*"}})
	require.ErrorContains(t, s.Exclude(t0, "["), "is no pattern of workers")
	require.ErrorContains(t, s.Exclude(t0, ""), "is no pattern of workers")
	require.NoError(t, s.Exclude(t0, "w0"))
	require.NoError(t, s.Exclude(t0, "w1:*"))
	require.Equal(t, stateExcluded, first(s, t0).State)
	require.Equal(t, "an operator excluded w0; sluice shuffle include takes it back", first(s, t0).Reason)
	patterns, matched := s.Excluded()
	require.Equal(t, []string{"nothing*", "w0", "w1:*"}, patterns)
	require.Equal(t, []string{"w0:1:2:3:4", "w1:1:2:3:4"}, matched)
	require.False(t, s.CheckWorkersAvailable(t0))
	require.NoError(t, s.Include(t0, "w0"))
	require.EqualError(t, s.Include(t0, "w0"), `"w0" is not excluded; excluded are: nothing*, w1:*`)
	require.True(t, s.CheckWorkersAvailable(t0))
}

func TestQuota(t *testing.T) {
	s := workers(2, Options{Quotas: Quotas{Default: 100, Users: map[string]int64{"bob": 0, "team/cid": 7}}})
	ann := &pb.CheckQuota{UserIdentifier: &pb.UserIdentifier{TenantId: "default", Name: "ann"}}
	require.True(t, s.CheckQuota(t0, ann).Available)
	s.WorkerHeartbeat(t0, beat(0, holds("a", 0, 60)))
	s.WorkerHeartbeat(t0, beat(0, holds("a", 0, 60)))
	require.True(t, s.CheckQuota(t0, ann).Available, "a report replaces the one before")
	s.WorkerHeartbeat(t0, beat(1, holds("a", 0, 60)))
	out := s.CheckQuota(t0, ann)
	require.False(t, out.Available)
	require.Equal(t, `the shuffles of user "ann" hold 120 bytes on the workers, of 100 bytes that the shuffle master allows; `+
		"wait for other jobs of this user to end, or have the quota raised (sluice shuffle master --quota)", out.Reason)
	require.False(t, heartbeat(s, t0, "a").CheckQuotaResponse.Available, "the user is known from the report")
	require.Zero(t, s.RequestSlots(t0, &pb.RequestSlots{ApplicationId: "a", ShuffleId: 1, PartitionIdList: []int32{0}, UserIdentifier: ann.UserIdentifier}).Status, "what has begun goes on")
	s.Unregister(t0, &pb.UnregisterShuffle{AppId: "a", ShuffleId: 1})
	slots := &pb.RequestSlots{ApplicationId: "b", ShuffleId: 1, PartitionIdList: []int32{0}, UserIdentifier: ann.UserIdentifier}
	require.EqualValues(t, wire.SlotNotAvailable, s.RequestSlots(t0, slots).Status)
	require.Equal(t, out.Reason, s.Status(t0).Refusals[0].Reason)
	require.True(t, s.CheckQuota(t0, &pb.CheckQuota{UserIdentifier: &pb.UserIdentifier{Name: "bob"}}).Available)
	s.Unregister(t0, &pb.UnregisterShuffle{AppId: "a"})
	require.Equal(t, []string{"a-0"}, s.WorkerHeartbeat(t0, beat(1, holds("a", 0, 60))).ExpiredShuffleKeys)
	require.True(t, s.CheckQuota(t0, ann).Available, "what is being deleted does not count")
	require.Zero(t, s.RequestSlots(t0, slots).Status)
}
