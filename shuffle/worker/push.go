package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// memoryTime is how long a push waits for memory before it is sent to another worker. Its peer is told meanwhile that this one lives.
const memoryTime = 30 * time.Second

// bodyTime is how long a body that has begun may stand still: it holds memory.
const bodyTime = 30 * time.Second

// pusher serves one connection of a push or replicate port.
type pusher struct {
	w      *Worker
	c      *conn
	mode   byte   // of what may come here
	key    string // of the last push
	merged wire.MergedPush
}

func (p *pusher) serve(ctx context.Context) {
	for {
		if p.c.r.Buffered() < wire.HeaderSize {
			p.c.out.flush(true)
		}
		h, message, err := p.c.r.Next()
		p.c.out.working()
		if err == nil {
			p.c.open.Add(1)
			err = p.frame(ctx, h, message)
			p.c.open.Add(-1)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				p.w.log.Debug("push connection ended", "peer", p.c.RemoteAddr(), "err", err)
			}
			return
		}
	}
}

// working says that the reader does not wait.
func (o *replies) working() {
	o.bmu.Lock()
	o.waiting = false
	o.bmu.Unlock()
}

func (p *pusher) frame(ctx context.Context, h wire.Header, message []byte) error {
	switch h.Type {
	case wire.PushData:
		return p.push(ctx, h, message)
	case wire.PushMergedData:
		return p.pushMerged(ctx, h, message)
	case wire.Heartbeat: // the answer to one of ours
		return p.c.r.Discard()
	case wire.RPCRequest:
		id, err := wire.ParseRPC(message)
		if err != nil {
			return err
		}
		if err := p.c.r.Discard(); err != nil {
			return err
		}
		p.fail(id, wire.NonCriticalCausePrimary, "this port takes pushes of Spark's reduce partitions only, without authentication")
		return nil
	}
	return fmt.Errorf("a frame of type %d on a push port", h.Type)
}

func (p *pusher) shuffleKey(b []byte) string {
	if string(b) != p.key {
		p.key = string(b)
	}
	return p.key
}

func (p *pusher) push(ctx context.Context, h wire.Header, message []byte) error {
	began := time.Now()
	m, err := wire.ParsePush(message)
	if err != nil {
		return err
	}
	id, err := wire.ParsePartition(m.Partition)
	if err != nil {
		return err
	}
	if m.Mode != p.mode {
		return fmt.Errorf("a push of mode %d on the port for mode %d", m.Mode, p.mode)
	}
	key := p.shuffleKey(m.ShuffleKey)
	part, ok := p.w.store.Find(key, id, p.mode)
	if verdict := takes(part); !ok || verdict == store.Split || verdict == store.Broken {
		return p.refuse(m.RequestID, key, h.Body, verdict, ok)
	}
	peer := p.peerOf(part)
	if peer != nil { // the body's bytes come over it
		message = append([]byte(nil), message...)
	}
	buf, err := p.body(ctx, h.Body)
	if buf == nil {
		if err == nil {
			p.status(m.RequestID, wire.HardSplit, false)
		}
		return err
	}
	defer buf.Release()
	mapID, err := wire.CheckBatches(buf.Bytes())
	if err != nil {
		p.fail(m.RequestID, p.nonCritical(), "the push for partition "+id.String()+" is not whole batches: "+err.Error())
		return nil
	}
	p.w.metrics.pushed(p.mode, h.Body)
	verdict := part.Append(mapID, buf.Bytes(), buf)
	switch {
	case verdict == store.Split || verdict == store.Broken:
		p.answerMissing(m.RequestID, key, mapID, verdict, true)
	case peer != nil:
		p.forward(peer, h, message, buf, func(answer []byte, failure string) {
			p.combine(m.RequestID, verdict, answer, failure)
			p.w.metrics.pushTook(time.Since(began))
		})
	default:
		p.written(m.RequestID, verdict)
		p.w.metrics.pushTook(time.Since(began))
	}
	return nil
}

func takes(p *store.Partition) store.Verdict {
	if p == nil {
		return store.Split
	}
	return p.Takes()
}

// body reads a frame's body into memory of the port. nil without an error: there was no memory, and the body was dropped.
func (p *pusher) body(ctx context.Context, n int) (*store.Buffer, error) {
	memory := p.w.store.Memory(p.mode)
	buf := memory.TryGet(n)
	if buf == nil {
		p.c.out.flush(true) // who pushes may wait for these answers and for those that replicas still owe, and will not for this one soon
		ctx, cancel := context.WithTimeout(ctx, memoryTime)
		defer cancel()
		var err error
		buf, err = memory.Get(ctx, n)
		p.c.out.working()
		if err != nil {
			p.w.log.Warn("a push found no memory", "bytes", n, "err", err)
			return nil, p.c.r.Discard()
		}
	}
	_ = p.c.SetReadDeadline(time.Now().Add(bodyTime))
	if err := p.c.r.ReadBody(buf.Bytes()); err != nil {
		buf.Release()
		return nil, err
	}
	return buf, p.c.SetReadDeadline(time.Time{})
}

// refuse answers a push that is not taken; of its body only the map id is of interest.
func (p *pusher) refuse(id int64, key string, body int, verdict store.Verdict, known bool) error {
	mapID := int32(-1)
	if body >= wire.BatchHeader {
		var head [wire.BatchHeader]byte
		if err := p.c.r.ReadBody(head[:]); err != nil {
			return err
		}
		mapID = wire.ParseBatchHeader(head[:]).MapID
	}
	if err := p.c.r.Discard(); err != nil {
		return err
	}
	p.answerMissing(id, key, mapID, verdict, known)
	return nil
}

func (p *pusher) answerMissing(id int64, key string, mapID int32, verdict store.Verdict, known bool) {
	if verdict == store.Broken {
		p.fail(id, p.writeFail(), "the disk of the partition failed")
		return
	}
	switch why := p.w.store.Why(key, mapID); {
	case why == store.Ended:
		p.status(id, wire.MapEnded, false)
	case why == store.Unknown && !known:
		p.fail(id, wire.PartitionNotFound, "nothing of shuffle "+key+" is known here: it has expired, or was lost with an earlier worker of this address")
	default:
		p.w.metrics.splits.Add(1)
		p.status(id, wire.HardSplit, false)
	}
}

func (p *pusher) written(id int64, verdict store.Verdict) {
	if verdict == store.WrittenSplit {
		p.w.metrics.splits.Add(1)
		p.status(id, wire.SoftSplit, false)
		return
	}
	p.c.out.add(func(b []byte) []byte { return wire.AppendResponse(b, id, nil) })
}

func (p *pusher) status(id int64, s wire.Status, later bool) {
	add := p.c.out.add
	if later {
		add = p.c.out.later
	}
	add(func(b []byte) []byte { return wire.AppendResponse(b, id, []byte{byte(s)}) })
}

func (p *pusher) fail(id int64, s wire.Status, text string) {
	p.c.out.add(func(b []byte) []byte { return wire.AppendFailure(b, id, s.String()+": "+text) })
}

func (p *pusher) writeFail() wire.Status {
	if p.mode == wire.Replica {
		return wire.WriteFailReplica
	}
	return wire.WriteFailPrimary
}

func (p *pusher) nonCritical() wire.Status {
	if p.mode == wire.Replica {
		return wire.NonCriticalCauseReplica
	}
	return wire.NonCriticalCausePrimary
}

// peerOf is the worker with the replica of what is pushed here.
func (p *pusher) peerOf(part *store.Partition) *wire.WorkerID {
	if p.mode == wire.Replica || part == nil {
		return nil
	}
	return part.Peer()
}

// forward sends a push on to its replica; then is called once with the replica's answer, or with a failure's text.
func (p *pusher) forward(peer *wire.WorkerID, h wire.Header, message []byte, buf *store.Buffer, then func(answer []byte, failure string)) {
	p.c.open.Add(1)
	buf.Retain()
	p.w.peers.to(*peer).send(forwarded{t: h.Type, message: message, buf: buf, then: func(answer []byte, failure string) *replies {
		then(answer, failure)
		p.c.open.Add(-1)
		return &p.c.out
	}})
}

// combine answers a replicated push once both copies have theirs: what the replica could not take is not acknowledged.
func (p *pusher) combine(id int64, verdict store.Verdict, answer []byte, failure string) {
	switch {
	case failure != "":
		p.c.out.later(func(b []byte) []byte { return wire.AppendFailure(b, id, failure) })
	case len(answer) > 0 && wire.Status(answer[0]) != wire.Success:
		p.c.out.later(func(b []byte) []byte { return wire.AppendResponse(b, id, answer) })
	case verdict == store.WrittenSplit:
		p.w.metrics.splits.Add(1)
		p.status(id, wire.SoftSplit, true)
	default:
		p.c.out.later(func(b []byte) []byte { return wire.AppendResponse(b, id, nil) })
	}
}

func (p *pusher) pushMerged(ctx context.Context, h wire.Header, message []byte) error {
	began := time.Now()
	if err := p.merged.Parse(append([]byte(nil), message...), h.Body); err != nil {
		return err
	}
	m := &p.merged
	if m.Mode != p.mode {
		return fmt.Errorf("a push of mode %d on the port for mode %d", m.Mode, p.mode)
	}
	forwardable := append([]byte(nil), message...)
	key, id := p.shuffleKey(m.ShuffleKey), m.RequestID
	buf, err := p.body(ctx, h.Body)
	if buf == nil {
		if err == nil {
			p.status(id, wire.HardSplit, false) // of every entry
		}
		return err
	}
	defer buf.Release()
	p.w.metrics.pushed(p.mode, h.Body)
	entries, peer, err := p.entries(key, buf)
	if err != nil {
		p.fail(id, p.nonCritical(), err.Error())
		return nil
	}
	statuses, done := p.append(id, key, entries, buf)
	switch {
	case done:
	case peer != nil:
		p.forward(peer, h, forwardable, buf, func(answer []byte, failure string) {
			if failure != "" {
				p.c.out.later(func(b []byte) []byte { return wire.AppendFailure(b, id, failure) })
			} else {
				p.c.out.later(func(b []byte) []byte { return wire.AppendResponse(b, id, mergedAnswer(union(statuses, answer))) })
			}
			p.w.metrics.pushTook(time.Since(began))
		})
	default:
		p.c.out.add(func(b []byte) []byte { return wire.AppendResponse(b, id, mergedAnswer(statuses)) })
		p.w.metrics.pushTook(time.Since(began))
	}
	return nil
}

// entry is one of a merged push.
type entry struct {
	part  *store.Partition // nil if there is none
	mapID int32
	data  []byte
}

// entries takes a merged push apart. All are checked before any is taken.
func (p *pusher) entries(key string, buf *store.Buffer) (out []entry, peer *wire.WorkerID, err error) {
	out = make([]entry, len(p.merged.Partitions))
	for i, name := range p.merged.Partitions {
		id, err := wire.ParsePartition(name)
		if err != nil {
			return nil, nil, err
		}
		e := entry{data: p.merged.Entry(buf.Bytes(), i)}
		if e.mapID, err = wire.CheckBatches(e.data); err != nil {
			return nil, nil, fmt.Errorf("entry %d for partition %s is not whole batches: %w", i, id, err)
		}
		e.part, _ = p.w.store.Find(key, id, p.mode)
		if peer == nil {
			peer = p.peerOf(e.part) // all of a push have the same
		}
		out[i] = e
	}
	return out, peer, nil
}

// append takes the entries, and says which are to be split, by index. done: the whole push was answered.
func (p *pusher) append(id int64, key string, entries []entry, buf *store.Buffer) (statuses map[int32]wire.Status, done bool) {
	for i, e := range entries {
		verdict := store.Split
		if e.part != nil {
			verdict = e.part.Append(e.mapID, e.data, buf)
		}
		status := wire.Success
		switch verdict {
		case store.Broken:
			p.fail(id, p.writeFail(), "the disk of a partition failed")
			return nil, true
		case store.WrittenSplit:
			status = wire.SoftSplit
		case store.Split:
			switch why := p.w.store.Why(key, e.mapID); {
			case why == store.Ended || why == store.Unknown && e.part == nil:
				p.answerMissing(id, key, e.mapID, verdict, e.part != nil)
				return nil, true
			}
			status = wire.HardSplit
		}
		if status != wire.Success {
			if statuses == nil {
				statuses = map[int32]wire.Status{}
			}
			statuses[int32(i)] = status
			p.w.metrics.splits.Add(1)
		}
	}
	return statuses, false
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
