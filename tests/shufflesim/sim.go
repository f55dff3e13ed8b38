// Package shufflesim runs masters, stores and the worker's decisions about pushes under clients that behave as Celeborn's do, in one
// thread, with a clock, a network and disks of its own. Everything that happens follows from a seed: workers die and come back at
// their address, disks fill up and fail, connections break, a master forgets all, applications vanish. What is checked is what the
// shuffle service promises: a reader gets exactly the batches of the attempts that won, or an explicit error for which every copy
// of something was on a worker that was harmed; and nothing of a living application is ever deleted.
package shufflesim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/sluicedata/sluice/shuffle/master"
)

// Sim is one run.
type Sim struct {
	Seed   uint64
	Trace  io.Writer // gets every event in words; may be nil
	Faults Faults

	Reads    int      // partitions that were read and compared
	Losses   int      // explicit ones: of commits and of fetches
	Failed   []string // jobs that gave up, and why
	Problems []string // promises that were broken

	r      *rand.Rand
	now    time.Time
	events events
	seq    int64
	hash   uint64
	procs  []*proc

	master   *master.State // nil while it is down
	nodes    []*node
	drivers  []*driver
	settling bool // no new faults: all is to end
}

// Faults are how often things go wrong, as chances in a thousand per second, or per message.
type Faults struct {
	Kill, Disk, Master, App int // per second
	Reset, Duplicate        int // per message
	Crash                   int // a kill in the middle of what a disk does, rather than between two messages
}

func (s *Sim) chance(thousandth int) bool { return s.r.IntN(1000) < thousandth }

func (s *Sim) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.r.Int64N(int64(b-a)+1))
}

// log makes something part of the run's trace.
func (s *Sim) log(format string, args ...any) {
	line := fmt.Sprintf("%8.3f ", s.now.Sub(epoch).Seconds()) + fmt.Sprintf(format, args...)
	h := fnv.New64a()
	_, _ = h.Write([]byte(line))
	s.hash = s.hash*1099511628211 + h.Sum64()
	if s.Trace != nil {
		_, _ = fmt.Fprintln(s.Trace, line)
	}
}

// Hash is of all that has happened: two runs of one seed have the same.
func (s *Sim) Hash() uint64 { return s.hash }

func (s *Sim) problem(format string, args ...any) {
	p := fmt.Sprintf(format, args...)
	s.log("PROBLEM %s", p)
	s.Problems = append(s.Problems, p)
}

var epoch = time.Unix(1_700_000_000, 0)

type event struct {
	at  time.Time
	seq int64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// in has something happen after a while.
func (s *Sim) in(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.events, event{s.now.Add(d), s.seq, f})
}

// every has something happen again and again.
func (s *Sim) every(d time.Duration, f func()) {
	s.in(d, func() {
		f()
		s.every(d, f)
	})
}

// run lets things happen until done says so, or the time is over; it says whether done did.
func (s *Sim) run(limit time.Duration, done func() bool) bool {
	end := s.now.Add(limit)
	for !done() {
		if len(s.events) == 0 || s.events[0].at.After(end) {
			return false
		}
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	return true
}

// proc is a client's thread of control: a coroutine, which runs only while it is resumed.
type proc struct {
	s      *Sim
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	over   bool
}

type stopped struct{}

// spawn starts a coroutine.
func (s *Sim) spawn(f func(*proc)) {
	p := &proc{s: s}
	p.resume, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			p.over = true
			if e := recover(); e != nil && e != any(stopped{}) {
				panic(e)
			}
		}()
		p.yield = yield
		f(p)
	})
	s.procs = append(s.procs, p)
	s.in(0, p.go_)
}

func (p *proc) go_() {
	if !p.over {
		p.resume()
	}
}

// wait suspends the coroutine until wake is called, which start may keep for later.
func (p *proc) wait(start func(wake func())) {
	woken := false
	start(func() {
		if !woken {
			woken = true
			p.s.in(0, p.go_)
		}
	})
	if !p.yield(struct{}{}) {
		panic(stopped{})
	}
}

func (p *proc) sleep(d time.Duration) { p.wait(func(wake func()) { p.s.in(d, wake) }) }

// Close ends what still runs.
func (s *Sim) Close() {
	for _, p := range s.procs {
		p.stop()
	}
}
