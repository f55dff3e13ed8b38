package store_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// hanging runs a store of two disks, of which the first hangs in operations that match, until let is called.
func hanging(t *testing.T, f func(r *rig, hang func(match func(op tier.Op, path string) bool), let func())) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, func(o *store.Options) { o.Now = time.Now; o.Writers = 2 })
		var released chan struct{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		let := func() {
			if released != nil {
				close(released)
				released = nil
				r.failing(nil)
			}
			synctest.Wait()
		}
		f(r, func(match func(tier.Op, string) bool) {
			wait := make(chan struct{})
			released = wait
			r.failing(func(d int, op tier.Op, path string) error {
				if d == 0 && match(op, path) {
					<-wait
				}
				return nil
			})
		}, let)
		let()
		cancel()
		<-ended
	})
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// committing asks for a commit, and returns what has become of it when that is asked for: nothing, as long as it has not settled.
func (r *rig) committing(epoch int64, ids ...wire.PartitionID) func() store.Result {
	var out atomic.Pointer[store.Result]
	r.Commit(store.Commit{Key: key, Epoch: epoch, Primaries: ids}, func(got store.Result) { out.Store(&got) })
	synctest.Wait()
	return func() store.Result {
		if got := out.Load(); got != nil {
			return *got
		}
		return store.Result{}
	}
}

// onDisks reserves partitions until each disk has n of them, and returns them by disk: they are dealt in turn.
func (r *rig) onDisks(n int32) (out [2][]wire.PartitionID) {
	for i := range 2 * n {
		r.reserve(store.Limits{}, id(i, 0))
		out[i%2] = append(out[i%2], id(i, 0))
	}
	return out
}

// TestDiskHangs: a write that does not come back sets its disk aside; what waits behind it goes to the other one, pushes are split,
// and a commit of what hangs is answered in time, from memory.
func TestDiskHangs(t *testing.T) {
	hanging(t, func(r *rig, hang func(func(tier.Op, string) bool), let func()) {
		on := r.onDisks(5)
		hang(func(op tier.Op, _ string) bool { return op == tier.OpWrite })
		a := on[0]
		for i, p := range a[:4] {
			require.Equal(t, store.Written, r.push(p, batch(int32(i), 0, 1, 5000)))
		}
		r.push(a[4], batch(4, 0, 1, 100)) // waits for nothing yet
		r.push(on[1][0], batch(9, 0, 1, 5000))
		after(15 * time.Second)
		require.Empty(t, r.Disks()[0].Problem)
		after(7 * time.Second)
		require.Contains(t, r.Disks()[0].Problem, "hangs")
		require.Equal(t, store.Split, r.push(a[0], batch(0, 0, 2, 10)), "its disk hangs")
		require.Equal(t, store.Written, r.push(a[2], batch(2, 0, 2, 10)), "it was moved")
		require.Len(t, r.Held(), 1, "heartbeats do not wait for the disk")
		r.reserve(store.Limits{}, id(100, 0))
		require.Equal(t, store.Written, r.push(id(100, 0), batch(0, 0, 1, 5000)))

		rescued := r.committing(1, a[2], a[3], a[4], on[1][0], id(100, 0))
		after(time.Second)
		require.Equal(t, []wire.PartitionID{a[2], a[3], a[4], on[1][0], id(100, 0)}, committed(rescued()))
		hung := r.committing(2, a[0], a[1], a[2])
		require.False(t, hung().Known)
		after(3 * time.Second)
		require.Equal(t, a[:3], committed(hung()))
		require.Equal(t, batch(0, 0, 1, 5000), r.whole(a[0]), "it is served from memory")
		require.Positive(t, r.Memory(wire.Primary).Used())

		let()
		after(3 * time.Second)
		require.Zero(t, r.Memory(wire.Primary).Used(), "the other disk has it")
		require.Equal(t, batch(0, 0, 1, 5000), r.whole(a[0]))
		require.Equal(t, a[:2], committed(r.committing(3, a[0], a[1])()))
		after(30 * time.Second)
		require.Empty(t, r.Disks()[0].Problem, "it works again")
	})
}

// TestNoteHangs: when only the note of a commit hangs, the data is on disks: the commit succeeds, late, and nothing else waits for it.
func TestNoteHangs(t *testing.T) {
	hanging(t, func(r *rig, hang func(func(tier.Op, string) bool), let func()) {
		on := r.onDisks(2)
		hang(func(_ tier.Op, path string) bool { return strings.HasSuffix(path, "manifest") })
		for _, p := range []wire.PartitionID{on[0][0], on[1][0], on[1][1]} {
			r.push(p, batch(0, 0, 1, 100))
		}
		out := r.committing(1, on[0][0], on[1][0])
		require.Len(t, r.committing(2, on[1][1])().Primaries, 1, "the other disk notes")
		after(1500 * time.Millisecond)
		require.False(t, out().Known)
		require.Len(t, r.Held(), 1)
		after(2 * time.Second)
		require.Len(t, out().Primaries, 2)
		require.Equal(t, batch(0, 0, 1, 100), r.whole(on[0][0]))
		let()
		after(time.Second)
		r.restart()
		require.Equal(t, batch(0, 0, 1, 100), r.whole(on[0][0]))
	})
}

// TestRemovalHangs: a disk that hangs while a shuffle is removed keeps the other one from nothing, which removes its part.
func TestRemovalHangs(t *testing.T) {
	hanging(t, func(r *rig, hang func(func(tier.Op, string) bool), let func()) {
		on := r.onDisks(1)
		for d := range 2 {
			r.push(on[d][0], batch(0, 0, 1, 5000))
		}
		r.committing(1, on[0][0], on[1][0])
		hang(func(op tier.Op, _ string) bool { return op == tier.OpRemove })
		r.Drop(key)
		for i := range 3 { // more than there are writers
			k := "other-" + string(rune('1'+i))
			require.NoError(t, r.Reserve(k, nil, store.Limits{}, []wire.Location{{PartitionID: id(0, 0)}}))
			r.Drop(k)
		}
		after(25 * time.Second)
		require.Contains(t, r.Disks()[0].Problem, "hangs")
		require.Empty(t, r.Disks()[1].Problem)
		require.NotEmpty(t, r.files(0))
		require.Empty(t, r.files(1))
		let()
		after(time.Second)
		require.Empty(t, r.files(0), "it is removed when the disk is back")
	})
}

// TestProbeHangs: a disk that hangs while it is asked whether it works again keeps nobody from anything.
func TestProbeHangs(t *testing.T) {
	hanging(t, func(r *rig, hang func(func(tier.Op, string) bool), let func()) {
		on := r.onDisks(2)
		r.failing(func(d int, op tier.Op, path string) error {
			if d == 0 && op == tier.OpWrite {
				return broken
			}
			return nil
		})
		r.push(on[0][0], batch(0, 0, 1, 5000))
		synctest.Wait()
		require.NotEmpty(t, r.Disks()[0].Problem)
		hang(func(op tier.Op, path string) bool { return op == tier.OpCreate && strings.HasSuffix(path, "probe") })
		after(30 * time.Second)
		require.Contains(t, r.Disks()[0].Problem, "hangs")
		require.Equal(t, store.Written, r.push(on[1][0], batch(0, 0, 1, 5000)))
		require.Len(t, r.committing(1, on[0][0], on[1][0])().Primaries, 2)
	})
}

// TestGrownFileHangs: also a partition that has some bytes in the very file whose write hangs is committed in time, and keeps nobody
// who looks after the disks.
func TestGrownFileHangs(t *testing.T) {
	hanging(t, func(r *rig, hang func(func(tier.Op, string) bool), let func()) {
		on := r.onDisks(1)
		r.push(on[0][0], batch(0, 0, 1, 5000))
		synctest.Wait()
		hang(func(op tier.Op, _ string) bool { return op == tier.OpWrite })
		r.push(on[0][0], batch(0, 0, 2, 5000))
		out := r.committing(1, on[0][0])
		after(5 * time.Second)
		require.Len(t, out().Primaries, 1)
		after(20 * time.Second)
		require.Contains(t, r.Disks()[0].Problem, "hangs", "somebody still looks")
		let()
		after(time.Minute)
		require.Zero(t, r.Memory(wire.Primary).Used())
		require.Len(t, r.whole(on[0][0]), 2*5016)
		r.restart()
		require.Len(t, r.whole(on[0][0]), 2*5016)
	})
}
