package store

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// Piece is a run of bytes of a chunk: in a file, or in memory.
type Piece struct {
	File   tier.File
	Off    int64
	Length int64
	Data   []byte // instead of a file
}

// Stream is a partition, or some maps' batches of it, opened for reading.
type Stream struct {
	ID     int64
	part   *Partition
	chunks [][]span
	whole  bool // chunk i is the partition's chunk i
}

// span is a run of a partition's bytes.
type span struct{ off, length int64 }

// Chunks is how many there are.
func (s *Stream) Chunks() int { return len(s.chunks) }

// streams are those that are open. Clients may go on with one on another connection.
type streams struct {
	next atomic.Int64
	open sync.Map // id → *Stream
}

func (s *streams) init() {
	s.next.Store(rand.Int64N(math.MaxInt64 / 2)) // ids of an earlier store must not be taken for ours
}

// Seed makes stream ids begin there: for simulations.
func (s *Store) Seed(n int64) { s.streams.next.Store(n) }

func (s *streams) drop(sh *shuffle) {
	s.open.Range(func(k, v any) bool {
		if v.(*Stream).part.shuffle == sh {
			s.open.Delete(k)
		}
		return true
	})
}

// readState is what readers of one partition share.
type readState struct {
	mu      sync.Mutex
	readers int
	closed  bool
	files   map[*dataFile]tier.File
	checked []bool // chunks whose bytes were found to be what was written
	index   []batchAt
}

// batchAt is where a batch of a map task lies.
type batchAt struct {
	mapID       int32
	off, length int64
}

// OpenStream opens a copy for reading: the batches of maps in [start, end), or all if end is not above start or says so.
func (s *Store) OpenStream(key, file string, start, end int32) (*Stream, error) {
	id, mode, err := wire.ParseFileName(file)
	if err != nil {
		return nil, err
	}
	p, ok := s.Find(key, id, mode)
	if !ok {
		return nil, fmt.Errorf("partition %s of shuffle %s is not known here: it was lost with an earlier worker of this address, or has expired", file, key)
	}
	p.mu.Lock()
	done, err := p.done && !p.gone, p.err
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if !done {
		return nil, fmt.Errorf("partition %s of shuffle %s is not committed", file, key)
	}
	st := &Stream{ID: s.streams.next.Add(1), part: p}
	if err := p.openReading(); err != nil {
		return nil, err
	}
	if end == math.MaxInt32 && start == 0 || end < 0 || end < start {
		st.whole = true
		for i, at := range p.starts {
			st.chunks = append(st.chunks, []span{{off: at, length: p.chunkEnd(i) - at}})
		}
	} else if st.chunks, err = p.ranged(start, end); err != nil {
		p.endReading()
		return nil, err
	}
	s.streams.open.Store(st.ID, st)
	return st, nil
}

func (p *Partition) chunkEnd(i int) int64 {
	if i+1 < len(p.starts) {
		return p.starts[i+1]
	}
	return p.length
}

// EndStream closes a stream; one that is not there is fine.
func (s *Store) EndStream(id int64) {
	if v, ok := s.streams.open.LoadAndDelete(id); ok {
		v.(*Stream).part.endReading()
	}
}

// ErrNoStream is what chunks of a stream that is not there get.
var ErrNoStream = errors.New("no such stream: it was ended, its shuffle has expired, or it belongs to an earlier worker of this address")

// Chunk is where the bytes of a chunk, or a part of it, are.
func (s *Store) Chunk(c wire.ChunkSlice) ([]Piece, int64, error) {
	v, ok := s.streams.open.Load(c.StreamID)
	if !ok {
		return nil, 0, ErrNoStream
	}
	st := v.(*Stream)
	if c.Chunk < 0 || int(c.Chunk) >= len(st.chunks) || c.Offset < 0 || c.Len < 0 {
		return nil, 0, fmt.Errorf("chunk %d of a stream of %d chunks", c.Chunk, len(st.chunks))
	}
	if st.whole && s.opts.Verify {
		if err := st.part.check(int(c.Chunk)); err != nil {
			return nil, 0, err
		}
	}
	spans := cut(st.chunks[c.Chunk], int64(c.Offset), int64(c.Len))
	var out []Piece
	total := int64(0)
	for _, sp := range spans {
		pieces, err := st.part.pieces(sp)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, pieces...)
		total += sp.length
	}
	if total > math.MaxInt32 {
		return nil, 0, fmt.Errorf("chunk %d has %d bytes, more than a frame can hold", c.Chunk, total)
	}
	return out, total, nil
}

// cut is the part of spans from an offset on.
func cut(spans []span, off, n int64) []span {
	var out []span
	for _, s := range spans {
		if off >= s.length {
			off -= s.length
			continue
		}
		take := min(s.length-off, n)
		if take > 0 {
			out = append(out, span{off: s.off + off, length: take})
		}
		n -= take
		off = 0
	}
	return out
}

func (p *Partition) openReading() error {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("partition " + p.String() + " has expired")
	}
	if r.files == nil {
		r.files = map[*dataFile]tier.File{}
	}
	for _, e := range p.extents {
		if e.file == nil || r.files[e.file] != nil {
			continue
		}
		f, err := e.file.disk.fs.Open(e.file.path)
		if err != nil {
			e.file.disk.failed(err)
			if r.readers == 0 {
				r.closeFiles()
			}
			return err
		}
		r.files[e.file] = f
	}
	if r.checked == nil {
		r.checked = make([]bool, len(p.starts))
	}
	r.readers++
	return nil
}

func (r *readState) closeFiles() {
	for k, f := range r.files {
		_ = f.Close()
		delete(r.files, k)
	}
}

func (p *Partition) endReading() {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readers--; r.readers <= 0 {
		r.closeFiles()
	}
}

// closeReading ends all reading: the partition is destroyed.
func (p *Partition) closeReading() {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.closeFiles()
}

// pieces is where a run of the partition's bytes is.
func (p *Partition) pieces(s span) ([]Piece, error) {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrNoStream
	}
	var out []Piece
	at := int64(0) // where the extent begins in the partition
	for _, e := range p.extents {
		from, to := max(s.off, at), min(s.off+s.length, at+e.length)
		if from < to {
			if e.file != nil {
				out = append(out, Piece{File: r.files[e.file], Off: e.off + from - at, Length: to - from})
			} else {
				out = appendMemory(out, e.pieces, from-at, to-from)
			}
		}
		at += e.length
	}
	return out, nil
}

func appendMemory(out []Piece, pieces []piece, off, n int64) []Piece {
	for _, pc := range pieces {
		k := int64(len(pc.data))
		if off >= k {
			off -= k
			continue
		}
		take := min(k-off, n)
		if take <= 0 {
			break
		}
		out = append(out, Piece{Data: pc.data[off : off+take], Length: take})
		n -= take
		off = 0
	}
	return out
}

// ErrCorrupt is what a chunk gets whose bytes are not those that were written.
var ErrCorrupt = errors.New("the bytes on the disk are not those that were written")

// check compares a chunk with its checksum, the first time it is served.
func (p *Partition) check(i int) error {
	r := &p.reading
	r.mu.Lock()
	checked := r.checked[i]
	r.mu.Unlock()
	if checked {
		return nil
	}
	sum := uint32(0)
	if err := p.scan(span{off: p.starts[i], length: p.chunkEnd(i) - p.starts[i]}, func(b []byte) error {
		sum = crc32.Update(sum, castagnoli, b)
		return nil
	}); err != nil {
		return err
	}
	if i >= len(p.sums) || sum != p.sums[i] {
		p.store.log.Error("shuffle data is corrupt", "shuffle", p.shuffle.key, "partition", p.String(), "chunk", i)
		return fmt.Errorf("chunk %d of partition %s: %w", i, p, ErrCorrupt)
	}
	r.mu.Lock()
	r.checked[i] = true
	r.mu.Unlock()
	return nil
}

// scratch are buffers to read through.
var scratch = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// scan reads a run of the partition's bytes in order.
func (p *Partition) scan(s span, f func([]byte) error) error {
	pieces, err := p.pieces(s)
	if err != nil {
		return err
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	for _, pc := range pieces {
		if pc.Data != nil {
			if err := f(pc.Data); err != nil {
				return err
			}
			continue
		}
		for off, n := pc.Off, pc.Length; n > 0; {
			b := (*buf)[:min(int64(len(*buf)), n)]
			k, err := pc.File.ReadAt(b, off)
			if k < len(b) {
				if errors.Is(err, io.EOF) {
					return fmt.Errorf("%w: its file is too short", ErrCorrupt)
				}
				return err
			}
			if err := f(b); err != nil {
				return err
			}
			off, n = off+int64(k), n-int64(k)
		}
	}
	return nil
}

// ranged is the batches of maps in [start, end) as chunks. They are gathered from where they lie: nothing is rewritten.
func (p *Partition) ranged(start, end int32) ([][]span, error) {
	index, err := p.indexed()
	if err != nil {
		return nil, err
	}
	from, _ := slices.BinarySearchFunc(index, start, func(b batchAt, m int32) int { return cmp.Compare(b.mapID, m) })
	var out [][]span
	size := int64(0)
	for _, b := range index[from:] {
		if b.mapID >= end {
			break
		}
		if len(out) == 0 || size >= p.store.opts.ChunkSize {
			out = append(out, nil)
			size = 0
		}
		last := &out[len(out)-1]
		if n := len(*last); n > 0 && (*last)[n-1].off+(*last)[n-1].length == b.off {
			(*last)[n-1].length += b.length
		} else {
			*last = append(*last, span{off: b.off, length: b.length})
		}
		size += b.length
	}
	return out, nil
}

// indexed is where every map's batches are, by map and then by place. It is made by one pass over the data, which is also
// checked in it, when the first reader asks for a range: most partitions are only ever read whole.
func (p *Partition) indexed() ([]batchAt, error) {
	r := &p.reading
	r.mu.Lock()
	index := r.index
	r.mu.Unlock()
	if index != nil {
		return index, nil
	}
	index = []batchAt{}
	at, sum, chunk := int64(0), uint32(0), 0
	var header []byte // of a batch that began in what was read before
	skip := int64(0)  // bytes of the batch that is being passed
	err := p.scan(span{length: p.length}, func(b []byte) error {
		for rest, pos := b, at; len(rest) > 0; { // checksums
			n := min(int64(len(rest)), p.chunkEnd(chunk)-pos)
			sum = crc32.Update(sum, castagnoli, rest[:n])
			rest, pos = rest[n:], pos+n
			if pos == p.chunkEnd(chunk) {
				if chunk >= len(p.sums) || sum != p.sums[chunk] {
					return fmt.Errorf("chunk %d of partition %s: %w", chunk, p, ErrCorrupt)
				}
				sum, chunk = 0, chunk+1
			}
		}
		pos := at
		at += int64(len(b))
		for len(b) > 0 {
			if skip > 0 {
				n := min(skip, int64(len(b)))
				b, pos, skip = b[n:], pos+n, skip-n
				continue
			}
			n := min(wire.BatchHeader-len(header), len(b))
			header = append(header, b[:n]...)
			b, pos = b[n:], pos+int64(n)
			if len(header) == wire.BatchHeader {
				h := wire.ParseBatchHeader(header)
				index = append(index, batchAt{mapID: h.MapID, off: pos - wire.BatchHeader, length: wire.BatchHeader + int64(h.Size)})
				skip, header = int64(h.Size), header[:0]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(index, func(a, b batchAt) int { return cmp.Compare(a.mapID, b.mapID) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index = index
	return index, nil
}
