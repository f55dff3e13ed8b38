package worker

import (
	"fmt"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// Here is what a push is answered with, without sockets, so that a simulation runs the same. The rule: success and SOFT_SPLIT are
// said only of what is in this copy and, if there is a replica, in that one too; a client pushes everything else again.

// Answer is what a push is answered with: a body, or a failure's text.
type Answer struct {
	Body    []byte
	Failure string
}

// Decision is what became of a push at this copy. If Peer is set, the push must go there before it is answered with what Combine
// makes of both; else with Answer.
type Decision struct {
	Answer Answer
	Peer   *wire.WorkerID
	Splits int // entries that are to be split

	merged   bool
	statuses map[int32]wire.Status // of a merged push's entries, those that are not plainly taken
}

func failed(s wire.Status, text string) Decision {
	return Decision{Answer: Answer{Failure: failure(s, text)}}
}

func answered(s wire.Status) Decision {
	d := Decision{Answer: Answer{Body: []byte{byte(s)}}}
	if s == wire.HardSplit || s == wire.SoftSplit {
		d.Splits = 1
	}
	return d
}

func nonCritical(mode byte) wire.Status {
	if mode == wire.Replica {
		return wire.NonCriticalCauseReplica
	}
	return wire.NonCriticalCausePrimary
}

// peerOf is the worker with the replica of what is pushed to a copy of that mode.
func peerOf(mode byte, part *store.Partition) *wire.WorkerID {
	if mode == wire.Replica || part == nil {
		return nil
	}
	return part.Peer()
}

// Refuse answers a push that is not taken: there is no such partition, or it takes no more.
func Refuse(s *store.Store, key string, part *store.Partition, mapID int32) Decision {
	switch why := s.Why(key, mapID); {
	case why == store.Ended:
		return answered(wire.MapEnded)
	case why == store.Unknown && part == nil:
		return failed(wire.PartitionNotFound, "nothing of shuffle "+key+" is known here: it has expired, or was lost with an earlier worker of this address")
	}
	return answered(wire.HardSplit)
}

// Take appends a push of one batch to a copy.
func Take(s *store.Store, mode byte, key string, part *store.Partition, buf *store.Buffer) Decision {
	mapID, err := wire.CheckBatches(buf.Bytes())
	if err != nil {
		return failed(nonCritical(mode), "the push for partition "+part.PartitionID.String()+" is not whole batches: "+err.Error())
	}
	d := Decision{Peer: peerOf(mode, part)}
	switch verdict := part.Append(mapID, buf.Bytes(), buf); verdict {
	case store.Split:
		return Refuse(s, key, part, mapID)
	case store.WrittenSplit:
		d.Answer.Body, d.Splits = []byte{byte(wire.SoftSplit)}, 1
	}
	return d
}

// TakeMerged appends a push of batches for several partitions. All are checked before any is taken.
func TakeMerged(s *store.Store, mode byte, key string, m *wire.MergedPush, buf *store.Buffer) Decision {
	entries, peer, err := entriesOf(s, mode, key, m, buf)
	if err != nil {
		return failed(nonCritical(mode), err.Error())
	}
	d := Decision{Peer: peer, merged: true}
	for i, e := range entries {
		verdict := store.Split
		if e.part != nil {
			verdict = e.part.Append(e.mapID, e.data, buf)
		}
		switch verdict {
		case store.Written:
			continue
		case store.WrittenSplit:
			d.mark(int32(i), wire.SoftSplit)
			continue
		}
		r := Refuse(s, key, e.part, e.mapID)
		if r.Answer.Failure != "" || wire.Status(r.Answer.Body[0]) != wire.HardSplit {
			return r // of the whole push
		}
		d.mark(int32(i), wire.HardSplit)
	}
	d.Answer.Body = mergedAnswer(d.statuses)
	return d
}

func (d *Decision) mark(entry int32, s wire.Status) {
	if d.statuses == nil {
		d.statuses = map[int32]wire.Status{}
	}
	d.statuses[entry] = s
	d.Splits++
}

// entry is one of a merged push.
type entry struct {
	part  *store.Partition // nil if there is none
	mapID int32
	data  []byte
}

func entriesOf(s *store.Store, mode byte, key string, m *wire.MergedPush, buf *store.Buffer) (out []entry, peer *wire.WorkerID, err error) {
	out = make([]entry, len(m.Partitions))
	for i, name := range m.Partitions {
		id, err := wire.ParsePartition(name)
		if err != nil {
			return nil, nil, err
		}
		e := entry{data: m.Entry(buf.Bytes(), i)}
		if e.mapID, err = wire.CheckBatches(e.data); err != nil {
			return nil, nil, fmt.Errorf("entry %d for partition %s is not whole batches: %w", i, id, err)
		}
		e.part, _ = s.Find(key, id, mode)
		if peer == nil {
			peer = peerOf(mode, e.part) // all of a push have the same; one that had not would be refused there
		}
		out[i] = e
	}
	return out, peer, nil
}

// Combine is what a push is answered with once its replica has answered: what that could not take is not acknowledged.
func (d Decision) Combine(replica Answer) Answer {
	switch {
	case replica.Failure != "":
		return replica
	case d.merged:
		return Answer{Body: mergedAnswer(union(d.statuses, replica.Body))}
	case len(replica.Body) > 0 && wire.Status(replica.Body[0]) != wire.Success:
		return replica
	}
	return d.Answer
}

// union adds what the replica said of a merged push: what one copy did not take is pushed again.
func union(statuses map[int32]wire.Status, answer []byte) map[int32]wire.Status {
	if len(answer) <= 1 {
		if len(answer) == 1 && answer[0] != 0 {
			return map[int32]wire.Status{-1: wire.Status(answer[0])} // of all
		}
		return statuses
	}
	info := &pb.PushMergedDataSplitPartitionInfo{}
	if t, payload, err := wire.ParseRaw(answer[1:]); err != nil || t != wire.SplitPartitionInfo || unmarshal(payload, info) != nil {
		return map[int32]wire.Status{-1: wire.HardSplit}
	}
	if statuses == nil {
		statuses = map[int32]wire.Status{}
	}
	for i, at := range info.GetSplitPartitionIndexes() {
		if i < len(info.GetStatusCodes()) && statuses[at] != wire.HardSplit {
			statuses[at] = wire.Status(info.GetStatusCodes()[i])
		}
	}
	return statuses
}

// mergedAnswer is the body that answers a merged push: one byte, and, if entries are to be split, which and how.
func mergedAnswer(statuses map[int32]wire.Status) []byte {
	if s, all := statuses[-1]; all {
		return []byte{byte(s)}
	}
	if len(statuses) == 0 {
		return []byte{byte(wire.Success)}
	}
	info := &pb.PushMergedDataSplitPartitionInfo{}
	worst := wire.SoftSplit
	for _, at := range sorted(statuses) {
		info.SplitPartitionIndexes = append(info.SplitPartitionIndexes, at)
		info.StatusCodes = append(info.StatusCodes, int32(statuses[at]))
		if statuses[at] == wire.HardSplit {
			worst = wire.HardSplit
		}
	}
	return wire.AppendRawProto([]byte{byte(worst)}, wire.SplitPartitionInfo, info)
}
