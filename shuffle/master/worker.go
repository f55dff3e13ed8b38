package master

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// What a worker can be. Only an available one gets slots.
const (
	stateAvailable = "available"
	stateExcluded  = "excluded"
	stateDraining  = "draining"
	stateSilent    = "silent"
	stateLost      = "lost"
)

// pendingTime is how long a placement weighs on a worker that does not report it: a driver reserves within seconds or goes elsewhere.
const pendingTime = 60 * time.Second

// worker is one incarnation at an address.
type worker struct {
	id       wire.WorkerID
	key      string
	last     *pb.HeartbeatFromWorker
	previous string // incarnation that was here before
	seen     time.Time
	cut      bool // the connection of its heartbeats ended
	left     bool // it said that it ends
	was      string
	why      string

	held         []holding
	partitions   int64 // of all it holds
	pending      map[shuffleRef]placement
	pendingSlots int64
}

// holding is what a worker said it holds of a living shuffle, and whom that was counted for.
type holding struct {
	app   *application
	user  string
	bytes int64
}

// placement is slots that were given out and not reported yet.
type placement struct {
	slots int64
	at    time.Time
}

// slots is the load that partitions put on a worker.
func (w *worker) slots() int64 { return w.partitions + w.pendingSlots }

func (w *worker) rack() string {
	if r := w.last.GetNetworkLocation(); r != "" {
		return r
	}
	return "/default-rack"
}

func (w *worker) dropPending(now time.Time) {
	for ref, p := range w.pending {
		if now.Sub(p.at) > pendingTime {
			w.unplace(ref)
		}
	}
}

func (w *worker) unplace(ref shuffleRef) {
	if p, ok := w.pending[ref]; ok {
		w.pendingSlots -= p.slots
		delete(w.pending, ref)
	}
}

// WorkerHeartbeat takes a worker's word for all that it is and holds; the first one registers it. The answer names what it holds
// that no application needs any more. Nothing is ever concluded from what a worker does not report.
func (s *State) WorkerHeartbeat(now time.Time, hb *pb.HeartbeatFromWorker) *pb.HeartbeatFromWorkerResponse {
	s.advance(now)
	id := wire.WorkerID{Host: hb.GetHost(), RPC: hb.GetRpcPort(), Push: hb.GetPushPort(), Fetch: hb.GetFetchPort(), Replicate: hb.GetReplicatePort()}
	out := &pb.HeartbeatFromWorkerResponse{MasterIncarnation: s.opt.Incarnation}
	w := s.workers[id.String()]
	switch {
	case w == nil:
		w = s.join(id, "")
	case w.last.GetIncarnation() != hb.GetIncarnation():
		if w.previous != "" && w.previous == hb.GetIncarnation() {
			return out // a late word of one that was replaced here
		}
		s.forget(w)
		s.opt.On(Event{Kind: "worker restarted", Worker: w.key, Text: "started anew and holds nothing of before"})
		w = s.join(id, w.last.GetIncarnation())
	}
	w.last, w.seen, w.cut, w.left = hb, now, false, hb.GetLeaving()
	if w.left {
		s.forget(w)
	} else {
		out.ExpiredShuffleKeys = s.report(now, w)
	}
	s.look(now, w)
	out.Registered = true
	return out
}

func (s *State) join(id wire.WorkerID, previous string) *worker {
	w := &worker{id: id, key: id.String(), previous: previous, pending: map[shuffleRef]placement{}}
	s.workers[w.key] = w
	if i, there := s.find(w.key); there {
		s.order[i] = w
	} else {
		s.order = slices.Insert(s.order, i, w)
	}
	return w
}

// report books what a worker holds, and returns what of it is to be deleted.
func (s *State) report(now time.Time, w *worker) (expired []string) {
	s.release(w)
	for _, h := range w.last.GetShuffles() {
		ref := shuffleRef{h.GetAppId(), h.GetShuffleId()}
		app, live := s.judge(now, ref)
		if !live {
			expired = append(expired, ref.key())
			s.counts.Expired++
			continue
		}
		user := userName(h.GetUserIdentifier())
		if user == "" {
			user = app.user
		} else if app.user == "" {
			app.user = user
		}
		w.held = append(w.held, holding{app, user, h.GetBytes()})
		w.partitions += int64(h.GetPartitions())
		app.bytes += h.GetBytes()
		s.users[user] += h.GetBytes()
		w.unplace(ref)
	}
	return expired
}

// release takes a worker's last report out of the sums.
func (s *State) release(w *worker) {
	for _, h := range w.held {
		h.app.bytes -= h.bytes
		if s.users[h.user] -= h.bytes; s.users[h.user] == 0 {
			delete(s.users, h.user)
		}
	}
	w.held, w.partitions = w.held[:0], 0
}

// forget takes all that is on a worker out of the sums: it is gone.
func (s *State) forget(w *worker) {
	s.release(w)
	clear(w.pending)
	w.pendingSlots = 0
}

// WorkerGone says that the connection ended over which an incarnation's heartbeats came. Such a worker gets no slots until its
// next heartbeat.
func (s *State) WorkerGone(now time.Time, id wire.WorkerID, incarnation string) {
	s.advance(now)
	if w := s.workers[id.String()]; w != nil && w.last.GetIncarnation() == incarnation {
		w.cut = true
		s.look(now, w)
	}
}

// look says when a worker became something else.
func (s *State) look(now time.Time, w *worker) {
	state, why := s.standing(now, w)
	if state == stateLost && w.was != stateLost {
		s.forget(w)
	}
	if state != w.was {
		if state == stateAvailable {
			s.arrivals++
		}
		s.opt.On(Event{Kind: "worker " + state, Worker: w.key, Text: why})
	}
	w.was, w.why = state, why
}

// standing is what a worker is now, and why in words.
func (s *State) standing(now time.Time, w *worker) (state, why string) {
	ago := now.Sub(w.seen)
	switch hb := w.last; {
	case w.left:
		return stateLost, "it said that it ends"
	case ago > s.opt.LostAfter:
		return stateLost, fmt.Sprintf("no heartbeat for more than %s", s.opt.LostAfter)
	case w.cut:
		return stateSilent, "its connection to this master ended"
	case ago > s.opt.SilentAfter:
		return stateSilent, fmt.Sprintf("no heartbeat for more than %s", s.opt.SilentAfter)
	case hb.GetDraining():
		return stateDraining, "it takes no new partitions and ends when its shuffles are read"
	}
	if why := s.unfit(w); why != "" {
		return stateExcluded, why
	}
	return stateAvailable, ""
}

// unfit says why a worker that is there cannot take partitions.
func (s *State) unfit(w *worker) string {
	for _, p := range s.exclude {
		if w.matches(p) {
			return fmt.Sprintf("an operator excluded %s; sluice shuffle include takes it back", p)
		}
	}
	broken, full := 0, 0
	for _, d := range w.last.GetDisks() {
		switch {
		case d.GetStatus() != 0:
			broken++
		case d.GetUsableSpace() < s.opt.MinFree:
			full++
		}
	}
	switch all := len(w.last.GetDisks()); {
	case all == 0:
		return "it has no disk"
	case broken == all:
		return fmt.Sprintf("none of its %d disks can be written; see the worker's log", all)
	case broken+full == all:
		return fmt.Sprintf("its disks are full: each of %d has less than %s; give it space or wait for shuffles to end", full, Bytes(s.opt.MinFree))
	}
	return ""
}

// free is how many bytes a worker can still take.
func (s *State) free(w *worker) int64 {
	var sum int64
	for _, d := range w.last.GetDisks() {
		if d.GetStatus() == 0 && d.GetUsableSpace() >= s.opt.MinFree {
			sum += d.GetUsableSpace()
		}
	}
	return max(sum-w.pendingSlots*s.sizes.estimate(), 0)
}

// matches says whether a pattern names a worker: by its id, its host, or its host and RPC port.
func (w *worker) matches(pattern string) bool {
	for _, name := range []string{w.key, w.id.Host, fmt.Sprintf("%s:%d", w.id.Host, w.id.RPC)} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// Exclude keeps slots from workers that match a pattern: a host, host:rpcPort or whole id, with * and ?. Their data stays readable.
func (s *State) Exclude(now time.Time, pattern string) error {
	s.advance(now)
	if _, err := path.Match(pattern, ""); err != nil || strings.TrimSpace(pattern) == "" {
		return fmt.Errorf("%q is no pattern of workers: give a host, HOST:RPCPORT or a whole id, with * and ?", pattern)
	}
	s.addPattern(pattern)
	for _, w := range s.order {
		s.look(now, w)
	}
	return nil
}

func (s *State) addPattern(p string) {
	if i, there := slices.BinarySearch(s.exclude, p); !there {
		s.exclude = slices.Insert(s.exclude, i, p)
	}
}

// Include takes a pattern back that Exclude was given.
func (s *State) Include(now time.Time, pattern string) error {
	s.advance(now)
	i, there := slices.BinarySearch(s.exclude, pattern)
	if !there {
		return fmt.Errorf("%q is not excluded; excluded are: %s", pattern, strings.Join(s.exclude, ", "))
	}
	s.exclude = slices.Delete(s.exclude, i, i+1)
	for _, w := range s.order {
		s.look(now, w)
	}
	return nil
}

// Excluded are the patterns in force, and the workers that they match.
func (s *State) Excluded() (patterns, workers []string) {
	for _, w := range s.order {
		if slices.ContainsFunc(s.exclude, w.matches) {
			workers = append(workers, w.key)
		}
	}
	return slices.Clone(s.exclude), workers
}

// Bytes is a size as people read it.
func Bytes(n int64) string {
	switch {
	case n >= 1<<40:
		return fmt.Sprintf("%.1f TiB", float64(n)/(1<<40))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
