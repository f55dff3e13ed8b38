package store

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Memory is a bounded amount of memory for pushed data. Its blocks are used again and again, so that a worker touches no more
// memory than it needs at once.
type Memory struct {
	limit int64
	// wake is called when memory runs short: what is held must go to a disk.
	wake func()

	mu      sync.Mutex
	used    int64
	waiting []*waiter // in the order they came
	free    map[int][]*Buffer
	idle    int64 // bytes in free
}

type waiter struct {
	n     int64
	ready chan struct{}
}

// Buffer is a block of a Memory. Whoever keeps a part of it beyond a call retains it; the last Release gives it back.
type Buffer struct {
	data   []byte
	size   int // of the block
	refs   atomic.Int32
	memory *Memory
}

// NewMemory is a memory of that many bytes.
func NewMemory(limit int64, wake func()) *Memory {
	return &Memory{limit: limit, wake: wake, free: map[int][]*Buffer{}}
}

// blockSize rounds up so that there are few sizes and at most a quarter is wasted.
func blockSize(n int) int {
	const smallest = 1 << 10
	if n <= smallest {
		return smallest
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) / step * step
}

// Fits says why a buffer of n bytes can never be had.
func (m *Memory) Fits(n int) error {
	if int64(blockSize(n)) > m.limit {
		return fmt.Errorf("a push of %d bytes does not fit into the %d bytes that this worker has for pushes: give it more (--memory) or make records smaller", n, m.limit)
	}
	return nil
}

// Get takes a buffer of n bytes, and waits until there is room for it. More than the whole memory can never be had.
func (m *Memory) Get(ctx context.Context, n int) (*Buffer, error) {
	if err := m.Fits(n); err != nil {
		return nil, err
	}
	if b := m.TryGet(n); b != nil {
		return b, nil
	}
	p := m.Queue(n)
	select {
	case <-p.w.ready:
		return p.Take(), nil
	case <-ctx.Done():
		p.Leave()
		return nil, ctx.Err()
	}
}

// TryGet is Get that does not wait.
func (m *Memory) TryGet(n int) *Buffer {
	size := blockSize(n)
	m.mu.Lock()
	if len(m.waiting) > 0 || m.used+int64(size) > m.limit {
		m.mu.Unlock()
		return nil
	}
	m.used += int64(size)
	pressed := m.used > m.limit/2 && m.used-int64(size) <= m.limit/2
	b := m.block(n, size)
	m.mu.Unlock()
	if pressed {
		m.wake()
	}
	return b
}

// Place is one in the queue for memory. It must be left, unless Take gave a buffer.
type Place struct {
	m *Memory
	w *waiter
	n int
}

// Queue takes the last place in the queue for a buffer of n bytes, which must fit.
func (m *Memory) Queue(n int) Place {
	w := &waiter{n: int64(blockSize(n)), ready: make(chan struct{})}
	m.mu.Lock()
	m.waiting = append(m.waiting, w)
	m.serve() // there may be room by now
	m.mu.Unlock()
	m.wake()
	return Place{m: m, w: w, n: n}
}

// Take is the buffer, or nil while its turn has not come.
func (p Place) Take() *Buffer {
	select {
	case <-p.w.ready: // its bytes are counted already
		p.m.mu.Lock()
		defer p.m.mu.Unlock()
		return p.m.block(p.n, int(p.w.n))
	default:
		return nil
	}
}

// Leave gives the place up.
func (p Place) Leave() { p.m.forget(p.w) }

// more takes a buffer even beyond the limit: for what moves from a buffer that is given back at once.
func (m *Memory) more(n int) *Buffer {
	size := blockSize(n)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used += int64(size)
	return m.block(n, size)
}

// block finds or makes a block; the lock is held.
func (m *Memory) block(n, size int) *Buffer {
	var b *Buffer
	if list := m.free[size]; len(list) > 0 {
		b = list[len(list)-1]
		m.free[size] = list[:len(list)-1]
		m.idle -= int64(size)
	} else {
		m.trim()
		b = &Buffer{data: make([]byte, size), size: size, memory: m}
	}
	b.data = b.data[:n]
	b.refs.Store(1)
	return b
}

// trim gives blocks of sizes that nobody asks for back to the runtime when what is in use, which has the new block in it already,
// and what is kept for later would be more than the limit; the lock is held.
func (m *Memory) trim() {
	for size, list := range m.free {
		for len(list) > 0 && m.used+m.idle > m.limit {
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			m.idle -= int64(size)
		}
		m.free[size] = list
	}
}

func (m *Memory) forget(w *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, o := range m.waiting {
		if o == w {
			m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
			return
		}
	}
	m.used -= w.n // it was served meanwhile
	m.serve()
}

// serve lets those wait no longer whose turn it is and who fit; the lock is held.
func (m *Memory) serve() {
	for len(m.waiting) > 0 && m.used+m.waiting[0].n <= m.limit {
		m.used += m.waiting[0].n
		close(m.waiting[0].ready)
		m.waiting = m.waiting[1:]
	}
}

// Pressed reports whether what is held must go to disks: half is in use, or somebody waits.
func (m *Memory) Pressed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used > m.limit/2 || len(m.waiting) > 0
}

// Used is how many bytes are held.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// Limit is how many bytes there are.
func (m *Memory) Limit() int64 { return m.limit }

// Bytes is what the buffer is for.
func (b *Buffer) Bytes() []byte { return b.data }

// Retain keeps the buffer for one more.
func (b *Buffer) Retain() { b.refs.Add(1) }

// Release gives the buffer back when everybody has.
func (b *Buffer) Release() {
	switch n := b.refs.Add(-1); {
	case n < 0:
		panic("a buffer was released twice")
	case n > 0:
		return
	}
	m := b.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= int64(b.size)
	if m.idle+int64(b.size) <= m.limit-m.used { // what is kept for later does not come on top
		m.free[b.size] = append(m.free[b.size], b)
		m.idle += int64(b.size)
	}
	m.serve()
}
