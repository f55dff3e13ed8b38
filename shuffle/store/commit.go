package store

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sluicedata/sluice/shuffle/wire"
)

// Commit asks to seal copies of partitions.
type Commit struct {
	Key                 string
	Epoch               int64 // names the request: one that comes again gets the same answer
	Primaries, Replicas []wire.PartitionID
	Attempts            []int32 // by map id: the attempt that won, or -1
}

// Committed is a sealed copy with data.
type Committed struct {
	ID     wire.PartitionID
	Length int64
	Chunks []int64 // where they begin, and the length
	Maps   []byte  // the map ids in it as a RoaringBitmap, if it was reserved with a RangeFilter
}

// Result is what became of a commit: every copy that was asked for is in one list, but those without any data.
type Result struct {
	Known                           bool // whether anything is known of the shuffle
	Primaries, Replicas             []Committed
	FailedPrimaries, FailedReplicas []wire.PartitionID
	Reasons                         []error // of failures
	Written                         int64
}

// commit is a Commit at work, or its answer.
type commit struct {
	store   *Store
	shuffle *shuffle
	request Commit
	parts   []*Partition // those of the request that are there
	since   time.Time

	number int64 // in the order they came

	mu      sync.Mutex
	waits   int // partitions that have not settled
	notes   int // records that are being written
	then    []func(Result)
	result  Result
	settled bool
}

// Commit seals copies, and calls then once when all their data is where it stays, or known to be lost. A copy that this store
// does not know has failed: it may be one that a worker of the same address had before it was started anew.
func (s *Store) Commit(c Commit, then func(Result)) {
	sh := s.shuffle(c.Key)
	if sh == nil {
		then(Result{FailedPrimaries: c.Primaries, FailedReplicas: c.Replicas, Reasons: []error{errors.New("nothing is known of this shuffle here")}})
		return
	}
	sh.mu.Lock()
	sh.merge(c.Attempts)
	if old := sh.commits[c.Epoch]; old != nil && old.request.same(c) {
		sh.mu.Unlock()
		old.join(then)
		return
	}
	k := &commit{store: s, number: s.names.Add(1), shuffle: sh, request: c, since: s.opts.Now(), then: []func(Result){then}}
	k.each(func(id copyID) {
		if p, ok := s.Find(c.Key, id.PartitionID, id.mode); ok {
			k.parts = append(k.parts, p)
		}
	})
	k.waits = len(k.parts) + 1
	sh.commits[c.Epoch] = k
	sh.mu.Unlock()
	s.commitsMu.Lock()
	s.commits[k] = struct{}{}
	s.commitsMu.Unlock()
	k.run()
}

// same reports whether a commit asks for the same copies. One that asks for others is not answered from an earlier one's result:
// a copy that no list of the answer names would be taken for empty.
func (c Commit) same(o Commit) bool {
	return slices.Equal(c.Primaries, o.Primaries) && slices.Equal(c.Replicas, o.Replicas)
}

// merge adds what a commit says of map tasks: the first attempt that won stays.
func (sh *shuffle) merge(attempts []int32) {
	for i, a := range attempts {
		switch {
		case i >= len(sh.attempts):
			sh.attempts = append(sh.attempts, a)
		case sh.attempts[i] == -1:
			sh.attempts[i] = a
		}
	}
}

func (k *commit) join(then func(Result)) {
	k.mu.Lock()
	if !k.settled {
		k.then = append(k.then, then)
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	then(k.result)
}

func (k *commit) run() {
	small := map[*disk][]*Partition{}
	var order []*disk
	for _, p := range k.parts {
		if p.seal(k.one) {
			d := p.onDisk()
			if small[d] == nil {
				order = append(order, d)
			}
			small[d] = append(small[d], p)
		}
	}
	for _, d := range order {
		d.push(&pack{shuffle: k.shuffle, parts: small[d]})
	}
	k.one()
}

func (k *commit) each(f func(copyID)) {
	for _, id := range k.request.Primaries {
		f(copyID{PartitionID: id, mode: wire.Primary})
	}
	for _, id := range k.request.Replicas {
		f(copyID{PartitionID: id, mode: wire.Replica})
	}
}

// one says that a partition has settled; after the last one what was committed is noted, and then the commit is settled.
func (k *commit) one() {
	k.mu.Lock()
	k.waits--
	last := k.waits == 0
	k.mu.Unlock()
	if !last {
		return
	}
	notes := k.store.notes(k.shuffle, k.parts)
	k.mu.Lock()
	k.notes = len(notes)
	k.mu.Unlock()
	if len(notes) == 0 {
		k.settle()
	}
	for _, n := range notes {
		n.then = k.noted
		n.disk.first(n)
	}
}

// noted says that a record was written, or could not be.
func (k *commit) noted() {
	k.mu.Lock()
	k.notes--
	last := k.notes == 0
	k.mu.Unlock()
	if last {
		k.settle()
	}
}

// settle answers all who wait for the commit, once.
func (k *commit) settle() {
	k.mu.Lock()
	early := k.settled || k.waits > 0 // an answer that is made before all have settled would call them failed
	k.mu.Unlock()
	if early {
		return
	}
	r := k.answer()
	k.mu.Lock()
	if k.settled {
		k.mu.Unlock()
		return
	}
	k.result, k.settled = r, true
	then := k.then
	k.then = nil
	k.mu.Unlock()
	k.store.commitsMu.Lock()
	delete(k.store.commits, k)
	k.store.commitsMu.Unlock()
	for _, f := range then {
		f(r)
	}
}

func (k *commit) answer() Result {
	r := Result{Known: true}
	add := func(id wire.PartitionID, mode byte, committed *[]Committed, failed *[]wire.PartitionID) {
		p, ok := k.store.Find(k.request.Key, id, mode)
		if !ok {
			*failed = append(*failed, id)
			r.Reasons = append(r.Reasons, errors.New("partition "+id.String()+" is not known here"))
			return
		}
		c, err := p.committed()
		switch {
		case err != nil:
			*failed = append(*failed, id)
			r.Reasons = append(r.Reasons, err)
		case c.Length > 0:
			*committed = append(*committed, c)
			r.Written += c.Length
		}
	}
	for _, id := range k.request.Primaries {
		add(id, wire.Primary, &r.Primaries, &r.FailedPrimaries)
	}
	for _, id := range k.request.Replicas {
		add(id, wire.Replica, &r.Replicas, &r.FailedReplicas)
	}
	return r
}

// committed describes a sealed partition.
func (p *Partition) committed() (Committed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone || !p.done:
		return Committed{}, errors.New("partition " + p.String() + " was destroyed")
	case p.written != p.length: // would be a defect here; rather lost and said than silently short
		return Committed{}, errors.New("partition " + p.String() + " is not whole")
	}
	out := Committed{ID: p.PartitionID, Length: p.length, Chunks: append(append([]int64{}, p.starts...), p.length)}
	if p.maps != nil {
		var err error
		if out.Maps, err = p.maps.ToBytes(); err != nil {
			return Committed{}, err
		}
	}
	return out, nil
}

// overdue settles commits that wait for disks for too long: a driver that hears nothing for some seconds takes all of the worker's
// partitions for lost. What is not on a disk by then is in memory, and what is not noted is served until this worker ends.
func (s *Store) overdue(now time.Time) {
	s.commitsMu.Lock()
	var late []*commit
	for k := range s.commits {
		if now.Sub(k.since) > s.opts.CommitTime {
			late = append(late, k)
		}
	}
	s.commitsMu.Unlock()
	slices.SortFunc(late, func(a, b *commit) int { return cmp.Compare(a.number, b.number) })
	for _, k := range late {
		for _, p := range k.parts {
			p.hasten(s.pick(map[*disk]bool{p.onDisk(): true}))
		}
		k.settle()
	}
}
