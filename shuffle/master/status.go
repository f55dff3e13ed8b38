package master

import (
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// Status is what an operator sees: workers by id, living applications by id, the last refusals.
func (s *State) Status(now time.Time) *pb.StatusResponse {
	s.advance(now)
	out := &pb.StatusResponse{MasterIncarnation: s.opt.Incarnation, StartedMillis: s.started.UnixMilli(), ExcludedPatterns: slices.Clone(s.exclude)}
	for _, w := range s.order {
		state, why := s.standing(now, w)
		out.Workers = append(out.Workers, &pb.WorkerStatus{Id: w.key, State: state, Reason: why, Last: w.last,
			HeartbeatAgeMillis: now.Sub(w.seen).Milliseconds(), Slots: w.slots()})
	}
	for _, a := range s.apps {
		if a.live() {
			out.Applications = append(out.Applications, &pb.ApplicationStatus{AppId: a.id, User: a.user, Shuffles: int32(len(a.registered())), Bytes: a.bytes,
				HeartbeatAgeMillis: now.Sub(a.seen).Milliseconds(), Adopted: a.adopted})
		}
	}
	slices.SortFunc(out.Applications, func(a, b *pb.ApplicationStatus) int { return strings.Compare(a.AppId, b.AppId) })
	for _, r := range slices.Backward(s.refusals) {
		out.Refusals = append(out.Refusals, &pb.SlotRefusal{ShuffleKey: r.key, Reason: r.why, AgeMillis: now.Sub(r.at).Milliseconds()})
	}
	for user, bytes := range s.users {
		out.Users = append(out.Users, &pb.UserStatus{User: user, Bytes: bytes, Limit: max(s.opt.Quotas.limit(user), 0)})
	}
	slices.SortFunc(out.Users, func(a, b *pb.UserStatus) int { return strings.Compare(a.User, b.User) })
	return out
}
