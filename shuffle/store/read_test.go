package store_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// TestRanges holds reads of ranges of maps against the obvious way, over files, memory and both.
func TestRanges(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t, 2, func(o *store.Options) {
			o.ChunkSize = int64(1 + rnd.IntN(3000))
			o.FlushSize = int64(1 + rnd.IntN(5000))
		})
		r.reserve(store.Limits{}, id(0, 0))
		byMap := map[int32][]byte{}
		for i := range int32(60) {
			m := int32(rnd.IntN(12))
			size := rnd.IntN(400)
			if rnd.IntN(8) == 0 {
				size = 17 << 10 // stays where it came
			}
			b := batch(m, 0, i, size)
			if r.push(id(0, 0), b) == store.Written {
				byMap[m] = append(byMap[m], b...)
			}
			if rnd.IntN(3) == 0 {
				r.Step()
			}
			if i == 40 && seed%2 == 0 {
				r.failing(func(d int, op tier.Op, _ string) error {
					if op == tier.OpWrite && (d == 0 || seed%4 == 0) {
						return full
					}
					return nil
				})
			}
		}
		require.Len(t, r.commit(1, id(0, 0)).Primaries, 1)
		for range 20 {
			start, end := int32(rnd.IntN(13)), int32(rnd.IntN(16)-1)
			if rnd.IntN(5) == 0 {
				end = math.MaxInt32
			}
			chunks, err := r.read(id(0, 0), start, end)
			require.NoError(t, err)
			got := map[int32][]byte{}
			for i, c := range chunks {
				if i < len(chunks)-1 {
					require.GreaterOrEqual(t, int64(len(c)), r.opts.ChunkSize)
				}
				for len(c) > 0 {
					h, err := wire.ParseBatch(c)
					require.NoError(t, err, "a chunk is whole batches")
					n := wire.BatchHeader + h.Size
					got[h.MapID] = append(got[h.MapID], c[:n]...)
					c = c[n:]
				}
			}
			want := map[int32][]byte{}
			for m, b := range byMap {
				if end < start || m >= start && m < end {
					want[m] = b
				}
			}
			require.Equal(t, want, got, "seed %d [%d,%d)", seed, start, end)
		}
	}
}

// TestSlices: parts of chunks, as a client may ask for, make the chunk.
func TestSlices(t *testing.T) {
	r := newRig(t, 1)
	r.reserve(store.Limits{}, id(0, 0))
	r.push(id(0, 0), batch(0, 0, 1, 1000))
	r.drain()
	r.push(id(0, 0), batch(1, 0, 1, 6000))
	r.commit(1, id(0, 0))
	st, err := r.OpenStream(key, "0-0-0", 0, math.MaxInt32)
	require.NoError(t, err)
	require.Equal(t, 1, st.Chunks())
	want := r.whole(id(0, 0))
	for _, step := range []int32{1, 7, 1016, 5000, 10_000} {
		var got []byte
		for at := int32(0); at < int32(len(want)); at += step {
			c, err := r.Chunk(wire.ChunkSlice{StreamID: st.ID, Offset: at, Len: step})
			require.NoError(t, err)
			b, err := bytesOf(c)
			require.NoError(t, err)
			c.Release()
			got = append(got, b...)
		}
		require.True(t, bytes.Equal(want, got))
	}
	for _, c := range []wire.ChunkSlice{{Chunk: 1}, {Chunk: -1}, {Offset: -1}, {Len: -1}} {
		c.StreamID = st.ID
		_, err := r.Chunk(c)
		require.ErrorContains(t, err, "of a stream of 1 chunks")
	}
	_, err = r.OpenStream(key, "0-0-1", 0, 1)
	require.ErrorContains(t, err, "not known here")
	_, err = r.OpenStream(key, "x", 0, 1)
	require.Error(t, err)
}

// TestCorrupt turns each byte of a committed file in turn: no read of what it touches succeeds, whole or by range.
func TestCorrupt(t *testing.T) {
	r := newRig(t, 1, func(o *store.Options) { o.ChunkSize = 50 })
	r.reserve(store.Limits{}, id(0, 0), id(1, 0))
	for i := range int32(4) {
		r.push(id(0, 0), batch(i, 0, 1, 30))
		r.drain()
		r.push(id(1, 0), batch(i, 0, 1, 30))
	}
	r.commit(1, id(0, 0), id(1, 0))
	var name string
	for _, f := range r.files(0) {
		if !strings.HasSuffix(f, "/manifest") {
			name = f
		}
	}
	f, err := r.mem[0].Open(name)
	require.NoError(t, err)
	clean := contents(t, r.mem[0], name)
	for at := range clean {
		require.NoError(t, f.WriteV([][]byte{{clean[at] ^ 1<<(at%8)}}, int64(at)))
		for _, end := range []int32{3, math.MaxInt32} { // whole, a range
			r.restart()
			failed := 0
			for i := range int32(2) {
				if _, err := r.read(id(i, 0), 5-end%7, end); err != nil {
					require.ErrorIs(t, err, store.ErrCorrupt)
					failed++
				}
			}
			require.Equal(t, 1, failed, "byte %d", at)
		}
		require.NoError(t, f.WriteV([][]byte{clean[at : at+1]}, int64(at)))
	}
}

// TestStreams: a stream lives until it is ended, its shuffle goes, or nobody reads from it for long; then its files are closed.
func TestStreams(t *testing.T) {
	r := newRig(t, 1, func(o *store.Options) { o.StreamTime = time.Minute })
	r.reserve(store.Limits{}, id(0, 0))
	_, err := r.OpenStream(key, "0-0-0", 0, 1)
	require.ErrorContains(t, err, "is not committed")
	r.push(id(0, 0), batch(0, 0, 1, 100))
	r.commit(1, id(0, 0))
	open := func() (stream int64, file tier.File) {
		st, err := r.OpenStream(key, "0-0-0", 5, 3)
		require.NoError(t, err)
		c, err := r.Chunk(wire.ChunkSlice{StreamID: st.ID, Len: 10})
		require.NoError(t, err)
		defer c.Release()
		return st.ID, c.Pieces[0].File
	}
	closed := func(f tier.File) bool {
		_, err := f.Size()
		return errors.Is(err, fs.ErrClosed)
	}
	abandoned, file := open()
	used, same := open()
	require.Same(t, file, same)
	for range 4 {
		r.now = r.now.Add(25 * time.Second)
		c, err := r.Chunk(wire.ChunkSlice{StreamID: used, Len: 10})
		require.NoError(t, err)
		c.Release()
		r.Check()
	}
	_, err = r.Chunk(wire.ChunkSlice{StreamID: abandoned, Len: 10})
	require.ErrorIs(t, err, store.ErrNoStream)
	require.False(t, closed(file))
	c, err := r.Chunk(wire.ChunkSlice{StreamID: used, Len: 10})
	require.NoError(t, err)
	r.EndStream(used)
	r.EndStream(used)
	require.False(t, closed(file), "it is being sent")
	c.Release()
	require.True(t, closed(file))

	crashed, file := open()
	r.now = r.now.Add(2 * time.Minute)
	r.Check()
	require.True(t, closed(file))
	_, err = r.Chunk(wire.ChunkSlice{StreamID: crashed})
	require.ErrorIs(t, err, store.ErrNoStream)

	dropped, file := open()
	r.Drop(key)
	require.True(t, closed(file))
	_, err = r.Chunk(wire.ChunkSlice{StreamID: dropped})
	require.ErrorIs(t, err, store.ErrNoStream)
}
