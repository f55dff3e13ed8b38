package store

import "strconv"

// write implements job: what is pending goes to a disk.
func (p *Partition) write(*disk) {
	pieces := p.takePending()
	if pieces == nil {
		return
	}
	p.note(pieces)
	p.flushed(p.store.place(p, pieces))
}

// place writes pieces to the partition's disk or, if that one fails, to another. With no disk left they stay in memory: what was
// acknowledged is not given up while there is a place for it.
func (s *Store) place(p *Partition, pieces []piece) []extent {
	total := int64(0)
	for _, pc := range pieces {
		total += int64(len(pc.data))
	}
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
		release(pieces)
		s.written.Add(total)
		p.moveTo(d, false)
		return []extent{{file: f, off: off, length: total}}
	}
	p.moveTo(nil, true)
	return []extent{{length: total, pieces: pieces}}
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
			p.note(pieces)
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
		n := int64(0)
		for _, pc := range each[i] {
			n += int64(len(pc.data))
		}
		release(each[i])
		d.store.written.Add(n)
		p.flushed([]extent{{file: f, off: off, length: n}})
		off += n
	}
}
