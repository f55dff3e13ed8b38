package master

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// refusal is a request for slots that got none, and why.
type refusal struct {
	key, why string
	at       time.Time
}

const keptRefusals = 20

// candidate is a worker that may get a part of a shuffle.
type candidate struct {
	*worker
	free int64
	tie  uint64 // decides between equals, another way for every shuffle
}

// CheckWorkersAvailable says whether any worker can take partitions.
func (s *State) CheckWorkersAvailable(now time.Time) bool {
	s.advance(now)
	return slices.ContainsFunc(s.order, func(w *worker) bool {
		state, _ := s.standing(now, w)
		return state == stateAvailable
	})
}

// CanPlace says whether a request for slots would get them now. It changes nothing.
func (s *State) CanPlace(now time.Time, m *pb.RequestSlots) bool {
	s.advance(now)
	out, available := s.available(now, m)
	_, why := enough(m, len(out), available, len(s.order))
	return why == ""
}

// RequestSlots places a shuffle's partitions. Asked again for the same shuffle it places anew, and the earlier answer counts no more.
//
//  1. Who can: available workers that the driver does not avoid, the least loaded first.
//  2. How many: as many as there are, up to the driver's limit.
//  3. How much each: even, but less for one that is short of room or memory, slow, or loaded far above the others.
//  4. Which: neighbours apart, a replica never on its primary's host if there is another.
//  5. Spare workers without partitions, because a driver replaces a failed worker only by those that it was told of here.
func (s *State) RequestSlots(now time.Time, m *pb.RequestSlots) *pb.RequestSlotsResponse {
	s.advance(now)
	s.counts.Requests++
	ref := shuffleRef{m.GetApplicationId(), m.GetShuffleId()}
	s.unplace(ref)
	all, status, why := s.candidates(now, m)
	// A driver that never falls back does not ask for the quota before. What has begun goes on: an application that has shuffles is in
	// the middle of something, which refusing it the next one would only lose.
	if q := s.quota(userName(m.GetUserIdentifier())); !q.GetAvailable() && !s.busy(ref.app) {
		status, why = wire.SlotNotAvailable, q.GetReason()
	}
	if status != wire.Success {
		s.hear(now, ref.app, m.GetUserIdentifier())
		s.refuse(now, ref, status, why)
		return &pb.RequestSlotsResponse{Status: int32(status)}
	}
	s.begin(now, ref.app, ref.id, m.GetUserIdentifier())
	ids := distinct(m.GetPartitionIdList())
	chosen, rest := choose(m, all)
	primaries, replicas := place(len(ids), m.GetShouldReplicate(), s.seats(m, chosen, len(ids)))
	resources := make([]*pb.WorkerResource, len(chosen))
	for i, c := range chosen {
		resources[i] = &pb.WorkerResource{NetworkLocation: c.rack()}
	}
	for k, id := range ids {
		l := wire.Location{PartitionID: wire.PartitionID{ID: id}, Mode: wire.Primary, Worker: chosen[primaries[k]].id}
		if replicas != nil {
			r := wire.Location{PartitionID: l.PartitionID, Mode: wire.Replica, Worker: chosen[replicas[k]].id, Peer: &l.Worker}
			l.Peer = &r.Worker
			on := resources[replicas[k]]
			on.ReplicaPartitions = append(on.ReplicaPartitions, r.Proto(m.GetAvailableStorageTypes()))
		}
		on := resources[primaries[k]]
		on.PrimaryPartitions = append(on.PrimaryPartitions, l.Proto(m.GetAvailableStorageTypes()))
	}
	return &pb.RequestSlotsResponse{Status: int32(wire.Success), WorkerResource: s.book(now, ref, chosen, resources, rest)}
}

// book counts what was placed, and makes the answer of those that have partitions and of some spares.
func (s *State) book(now time.Time, ref shuffleRef, chosen []candidate, resources []*pb.WorkerResource, rest []candidate) map[string]*pb.WorkerResource {
	out := make(map[string]*pb.WorkerResource, len(chosen))
	var idle []candidate
	for i, c := range chosen {
		n := int64(len(resources[i].PrimaryPartitions) + len(resources[i].ReplicaPartitions))
		if n == 0 {
			idle = append(idle, c)
			continue
		}
		out[c.key] = resources[i]
		c.pending[ref] = placement{slots: n, at: now}
		c.pendingSlots += n
		s.counts.Slots += n
	}
	// A driver asks every worker that it is told of whether it is there, so of those that have nothing to do it learns of a few.
	for _, c := range slices.Concat(idle, rest)[:min(len(idle)+len(rest), max(s.opt.Spares-len(out), leastSpares))] {
		out[c.key] = &pb.WorkerResource{NetworkLocation: c.rack()}
	}
	return out
}

// leastSpares are told to a driver however many workers a shuffle has.
const leastSpares = 2

// refusalsLast is for how long the same refusal is one that is still going on.
const refusalsLast = 30 * time.Second

func (s *State) refuse(now time.Time, ref shuffleRef, status wire.Status, why string) {
	s.counts.Refused[status.String()]++
	// A client that is refused asks again every second: that is told once.
	again := func(r refusal) bool { return r.key == ref.key() && r.why == why && now.Sub(r.at) < refusalsLast }
	if i := slices.IndexFunc(s.refusals, again); i >= 0 {
		s.refusals = append(slices.Delete(s.refusals, i, i+1), refusal{ref.key(), why, now})
		return
	}
	s.refusals = append(s.refusals, refusal{ref.key(), why, now})
	if len(s.refusals) > keptRefusals {
		s.refusals = slices.Delete(s.refusals, 0, 1)
	}
	s.opt.On(Event{Kind: "slots refused", App: ref.app, Text: fmt.Sprintf("shuffle %d: %s", ref.id, why)})
}

// available are the workers that may get a part, in no special order, and how many there are with those that the driver avoids.
func (s *State) available(now time.Time, m *pb.RequestSlots) (out []*worker, all int) {
	avoid := map[string]bool{}
	for _, w := range m.GetExcludedWorkerSet() {
		avoid[wire.WorkerOf(w).String()] = true
	}
	for _, w := range s.order {
		if state, _ := s.standing(now, w); state != stateAvailable {
			continue
		}
		all++
		if !avoid[w.key] {
			out = append(out, w)
		}
	}
	return out, all
}

// enough says why so many workers are too few for a request.
func enough(m *pb.RequestSlots, usable, available, known int) (wire.Status, string) {
	need := 1
	if m.GetShouldReplicate() {
		need = 2
	}
	switch {
	case usable >= need:
		return wire.Success, ""
	case available >= need:
		return wire.WorkerExcluded, fmt.Sprintf("its driver avoids %d of the %d workers that can take partitions, and %d are needed", available-usable, available, need)
	}
	return wire.SlotNotAvailable, fmt.Sprintf("%d of %d workers can take partitions and %d are needed; sluice shuffle status says why the others cannot", available, known, need)
}

// candidates are the workers that may get a part, the least loaded first, or why there are not enough.
func (s *State) candidates(now time.Time, m *pb.RequestSlots) ([]candidate, wire.Status, string) {
	usable, all := s.available(now, m)
	if status, why := enough(m, len(usable), all, len(s.order)); status != wire.Success {
		return nil, status, why
	}
	key := wire.ShuffleKey(m.GetApplicationId(), m.GetShuffleId())
	out := make([]candidate, len(usable))
	for i, w := range usable {
		h := fnv.New64a()
		_, _ = h.Write([]byte(key + "@" + w.key))
		out[i] = candidate{w, s.free(w), h.Sum64()}
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.slots(), b.slots()), cmp.Compare(a.tie, b.tie), cmp.Compare(a.key, b.key))
	})
	return out, wire.Success, ""
}

// choose takes as many workers as the driver allows. Of a replicated shuffle not all are on one host if that can be.
func choose(m *pb.RequestSlots, all []candidate) (chosen, rest []candidate) {
	limit := len(all)
	if n := int(m.GetMaxWorkers()); n > 0 && n < limit {
		limit = n
		if m.GetShouldReplicate() {
			limit = max(limit, 2)
		}
	}
	chosen, rest = slices.Clone(all[:limit]), slices.Clone(all[limit:])
	if m.GetShouldReplicate() {
		elsewhere := func(c candidate) bool { return c.id.Host != chosen[0].id.Host }
		if i := slices.IndexFunc(rest, elsewhere); i >= 0 && !slices.ContainsFunc(chosen, elsewhere) {
			chosen[limit-1], rest[i] = rest[i], chosen[limit-1]
		}
	}
	return chosen, rest
}

// seats puts workers as the placing wants them.
func (s *State) seats(m *pb.RequestSlots, chosen []candidate, partitions int) []seat {
	copies := partitions
	if m.GetShouldReplicate() {
		copies *= 2
	}
	fair := loads(chosen)
	size := float64(s.sizes.estimate())
	share := float64(copies/len(chosen)+1) * size
	group := grouping(m, chosen)
	seats := make([]seat, len(chosen))
	for i, c := range chosen {
		weight := min(1, float64(c.free)/(2*share)) // half of its room may be gone when a shuffle was misjudged
		weight *= fair.factor(c)
		seats[i] = seat{group: group(i), weight: max(weight, 0.02), room: int(float64(c.free) / size), free: float64(c.free)}
	}
	return seats
}

// grouping tells the group of chosen workers: by rack if the driver asks for that, else by host; each its own if there is but one.
func grouping(m *pb.RequestSlots, chosen []candidate) func(int) int {
	number := func(name func(candidate) string) ([]int, bool) {
		ids, out := map[string]int{}, make([]int, len(chosen))
		for i, c := range chosen {
			n, there := ids[name(c)]
			if !there {
				n = len(ids)
				ids[name(c)] = n
			}
			out[i] = n
		}
		return out, len(ids) > 1
	}
	if m.GetShouldRackAware() {
		if g, ok := number(func(c candidate) string { return c.rack() }); ok {
			return func(i int) int { return g[i] }
		}
	}
	if g, ok := number(func(c candidate) string { return c.id.Host }); ok {
		return func(i int) int { return g[i] }
	}
	return func(i int) int { return i }
}

// fairness is what is usual among candidates.
type fairness struct{ slots, latency float64 }

const (
	leastLatency = 0.010 // seconds of a push below which one worker is as good as another
	leastSlots   = 64    // likewise, partitions
	leastFactor  = 0.25
	easyMemory   = 0.8 // share of the memory in use that does not matter: a worker that keeps up uses most of it
)

func loads(all []candidate) fairness {
	var latencies []float64
	f := fairness{}
	for _, c := range all {
		f.slots += float64(c.slots()) / float64(len(all))
		latencies = append(latencies, c.last.GetPushSeconds())
	}
	slices.Sort(latencies)
	f.latency = latencies[len(latencies)/2]
	return f
}

// factor is how much of a fair share a worker gets that is slow, loaded or short of memory. Small differences do not matter:
// even shares are what a shuffle gains most from.
func (f fairness) factor(c candidate) float64 {
	out := 1.0
	if limit := max(2*f.slots, leastSlots); float64(c.slots()) > limit {
		out *= max(limit/float64(c.slots()), leastFactor)
	}
	if limit := max(2*f.latency, leastLatency); c.last.GetPushSeconds() > limit {
		out *= max(limit/c.last.GetPushSeconds(), leastFactor)
	}
	if n := c.last.GetMemoryLimit(); n > 0 {
		if used := float64(c.last.GetMemoryUsed()) / float64(n); used > easyMemory {
			out *= max(1-(used-easyMemory)/(1-easyMemory), leastFactor)
		}
	}
	return out
}

// distinct are the ids in their order, each once.
func distinct(ids []int32) []int32 {
	seen := make(map[int32]bool, len(ids))
	out := make([]int32, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}
