package store

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// readState is what readers of one partition share.
type readState struct {
	mu      sync.Mutex
	readers int // streams
	holds   int // chunks that are being sent, or looked through
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
			r.closeFiles()
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

// closeFiles closes the files unless somebody needs them; the lock is held.
func (r *readState) closeFiles() {
	if r.holds > 0 || r.readers > 0 && !r.closed {
		return
	}
	for k, f := range r.files {
		_ = f.Close()
		delete(r.files, k)
	}
}

func (p *Partition) endReading() {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers--
	r.closeFiles()
}

// closeReading ends all reading: the partition is destroyed.
func (p *Partition) closeReading() {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.closeFiles()
}

func (r *readState) unhold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds--
	r.closeFiles()
}

// move has readers find the partition's bytes at other places from now on; false if they cannot be read there.
func (r *readState) move(p *Partition, to []extent, files []*dataFile) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readers > 0 && !r.closed {
		for _, f := range files {
			if r.files[f] != nil {
				continue
			}
			h, err := f.disk.fs.Open(f.path)
			if err != nil {
				f.disk.failed(err)
				return false
			}
			r.files[f] = h
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range p.extents {
		if to[i].file != nil {
			release(e.pieces)
		}
	}
	p.extents = to
	return true
}

// hold finds where runs of the partition's bytes are, and keeps them there until they are released.
func (p *Partition) hold(spans []span) (Chunk, error) {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.readers <= 0 {
		return Chunk{}, ErrNoStream
	}
	c := Chunk{part: p}
	for _, s := range spans {
		p.locate(&c, s)
		c.Length += s.length
	}
	r.holds++
	return c, nil
}

// locate adds where a run of the partition's bytes is; the lock of its readers is held.
func (p *Partition) locate(c *Chunk, s span) {
	at := int64(0) // where the extent begins in the partition
	for _, e := range p.extents {
		from, to := max(s.off, at), min(s.off+s.length, at+e.length)
		if from < to {
			if e.file != nil {
				c.Pieces = append(c.Pieces, Piece{File: p.reading.files[e.file], Off: e.off + from - at, Length: to - from})
			} else {
				c.memory(e.pieces, from-at, to-from)
			}
		}
		at += e.length
	}
}

// memory adds bytes that are in memory.
func (c *Chunk) memory(pieces []piece, off, n int64) {
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
		pc.buf.Retain()
		c.bufs = append(c.bufs, pc.buf)
		c.Pieces = append(c.Pieces, Piece{Data: pc.data[off : off+take], Length: take})
		n -= take
		off = 0
	}
}

// ErrCorrupt is what a chunk gets whose bytes are not those that were written.
var ErrCorrupt = errors.New("the bytes on the disk are not those that were written")

// untouched reports whether a run of the partition's bytes can be nothing but what was written.
func (p *Partition) untouched(s span) bool {
	r := &p.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	at := int64(0)
	for _, e := range p.extents {
		from, to := max(s.off, at), min(s.off+s.length, at+e.length)
		if from < to && e.file != nil && (r.files[e.file] == nil || !e.file.untouched(r.files[e.file], e.off+from-at, to-from)) {
			return false
		}
		at += e.length
	}
	return true
}

// check compares a chunk with its checksum, the first time it is served. What never left memory needs no comparing.
func (p *Partition) check(i int) error {
	r := &p.reading
	r.mu.Lock()
	checked := r.checked[i]
	r.mu.Unlock()
	if checked {
		return nil
	}
	if p.untouched(span{off: p.starts[i], length: p.chunkEnd(i) - p.starts[i]}) {
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
	c, err := p.hold([]span{s})
	if err != nil {
		return err
	}
	defer c.Release()
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	for _, pc := range c.Pieces {
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
