package store_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// TestSpill: ten thousand partitions of little data live in little memory, and all of it comes back.
func TestSpill(t *testing.T) {
	r := newRig(t, 2, func(o *store.Options) { o.Memory = 1 << 20; o.OpenFiles = 100 })
	const n = 10_000
	var ids []wire.PartitionID
	for i := range int32(n) {
		ids = append(ids, id(i, 0))
	}
	r.reserve(store.Limits{}, ids...)
	for m := range int32(3) {
		for i := range ids {
			require.Equal(t, store.Written, r.push(ids[i], batch(m, 0, int32(i), 50)))
			require.LessOrEqual(t, r.Memory(wire.Primary).Used(), int64(1<<20+1<<10))
			for r.Memory(wire.Primary).Pressed() {
				require.True(t, r.Step())
			}
		}
	}
	require.Positive(t, r.Written(), "some went to disks before the end")
	out := r.commit(1, ids...)
	require.Empty(t, out.FailedPrimaries)
	require.Len(t, out.Primaries, n)
	for _, i := range []int{0, 1, n / 2, n - 1} {
		require.Equal(t, slices.Concat(batch(0, 0, int32(i), 50), batch(1, 0, int32(i), 50), batch(2, 0, int32(i), 50)), r.whole(ids[i]))
	}
	require.Zero(t, r.Memory(wire.Primary).Used())
}

func TestSplits(t *testing.T) {
	for name, c := range map[string]struct {
		limits store.Limits
		mode   byte
		full   bool
		size   int
		want   []store.Verdict
	}{
		"never":                  {limits: store.Limits{}, size: 1000, want: []store.Verdict{store.Written, store.Written, store.Written}},
		"soft":                   {limits: store.Limits{SplitThreshold: 1500}, size: 1000, want: []store.Verdict{store.Written, store.Written, store.WrittenSplit, store.WrittenSplit}},
		"hard":                   {limits: store.Limits{SplitThreshold: 1500, HardSplit: true}, size: 1000, want: []store.Verdict{store.Written, store.Written, store.Split, store.Split}},
		"a replica decides none": {limits: store.Limits{SplitThreshold: 1500, HardSplit: true}, mode: wire.Replica, size: 1000, want: []store.Verdict{store.Written, store.Written, store.Written}},
		"full and large":         {limits: store.Limits{SplitThreshold: 1}, full: true, size: 1 << 20, want: []store.Verdict{store.Written, store.Split}},
		"full and large replica": {mode: wire.Replica, full: true, size: 1 << 20, want: []store.Verdict{store.Written, store.Split}},
		"full and small":         {full: true, size: 1000, want: []store.Verdict{store.Written, store.Written}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			require.NoError(t, r.Reserve(key, nil, c.limits, []wire.Location{{PartitionID: id(0, 0), Mode: c.mode}}))
			p, _ := r.Find(key, id(0, 0), c.mode)
			if c.full {
				r.mem[0].Capacity = 1 // not more than stays free
				r.Check()
				require.ErrorIs(t, r.Reserve(key, nil, c.limits, []wire.Location{{PartitionID: id(1, 0)}}), store.ErrNoDisk)
			}
			length := int64(0)
			for i, want := range c.want {
				require.Equal(t, want, p.Takes(), i)
				require.Equal(t, want, appendTo(t, r.Store, p, c.mode, batch(0, 0, int32(i), c.size)), i)
				if want == store.Written || want == store.WrittenSplit {
					length += int64(c.size + wire.BatchHeader)
				}
			}
			require.Equal(t, length, p.Length())
		})
	}
}

func TestDraining(t *testing.T) {
	r := newRig(t, 1)
	r.reserve(store.Limits{}, id(0, 0))
	require.Equal(t, store.Written, r.push(id(0, 0), batch(0, 0, 1, 10)))
	r.Drain()
	require.Equal(t, store.Split, r.push(id(0, 0), batch(0, 0, 2, 10)))
	require.ErrorIs(t, r.Reserve(key, nil, store.Limits{}, []wire.Location{{PartitionID: id(1, 0)}}), store.ErrDraining)
	r.commit(1, id(0, 0))
	require.Equal(t, batch(0, 0, 1, 10), r.whole(id(0, 0)))
}

// TestCommit: a commit that comes again gets the same answer, also while it runs; every id is in one list, or empty and known.
func TestCommit(t *testing.T) {
	r := newRig(t, 1)
	unknown := r.commit(1, id(0, 0))
	require.False(t, unknown.Known)
	require.Equal(t, []wire.PartitionID{id(0, 0)}, unknown.FailedPrimaries)

	r.reserve(store.Limits{}, id(0, 0), id(1, 0), id(2, 0))
	r.push(id(0, 0), batch(0, 0, 1, 10))
	r.push(id(1, 0), batch(0, 0, 1, 10_000))
	ask := store.Commit{Key: key, Epoch: 7, Primaries: []wire.PartitionID{id(0, 0), id(1, 0), id(2, 0), id(3, 0)}, Replicas: []wire.PartitionID{id(0, 0)}}
	var got []store.Result
	for range 3 { // asked again before anything is written
		r.Commit(ask, func(out store.Result) { got = append(got, out) })
	}
	require.Empty(t, got)
	require.Equal(t, store.Split, r.push(id(0, 0), batch(0, 0, 2, 10)), "sealed at once")
	other := ask
	other.Primaries = []wire.PartitionID{id(1, 0)}
	var third store.Result
	r.Commit(other, func(out store.Result) { third = out })
	r.drain()
	r.Commit(ask, func(out store.Result) { got = append(got, out) })
	r.drain()
	require.Len(t, got, 4)
	for _, g := range got {
		require.True(t, g.Known)
		require.Equal(t, []wire.PartitionID{id(0, 0), id(1, 0)}, committed(g), "2 is empty")
		require.Equal(t, []wire.PartitionID{id(3, 0)}, g.FailedPrimaries)
		require.Equal(t, []wire.PartitionID{id(0, 0)}, g.FailedReplicas)
		require.EqualValues(t, 10_042, g.Written)
	}
	require.Equal(t, []wire.PartitionID{id(1, 0)}, committed(third), "the same epoch with other ids is not answered with what says nothing of them")
	again := r.commit(8, id(0, 0), id(1, 0), id(2, 0))
	require.Equal(t, []wire.PartitionID{id(0, 0), id(1, 0)}, committed(again))
}

// TestWhy: a map has ended only on a commit's word, and the first attempt that won stays.
func TestWhy(t *testing.T) {
	r := newRig(t, 1)
	require.Equal(t, store.Unknown, r.Why(key, 0))
	r.reserve(store.Limits{}, id(0, 0))
	require.Equal(t, store.Elsewhere, r.Why(key, 0))
	for _, attempts := range [][]int32{{-1, 3}, {2, 4, -1}, {5, -1, -1}} {
		r.Commit(store.Commit{Key: key, Epoch: int64(attempts[0]), Attempts: attempts}, func(store.Result) {})
	}
	for m, want := range map[int32]store.Missing{0: store.Ended, 1: store.Ended, 2: store.Elsewhere, 3: store.Elsewhere, -1: store.Elsewhere} {
		require.Equal(t, want, r.Why(key, m), m)
	}
	r.commit(99, id(0, 0))
	r.Drop(key)
	require.Equal(t, store.Unknown, r.Why(key, 0))
}

func TestRangeFilter(t *testing.T) {
	r := newRig(t, 1)
	r.reserve(store.Limits{RangeFilter: true}, id(0, 0))
	for _, m := range []int32{3, 1, 3, 70_000} {
		r.push(id(0, 0), batch(m, 0, 1, 10))
	}
	check := func(out store.Result) {
		b := roaring.New()
		require.NoError(t, b.UnmarshalBinary(out.Primaries[0].Maps))
		require.Equal(t, []uint32{1, 3, 70_000}, b.ToArray())
	}
	check(r.commit(1, id(0, 0)))
	r.restart()
	check(r.commit(2, id(0, 0)))
}

// TestFull: what was acknowledged goes to another disk when one is full, in the middle of a partition too, and stays in memory when
// all are; nothing is lost.
func TestFull(t *testing.T) {
	for _, where := range []int{0, 1, 2} { // how many disks fill up
		t.Run(fmt.Sprint(where), func(t *testing.T) {
			r := newRig(t, 2)
			r.reserve(store.Limits{}, id(0, 0), id(1, 0), id(2, 0))
			var want [3][]byte
			push := func(n, size int) {
				for i := range 3 {
					b := batch(int32(i), 0, int32(n), size)
					if v := r.push(id(int32(i), 0), b); v == store.Written {
						want[i] = append(want[i], b...)
					} else {
						require.Equal(t, store.Split, v)
					}
				}
			}
			push(1, 5000)
			r.drain()
			r.failing(func(d int, op tier.Op, _ string) error {
				if d < where && op == tier.OpWrite {
					return full
				}
				return nil
			})
			push(2, 5000)
			r.drain()
			push(3, 100)
			out := r.commit(1, id(0, 0), id(1, 0), id(2, 0))
			require.Empty(t, out.FailedPrimaries)
			for i := range int32(3) {
				require.True(t, bytes.Equal(want[i], r.whole(id(i, 0))), i)
				require.NotEmpty(t, want[i])
			}
			for i, d := range r.Disks() {
				require.Equal(t, i < where, d.Problem != "", d)
			}
			r.failing(nil)
			r.restart()
			for i := range int32(3) {
				got, err := r.read(id(i, 0), 5, 3)
				if where < 2 {
					require.NoError(t, err)
					require.True(t, bytes.Equal(want[i], bytes.Join(got, nil)), i)
				} else {
					require.ErrorContains(t, err, "not known here", "what was in memory only is gone with it, and said so")
				}
			}
			r.Drop(key)
			r.drain()
			require.Empty(t, r.files(0))
			require.Empty(t, r.files(1))
		})
	}
}

// TestBrokenDisk: one that fails is set aside, and taken again when it works for a while; an error that says nothing about the disk
// sets none aside.
func TestBrokenDisk(t *testing.T) {
	for name, c := range map[string]struct {
		op    tier.Op
		err   error
		aside bool
	}{
		"write": {tier.OpWrite, broken, true}, "create": {tier.OpCreate, broken, true}, "mkdir": {tier.OpMkdir, broken, true},
		"too many files": {tier.OpCreate, syscall.EMFILE, false}, "no memory": {tier.OpWrite, syscall.ENOMEM, false},
		"full": {tier.OpWrite, full, true}, "read-only": {tier.OpCreate, syscall.EROFS, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			ids := []wire.PartitionID{id(0, 0), id(1, 0), id(2, 0), id(3, 0)}
			r.reserve(store.Limits{}, ids...)
			r.failing(onFirst(c.op, c.err))
			for i, n := range ids {
				require.Equal(t, store.Written, r.push(n, batch(int32(i), 0, 1, 100*(1+i*30))))
			}
			r.drain()
			out := r.commit(1, ids...)
			require.Empty(t, out.FailedPrimaries)
			for i, n := range ids {
				require.Equal(t, batch(int32(i), 0, 1, 100*(1+i*30)), r.whole(n))
			}
			require.Equal(t, c.aside, r.Disks()[0].Problem != "", r.Disks()[0].Problem)
			require.Empty(t, r.Disks()[1].Problem)
			r.failing(nil)
			for range 50 {
				r.now = r.now.Add(time.Second)
				r.Check()
			}
			require.Empty(t, r.Disks()[0].Problem)
		})
	}
}

// TestBrokenDiskStaysAside: one that fails its probe, or works for a moment only, gets nothing.
func TestBrokenDiskStaysAside(t *testing.T) {
	r := newRig(t, 1)
	r.reserve(store.Limits{}, id(0, 0))
	r.push(id(0, 0), batch(0, 0, 1, 5000))
	r.failing(onFirst(tier.OpWrite, broken))
	r.drain()
	for i := range 100 {
		r.failing(nil)
		if i%10 == 0 {
			r.failing(onFirst(tier.OpRead, broken))
		}
		r.now = r.now.Add(time.Second)
		r.Check()
		require.ErrorIs(t, r.Reserve("b-1", nil, store.Limits{}, []wire.Location{{PartitionID: id(0, 0)}}), store.ErrNoDisk)
	}
}

// TestDestroy: copies are destroyed and shuffles dropped at every moment of their lives, and leave nothing.
func TestDestroy(t *testing.T) {
	for name, destroy := range map[string]func(*rig){
		"copies":  func(r *rig) { r.Destroy(key, []wire.PartitionID{id(0, 0), id(1, 0)}, nil) },
		"shuffle": func(r *rig) { r.Drop(key) },
	} {
		for moment := range 6 {
			t.Run(fmt.Sprint(name, moment), func(t *testing.T) {
				r := newRig(t, 1)
				r.reserve(store.Limits{}, id(0, 0), id(1, 0))
				var out *store.Result
				destroyed := false
				during := func(at tier.Op) {
					r.failing(func(_ int, op tier.Op, _ string) error {
						if op == at && !destroyed {
							destroyed = true
							destroy(r)
						}
						return nil
					})
				}
				switch moment {
				case 0:
					destroy(r)
				case 1:
					during(tier.OpMkdir)
				case 2:
					during(tier.OpWrite)
				}
				if moment > 0 {
					r.push(id(0, 0), batch(0, 0, 1, 20_000))
					r.Step()
				}
				if moment < 3 {
					r.Destroy(key, []wire.PartitionID{id(1, 0)}, nil)
				} else {
					r.push(id(1, 0), batch(0, 0, 2, 200))
				}
				r.Commit(store.Commit{Key: key, Primaries: []wire.PartitionID{id(0, 0), id(1, 0)}}, func(got store.Result) { out = &got })
				switch moment {
				case 3:
					destroy(r)
				case 4: // while the small one is written
					during(tier.OpWrite)
				case 5:
					r.drain()
					st, err := r.OpenStream(key, "0-0-0", 5, 3)
					require.NoError(t, err)
					c, err := r.Chunk(wire.ChunkSlice{StreamID: st.ID, Len: 1 << 20})
					require.NoError(t, err)
					destroy(r)
					got, err := bytesOf(c)
					require.NoError(t, err, "what is being sent stays")
					require.Equal(t, batch(0, 0, 1, 20_000), got)
					c.Release()
					_, err = bytesOf(c)
					require.ErrorIs(t, err, fs.ErrClosed)
					_, err = r.Chunk(wire.ChunkSlice{StreamID: st.ID, Len: 1 << 20})
					require.ErrorIs(t, err, store.ErrNoStream)
				}
				r.drain()
				require.NotNil(t, out)
				if moment < 5 {
					require.Empty(t, out.Primaries, "nothing that is destroyed is committed")
				}
				_, err := r.read(id(0, 0), 5, 3)
				require.ErrorContains(t, err, "not known here")
				require.Zero(t, r.Memory(wire.Primary).Used())
				require.Zero(t, r.Disks()[0].Partitions)
				r.Drop(key)
				r.drain()
				require.Empty(t, r.files(0))
				require.Empty(t, r.Held())
				r.reserve(store.Limits{}, id(0, 0)) // the same names once more
				r.push(id(0, 0), batch(9, 0, 1, 300))
				require.Len(t, r.commit(1, id(0, 0)).Primaries, 1)
				require.Equal(t, batch(9, 0, 1, 300), r.whole(id(0, 0)))
			})
		}
	}
}

// TestDestroyInMemory: bytes in memory that are being sent are not given to others.
func TestDestroyInMemory(t *testing.T) {
	r := newRig(t, 1)
	r.reserve(store.Limits{}, id(0, 0))
	r.failing(onFirst(tier.OpWrite, full))
	r.push(id(0, 0), batch(0, 0, 1, 500))
	r.commit(1, id(0, 0))
	st, err := r.OpenStream(key, "0-0-0", 5, 3)
	require.NoError(t, err)
	c, err := r.Chunk(wire.ChunkSlice{StreamID: st.ID, Len: 1 << 20})
	require.NoError(t, err)
	r.Drop(key)
	b := r.Memory(wire.Primary).TryGet(500)
	copy(b.Bytes(), strings.Repeat("x", 500))
	got, err := bytesOf(c)
	require.NoError(t, err)
	require.Equal(t, batch(0, 0, 1, 500), got)
	require.EqualValues(t, 2<<10, r.Memory(wire.Primary).Used())
	c.Release()
	require.EqualValues(t, 1<<10, r.Memory(wire.Primary).Used())
}

// TestRespill: what stayed in memory because no disk took it goes to one that works again, also under a reader, and is served after
// a restart.
func TestRespill(t *testing.T) {
	r := newRig(t, 2)
	r.reserve(store.Limits{}, id(0, 0), id(1, 0), id(2, 0))
	want := [3][]byte{}
	push := func(size int) {
		for i := range 3 {
			b := batch(int32(i), 0, int32(len(want[i])), size)
			if r.push(id(int32(i), 0), b) == store.Written {
				want[i] = append(want[i], b...)
			}
		}
	}
	push(5000)
	r.drain()
	r.failing(func(_ int, op tier.Op, _ string) error {
		if op == tier.OpWrite {
			return full
		}
		return nil
	})
	push(5000)
	r.drain()
	push(5000) // refused, where nothing is written any more
	r.commit(1, id(0, 0), id(1, 0))
	st, err := r.OpenStream(key, "0-0-0", 5, 3)
	require.NoError(t, err)
	held, err := r.Chunk(wire.ChunkSlice{StreamID: st.ID, Chunk: int32(st.Chunks() - 1), Len: 1 << 20})
	require.NoError(t, err)
	require.Positive(t, r.Memory(wire.Primary).Used())
	r.Check()
	r.drain()
	require.Positive(t, r.Memory(wire.Primary).Used(), "no disk works yet")

	r.failing(nil)
	r.Check()
	r.drain()
	last, err := bytesOf(held)
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(want[0], last))
	held.Release()
	again, err := r.Chunk(wire.ChunkSlice{StreamID: st.ID, Chunk: int32(st.Chunks() - 1), Len: 1 << 20})
	require.NoError(t, err)
	now, err := bytesOf(again)
	require.NoError(t, err)
	require.Equal(t, last, now)
	again.Release()
	require.Zero(t, r.Memory(wire.Primary).Used())
	push(100) // the third takes data again
	r.commit(2, id(2, 0))
	for life := range 2 {
		for i := range int32(3) {
			require.True(t, bytes.Equal(want[i], r.whole(id(i, 0))), "life %d partition %d", life, i)
		}
		r.restart()
	}
}

// TestRemovalAgain: what could not be removed is removed when its disk works again.
func TestRemovalAgain(t *testing.T) {
	r := newRig(t, 1)
	r.reserve(store.Limits{}, id(0, 0))
	r.push(id(0, 0), batch(0, 0, 1, 5000))
	r.commit(1, id(0, 0))
	r.failing(onFirst(tier.OpRemove, broken))
	r.Drop(key)
	r.drain()
	r.failing(nil)
	require.NotEmpty(t, r.files(0))
	for range 30 {
		r.now = r.now.Add(time.Second)
		r.Check()
		r.drain()
	}
	require.Empty(t, r.files(0))
}
