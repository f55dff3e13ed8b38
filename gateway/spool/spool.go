// Package spool keeps a result between the engine, which must be read at full speed because unread rows fill its heap,
// and the client, which reads when it likes, and may begin again from the first row. Batches stay in memory up to a
// limit and go to a file beyond it.
package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// Limits of one spool, in bytes.
type Limits struct {
	Dir    string // of the file
	Memory int64
	Disk   int64
}

// ErrFull says that a result is larger than the spool may grow. The text names the setting.
var ErrFull = errors.New("the result is larger than spool.disk allows")

// ErrClosed says that the operation was closed while somebody waited for its rows.
var ErrClosed = errors.New("the result was closed")

// Spool holds the rows of one operation. One writer, any number of readers.
type Spool struct {
	limits Limits

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	schema  *arrow.Schema
	parts   []part
	rows    int64
	memory  int64
	file    *os.File
	size    int64 // of the file
	done    bool
	err     error // how the writer ended

	loaded   arrow.RecordBatch // the batch last read from the file; pages of it are asked for one after the other
	loadedAt int64             // its offset
}

// part is one batch, in memory or in the file.
type part struct {
	first, rows int64
	batch       arrow.RecordBatch // nil if it is in the file
	offset, len int64
}

// New makes an empty spool. The file is made when memory does not suffice.
func New(l Limits) *Spool { return &Spool{limits: l, changed: make(chan struct{})} }

func (s *Spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Append adds a batch, taking over the caller's reference.
func (s *Spool) Append(b arrow.RecordBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		b.Release()
		return ErrClosed
	}
	defer s.wake()
	if s.schema == nil {
		s.schema = b.Schema()
	}
	if b.NumRows() == 0 {
		b.Release()
		return nil
	}
	p := part{first: s.rows, rows: b.NumRows()}
	size := batchBytes(b)
	if s.memory+size <= s.limits.Memory {
		p.batch = b
		s.memory += size
	} else {
		defer b.Release()
		if err := s.write(b, &p); err != nil {
			return err
		}
	}
	s.parts = append(s.parts, p)
	s.rows += p.rows
	return nil
}

// SetSchema tells the schema before the first batch, or instead of one that is empty.
func (s *Spool) SetSchema(schema *arrow.Schema) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schema = schema
	s.wake()
}

func (s *Spool) write(b arrow.RecordBatch, p *part) error {
	if s.file == nil {
		f, err := os.CreateTemp(s.limits.Dir, "rows-*")
		if err != nil {
			return fmt.Errorf("spool to disk: %w", err)
		}
		_ = os.Remove(f.Name()) // it lives as long as it is open, and a crash leaves nothing
		s.file = f
	}
	var buf bytes.Buffer
	w := ipc.NewWriter(&buf, ipc.WithSchema(b.Schema()))
	if err := w.Write(b); err != nil {
		return fmt.Errorf("spool to disk: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("spool to disk: %w", err)
	}
	if s.size+int64(buf.Len()) > s.limits.Disk {
		return fmt.Errorf("%w (%d bytes): ask for fewer rows, write the result to a table, or raise spool.disk", ErrFull, s.limits.Disk)
	}
	if _, err := s.file.WriteAt(buf.Bytes(), s.size); err != nil {
		return fmt.Errorf("spool to disk: %w", err)
	}
	p.offset, p.len = s.size, int64(buf.Len())
	s.size += p.len
	return nil
}

// Finish ends the writing: with nil at the end of the rows, with an error if they are not complete.
func (s *Spool) Finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return
	}
	s.done, s.err = true, err
	s.wake()
}

// Close drops all rows; readers that wait get ErrClosed.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.batch != nil {
			p.batch.Release()
		}
	}
	s.parts, s.rows, s.memory = nil, 0, 0 // without rows every reader meets the error, none takes the gap for the end
	if s.loaded != nil {
		s.loaded.Release()
		s.loaded = nil
	}
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	s.done, s.err = true, ErrClosed
	s.wake()
}

// wait calls ready under the lock until it is true, or ctx ends.
func (s *Spool) wait(ctx context.Context, ready func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := ready(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Schema waits until the columns are known.
func (s *Spool) Schema(ctx context.Context) (*arrow.Schema, error) {
	var schema *arrow.Schema
	var failed error
	err := s.wait(ctx, func() bool {
		schema, failed = s.schema, s.err
		return schema != nil || s.done
	})
	switch {
	case err != nil:
		return nil, err
	case schema == nil && failed != nil:
		return nil, failed
	}
	return schema, nil
}

// Read returns rows from the given one on, at least one and at most max, and whether there are certainly more. It waits
// until there is one or the end is known. No rows and no error mean the end. The caller releases the batches. size
// estimates the bytes of rows of a batch; reading stops where they exceed limit.
func (s *Spool) Read(ctx context.Context, from, limit int64, max int64, size func(b arrow.RecordBatch, from, to int) int) ([]arrow.RecordBatch, bool, error) {
	err := s.wait(ctx, func() bool { return s.rows > from || s.done })
	if err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows <= from && s.err != nil {
		return nil, false, s.err
	}
	var out []arrow.RecordBatch
	left := max
	for _, p := range s.parts {
		if p.first+p.rows <= from || left <= 0 {
			continue
		}
		b, err := s.load(p)
		if err != nil {
			release(out)
			return nil, false, err
		}
		lo := int(from - p.first)
		hi := int(min(p.rows, int64(lo)+left))
		hi = lo + fit(b, lo, hi, &limit, len(out) == 0, size)
		if hi > lo {
			out = append(out, b.NewSlice(int64(lo), int64(hi)))
			from, left = from+int64(hi-lo), left-int64(hi-lo)
		}
		b.Release()
		if int64(hi) < p.rows {
			break
		}
	}
	return out, s.rows > from, nil
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

// load returns a batch with a reference for the caller.
func (s *Spool) load(p part) (arrow.RecordBatch, error) {
	if p.batch != nil {
		p.batch.Retain()
		return p.batch, nil
	}
	if s.loaded != nil && s.loadedAt == p.offset {
		s.loaded.Retain()
		return s.loaded, nil
	}
	r, err := ipc.NewReader(io.NewSectionReader(s.file, p.offset, p.len))
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	defer r.Release()
	if !r.Next() {
		return nil, fmt.Errorf("read the spool: %w", r.Err())
	}
	b := r.RecordBatch()
	b.Retain()
	if s.loaded != nil {
		s.loaded.Release()
	}
	b.Retain()
	s.loaded, s.loadedAt = b, p.offset
	return b, nil
}

func batchBytes(b arrow.RecordBatch) int64 {
	var n int64
	for _, c := range b.Columns() {
		n += dataBytes(c.Data())
	}
	return n
}

func dataBytes(d arrow.ArrayData) int64 {
	var n int64
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

// Done reports whether the writer has ended, and how.
func (s *Spool) Done() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done, s.err
}
