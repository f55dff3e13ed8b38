// Package spool keeps a result between the engine, which must be read at full speed because unread rows fill its heap,
// and the client, which reads when it likes, and may begin again from the first row.
//
// A small result stays in memory. A larger one goes to a file, all of it, and memory is then a cache of its latest
// rows. The file outlives a gateway that is killed: the next one goes on behind its last batch, and rows that are in it
// need not be kept by the engine any more.
package spool

import (
	"context"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
)

// keepInMemory is how large a result may be that is in memory alone. Should the gateway be killed, the next one reads
// such rows from the engine again. Spark Connect keeps 10 MiB of the responses that it has sent
// (spark.connect.execute.reattachable.observerRetryBufferSize); of those, 4 MiB may have been on the wire, and one
// more be just taken in.
const keepInMemory = 2 << 20

// Spool holds the rows of one operation. One writer calls Append and Finish; there may be any number of readers.
type Spool struct {
	pool *Pool
	name string // of the file

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	schema  *arrow.Schema
	parts   []part
	rows    int64
	memory  int64 // of the batches in parts
	oldest  int   // no part before it is in memory
	file    *rowFile
	read    bool // a reader has had rows
	done    bool
	err     error // how the writer ended

	loaded      arrow.RecordBatch // read from the file; pages of it are asked for one after the other
	loadedFirst int64             // its first row
	loadedHeld  int64
}

// part is one batch, in memory, in the file, or both.
type part struct {
	first, rows int64
	token       string            // the engine's word for the place behind it
	batch       arrow.RecordBatch // nil if it is in the file alone
	held        int64             // bytes that batch holds
	at          span              // in the file, if there is one
}

func (s *Spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Append adds a batch, taking over the caller's reference; token is the engine's word for the place behind it. durable
// says that all rows up to there would survive this process.
func (s *Spool) Append(b arrow.RecordBatch, token string) (durable bool, err error) {
	defer b.Release()
	f, err := s.begin(b.Schema())
	if err != nil || b.NumRows() == 0 {
		return false, err
	}
	p := part{rows: b.NumRows(), token: token, held: heldBytes(b)}
	if f == nil {
		if s.reserve(p.held) {
			p.batch = b
			return false, s.add(p)
		}
		if f, err = s.toDisk(); err != nil {
			return false, s.orWhy(err)
		}
	}
	if p.at, err = f.appendBatch(b, token); err != nil {
		return false, s.orWhy(err)
	}
	if s.makeRoom(p.held) {
		p.batch = b
	}
	return true, s.add(p)
}

// begin tells where rows go at the moment: nil is memory.
func (s *Spool) begin(schema *arrow.Schema) (*rowFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil, s.why()
	}
	if s.schema == nil {
		s.schema = schema
		s.wake()
	}
	return s.file, nil
}

// why says why a spool takes no more rows.
func (s *Spool) why() error {
	if s.err != nil {
		return s.err
	}
	return ErrClosed
}

// orWhy prefers why the spool has ended over what the writer then met: its file was closed.
func (s *Spool) orWhy(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return err
}

func (s *Spool) add(p part) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done { // closed in the meantime, and what was reserved is given back
		return s.why()
	}
	if p.batch != nil {
		p.batch.Retain()
	}
	p.first = s.rows
	s.parts = append(s.parts, p)
	s.rows += p.rows
	s.wake()
	return nil
}

// reserve asks for memory for rows that are nowhere else.
func (s *Spool) reserve(held int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return true // add will refuse
	}
	if s.memory+held > min(keepInMemory, s.pool.limits.Memory) || !s.pool.takeMemory(held, false) {
		return false
	}
	s.memory += held
	return true
}

// makeRoom asks for memory for rows that are on disk too, at the cost of older ones.
func (s *Spool) makeRoom(held int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || held > s.pool.limits.Memory {
		return false
	}
	for s.memory+held > s.pool.limits.Memory || !s.pool.takeMemory(held, true) {
		if !s.evict() {
			return false
		}
	}
	s.memory += held
	return true
}

// evict drops the oldest batch that is in memory and on disk.
func (s *Spool) evict() bool {
	for ; s.oldest < len(s.parts); s.oldest++ {
		if p := &s.parts[s.oldest]; p.batch != nil {
			s.pool.giveMemory(p.held)
			s.memory -= p.held
			p.batch.Release()
			p.batch = nil
			return true
		}
	}
	return false
}

// toDisk makes the file and writes what was in memory alone.
func (s *Spool) toDisk() (*rowFile, error) {
	s.mu.Lock()
	parts, schema := slices.Clone(s.parts), s.schema
	for _, p := range parts {
		p.batch.Retain() // somebody may close the spool while they are written
		defer p.batch.Release()
	}
	s.mu.Unlock()
	f, err := s.pool.create(s.name, schema)
	if err != nil {
		return nil, err
	}
	for i, p := range parts {
		if parts[i].at, err = f.appendBatch(p.batch, p.token); err != nil {
			f.remove()
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		f.remove()
		return nil, s.why()
	}
	s.parts, s.file = parts, f
	return f, nil
}

// SetSchema tells the schema before the first batch, or instead of one that is empty.
func (s *Spool) SetSchema(schema *arrow.Schema) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schema = schema
	s.wake()
}

// Finish ends the writing: with nil at the end of the rows, with an error if they are not complete. An error drops the
// rows, whose readers get it. The first word holds.
func (s *Spool) Finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return
	}
	if err != nil {
		s.drop(err)
		return
	}
	if s.file != nil {
		s.file.finish()
	}
	s.done = true
	s.wake()
}

// Close drops all rows; readers get ErrClosed.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(ErrClosed)
}

// Restart drops the rows so that the writer can begin anew, unless a reader has had any of them, or the end.
func (s *Spool) Restart() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read || s.done {
		return false
	}
	s.clear()
	return true
}

// drop forgets all rows and deletes the file. Without rows every reader meets the error; none takes the gap for the end.
func (s *Spool) drop(err error) {
	s.clear()
	s.done, s.err = true, err
	s.wake()
}

func (s *Spool) clear() {
	for _, p := range s.parts {
		if p.batch != nil {
			p.batch.Release()
		}
	}
	s.pool.giveMemory(s.memory)
	s.parts, s.rows, s.memory, s.oldest = nil, 0, 0, 0
	s.unload()
	if s.file != nil {
		s.file.remove()
		s.file = nil
	}
}

// Done reports whether the writer has ended, and how.
func (s *Spool) Done() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done, s.err
}

// Durable tells how far the rows would survive this process: up to which one, and the engine's word for that place.
func (s *Spool) Durable() (token string, rows int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil || len(s.parts) == 0 {
		return "", 0
	}
	return s.parts[len(s.parts)-1].token, s.rows
}

// Known returns the schema if it is known already, or nil.
func (s *Spool) Known() *arrow.Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.schema
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
