package store_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

const key = "app-1"

// rig is a store on disks in memory whose operations a test may fail. Nothing happens in it but what the test has happen.
type rig struct {
	t    *testing.T
	opts store.Options
	mem  []*tier.Mem
	now  time.Time

	mu   sync.Mutex
	fail func(disk int, op tier.Op, path string) error

	*store.Store
}

func newRig(t *testing.T, disks int, change ...func(*store.Options)) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Unix(1_700_000_000, 0)}
	r.opts = store.Options{FlushSize: 4 << 10, ChunkSize: 8 << 10, Reserve: 2, Verify: true, Now: func() time.Time { return r.now }}
	for i := range disks {
		m := tier.NewMem()
		r.mem = append(r.mem, m)
		r.opts.Disks = append(r.opts.Disks, store.Disk{Path: fmt.Sprintf("/d%d", i), FS: &tier.Faulty{FS: m, Fail: func(op tier.Op, path string) error {
			r.mu.Lock()
			f := r.fail
			r.mu.Unlock()
			if f == nil {
				return nil
			}
			return f(i, op, path)
		}}})
	}
	for _, f := range change {
		f(&r.opts)
	}
	r.restart()
	return r
}

// failing has operations fail from now on as f says; never, if it is nil.
func (r *rig) failing(f func(disk int, op tier.Op, path string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = f
}

// restart opens the disks anew, as a worker that was killed does when it comes back.
func (r *rig) restart() {
	r.t.Helper()
	s, err := store.Open(r.opts)
	require.NoError(r.t, err)
	r.Store = s
}

func id(n, epoch int32) wire.PartitionID { return wire.PartitionID{ID: n, Epoch: epoch} }

func (r *rig) reserve(limits store.Limits, ids ...wire.PartitionID) {
	r.t.Helper()
	var at []wire.Location
	for _, n := range ids {
		at = append(at, wire.Location{PartitionID: n})
	}
	require.NoError(r.t, r.Reserve(key, nil, limits, at))
}

// push appends as the worker does: the batches lie in a buffer of the memory.
func (r *rig) push(n wire.PartitionID, batches ...[]byte) store.Verdict {
	r.t.Helper()
	p, ok := r.Find(key, n, wire.Primary)
	require.True(r.t, ok)
	return appendTo(r.t, r.Store, p, wire.Primary, batches...)
}

func appendTo(t *testing.T, s *store.Store, p *store.Partition, mode byte, batches ...[]byte) store.Verdict {
	t.Helper()
	var all []byte
	for _, b := range batches {
		all = append(all, b...)
	}
	place := s.Memory(mode).Queue(len(all))
	buf := place.Take()
	for ; buf == nil; buf = place.Take() {
		if !s.Step() { // what is in memory stays there
			place.Leave()
			return store.Split
		}
	}
	defer buf.Release()
	copy(buf.Bytes(), all)
	mapID, err := wire.CheckBatches(buf.Bytes())
	require.NoError(t, err)
	return p.Append(mapID, buf.Bytes(), buf)
}

// batch is one of random bytes that follow from its names.
func batch(mapID, attempt, n int32, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(mapID)<<32|uint64(attempt), uint64(n)))
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return wire.AppendBatch(nil, mapID, attempt, n, data)
}

func (r *rig) drain() {
	for r.Step() { //nolint:revive // all is in the condition
	}
}

func (r *rig) commit(epoch int64, ids ...wire.PartitionID) store.Result {
	r.t.Helper()
	var out *store.Result
	r.Commit(store.Commit{Key: key, Epoch: epoch, Primaries: ids}, func(got store.Result) { out = &got })
	r.drain()
	require.NotNil(r.t, out, "the commit has not settled")
	return *out
}

func committed(r store.Result) (out []wire.PartitionID) {
	for _, c := range r.Primaries {
		out = append(out, c.ID)
	}
	return out
}

// read is all bytes of the chunks of a primary copy.
func (r *rig) read(n wire.PartitionID, start, end int32) ([][]byte, error) {
	return readCopy(r.Store, n.String()+"-0", start, end)
}

func readCopy(s *store.Store, file string, start, end int32) (chunks [][]byte, err error) {
	st, err := s.OpenStream(key, file, start, end)
	if err != nil {
		return nil, err
	}
	defer s.EndStream(st.ID)
	for i := range st.Chunks() {
		c, err := s.Chunk(wire.ChunkSlice{StreamID: st.ID, Chunk: int32(i), Len: math.MaxInt32})
		if err != nil {
			return nil, err
		}
		b, err := bytesOf(c)
		c.Release()
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, b)
	}
	return chunks, nil
}

func bytesOf(c store.Chunk) ([]byte, error) {
	var out []byte
	for _, p := range c.Pieces {
		if p.File == nil {
			out = append(out, p.Data...)
			continue
		}
		b := make([]byte, p.Length)
		if _, err := p.File.ReadAt(b, p.Off); err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	if int64(len(out)) != c.Length {
		return nil, fmt.Errorf("a chunk of %d bytes says it has %d", len(out), c.Length)
	}
	return out, nil
}

// whole is all bytes of a committed primary copy.
func (r *rig) whole(n wire.PartitionID) []byte {
	r.t.Helper()
	chunks, err := r.read(n, 0, math.MaxInt32)
	require.NoError(r.t, err)
	var out []byte
	for _, c := range chunks {
		_, err := wire.CheckBatches(c)
		require.NoError(r.t, err, "a chunk is whole batches")
		out = append(out, c...)
	}
	return out
}

// files are the files on a disk, without the store's own, by name.
func (r *rig) files(disk int) (out []string) {
	root := fmt.Sprintf("/d%d", disk)
	dirs, _ := r.mem[disk].List(root)
	for _, d := range dirs {
		if !strings.HasPrefix(d, "shuffle-") {
			continue
		}
		names, _ := r.mem[disk].List(path.Join(root, d))
		if len(names) == 0 {
			out = append(out, d)
		}
		for _, n := range names {
			out = append(out, path.Join(root, d, n))
		}
	}
	return out
}

// onFirst fails operations of one kind on the first disk.
func onFirst(op tier.Op, err error) func(int, tier.Op, string) error {
	return func(d int, o tier.Op, _ string) error {
		if d == 0 && o == op {
			return err
		}
		return nil
	}
}

var (
	full   = error(syscall.ENOSPC)
	broken = error(syscall.EIO)
)
