package master

import (
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/shuffle/wire"
)

// State is all that a master knows. It is for one goroutine; time never comes from a clock of its own. Every method may be
// called in any order.
type State struct {
	opt     Options
	started time.Time
	last    time.Time // of the last call

	workers map[string]*worker
	order   []*worker // the same, by id
	apps    map[string]*application
	users   map[string]int64 // bytes held
	exclude []string         // patterns, sorted

	sizes    sizes
	arrivals int64 // how often a worker became available
	swept    time.Time
	holding  bool // an expiry of many applications at once is held back
	refusals []refusal
	counts   Counts
}

// Counts only grow.
type Counts struct {
	Requests int64            // for slots
	Refused  map[string]int64 // of those, by a short reason
	Slots    int64            // partitions placed, copies counted
	Expired  int64            // shuffles that a worker was told to delete
	Adopted  int64            // shuffles taken over from workers' reports
}

// shuffleRef names a shuffle.
type shuffleRef struct {
	app string
	id  int32
}

// pause is how long nothing may happen before it is the master that was away: stopped, suspended or starved. A server ticks
// every second.
const pause = 10 * time.Second

// New is a master that starts now and knows nothing yet.
func New(now time.Time, opt Options) *State {
	s := &State{opt: opt.withDefaults(), started: now, last: now, workers: map[string]*worker{}, apps: map[string]*application{}, users: map[string]int64{},
		counts: Counts{Refused: map[string]int64{}}}
	for _, p := range opt.Exclude {
		s.addPattern(p)
	}
	return s
}

// Tick does what only time brings about: workers that went silent, leases that ended. Call it every second.
func (s *State) Tick(now time.Time) {
	s.advance(now)
	for _, w := range s.order {
		s.look(now, w)
		w.dropPending(now)
	}
	s.order = slices.DeleteFunc(s.order, func(w *worker) bool {
		forget := w.was == stateLost && now.Sub(w.seen) > s.opt.LostAfter+s.opt.Tombstones
		if forget {
			delete(s.workers, w.key)
		}
		return forget
	})
	s.expire(now)
}

// advance is called first with every new time. Time in which this master did not listen counts against nobody: otherwise one that
// was suspended for some minutes would take all workers for lost and end all applications when it wakes.
func (s *State) advance(now time.Time) {
	away := now.Sub(s.last)
	if away > pause {
		for _, w := range s.order {
			w.seen = w.seen.Add(away)
		}
		for _, a := range s.apps {
			a.seen = a.seen.Add(away)
		}
		s.opt.On(Event{Kind: "paused", Text: "this master did nothing for " + away.Round(time.Second).String() + ": no worker and no application is held to that time"})
	}
	if away > 0 {
		s.last = now
	}
}

// Settled says whether the workers that there are had time to say so. Before, a shuffle would be put on the first few.
func (s *State) Settled(now time.Time) bool { return now.Sub(s.started) >= s.opt.Settle }

// Expecting says whether workers may come that are not there: after a master's start, or when some were there lately.
func (s *State) Expecting(now time.Time) bool {
	if now.Sub(s.started) < s.opt.LostAfter {
		return true
	}
	for _, w := range s.order {
		if st, _ := s.standing(now, w); (st == stateSilent || st == stateLost) && now.Sub(w.seen) < 2*s.opt.LostAfter {
			return true
		}
	}
	return false
}

// Arrivals is how often a worker became available; when it grows, what had no worker may have one.
func (s *State) Arrivals() int64 { return s.arrivals }

// Counts returns what was counted since the start.
func (s *State) Counts() Counts {
	out := s.counts
	out.Refused = make(map[string]int64, len(s.counts.Refused))
	for k, v := range s.counts.Refused {
		out.Refused[k] = v
	}
	return out
}

// find is the place of a worker in the order.
func (s *State) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.order, key, func(w *worker, key string) int { return strings.Compare(w.key, key) })
}

// sizes is how big partitions are, from what drivers say they committed.
type sizes struct{ bytes, files int64 }

const (
	usualPartition = 64 << 20 // bytes, until drivers said better
	smallPartition = 8 << 20
	largePartition = 1 << 30
	sizeMemory     = 100_000 // files; older ones weigh less
)

func (z *sizes) add(bytes, files int64) {
	if bytes < 0 || files <= 0 {
		return
	}
	z.bytes, z.files = z.bytes+bytes, z.files+files
	for z.files > sizeMemory {
		z.bytes, z.files = z.bytes/2, z.files/2
	}
}

// estimate is how many bytes a partition is likely to need.
func (z *sizes) estimate() int64 {
	if z.files == 0 {
		return usualPartition
	}
	return min(max(z.bytes/z.files, smallPartition), largePartition)
}

// key is the shuffle's name on the wire.
func (r shuffleRef) key() string { return wire.ShuffleKey(r.app, r.id) }
