package master

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// expired is what a worker is told to delete when it reports these shuffles.
func expired(s *State, now time.Time, i int, shuffles ...func(*pb.HeartbeatFromWorker)) []string {
	return s.WorkerHeartbeat(now, beat(i, shuffles...)).ExpiredShuffleKeys
}

func TestUnregister(t *testing.T) {
	s := workers(1, Options{})
	s.RequestSlots(t0, ask("a", 0, 1))
	s.RequestSlots(t0, ask("a", 1, 1))
	require.Empty(t, expired(s, t0, 0, holds("a", 0, 1), holds("a", 1, 1)))
	s.Unregister(t0, &pb.UnregisterShuffle{AppId: "a", ShuffleId: 0})
	require.Equal(t, []string{"a-0"}, expired(s, t0, 0, holds("a", 0, 1), holds("a", 1, 1)))
	require.Equal(t, []int32{1}, heartbeat(s, t0, "a").RegisteredShuffles)
	out := s.BatchUnregister(t0, &pb.BatchUnregisterShuffles{AppId: "a", ShuffleIds: []int32{1, 5}})
	require.Equal(t, []int32{1, 5}, out.ShuffleIds)
	require.Equal(t, []string{"a-0", "a-1", "a-5"}, expired(s, t0, 0, holds("a", 0, 1), holds("a", 1, 1), holds("a", 5, 1)), "5 was registered with another master")
}

func TestEmptyReportDeletesNothing(t *testing.T) {
	s := workers(2, Options{})
	s.RequestSlots(t0, ask("a", 0, 4))
	require.Empty(t, expired(s, t0, 0, holds("a", 0, 1)))
	require.Empty(t, expired(s, t0, 0), "nothing reported")
	require.Equal(t, []int32{0}, heartbeat(s, t0, "a").RegisteredShuffles)
	require.Empty(t, expired(s, t0, 0, holds("a", 0, 1)))
}

func TestLease(t *testing.T) {
	s := workers(1, Options{})
	s.RequestSlots(t0, ask("a", 0, 1))
	heartbeat(s, t0, "b")
	alive := func(now time.Time) { heartbeat(s, now, "b") }
	now := pass(s, t0, 300*time.Second, alive)
	require.Empty(t, expired(s, now, 0, holds("a", 0, 1)))
	now = pass(s, now, time.Second, alive)
	require.Equal(t, []string{"a-0"}, expired(s, now, 0, holds("a", 0, 1)))
	require.Empty(t, expired(s, now, 0, holds("b", 0, 1)), "adopted: b lives")
}

func TestEveryMessageRenews(t *testing.T) {
	for name, say := range map[string]func(s *State, now time.Time){
		"register":   func(s *State, now time.Time) { s.RegisterApplicationInfo(now, &pb.RegisterApplicationInfo{AppId: "a"}) },
		"slots":      func(s *State, now time.Time) { s.RequestSlots(now, ask("a", 1, 1)) },
		"refused":    func(s *State, now time.Time) { s.RequestSlots(now, ask("a", 1, 1, replicated)) },
		"unregister": func(s *State, now time.Time) { s.Unregister(now, &pb.UnregisterShuffle{AppId: "a", ShuffleId: 9}) },
		"batch":      func(s *State, now time.Time) { s.BatchUnregister(now, &pb.BatchUnregisterShuffles{AppId: "a"}) },
		"revise":     func(s *State, now time.Time) { s.ReviseLostShuffles(now, &pb.ReviseLostShuffles{AppId: "a"}) },
		"heartbeat":  func(s *State, now time.Time) { heartbeat(s, now, "a") },
	} {
		s := workers(1, Options{})
		s.RequestSlots(t0, ask("a", 0, 1))
		now := pass(s, t0, 299*time.Second, nil)
		s.WorkerHeartbeat(now, beat(0))
		say(s, now)
		now = pass(s, now, 299*time.Second, nil)
		require.Empty(t, expired(s, now, 0, holds("a", 0, 1)), name)
	}
}

func TestEndedApplication(t *testing.T) {
	s := workers(1, Options{})
	s.RequestSlots(t0, ask("a", 0, 1))
	s.ApplicationLost(t0, &pb.ApplicationLost{AppId: "a"})
	require.Equal(t, []string{"a-0"}, expired(s, t0, 0, holds("a", 0, 1)))
	require.Empty(t, heartbeat(s, t0, "a").RegisteredShuffles, "a late heartbeat does not bring it back")
	require.Empty(t, s.Status(t0).Applications)
	require.Equal(t, []string{"a-0", "a-3"}, expired(s, t0, 0, holds("a", 0, 1), holds("a", 3, 1)), "whatever it had")
	require.False(t, s.ReviseLostShuffles(t0, &pb.ReviseLostShuffles{AppId: "a", LostShuffles: []int32{0}}).Success)

	s.RequestSlots(t0, ask("a", 4, 1))
	require.Equal(t, []string{"a-0", "a-3"}, expired(s, t0, 0, holds("a", 0, 1), holds("a", 3, 1), holds("a", 4, 1)), "another run has its own shuffles only")
	require.Equal(t, []int32{4}, heartbeat(s, t0, "a").RegisteredShuffles)
}

func TestLateDriverKeepsWhatIsWhole(t *testing.T) {
	s := workers(2, Options{})
	s.RequestSlots(t0, ask("a", 0, 1))
	s.RequestSlots(t0, ask("a", 1, 1))
	now := pass(s, t0, 302*time.Second, nil)
	require.Equal(t, []string{"a-0"}, expired(s, now, 0, holds("a", 0, 1)), "its lease ended")
	require.Equal(t, []int32{1}, heartbeat(s, now, "a").RegisteredShuffles, "it lives, but a worker deleted its part of 0")
	require.Equal(t, []string{"a-0"}, expired(s, now, 1, holds("a", 0, 1), holds("a", 1, 1)))
	require.Equal(t, &pb.ReviseLostShufflesResponse{Message: "workers were told to delete the shuffles 0"},
		s.ReviseLostShuffles(now, &pb.ReviseLostShuffles{AppId: "a", LostShuffles: []int32{0, 2}}))
	require.Equal(t, []int32{1, 2}, heartbeat(s, now, "a").RegisteredShuffles)
}

// TestRestartedMaster: one that starts empty deletes nothing of applications that live, and in time what nobody needs.
func TestRestartedMaster(t *testing.T) {
	s := New(t0, Options{})
	require.Empty(t, expired(s, t0, 0, holds("alive", 3, 1), holds("dead", 1, 1)))
	status := s.Status(t0)
	require.Len(t, status.Applications, 2)
	require.True(t, status.Applications[0].Adopted)
	now := pass(s, t0, 10*time.Second, nil)
	require.Equal(t, []int32{3}, heartbeat(s, now, "alive").RegisteredShuffles)
	require.False(t, s.Status(now).Applications[0].Adopted)
	now = pass(s, now, 300*time.Second, func(now time.Time) {
		heartbeat(s, now, "alive")
		if now.Before(t0.Add(300 * time.Second)) {
			require.Empty(t, expired(s, now, 0, holds("alive", 3, 1), holds("dead", 1, 1)), "a worker's word renews no lease")
		}
	})
	require.Equal(t, []string{"dead-1"}, expired(s, now, 0, holds("alive", 3, 1), holds("dead", 1, 1)))
}

func TestTombstonesLast(t *testing.T) {
	s := workers(1, Options{Tombstones: time.Minute})
	s.ApplicationLost(t0, &pb.ApplicationLost{AppId: "a"})
	s.RequestSlots(t0, ask("b", 0, 1))
	s.Unregister(t0, &pb.UnregisterShuffle{AppId: "b", ShuffleId: 0})
	now := pass(s, t0, 55*time.Second, nil)
	require.Len(t, expired(s, now, 0, holds("a", 0, 1), holds("b", 0, 1)), 2)
	now = pass(s, now, 50*time.Second, nil)
	require.Len(t, expired(s, now, 0, holds("a", 0, 1), holds("b", 0, 1)), 2, "a worker still reports it")
	pass(s, now, 3*time.Minute, nil)
	require.NotContains(t, s.apps, "a")
	require.Empty(t, s.apps["b"].shuffles)
}

// TestPausedMaster: a master that was suspended holds that against nobody.
func TestPausedMaster(t *testing.T) {
	var events []string
	s := workers(2, Options{On: func(e Event) { events = append(events, e.Kind) }})
	s.RequestSlots(t0, ask("a", 0, 1))
	now := pass(s, t0, time.Second, nil).Add(time.Hour)
	require.Equal(t, "0 0", fmt.Sprint(s.RequestSlots(now, ask("b", 0, 1)).Status, s.RequestSlots(now, ask("b", 1, 1, replicated)).Status))
	s.Tick(now)
	require.Equal(t, stateAvailable, first(s, now).State)
	require.Empty(t, expired(s, now, 0, holds("a", 0, 1)))
	require.Contains(t, events, "paused")
	now = pass(s, now, 301*time.Second, nil)
	require.Equal(t, []string{"a-0"}, expired(s, now, 0, holds("a", 0, 1)))
}

// TestManySilentTogether: when most drivers fall silent at once, the master doubts itself for a while.
func TestManySilentTogether(t *testing.T) {
	var events []string
	s := workers(1, Options{On: func(e Event) { events = append(events, e.Kind) }})
	for i := range 5 {
		s.RequestSlots(t0, ask(fmt.Sprint("a", i), 0, 1))
	}
	now := pass(s, t0, 310*time.Second, nil)
	require.Empty(t, expired(s, now, 0, holds("a0", 0, 1)))
	require.Contains(t, events, "expiry held")
	heartbeat(s, now, "a1")
	now = pass(s, now, 300*time.Second, nil)
	require.Equal(t, []string{"a0-0"}, expired(s, now, 0, holds("a0", 0, 1), holds("a1", 0, 1)))
}
