package store

import (
	"slices"
	"strconv"
)

// write implements job: what is pending goes to a disk.
func (p *Partition) write(*disk) {
	pieces := p.takePending()
	if pieces == nil {
		return
	}
	p.departs(pieces)
	p.flushed(p.store.place(p, pieces))
}

// place writes pieces to the partition's disk or, if that one fails, to another. With no disk left they stay in memory, until one
// works again: what was acknowledged is not given up while there is a place for it.
func (s *Store) place(p *Partition, pieces []piece) []extent {
	if e, ok := s.toDisk(p, pieces); ok {
		p.lands(pieces)
		return []extent{e}
	}
	p.moveTo(nil, true)
	s.stick(p)
	return []extent{{length: length(pieces), pieces: pieces}}
}

func length(pieces []piece) (n int64) {
	for _, pc := range pieces {
		n += int64(len(pc.data))
	}
	return n
}

// toDisk writes pieces to the partition's disk or, if that one fails, to another.
func (s *Store) toDisk(p *Partition, pieces []piece) (extent, bool) {
	tried := map[*disk]bool{}
	for d := p.onDisk(); d != nil; d = s.pick(tried) {
		tried[d] = true
		f := p.lastFile()
		var err error
		if f == nil || f.disk != d {
			if f, err = d.create(p.shuffle, p.String()); err != nil {
				d.failed(err)
				s.log.Warn("shuffle data could not be written", "disk", d.path, "partition", p, "shuffle", p.shuffle.key, "err", err)
				continue
			}
		}
		off, err := f.append(pieces)
		if err != nil {
			d.failed(err)
			s.log.Warn("shuffle data could not be written", "disk", d.path, "partition", p, "shuffle", p.shuffle.key, "err", err)
			continue
		}
		n := length(pieces)
		s.written.Add(n)
		p.moveTo(d, false)
		return extent{file: f, off: off, length: n}, true
	}
	return extent{}, false
}

// stick notes that bytes of the partition stayed in memory.
func (s *Store) stick(p *Partition) {
	s.stuckMu.Lock()
	defer s.stuckMu.Unlock()
	s.stuck = append(s.stuck, p)
}

// unstick has bytes that stayed in memory written when there is a disk that works.
func (s *Store) unstick() {
	s.stuckMu.Lock()
	defer s.stuckMu.Unlock()
	if d := s.pick(nil); d != nil {
		for _, p := range s.stuck {
			d.push(&respill{part: p})
		}
		s.stuck = nil
	}
}

// respill writes what a partition has in memory because no disk took it.
type respill struct{ part *Partition }

func (j *respill) write(*disk) {
	p := j.part
	p.mu.Lock()
	if p.gone || p.flushes {
		if !p.gone {
			p.store.stick(p)
		}
		p.mu.Unlock()
		return
	}
	p.flushes = true
	moved := slices.Clone(p.extents)
	p.mu.Unlock()
	var files []*dataFile
	for i, e := range moved {
		if e.file != nil {
			continue
		}
		to, ok := p.store.toDisk(p, e.pieces)
		if !ok {
			p.store.stick(p)
			break
		}
		moved[i] = to
		files = append(files, to.file)
	}
	if !p.reading.move(p, moved, files) {
		p.store.stick(p)
	}
	p.flushed(nil)
	p.again()
}

// again notes a committed partition that is on disks now, and was not when it was committed.
func (p *Partition) again() {
	if n := p.store.notes(p.shuffle, []*Partition{p}); len(n) > 0 {
		p.mu.Lock()
		files := slices.Clone(p.extents)
		p.mu.Unlock()
		for _, e := range files {
			e.file.rest()
		}
		n[0].disk.first(n[0])
	}
}

func (p *Partition) onDisk() *disk {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.disk
}

func (p *Partition) moveTo(d *disk, stuck bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d != nil && d != p.disk && !p.gone {
		p.disk.placed.Add(-1)
		d.placed.Add(1)
		p.disk = d
	}
	p.stuck = stuck
}

// packPrefix begins the name of a file that many partitions share.
const packPrefix = "pack-"

// pack writes many small partitions, of which no disk has anything yet, into one file.
type pack struct {
	shuffle *shuffle
	parts   []*Partition
}

func (k *pack) write(d *disk) {
	var taken []*Partition
	var each [][]piece
	var all []piece
	for _, p := range k.parts {
		if pieces := p.takePending(); pieces != nil {
			p.departs(pieces)
			taken, each, all = append(taken, p), append(each, pieces), append(all, pieces...)
		}
	}
	if len(taken) == 0 {
		return
	}
	off, f, err := int64(0), (*dataFile)(nil), error(nil)
	if f, err = d.create(k.shuffle, packPrefix+strconv.FormatInt(d.store.names.Add(1), 10)); err == nil {
		off, err = f.append(all)
	}
	if err != nil {
		d.failed(err)
		d.store.log.Warn("shuffle data could not be written", "disk", d.path, "partitions", len(taken), "shuffle", k.shuffle.key, "err", err)
		for i, p := range taken { // each for itself, wherever there is room
			p.flushed(d.store.place(p, each[i]))
		}
		return
	}
	f.rest()
	for i, p := range taken {
		n := length(each[i])
		p.lands(each[i])
		d.store.written.Add(n)
		p.flushed([]extent{{file: f, off: off, length: n}})
		off += n
	}
}
