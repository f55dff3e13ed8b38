package spool

import (
	"context"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
)

// Has says that Read from a row on would not wait.
func (s *Spool) Has(row int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(row)
}

func (s *Spool) has(row int64) bool { return s.rows > row || s.done }

// Read returns rows from the given one on, at least one and at most max, and whether there are certainly more. It waits
// until there is one or the end is known. No rows and no error mean the end. The caller releases the batches. size
// estimates the bytes of rows of a batch; reading stops where they exceed limit.
func (s *Spool) Read(ctx context.Context, from, limit, max int64, size func(b arrow.RecordBatch, from, to int) int) ([]arrow.RecordBatch, bool, error) {
	for {
		if err := s.wait(ctx, func() bool { return s.has(from) }); err != nil {
			return nil, false, err
		}
		out, err := s.page(from, limit, max, size)
		if err != nil {
			return nil, false, err
		}
		s.mu.Lock()
		done, rows := s.done, s.rows
		s.mu.Unlock()
		if len(out) == 0 && !done && max > 0 {
			continue // the writer has begun anew in the meantime
		}
		for _, b := range out {
			from += b.NumRows()
		}
		return out, rows > from, nil
	}
}

// page returns the rows that are there.
func (s *Spool) page(from, limit, max int64, size func(b arrow.RecordBatch, from, to int) int) (out []arrow.RecordBatch, err error) {
	for left := max; left > 0; {
		b, first, err := s.batchOf(from)
		if err != nil {
			release(out)
			return nil, err
		}
		if b == nil {
			break
		}
		rows, lo := b.NumRows(), from-first
		hi := min(rows, lo+left)
		hi = lo + int64(fit(b, int(lo), int(hi), &limit, len(out) == 0, size))
		if hi > lo {
			out = append(out, b.NewSlice(lo, hi))
			from, left = from+hi-lo, left-(hi-lo)
		}
		b.Release()
		if hi < rows {
			break
		}
		s.readThrough(first)
	}
	return out, nil
}

// fit says how many rows of [lo,hi) stay within the limit of bytes, halving until they do; the first row always does.
func fit(b arrow.RecordBatch, lo, hi int, limit *int64, first bool, size func(arrow.RecordBatch, int, int) int) int {
	n := hi - lo
	for n > 0 {
		bytes := int64(size(b, lo, lo+n))
		if bytes <= *limit || (first && n == 1) {
			*limit -= bytes
			return n
		}
		n /= 2
	}
	if first && hi > lo {
		*limit = 0
		return 1
	}
	return 0
}

func release(bs []arrow.RecordBatch) {
	for _, b := range bs {
		b.Release()
	}
}

// batchOf returns the batch that holds a row, with a reference for the caller, and its first row; nil if there is none
// yet, or no more. A disk that fails ends the result: rows that cannot be read must not look like its end.
func (s *Spool) batchOf(row int64) (arrow.RecordBatch, int64, error) {
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return nil, 0, s.err
	}
	i := sort.Search(len(s.parts), func(i int) bool { return s.parts[i].first+s.parts[i].rows > row })
	if i == len(s.parts) {
		s.mu.Unlock()
		return nil, 0, nil
	}
	s.read = true
	p := s.parts[i]
	b := p.batch
	if b == nil && s.loadedFirst == p.first {
		b = s.loaded
	}
	if b != nil {
		b.Retain()
		s.mu.Unlock()
		return b, p.first, nil
	}
	f := s.file
	s.mu.Unlock() // the writer does not wait for readers' disks

	b, err := f.read(p.at)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		if b != nil {
			b.Release()
		}
		return nil, 0, s.err // closed in the meantime; the file was, too
	}
	if err != nil {
		s.drop(err)
		return nil, 0, err
	}
	s.keep(b, p.first)
	return b, p.first, nil
}

// keep remembers a batch from the file for the next page, if there is memory.
func (s *Spool) keep(b arrow.RecordBatch, first int64) {
	s.unload()
	held := heldBytes(b)
	if s.pool.takeMemory(held, true) {
		b.Retain()
		s.loaded, s.loadedFirst, s.loadedHeld = b, first, held
	}
}

// readThrough forgets a batch from the file whose last row was read.
func (s *Spool) readThrough(first int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loadedFirst == first {
		s.unload()
	}
}

func (s *Spool) unload() {
	if s.loaded != nil {
		s.loaded.Release()
		s.pool.giveMemory(s.loadedHeld)
		s.loaded, s.loadedHeld = nil, 0
	}
}

// What a batch and each of its columns cost beside their data, about.
const (
	batchCost  = 1 << 10
	columnCost = 512
)

// heldBytes is how much memory a batch keeps from being freed.
func heldBytes(b arrow.RecordBatch) int64 {
	n := int64(batchCost)
	for _, c := range b.Columns() {
		n += dataBytes(c.Data())
	}
	return n
}

func dataBytes(d arrow.ArrayData) int64 {
	n := int64(columnCost)
	for _, buf := range d.Buffers() {
		if buf != nil {
			n += int64(buf.Len())
		}
	}
	for _, c := range d.Children() {
		n += dataBytes(c)
	}
	return n
}
