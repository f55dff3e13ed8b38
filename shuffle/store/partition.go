package store

import (
	"hash/crc32"
	"strconv"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/sluicedata/sluice/shuffle/wire"
)

// Verdict is what became of data that was to be appended.
type Verdict int

const (
	// Written data will be in the committed partition.
	Written Verdict = iota
	// WrittenSplit is Written, and the partition is large enough to be split.
	WrittenSplit
	// Split data was not written: the partition takes no more, the data must go to another one.
	Split
)

// copyBelow is from where on data is kept in the buffer it came in, rather than copied next to what the partition has.
const copyBelow = 16 << 10

// copyID names one copy of a partition inside its shuffle.
type copyID struct {
	wire.PartitionID
	mode byte
}

func (c copyID) String() string { return c.PartitionID.String() + "-" + strconv.Itoa(int(c.mode)) }

// piece is data that is in memory: whole batches.
type piece struct {
	data []byte
	buf  *Buffer
	own  bool // the partition alone has the buffer, and may append to it; the sum is made when it is written
	sum  uint32
}

// extent is where a run of a partition's bytes is: in a file, or in memory when no disk would take it.
type extent struct {
	file   *dataFile
	off    int64
	length int64
	pieces []piece
}

// Partition is one copy of a partition of one epoch: bytes are appended until it is sealed, and read then.
type Partition struct {
	copyID
	shuffle *shuffle
	store   *Store
	peer    *wire.WorkerID
	limits  Limits

	mu      sync.Mutex
	disk    *disk
	sealed  bool
	done    bool  // sealed, and all bytes are where they stay
	gone    bool  // destroyed
	stuck   bool  // no disk took the last bytes
	length  int64 // bytes accepted
	pending []piece
	held    int64   // bytes in pending
	queued  bool    // in its disk's queue
	dirty   touched // in a disk's list of those with pending bytes
	flushes bool    // a flush is running
	flight  []piece // what it writes, once their checksums are taken
	late    bool    // it took too long: what it writes is kept in memory instead
	waiting []func()
	maps    *roaring.Bitmap // when readers filter by map

	// Before done only the running flush touches these, or hasten in its stead.
	extents []extent
	written int64
	starts  []int64  // of chunks
	sums    []uint32 // of chunks
	sum     uint32   // of the chunk that is being written

	reading readState
}

// Peer is the worker with the other copy, or nil.
func (p *Partition) Peer() *wire.WorkerID { return p.peer }

// Length is how many bytes were appended.
func (p *Partition) Length() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.length
}

// Takes is what Append would say of a small piece, without taking it: what is refused anyway needs no memory first.
func (p *Partition) Takes() Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takes()
}

func (p *Partition) takes() Verdict {
	switch {
	case p.sealed || p.gone || p.stuck || p.store.draining.Load() || p.disk.hangs():
		return Split
	case p.length > splitAnyway && p.disk.full():
		return Split
	case p.mode == wire.Primary && p.limits.SplitThreshold > 0 && p.length > p.limits.SplitThreshold:
		if p.limits.HardSplit || p.length >= maxPartition {
			return Split
		}
		return WrittenSplit
	}
	return Written
}

// Append adds whole batches of that map to the partition. The data lies in owner, which is retained if it is kept; nil if it must be copied.
func (p *Partition) Append(mapID int32, data []byte, owner *Buffer) Verdict {
	var sum uint32
	if stays(data, owner) { // now, while it is in the processor's cache
		sum = crc32.Checksum(data, castagnoli)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	verdict := p.takes()
	if verdict == Split {
		return verdict
	}
	p.keep(data, owner, sum)
	p.length += int64(len(data))
	p.shuffle.bytes.Add(int64(len(data)))
	p.held += int64(len(data))
	if p.maps != nil {
		p.maps.Add(uint32(mapID))
	}
	switch {
	case p.queued || p.flushes:
	case p.held >= p.store.opts.FlushSize:
		p.queued = true
		p.disk.push(p)
	case p.dirty.at == nil:
		p.dirty = p.disk.touch(p)
	}
	return verdict
}

// stays reports whether data is kept in the buffer it came in.
func stays(data []byte, owner *Buffer) bool { return owner != nil && len(data) >= copyBelow }

// keep puts data at the end of what is pending.
func (p *Partition) keep(data []byte, owner *Buffer, sum uint32) {
	if stays(data, owner) {
		owner.Retain()
		p.pending = append(p.pending, piece{data: data, buf: owner, sum: sum})
		return
	}
	if n := len(p.pending); n > 0 {
		last := &p.pending[n-1]
		if last.own && len(data) <= cap(last.data)-len(last.data) {
			last.data = append(last.data, data...)
			return
		}
	}
	// Blocks double, so that many partitions of little data take little memory and large ones few blocks.
	size := len(data)
	if n := len(p.pending); n > 0 {
		size = max(size, min(2*len(p.pending[n-1].data), 64<<10))
	}
	b := p.store.Memory(p.mode).more(size)
	p.pending = append(p.pending, piece{data: append(b.data[:0], data...), buf: b, own: true})
}

// seal ends appending. The function is called once, without locks, when all bytes are where they stay.
// It returns what is to be written in one go with others' bytes: true if nothing of the partition is on a disk yet.
func (p *Partition) seal(then func()) (small bool) {
	p.mu.Lock()
	p.sealed = true
	if p.done || p.gone {
		p.mu.Unlock()
		then()
		return false
	}
	p.waiting = append(p.waiting, then)
	switch {
	case p.flushes || p.queued:
	case p.held == 0:
		p.finish() // unlocks
		return false
	case len(p.extents) == 0 && len(p.waiting) == 1:
		p.queued = true
		p.mu.Unlock()
		return true
	default:
		p.queued = true
		p.disk.push(p)
	}
	p.mu.Unlock()
	return false
}

// finish marks a sealed partition done, and calls those who wait; it is called with the lock and gives it up.
func (p *Partition) finish() {
	p.done = true
	if p.written > 0 {
		p.sums = append(p.sums, p.sum)
	}
	if !p.flushes { // else a file may be in a write that hangs
		p.restFiles()
	}
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// restFiles closes the partition's files until they are needed again; the lock is held.
func (p *Partition) restFiles() {
	for _, e := range p.extents {
		if e.file != nil {
			e.file.rest()
		}
	}
}

// hasten settles a sealed partition for which a disk takes too long: what that has not written stays in memory and is served from
// there, until another disk, or this one, has it. Nothing is given up for a driver's patience.
func (p *Partition) hasten(to *disk) {
	p.mu.Lock()
	if p.done || p.gone || !p.sealed || p.flushes && p.flight == nil {
		p.mu.Unlock()
		return
	}
	if p.flushes {
		for _, pc := range p.flight {
			pc.buf.Retain()
		}
		p.addExtents([]extent{{length: length(p.flight), pieces: p.flight}})
		p.late = true
	}
	if len(p.pending) > 0 {
		p.note(p.pending)
		p.addExtents([]extent{{length: p.held, pieces: p.pending}})
		p.pending, p.held = nil, 0
		p.dirty.end()
	}
	p.stuck = true
	if to != nil && to != p.disk {
		p.disk.placed.Add(-1)
		to.placed.Add(1)
		p.disk = to
	}
	p.store.stick(p)
	p.finish()
}

// destroy forgets the partition's bytes in memory; its files are removed with the shuffle's directory or by the caller.
func (p *Partition) destroy() {
	p.closeReading() // first: once it is gone, a flush that ends gives back what readers look at
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return
	}
	p.gone = true
	p.disk.placed.Add(-1)
	p.dropPending()
	if !p.flushes {
		p.releaseExtents()
	}
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// dropPending gives up what is in memory only; the lock is held.
func (p *Partition) dropPending() {
	release(p.pending)
	p.pending, p.held = nil, 0
	p.dirty.end()
}

func (p *Partition) releaseExtents() {
	for i := range p.extents {
		release(p.extents[i].pieces)
		p.extents[i].pieces = nil
		if f := p.extents[i].file; f != nil {
			f.rest()
		}
	}
}

func release(pieces []piece) {
	for _, p := range pieces {
		p.buf.Release()
	}
}

// departs says that a flush is about to write these pieces.
func (p *Partition) departs(pieces []piece) {
	p.note(pieces)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flight = pieces
}

// lands says that what a flush wrote is on a disk, and gives its memory back: from now on it cannot be served from there.
func (p *Partition) lands(pieces []piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flight = nil
	release(pieces)
}

// note takes chunk boundaries and checksums of pieces that come next, in this order. Each piece is whole batches, so a chunk may
// begin with each.
func (p *Partition) note(pieces []piece) {
	for _, pc := range pieces {
		if n := len(p.starts); n == 0 || p.written-p.starts[n-1] >= p.store.opts.ChunkSize {
			if n > 0 {
				p.sums = append(p.sums, p.sum)
			}
			p.starts = append(p.starts, p.written)
			p.sum = 0
		}
		if pc.own {
			p.sum = crc32.Update(p.sum, castagnoli, pc.data)
		} else {
			p.sum = joined(p.sum, pc.sum, int64(len(pc.data)))
		}
		p.written += int64(len(pc.data))
	}
}

// takePending takes what is to be written now; nil if there is nothing.
func (p *Partition) takePending() []piece {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued = false
	p.dirty.end()
	if p.flushes || p.gone || len(p.pending) == 0 {
		return nil
	}
	out := p.pending
	p.pending, p.held = nil, 0
	p.flushes = true
	return out
}

// flushed says that a flush ended, and where the pieces are now.
func (p *Partition) flushed(e []extent) {
	p.mu.Lock()
	p.flushes, p.flight = false, nil
	if p.late { // it is in memory, from where it goes to a disk again
		p.late = false
		for _, x := range e {
			release(x.pieces)
			if x.file != nil {
				x.file.rest()
			}
		}
	} else {
		p.addExtents(e)
	}
	switch {
	case p.gone:
		p.releaseExtents()
		p.removeFiles()
		p.mu.Unlock()
		p.shuffle.swept(p.store)
		return
	case p.done: // without this flush
		p.restFiles()
		p.mu.Unlock()
		return
	case p.held > 0 && (p.sealed || p.held >= p.store.opts.FlushSize):
		if !p.queued {
			p.queued = true
			p.disk.push(p)
		}
		p.mu.Unlock()
		return
	case p.held > 0 && p.dirty.at == nil:
		p.dirty = p.disk.touch(p)
	}
	if p.sealed && !p.done {
		p.finish()
		return
	}
	p.mu.Unlock()
}

func (p *Partition) addExtents(more []extent) {
	for _, e := range more {
		if n := len(p.extents); n > 0 && e.file != nil && p.extents[n-1].file == e.file && p.extents[n-1].off+p.extents[n-1].length == e.off {
			p.extents[n-1].length += e.length
			continue
		}
		p.extents = append(p.extents, e)
	}
}

// splitAnyway is from what size on a partition on a full disk is split, maxPartition from what size on any is (bytes; the
// defaults of celeborn.worker.shuffle.partitionSplit.min and .max).
const (
	splitAnyway  = 1 << 20
	maxPartition = 2 << 30
)

// lastFile is the file that the partition's bytes went to last, or nil.
func (p *Partition) lastFile() *dataFile {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.extents) - 1; i >= 0; i-- {
		if f := p.extents[i].file; f != nil && !f.shared() {
			return f
		}
	}
	return nil
}
