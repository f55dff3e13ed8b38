package shufflesim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// commitAll commits what is not committed yet, and says whether anything is lost.
func (sh *shuffle) commitAll(p *proc) bool {
	sh.commit(p, sh.all)
	for slices.ContainsFunc(sh.all, func(l *location) bool { return l.committed && !l.settled }) {
		p.sleep(100 * time.Millisecond) // those that were split
	}
	for _, l := range sh.all {
		if l.lost {
			return sh.fail("SHUFFLE_DATA_LOST: %s", l.id)
		}
	}
	return true
}

// commit asks each worker for its copies of locations that nobody asked for yet.
func (sh *shuffle) commit(p *proc, all []*location) {
	by := map[wire.WorkerID][2][]*location{}
	var mine []*location
	for _, l := range all {
		if l.committed || sh.d.dead || !sh.needed { // a driver that has unregistered a shuffle asks no more for it
			continue
		}
		l.committed = true
		mine = append(mine, l)
		for mode, n := range l.on {
			if n != nil {
				g := by[n.id]
				g[mode] = append(g[mode], l)
				by[n.id] = g
			}
		}
	}
	for _, id := range sortedIDs(by) {
		sh.commitOn(p, sh.d.s.node(id), by[id])
	}
	for _, l := range mine {
		l.lost = l.failed[0] && (l.on[1] == nil || l.failed[1])
		if l.lost && sh.needed {
			sh.d.s.Losses++
			sh.d.s.log("%s %s is lost", sh.key, l.id)
			sh.justify(l)
		}
		l.settled = true
	}
}

// commitOn asks one worker, up to four times, as a driver does.
func (sh *shuffle) commitOn(p *proc, n *node, g [2][]*location) {
	s := sh.d.s
	sh.epoch++
	c := store.Commit{Key: sh.key, Epoch: sh.epoch, Attempts: slices.Clone(sh.winner)}
	for _, l := range g[0] {
		c.Primaries = append(c.Primaries, l.id)
	}
	for _, l := range g[1] {
		c.Replicas = append(c.Replicas, l.id)
	}
	for range 4 {
		out, err := p.call(sh.d.rpc(n), twice(s, func(n *node, answer func(any)) bool {
			n.store.Commit(c, func(r store.Result) { answer(r) })
			return true
		}))
		if err != nil {
			p.sleep(s.between(100*time.Millisecond, 2*time.Second))
			continue
		}
		r := out.(store.Result)
		s.log("%s commit %d on %s: %d and %d, failed %d and %d", sh.key, c.Epoch, n.name, len(r.Primaries), len(r.Replicas), len(r.FailedPrimaries), len(r.FailedReplicas))
		sh.collect(g, 0, r.Primaries, r.FailedPrimaries)
		sh.collect(g, 1, r.Replicas, r.FailedReplicas)
		return
	}
	for mode, all := range g {
		for _, l := range all {
			l.failed[mode], l.cut[mode] = true, true
		}
	}
}

func (sh *shuffle) collect(g [2][]*location, mode int, committed []store.Committed, failed []wire.PartitionID) {
	for _, l := range g[mode] {
		l.served[mode] = slices.ContainsFunc(committed, func(c store.Committed) bool { return c.ID == l.id })
		l.failed[mode] = slices.Contains(failed, l.id)
		if l.served[mode] && l.failed[mode] {
			sh.d.s.problem("%s %s is committed and failed", sh.key, l.id)
		}
	}
}

// justify checks that every copy of what is lost was on a worker that was harmed after it was reserved there. Disks that take no
// writes are no reason: data goes to others, or stays in memory.
func (sh *shuffle) justify(l *location) {
	for mode, n := range l.on {
		if n != nil && n.up() && n.kills == l.kills[mode] && !l.cut[mode] {
			sh.d.s.problem("%s %s is lost, and its copy %d on %s was never harmed", sh.key, l.id, mode, n.name)
		}
	}
}

// read reads a partition as a task does, whole or by ranges of maps, and compares it with what the winning attempts wrote.
func (sh *shuffle) read(p *proc, part int32) bool {
	s := sh.d.s
	type name struct{ m, n int32 }
	got := map[name][]byte{}
	maps := int32(len(sh.winner))
	bounds := []int32{0, math.MaxInt32}
	if s.chance(300) && maps > 1 {
		bounds = []int32{0, 1 + int32(s.r.IntN(int(maps))), math.MaxInt32 - 1}
	}
	for i := range len(bounds) - 1 {
		from, to := bounds[i], bounds[i+1]
		for _, l := range sh.all {
			if l.id.ID != part || !l.served[0] && !l.served[1] {
				continue
			}
			ok := sh.fetch(p, l, from, to, func(h wire.Batch, b []byte) {
				if h.MapID < from || h.MapID >= to || h.MapID >= maps {
					s.problem("%s %s: a batch of map %d came with a range from %d to %d", sh.key, l.id, h.MapID, from, to)
				} else if h.AttemptID == sh.winner[h.MapID] {
					got[name{h.MapID, h.BatchID}] = b
				}
			})
			if !ok {
				return false
			}
		}
	}
	want, missing := 0, 0
	for m := range maps {
		for _, b := range sh.wrote[[2]int32{m, sh.winner[m]}][part] {
			want++
			if !bytes.Equal(got[name{m, wire.ParseBatchHeader(b).BatchID}], b) {
				missing++
			}
		}
	}
	s.Reads++
	s.log("%s partition %d: %d batches", sh.key, part, len(got))
	if missing > 0 || len(got) != want {
		s.problem("%s partition %d: %d of %d batches are missing or not what was pushed, %d were read: %s", sh.key, part, missing, want, len(got), sh.places(part))
	}
	return true
}

// places says where a partition was.
func (sh *shuffle) places(part int32) (out string) {
	for _, l := range sh.all {
		if l.id.ID == part {
			for mode, n := range l.on {
				if n != nil {
					out += fmt.Sprintf(" %s-%d on %s life %d served %t failed %t;", l.id, mode, n.name, l.life[mode], l.served[mode], l.failed[mode])
				}
			}
		}
	}
	return out
}

// fetch reads one location, from one copy or, if that fails, from the other, each a few times.
func (sh *shuffle) fetch(p *proc, l *location, from, to int32, take func(wire.Batch, []byte)) bool {
	s := sh.d.s
	mode := s.r.IntN(2)
	resets, began := [2]int{}, s.now
	var last error
	for range 6 {
		if mode = 1 - mode; !l.served[mode] {
			mode = 1 - mode
		}
		chunks, err := sh.fetchCopy(p, l, mode, from, to)
		if err == nil {
			for _, c := range chunks {
				for len(c) > 0 {
					h, err := wire.ParseBatch(c)
					if err != nil {
						s.problem("%s %s: a chunk is not whole batches: %v", sh.key, l.id, err)
						return false
					}
					take(h, c[:wire.BatchHeader+h.Size])
					c = c[wire.BatchHeader+h.Size:]
				}
			}
			return true
		}
		last = err
		if errors.Is(err, errReset) {
			resets[mode]++
		}
		p.sleep(s.between(time.Second, 5*time.Second))
		if sh.d.dead {
			return sh.fail("the application vanished")
		}
	}
	s.Losses++
	s.log("%s %s cannot be read: %v", sh.key, l.id, last)
	for m, n := range l.on {
		// A worker that is there, and whose disks always worked, has what it committed, also when it was started anew.
		if l.served[m] && n.up() && n.since.Before(began) && n.harms == 0 && resets[m] == 0 {
			s.problem("%s %s cannot be read from %s, which was never harmed: %v", sh.key, l.id, n.name, last)
		}
	}
	return sh.fail("fetch of %s failed", l.id)
}

type opened struct {
	stream int64
	chunks int
	err    error
}

type chunk struct {
	b   []byte
	err error
}

func (sh *shuffle) fetchCopy(p *proc, l *location, mode int, from, to int32) (out [][]byte, err error) {
	n := l.on[mode]
	c := &conn{s: sh.d.s, to: n}
	got, err := p.call(c, func(n *node, answer func(any)) bool {
		st, err := n.store.OpenStream(sh.key, fmt.Sprintf("%s-%d", l.id, mode), from, to)
		if err != nil {
			answer(opened{err: err})
		} else {
			answer(opened{stream: st.ID, chunks: st.Chunks()})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	o := got.(opened)
	if o.err != nil {
		return nil, o.err
	}
	for i := range o.chunks {
		got, err := p.call(c, func(n *node, answer func(any)) bool {
			b, err := bytesOf(n.store, wire.ChunkSlice{StreamID: o.stream, Chunk: int32(i), Len: math.MaxInt32})
			answer(chunk{b, err})
			return true
		})
		if err != nil {
			return nil, err
		}
		if k := got.(chunk); k.err != nil {
			return nil, k.err
		} else {
			out = append(out, k.b)
		}
	}
	c.send(func(n *node, _ func(any)) bool {
		n.store.EndStream(o.stream)
		return true
	}, func(any, error) {})
	return out, nil
}

func bytesOf(st *store.Store, s wire.ChunkSlice) ([]byte, error) {
	c, err := st.Chunk(s)
	if err != nil {
		return nil, err
	}
	defer c.Release()
	var out []byte
	for _, p := range c.Pieces {
		if p.File == nil {
			out = append(out, p.Data...)
			continue
		}
		b := make([]byte, p.Length)
		if _, err := io.ReadFull(io.NewSectionReader(p.File, p.Off, p.Length), b); err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}
