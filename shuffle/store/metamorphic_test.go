package store_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// writing is one batch of the writes that all runs have in common.
type writing struct {
	part int32
	data []byte
}

// reading is what a client makes of copies: every batch of the attempts that won, once, in order.
func reading(t *testing.T, chunks [][]byte, into map[string][]byte) {
	for _, c := range chunks {
		for len(c) > 0 {
			h, err := wire.ParseBatch(c)
			require.NoError(t, err)
			n := wire.BatchHeader + h.Size
			if h.AttemptID == 1 {
				into[fmt.Sprintf("%05d %05d", h.MapID, h.BatchID)] = c[:n]
			}
			c = c[n:]
		}
	}
}

// TestMetamorphic: the same writes give the same partitions, whatever the disks, memory, sizes of flushes and chunks, the order of
// pushes, faults of disks, splits, repeated pushes and restarts, and whichever copy is read, whole or in ranges.
func TestMetamorphic(t *testing.T) {
	const partitions = 4
	rnd := rand.New(rand.NewPCG(5, 5))
	var all []writing
	want := map[int32]map[string][]byte{}
	for i := range int32(300) {
		size := rnd.IntN(2000)
		if rnd.IntN(20) == 0 {
			size = 20 << 10
		}
		m, attempt, part := int32(rnd.IntN(9)), int32(rnd.IntN(2)), int32(rnd.IntN(partitions))
		b := batch(m, attempt, i, size)
		all = append(all, writing{part, b})
		if want[part] == nil {
			want[part] = map[string][]byte{}
		}
		reading(t, [][]byte{b}, want[part])
	}
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { metamorphose(t, rand.New(rand.NewPCG(seed, 9)), slices.Clone(all), want) })
	}
}

func metamorphose(t *testing.T, rnd *rand.Rand, all []writing, want map[int32]map[string][]byte) {
	r := newRig(t, 1+rnd.IntN(4), func(o *store.Options) {
		o.Memory = 128 << 10 << rnd.IntN(6)
		o.FlushSize, o.ChunkSize = int64(1+rnd.IntN(60_000)), int64(1+rnd.IntN(60_000))
		o.OpenFiles = int64(1 + rnd.IntN(10))
	})
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	replicated, limits := rnd.IntN(2) == 0, store.Limits{SplitThreshold: int64(rnd.IntN(80_000)), HardSplit: rnd.IntN(2) == 0}
	latest := map[int32]int32{}
	var epochs []wire.PartitionID
	reserve := func(part int32) {
		at := []wire.Location{{PartitionID: id(part, latest[part])}}
		if replicated {
			at = append(at, wire.Location{PartitionID: id(part, latest[part]), Mode: wire.Replica})
		}
		require.NoError(t, r.Reserve(key, nil, limits, at))
		epochs = append(epochs, id(part, latest[part]))
	}
	for part := range want {
		reserve(part)
	}
	faults := 0
	for i, w := range all {
		for taken := false; !taken; {
			p, _ := r.Find(key, id(w.part, latest[w.part]), wire.Primary)
			verdict := appendTo(t, r.Store, p, wire.Primary, w.data)
			if taken = verdict == store.Written || verdict == store.WrittenSplit; taken && replicated {
				q, _ := r.Find(key, id(w.part, latest[w.part]), wire.Replica)
				got := appendTo(t, r.Store, q, wire.Replica, w.data)
				taken = got == store.Written
			}
			if !taken || verdict == store.WrittenSplit && rnd.IntN(3) == 0 {
				r.failing(nil) // somewhere there is room
				r.now = r.now.Add(time.Minute)
				r.Check()
				r.now = r.now.Add(time.Minute)
				r.Check()
				latest[w.part]++
				reserve(w.part)
			}
		}
		if rnd.IntN(10) == 0 { // pushed again, because an answer was lost
			r.push(id(w.part, latest[w.part]), w.data)
		}
		for range rnd.IntN(3) {
			r.Step()
		}
		if i%40 == 0 && rnd.IntN(2) == 0 {
			faults++
			d, err := rnd.IntN(len(r.mem)), []error{full, broken}[rnd.IntN(2)]
			left := rnd.IntN(20)
			r.failing(func(on int, op tier.Op, _ string) error {
				if on == d && op == tier.OpWrite && left > 0 {
					left--
					return err
				}
				return nil
			})
		}
	}
	r.failing(nil)
	r.Check()
	out := store.Result{}
	c := store.Commit{Key: key, Epoch: 1, Primaries: epochs}
	if replicated {
		c.Replicas = epochs
	}
	r.Commit(c, func(got store.Result) { out = got })
	r.drain()
	r.Check()
	r.drain()
	require.True(t, out.Known)
	require.Empty(t, out.FailedPrimaries)
	require.Empty(t, out.FailedReplicas)
	for range rnd.IntN(3) {
		r.restart()
	}
	for part := range want {
		got := map[string][]byte{}
		for _, e := range epochs {
			served := slices.ContainsFunc(out.Primaries, func(c store.Committed) bool { return c.ID == e })
			if e.ID != part || !served {
				continue
			}
			mode := 0
			if replicated && slices.ContainsFunc(out.Replicas, func(c store.Committed) bool { return c.ID == e }) {
				mode = rnd.IntN(2)
			}
			bounds := []int32{0, math.MaxInt32}
			if rnd.IntN(2) == 0 {
				bounds = []int32{0, int32(rnd.IntN(10)), 10}
			}
			for i := range len(bounds) - 1 {
				chunks, err := readCopy(r.Store, fmt.Sprintf("%s-%d", e, mode), bounds[i], bounds[i+1])
				require.NoError(t, err)
				reading(t, chunks, got)
			}
		}
		require.Equal(t, want[part], got, "partition %d", part)
	}
}
