package master

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// application is a driver's, and what it has on workers. It lives on a lease that every message of its driver renews. When it
// ended it stays here as a tombstone, so that a worker which reports its shuffles is told to delete them.
type application struct {
	id       string
	user     string
	adopted  bool      // known from workers only
	seen     time.Time // the lease began
	ended    time.Time // zero: it lives
	final    bool      // its driver said that it ends, so that it cannot have been a mistake
	reported time.Time // when a worker last reported something of it after its end
	bytes    int64
	shuffles map[int32]*shuffle
}

// shuffle is one that an application has, or had.
type shuffle struct {
	gone     time.Time // zero: it is needed
	reported time.Time // when a worker last reported it though it is gone
	told     bool      // a worker was told to delete its part: what others have is of no use any more
}

func (a *application) live() bool { return a.ended.IsZero() }

// RegisterApplicationInfo is a driver's first word, from clients 0.6.1 on.
func (s *State) RegisterApplicationInfo(now time.Time, m *pb.RegisterApplicationInfo) {
	s.advance(now)
	s.hear(now, m.GetAppId(), m.GetUserIdentifier())
}

// hear renews the lease of an application whose driver spoke. An application whose lease had ended lives again, without what
// workers were told to delete meanwhile; one whose driver had ended it does not: that message was late.
func (s *State) hear(now time.Time, id string, user *pb.UserIdentifier) *application {
	a := s.apps[id]
	switch {
	case a == nil:
		a = &application{id: id, shuffles: map[int32]*shuffle{}}
		s.apps[id] = a
	case a.final:
		return a
	case !a.live():
		a.ended = time.Time{}
		for _, sh := range a.shuffles {
			if sh.told && sh.gone.IsZero() {
				sh.gone = now
			}
		}
		s.opt.On(Event{Kind: "application back", App: id, Text: "its lease had ended, and now its driver spoke again; what workers deleted meanwhile is lost to it"})
	}
	a.seen, a.adopted = now, false
	if u := userName(user); u != "" {
		a.user = u
	}
	return a
}

// begin is hear for a request that makes a new shuffle: with one even an application that was ended lives, as another run under
// the same name. What the earlier run had stays gone.
func (s *State) begin(now time.Time, id string, shuffleID int32, user *pb.UserIdentifier) *application {
	if a := s.apps[id]; a != nil && a.final {
		a.ended, a.final = time.Time{}, false
		for _, sh := range a.shuffles {
			if sh.gone.IsZero() {
				sh.gone = now
			}
		}
		s.opt.On(Event{Kind: "application back", App: id, Text: "it asks for slots though its driver had ended it: another run under the same name"})
	}
	a := s.hear(now, id, user)
	a.shuffles[shuffleID] = &shuffle{}
	return a
}

// judge says whether a shuffle that a worker reports is needed. What this master has never heard of is: it may have been started
// after the driver registered it.
func (s *State) judge(now time.Time, ref shuffleRef) (*application, bool) {
	a := s.apps[ref.app]
	if a == nil {
		a = &application{id: ref.app, adopted: true, seen: now, shuffles: map[int32]*shuffle{}}
		s.apps[ref.app] = a
		s.opt.On(Event{Kind: "application adopted", App: ref.app, Text: fmt.Sprintf("workers have shuffles of it; it lives on if its driver speaks within %s", s.opt.ApplicationTimeout)})
	}
	sh := a.shuffles[ref.id]
	if sh == nil {
		sh = &shuffle{}
		a.shuffles[ref.id] = sh
		if a.live() {
			s.counts.Adopted++
		}
	}
	if a.live() && sh.gone.IsZero() {
		return a, true
	}
	sh.told, sh.reported, a.reported = true, now, now
	return a, false
}

// ApplicationHeartbeat renews an application's lease, and says which workers to avoid.
func (s *State) ApplicationHeartbeat(now time.Time, m *pb.HeartbeatFromApplication) *pb.HeartbeatFromApplicationResponse {
	s.advance(now)
	a := s.hear(now, m.GetAppId(), nil)
	s.sizes.add(m.GetTotalWritten(), m.GetFileCount())
	out := &pb.HeartbeatFromApplicationResponse{Status: int32(wire.Success), RegisteredShuffles: a.registered(), CheckQuotaResponse: s.quota(a.user)}
	for _, w := range s.order {
		switch state, _ := s.standing(now, w); state {
		case stateExcluded, stateSilent, stateLost: // a driver then looks elsewhere at once, instead of waiting for connections
			out.ExcludedWorkers = append(out.ExcludedWorkers, w.id.Info())
		case stateDraining:
			out.ShuttingWorkers = append(out.ShuttingWorkers, w.id.Info())
		}
	}
	// A driver takes its partitions on unknown workers for lost, so a master that has just started calls nobody unknown.
	for _, info := range m.GetNeedCheckedWorkerList() {
		w := s.workers[wire.WorkerOf(info).String()]
		unknown := w == nil && now.Sub(s.started) >= s.opt.LostAfter
		if w != nil {
			state, _ := s.standing(now, w)
			unknown = state == stateLost
		}
		if unknown {
			out.UnknownWorkers = append(out.UnknownWorkers, wire.WorkerOf(info).Info())
		}
	}
	return out
}

// registered are the ids of the shuffles that an application has, in order.
func (a *application) registered() []int32 {
	if !a.live() {
		return nil
	}
	var out []int32
	for id, sh := range a.shuffles {
		if sh.gone.IsZero() {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Unregister ends a shuffle. Workers learn of it with their next heartbeat.
func (s *State) Unregister(now time.Time, m *pb.UnregisterShuffle) *pb.UnregisterShuffleResponse {
	s.advance(now)
	s.drop(now, s.hear(now, m.GetAppId(), nil), m.GetShuffleId())
	return &pb.UnregisterShuffleResponse{Status: int32(wire.Success)}
}

// BatchUnregister ends some shuffles.
func (s *State) BatchUnregister(now time.Time, m *pb.BatchUnregisterShuffles) *pb.BatchUnregisterShuffleResponse {
	s.advance(now)
	a := s.hear(now, m.GetAppId(), nil)
	for _, id := range m.GetShuffleIds() {
		s.drop(now, a, id)
	}
	return &pb.BatchUnregisterShuffleResponse{Status: int32(wire.Success), ShuffleIds: m.GetShuffleIds()}
}

func (s *State) drop(now time.Time, a *application, id int32) {
	sh := a.shuffles[id]
	if sh == nil { // registered with a master before this one
		sh = &shuffle{}
		a.shuffles[id] = sh
	}
	if sh.gone.IsZero() {
		sh.gone = now
	}
	s.unplace(shuffleRef{a.id, id})
}

// unplace takes what was placed of a shuffle and not reported yet out of the load.
func (s *State) unplace(ref shuffleRef) {
	for _, w := range s.order {
		w.unplace(ref)
	}
}

// ApplicationLost is a driver's last word.
func (s *State) ApplicationLost(now time.Time, m *pb.ApplicationLost) *pb.ApplicationLostResponse {
	s.advance(now)
	a := s.hear(now, m.GetAppId(), nil)
	if a.live() {
		s.end(now, a, "its driver ended it")
	}
	a.final = true
	return &pb.ApplicationLostResponse{Status: int32(wire.Success)}
}

func (s *State) end(now time.Time, a *application, why string) {
	a.ended = now
	for id := range a.shuffles {
		s.unplace(shuffleRef{a.id, id})
	}
	s.opt.On(Event{Kind: "application ended", App: a.id, Text: why})
}

// ReviseLostShuffles takes a driver's word for shuffles that this master does not know.
func (s *State) ReviseLostShuffles(now time.Time, m *pb.ReviseLostShuffles) *pb.ReviseLostShufflesResponse {
	s.advance(now)
	a := s.hear(now, m.GetAppId(), nil)
	if !a.live() {
		return &pb.ReviseLostShufflesResponse{Message: "the application " + a.id + " has ended"}
	}
	var gone []string
	for _, id := range m.GetLostShuffles() {
		if sh := a.shuffles[id]; sh == nil || !sh.told {
			a.shuffles[id] = &shuffle{}
		} else {
			gone = append(gone, fmt.Sprint(id))
		}
	}
	if len(gone) > 0 {
		return &pb.ReviseLostShufflesResponse{Message: "workers were told to delete the shuffles " + strings.Join(gone, ", ")}
	}
	return &pb.ReviseLostShufflesResponse{Success: true}
}

// manyAtOnce is from how many applications on an expiry of more than half of all is doubted.
const manyAtOnce = 4

// expire ends the applications whose lease ended, and forgets tombstones. When most fell silent together it is more likely that
// this master cannot be reached than that all drivers crashed: then they get as much time again.
func (s *State) expire(now time.Time) {
	var due, sure []*application
	living := 0
	sweep := now.Sub(s.swept) > time.Minute
	if sweep {
		s.swept = now
	}
	for _, a := range s.apps {
		if !a.live() {
			if now.Sub(a.ended) > s.opt.Tombstones && now.Sub(a.reported) > s.opt.Tombstones {
				delete(s.apps, a.id)
			}
			continue
		}
		living++
		silent := now.Sub(a.seen)
		if silent > s.opt.ApplicationTimeout {
			due = append(due, a)
		}
		if silent > 2*s.opt.ApplicationTimeout {
			sure = append(sure, a)
		}
		if sweep {
			s.forgetShuffles(now, a)
		}
	}
	doubt := len(due) >= manyAtOnce && 2*len(due) > living
	if doubt {
		if !s.holding && len(sure) < len(due) {
			s.opt.On(Event{Kind: "expiry held", Text: fmt.Sprintf("%d of %d applications fell silent together, which rather means that drivers do not reach this master: they get %s more",
				len(due), living, s.opt.ApplicationTimeout)})
		}
		due = sure
	}
	s.holding = doubt
	slices.SortFunc(due, func(a, b *application) int { return strings.Compare(a.id, b.id) })
	for _, a := range due {
		s.end(now, a, fmt.Sprintf("nothing was heard of its driver for %s", now.Sub(a.seen).Round(time.Second)))
	}
}

func (s *State) forgetShuffles(now time.Time, a *application) {
	for id, sh := range a.shuffles {
		if !sh.gone.IsZero() && now.Sub(sh.gone) > s.opt.Tombstones && now.Sub(sh.reported) > s.opt.Tombstones {
			delete(a.shuffles, id)
		}
	}
}

// busy reports whether an application has shuffles that it needs.
func (s *State) busy(id string) bool {
	a := s.apps[id]
	return a != nil && a.live() && len(a.registered()) > 0
}

// CheckQuota says whether a user may put more on the workers.
func (s *State) CheckQuota(now time.Time, m *pb.CheckQuota) *pb.CheckQuotaResponse {
	s.advance(now)
	return s.quota(userName(m.GetUserIdentifier()))
}

func (s *State) quota(user string) *pb.CheckQuotaResponse {
	limit, used := s.opt.Quotas.limit(user), s.users[user]
	if limit <= 0 || used < limit {
		return &pb.CheckQuotaResponse{Available: true}
	}
	return &pb.CheckQuotaResponse{Reason: fmt.Sprintf("the shuffles of user %q hold %s on the workers, of %s that the shuffle master allows; "+
		"wait for other jobs of this user to end, or have the quota raised (sluice shuffle master --quota)", user, Bytes(used), Bytes(limit))}
}
