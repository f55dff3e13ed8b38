package store_test

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// TestRestart: what was committed is served again, over any number of restarts; what was not is gone, also from the disks.
func TestRestart(t *testing.T) {
	r := newRig(t, 2)
	var ids []wire.PartitionID
	want := map[wire.PartitionID][]byte{}
	for i := range int32(12) {
		ids = append(ids, id(i, i%3))
	}
	r.reserve(store.Limits{}, ids...)
	for n := range int32(6) {
		for i, p := range ids {
			b := batch(int32(i), 0, n, 1+i*700)
			require.Equal(t, store.Written, r.push(p, b))
			want[p] = append(want[p], b...)
		}
	}
	require.Len(t, r.commit(1, ids[:5]...).Primaries, 5)
	require.Len(t, r.commit(2, ids[5:10]...).Primaries, 5)
	lost := slices.Clone(ids[10:])
	for r.Step() { //nolint:revive // files of those that are not committed
	}
	for life := range 3 {
		r.restart()
		for _, p := range ids[:10] {
			require.True(t, bytes.Equal(want[p], r.whole(p)), "life %d", life)
		}
		for _, p := range lost {
			_, err := r.read(p, 5, 3)
			require.ErrorContains(t, err, "not known here")
		}
		out := r.commit(3, ids...)
		require.Len(t, out.Primaries, 10)
		require.Equal(t, lost, out.FailedPrimaries)
		for d := range 2 {
			for _, f := range r.files(d) {
				require.False(t, strings.Contains(f, "/10-") || strings.Contains(f, "/11-"), f)
			}
		}
		if life == 1 { // it goes on with the shuffle
			r.reserve(store.Limits{}, id(50, 0))
			r.push(id(50, 0), batch(1, 1, 1, 100))
			require.Len(t, r.commit(4, id(50, 0)).Primaries, 1)
			ids, want[id(50, 0)] = slices.Insert(ids, 0, id(50, 0)), batch(1, 1, 1, 100)
			ids = append(ids[:10], lost...) // the tenth is not asked for any more
		}
	}
	r.Drop(key)
	r.drain()
	r.restart()
	require.Empty(t, r.Held())
	require.Empty(t, slices.Concat(r.files(0), r.files(1)))
}

func manifestOf(t *testing.T, r *rig, disk int) string {
	t.Helper()
	for _, f := range r.files(disk) {
		if strings.HasSuffix(f, "/manifest") {
			return f
		}
	}
	require.Fail(t, "no manifest")
	return ""
}

func contents(t *testing.T, m *tier.Mem, name string) []byte {
	t.Helper()
	f, err := m.Open(name)
	require.NoError(t, err)
	n, err := f.Size()
	require.NoError(t, err)
	b := make([]byte, n)
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

// TestTornManifest cuts a manifest, and turns a bit of it, at every byte: what was noted before that place is served, and what is
// served is right.
func TestTornManifest(t *testing.T) {
	r := newRig(t, 1, func(o *store.Options) { o.ChunkSize = 64 })
	ids := []wire.PartitionID{id(0, 0), id(1, 0), id(2, 0)}
	var ends []int
	begin := func() {
		r.mem[0] = tier.NewMem()
		r.opts.Disks[0].FS = r.mem[0]
		r.restart()
		ends = ends[:0]
		r.reserve(store.Limits{RangeFilter: true}, ids...)
		for i, p := range ids {
			r.push(p, batch(int32(i), 0, 1, 100), batch(int32(i), 0, 2, 30))
			require.Len(t, r.commit(int64(i), p).Primaries, 1)
			ends = append(ends, len(contents(t, r.mem[0], manifestOf(t, r, 0))))
		}
	}
	begin()
	for at := range ends[2] {
		for _, cut := range []bool{true, false} {
			begin()
			name := manifestOf(t, r, 0)
			f, err := r.mem[0].Open(name)
			require.NoError(t, err)
			if cut {
				require.NoError(t, f.Truncate(int64(at)))
			} else {
				b := contents(t, r.mem[0], name)[at] ^ 1<<(at%8)
				require.NoError(t, f.WriteV([][]byte{{b}}, int64(at)))
			}
			r.restart()
			served := 0
			for i, p := range ids {
				if _, err := r.read(p, 5, 3); err == nil {
					served++
					require.Equal(t, slices.Concat(batch(int32(i), 0, 1, 100), batch(int32(i), 0, 2, 30)), r.whole(p))
				}
				require.Equal(t, at >= ends[i], served > i, "record %d at byte %d", i, at)
			}
			r.reserve(store.Limits{}, id(9, 0)) // and what is noted now is found
			r.push(id(9, 0), batch(9, 0, 1, 10))
			r.commit(9, id(9, 0))
			r.restart()
			require.Equal(t, batch(9, 0, 1, 10), r.whole(id(9, 0)), at)
		}
	}
}

// TestFileTooShort: a committed partition whose file is not as it was left is not served, and the others are.
func TestFileTooShort(t *testing.T) {
	for _, gone := range []bool{true, false} {
		r := newRig(t, 1)
		r.reserve(store.Limits{}, id(0, 0), id(1, 0))
		for i := range int32(2) {
			r.push(id(i, 0), batch(i, 0, 1, 9000))
		}
		r.commit(1, id(0, 0), id(1, 0))
		for _, f := range r.files(0) {
			if strings.HasSuffix(f, "/0-0-0") && gone {
				require.NoError(t, r.mem[0].RemoveAll(f))
			} else if strings.HasSuffix(f, "/0-0-0") {
				h, err := r.mem[0].Open(f)
				require.NoError(t, err)
				require.NoError(t, h.Truncate(9000))
			}
		}
		r.restart()
		_, err := r.read(id(0, 0), 5, 3)
		require.ErrorContains(t, err, "not known here")
		require.Equal(t, batch(1, 0, 1, 9000), r.whole(id(1, 0)))
		require.Equal(t, []wire.PartitionID{id(0, 0)}, r.commit(2, id(0, 0), id(1, 0)).FailedPrimaries)
	}
}

// TestUnreadableManifest: what cannot be read at one start is not removed, and is served when it can be read at another.
func TestUnreadableManifest(t *testing.T) {
	r := newRig(t, 1)
	r.reserve(store.Limits{}, id(0, 0))
	r.push(id(0, 0), batch(0, 0, 1, 9000))
	r.commit(1, id(0, 0))
	r.failing(func(_ int, op tier.Op, path string) error {
		if op == tier.OpRead && strings.HasSuffix(path, "manifest") {
			return broken
		}
		return nil
	})
	r.restart()
	require.Empty(t, r.Held())
	r.failing(nil)
	r.restart()
	require.Equal(t, batch(0, 0, 1, 9000), r.whole(id(0, 0)))
}

// TestManifestFails: a commit whose note cannot be written is a commit, as long as this worker lives; after it nothing is left.
func TestManifestFails(t *testing.T) {
	for _, op := range []tier.Op{tier.OpCreate, tier.OpWrite} {
		t.Run(string(op), func(t *testing.T) {
			r := newRig(t, 1)
			r.reserve(store.Limits{}, id(0, 0), id(1, 0))
			r.push(id(0, 0), batch(0, 0, 1, 100))
			r.push(id(1, 0), batch(0, 0, 2, 100))
			r.failing(func(_ int, o tier.Op, path string) error {
				if o == op && strings.HasSuffix(path, "manifest") {
					return full
				}
				return nil
			})
			require.Len(t, r.commit(1, id(0, 0)).Primaries, 1)
			require.Equal(t, batch(0, 0, 1, 100), r.whole(id(0, 0)))
			r.failing(nil)
			require.Len(t, r.commit(2, id(1, 0)).Primaries, 1, "and the torn record does not hide the next")
			r.restart()
			_, err := r.read(id(0, 0), 5, 3)
			require.ErrorContains(t, err, "not known here")
			require.Equal(t, batch(0, 0, 2, 100), r.whole(id(1, 0)))
		})
	}
}

// TestNewest: of two directories of one shuffle the later counts. The earlier was to be removed when the worker ended.
func TestNewest(t *testing.T) {
	r := newRig(t, 1)
	for i := range int32(12) {
		r.reserve(store.Limits{}, id(0, 0))
		r.push(id(0, 0), batch(i, 0, 1, 100))
		r.commit(1, id(0, 0))
		if i < 11 {
			r.failing(onFirst(tier.OpRemove, syscall.EMFILE))
			r.Drop(key)
			r.drain()
			r.failing(nil)
		}
	}
	r.restart()
	require.Equal(t, batch(11, 0, 1, 100), r.whole(id(0, 0)))
	dirs, err := r.mem[0].List("/d0")
	require.NoError(t, err)
	require.Len(t, dirs, 1)
}

// TestStartWithBrokenDisk: a worker comes back without a disk that fails, with what the others have; without any it says why.
func TestStartWithBrokenDisk(t *testing.T) {
	for _, op := range []tier.Op{tier.OpMkdir, tier.OpList} {
		r := newRig(t, 2)
		r.reserve(store.Limits{}, id(0, 0))
		r.reserve(store.Limits{}, id(1, 0))
		for i := range int32(2) {
			r.push(id(i, 0), batch(i, 0, 1, 9000))
		}
		r.commit(1, id(0, 0), id(1, 0))
		r.failing(onFirst(op, broken))
		r.restart()
		r.failing(nil)
		for range 50 {
			r.now = r.now.Add(time.Second)
			r.Check()
		}
		require.Contains(t, r.Disks()[0].Problem, "started anew")
		_, err := r.read(id(0, 0), 5, 3)
		require.ErrorContains(t, err, "not known here")
		require.Equal(t, batch(1, 0, 1, 9000), r.whole(id(1, 0)))
		r.restart()
		require.Equal(t, batch(0, 0, 1, 9000), r.whole(id(0, 0)))
		r.failing(func(_ int, o tier.Op, _ string) error {
			if o == op {
				return broken
			}
			return nil
		})
		_, err = store.Open(r.opts)
		require.ErrorIs(t, err, broken)
	}
}
