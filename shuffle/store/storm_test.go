package store_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// TestStorm has everything happen at once, for the race detector: pushes, commits, reads and ends of many shuffles on disks that fail
// now and then. What was acknowledged is in what was committed.
func TestStorm(t *testing.T) {
	for name, patience := range map[string]time.Duration{"patient": time.Minute, "impatient": time.Nanosecond} {
		t.Run(name, func(t *testing.T) { stormOf(t, patience) })
	}
}

func stormOf(t *testing.T, patience time.Duration) {
	var ops atomic.Int64
	opts := store.Options{Memory: 256 << 10, FlushSize: 4 << 10, ChunkSize: 8 << 10, Reserve: 1, OpenFiles: 8, Verify: true, SlowAfter: 20 * time.Millisecond, CommitTime: patience}
	for d := range 3 {
		opts.Disks = append(opts.Disks, store.Disk{Path: fmt.Sprint("/d", d), FS: &tier.Faulty{FS: tier.NewMem(), Fail: func(op tier.Op, _ string) error {
			switch n := ops.Add(1); {
			case op == tier.OpRead || op == tier.OpOpen:
			case n%97 == 0:
				return syscall.ENOSPC
			case n%331 == 0:
				return syscall.EIO
			case n%61 == 0:
				return syscall.EMFILE
			}
			return nil
		}}})
	}
	s, err := store.Open(opts)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	var checks, all sync.WaitGroup
	checks.Go(func() { // disks come back at once, rather than after a second
		for ctx.Err() == nil {
			s.Check()
			<-time.After(time.Millisecond)
		}
	})
	for i := range 4 {
		all.Go(func() {
			for n := range 6 {
				storm(t, s, fmt.Sprintf("app-%d", i*100+n), rand.New(rand.NewPCG(uint64(i), uint64(n))))
			}
		})
	}
	all.Wait()
	cancel()
	<-ended
	checks.Wait()
	require.Empty(t, s.Held())
	require.Zero(t, s.Memory(wire.Primary).Used())
}

// storm is the life of one shuffle.
func storm(t *testing.T, s *store.Store, key string, r *rand.Rand) {
	const parts = 6
	var at []wire.Location
	var ids []wire.PartitionID
	for i := range int32(parts) {
		at, ids = append(at, wire.Location{PartitionID: id(i, 0)}), append(ids, id(i, 0))
	}
	for s.Reserve(key, nil, store.Limits{}, at) != nil { // a disk is back soon
		<-time.After(time.Millisecond)
	}
	var mu sync.Mutex
	acked := map[int32]map[int32][]byte{}
	var pushers sync.WaitGroup
	for m := range int32(3) {
		seed := r.Uint64()
		pushers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for n := range int32(30) {
				part := int32(r.IntN(parts))
				b := batch(m, 0, n, []int{10, 3000, 20_000}[r.IntN(3)])
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				buf, err := s.Memory(wire.Primary).Get(ctx, len(b))
				cancel()
				if err != nil {
					continue
				}
				copy(buf.Bytes(), b)
				if p, ok := s.Find(key, id(part, 0), wire.Primary); ok {
					if v := p.Append(m, buf.Bytes(), buf); v == store.Written || v == store.WrittenSplit {
						mu.Lock()
						if acked[part] == nil {
							acked[part] = map[int32][]byte{}
						}
						acked[part][m<<16|n] = b
						mu.Unlock()
					}
				}
				buf.Release()
			}
		})
	}
	early := r.IntN(4)
	switch early {
	case 0: // while pushes come
		s.Commit(store.Commit{Key: key, Epoch: 1, Primaries: ids[:2]}, func(store.Result) {})
	case 1:
		s.Destroy(key, ids[2:4], nil)
	}
	pushers.Wait()
	done := make(chan store.Result, 2)
	for range 2 {
		s.Commit(store.Commit{Key: key, Epoch: 2, Primaries: ids}, func(out store.Result) { done <- out })
	}
	out := <-done
	<-done
	var readers sync.WaitGroup
	for _, c := range out.Primaries {
		for range 2 {
			readers.Go(func() { stormRead(t, s, key, c.ID, acked[c.ID.ID]) })
		}
	}
	if r.IntN(3) > 0 {
		readers.Wait()
		failed := map[wire.PartitionID]bool{}
		for _, f := range out.FailedPrimaries {
			failed[f] = true
		}
		for _, n := range ids {
			destroyed := early == 1 && (n.ID == 2 || n.ID == 3)
			if failed[n] != destroyed {
				t.Errorf("%s %s: failed %t: %v", key, n, failed[n], out.Reasons)
			}
		}
	}
	s.Drop(key)
	readers.Wait()
}

// stormRead checks a copy; what was dropped meanwhile may fail, but not be wrong.
func stormRead(t *testing.T, s *store.Store, key string, n wire.PartitionID, want map[int32][]byte) {
	st, err := s.OpenStream(key, n.String()+"-0", 0, math.MaxInt32)
	if err != nil {
		return
	}
	defer s.EndStream(st.ID)
	got := map[int32][]byte{}
	for i := range st.Chunks() {
		c, err := s.Chunk(wire.ChunkSlice{StreamID: st.ID, Chunk: int32(i), Len: math.MaxInt32})
		if err != nil {
			return
		}
		b, err := bytesOf(c)
		c.Release()
		if err != nil {
			t.Errorf("%s %s: %v", key, n, err)
			return
		}
		for len(b) > 0 {
			h, err := wire.ParseBatch(b)
			if err != nil {
				t.Errorf("%s %s: %v", key, n, err)
				return
			}
			got[h.MapID<<16|h.BatchID] = b[:wire.BatchHeader+h.Size]
			b = b[wire.BatchHeader+h.Size:]
		}
	}
	for k, b := range want {
		if string(got[k]) != string(b) {
			t.Errorf("%s %s: batch %x was acknowledged and is missing or wrong", key, n, k)
		}
	}
}
