package shufflesim

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
	"github.com/sluicedata/sluice/shuffle/worker"
)

const (
	window    = 4 // pushes of a task that are on their way
	maxRevive = 5 // of a batch, before its task fails
)

// task is an attempt of a map task: it pushes batches, and each again until it is acknowledged.
type task struct {
	sh         *shuffle
	m, attempt int32
	conns      map[wire.WorkerID]*conn
	left       int // batches that are not acknowledged
	flying     int // pushes
	failed     string
	ended      bool // a worker said that the map has ended
	wake       func()
}

// batch is one of a task, for one partition.
type batch struct {
	part  int32
	data  []byte
	at    *location
	tries int
}

// mapTask runs attempts of a map until one has ended it, or too many have failed. Sometimes two run at once.
func (sh *shuffle) mapTask(p *proc, m int32) {
	p.sleep(sh.d.s.between(0, 2*time.Second))
	for attempt := int32(0); attempt < 4 && sh.winner[m] == -1 && !sh.d.dead; attempt++ {
		if sh.d.s.chance(150) {
			n := attempt + 100
			sh.d.s.spawn(func(q *proc) { sh.attempt(q, m, n) })
		}
		sh.attempt(p, m, attempt)
	}
}

func (sh *shuffle) attempt(p *proc, m, attempt int32) {
	s := sh.d.s
	t := &task{sh: sh, m: m, attempt: attempt, conns: map[wire.WorkerID]*conn{}}
	mine := map[int32][][]byte{}
	sh.wrote[[2]int32{m, attempt}] = mine
	slow := s.chance(200)
	var ready []*batch
	n := s.r.IntN(25)
	t.left = n
	for i := range n {
		size := s.r.IntN(600)
		if s.chance(30) {
			size = 17 << 10
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(s.r.Uint32())
		}
		part := int32(s.r.IntN(len(sh.latest)))
		b := wire.AppendBatch(nil, m, attempt, int32(i+1), data)
		mine[part] = append(mine[part], b)
		ready = append(ready, &batch{part: part, data: b})
		if s.r.IntN(3) > 0 && i < n-1 { // more for one push
			continue
		}
		t.push(ready)
		ready = nil
		if slow {
			p.sleep(s.between(0, time.Second))
		}
		for t.flying >= window && !t.stopped() {
			p.wait(func(wake func()) { t.wake = wake })
		}
	}
	for t.left > 0 && !t.stopped() {
		p.wait(func(wake func()) { t.wake = wake })
	}
	p.sleep(s.between(0, 50*time.Millisecond))
	switch {
	case sh.d.dead:
	case t.ended:
		if sh.winner[m] == -1 {
			s.problem("%s: a worker said that map %d has ended, and it has not", sh.key, m)
		}
	case t.failed != "":
		s.log("%s map %d attempt %d fails: %s", sh.key, m, attempt, t.failed)
		sh.failure = t.failed
	case sh.winner[m] == -1:
		s.log("%s map %d ends with attempt %d", sh.key, m, attempt)
		sh.winner[m] = attempt
	}
}

func (t *task) stopped() bool { return t.failed != "" || t.ended || t.sh.d.dead }

func (t *task) stir() {
	if w := t.wake; w != nil {
		t.wake = nil
		w()
	}
}

// push sends batches, those together whose partitions are on the same pair of workers now.
func (t *task) push(all []*batch) {
	type pair [2]*node
	groups := map[pair][]*batch{}
	var order []pair
	for _, b := range all {
		b.at = t.sh.latest[b.part]
		k := pair(b.at.on)
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], b)
	}
	for _, k := range order {
		t.send(groups[k])
	}
}

func (t *task) send(group []*batch) {
	f := &push{mode: wire.Primary, key: t.sh.key, merged: len(group) > 1 || t.sh.d.s.chance(200)}
	for _, b := range group {
		f.ids, f.batches = append(f.ids, b.at.id), append(f.batches, b.data)
	}
	to := group[0].at.on[0]
	c := t.conns[to.id]
	if c == nil {
		c = &conn{s: t.sh.d.s, to: to}
		t.conns[to.id] = c
	}
	t.flying++
	c.send(f.take, func(out any, err error) {
		t.flying--
		a, _ := out.(worker.Answer)
		switch {
		case errors.Is(err, errConnect):
			t.again(group, "PUSH_DATA_CREATE_CONNECTION_FAIL_PRIMARY")
		case err != nil:
			t.again(group, "PUSH_DATA_CONNECTION_EXCEPTION_PRIMARY")
		case a.Failure != "":
			cause, _, _ := strings.Cut(a.Failure, ":")
			t.again(group, cause)
		case f.merged:
			t.answered(group, statuses(len(group), a.Body))
		case len(a.Body) == 0:
			t.answered(group, make([]wire.Status, 1))
		default:
			t.answered(group, []wire.Status{wire.Status(a.Body[0])})
		}
		t.stir()
	})
}

// statuses is what the answer to a merged push says of each entry.
func statuses(n int, body []byte) []wire.Status {
	out := make([]wire.Status, n)
	first := wire.Status(body[0]) // a client would break without
	switch first {
	case wire.HardSplit, wire.SoftSplit:
		if len(body) == 1 {
			for i := range out {
				out[i] = wire.HardSplit
			}
			return out
		}
		info := &pb.PushMergedDataSplitPartitionInfo{}
		_, payload, err := wire.ParseRaw(body[1:])
		if err == nil {
			err = proto.Unmarshal(payload, info)
		}
		if err != nil {
			panic(err)
		}
		for i, at := range info.GetSplitPartitionIndexes() {
			out[at] = wire.Status(info.GetStatusCodes()[i])
		}
	default:
		for i := range out {
			out[i] = first
		}
	}
	return out
}

func (t *task) answered(group []*batch, all []wire.Status) {
	for i, b := range group {
		switch all[i] {
		case wire.HardSplit:
			t.again([]*batch{b}, "HARD_SPLIT")
			continue
		case wire.MapEnded:
			t.ended = true
		case wire.SoftSplit:
			t.sh.revive(b.at, "SOFT_SPLIT", func(*location) {})
		}
		t.left--
	}
}

// again pushes batches that were not acknowledged to new epochs of their partitions.
func (t *task) again(group []*batch, cause string) {
	for _, b := range group {
		if b.tries++; b.tries > maxRevive {
			t.failed = "a batch was pushed too often: " + cause
			return
		}
		t.flying++
		t.sh.revive(b.at, cause, func(fresh *location) {
			t.flying--
			switch {
			case t.stopped():
			case fresh == nil:
				t.failed = "no new place for a partition after " + cause
			default:
				t.push([]*batch{b})
			}
			t.stir()
		})
	}
}
