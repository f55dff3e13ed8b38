package store

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

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

// Chunk is the bytes of a chunk. They stay what they are until Release, which must be called once.
type Chunk struct {
	Pieces []Piece
	Length int64

	part *Partition
	bufs []*Buffer
}

// Release says that the bytes were sent.
func (c Chunk) Release() {
	for _, b := range c.bufs {
		b.Release()
	}
	if c.part != nil {
		c.part.reading.unhold()
	}
}

// Stream is a partition, or some maps' batches of it, opened for reading.
type Stream struct {
	ID     int64
	part   *Partition
	chunks [][]span
	whole  bool         // chunk i is the partition's chunk i
	used   atomic.Int64 // when it was last read from, Unix nanoseconds
}

// span is a run of a partition's bytes.
type span struct{ off, length int64 }

// Chunks is how many there are.
func (s *Stream) Chunks() int { return len(s.chunks) }

// streams are those that are open. Clients may go on with one on another connection.
type streams struct {
	now  func() time.Time
	next atomic.Int64
	open sync.Map // id → *Stream
}

func (s *streams) init(st *Store) {
	s.now = st.opts.Now
	s.next.Store(rand.Int64N(math.MaxInt64 / 2)) // ids of an earlier store must not be taken for ours
}

// Seed makes stream ids begin there: for simulations.
func (s *Store) Seed(n int64) { s.streams.next.Store(n) }

// expire ends streams that nobody read from for that long: their reader crashed, and they keep files open.
func (s *streams) expire(now time.Time, after time.Duration) {
	s.open.Range(func(k, v any) bool {
		if st := v.(*Stream); now.UnixNano()-st.used.Load() > int64(after) {
			s.end(st.ID)
		}
		return true
	})
}

func (s *streams) end(id int64) {
	if v, ok := s.open.LoadAndDelete(id); ok {
		v.(*Stream).part.endReading()
	}
}

func (s *streams) drop(sh *shuffle) {
	s.open.Range(func(k, v any) bool {
		if v.(*Stream).part.shuffle == sh {
			s.open.Delete(k)
		}
		return true
	})
}

// OpenStream opens a copy for reading: the batches of maps in [start, end), or all if end is below start, negative or the greatest.
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
	done := p.done && !p.gone
	p.mu.Unlock()
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
	st.used.Store(s.opts.Now().UnixNano())
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
	s.streams.end(id)
}

// ErrNoStream is what chunks of a stream that is not there get.
var ErrNoStream = errors.New("no such stream: it was ended, its shuffle has expired, or it belongs to an earlier worker of this address")

// Chunk is the bytes of a chunk, or of a part of it.
func (s *Store) Chunk(c wire.ChunkSlice) (Chunk, error) {
	v, ok := s.streams.open.Load(c.StreamID)
	if !ok {
		return Chunk{}, ErrNoStream
	}
	st := v.(*Stream)
	st.used.Store(s.opts.Now().UnixNano())
	if c.Chunk < 0 || int(c.Chunk) >= len(st.chunks) || c.Offset < 0 || c.Len < 0 {
		return Chunk{}, fmt.Errorf("chunk %d of a stream of %d chunks", c.Chunk, len(st.chunks))
	}
	if st.whole && s.opts.Verify {
		if err := st.part.check(int(c.Chunk)); err != nil {
			return Chunk{}, err
		}
	}
	out, err := st.part.hold(cut(st.chunks[c.Chunk], int64(c.Offset), int64(c.Len)))
	if err == nil && out.Length > math.MaxInt32 {
		out.Release()
		return Chunk{}, fmt.Errorf("chunk %d has %d bytes, more than a frame can hold", c.Chunk, out.Length)
	}
	return out, err
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
