package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
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
			p.c.out.flush(false) // of what was taken before the end
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
		p.answer(id, failed(wire.NonCriticalCausePrimary, "this port takes pushes of Spark's reduce partitions only, without authentication"))
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
	part, _ := p.w.store.Find(key, id, p.mode)
	if takes(part) == store.Split {
		return p.refuse(m.RequestID, key, part, h.Body)
	}
	if peerOf(p.mode, part) != nil { // the body's bytes come over it
		message = append([]byte(nil), message...)
	}
	buf, err := p.body(ctx, m.RequestID, h.Body)
	if buf == nil {
		return err
	}
	defer buf.Release()
	p.w.metrics.pushed(p.mode, h.Body)
	p.decided(m.RequestID, h, message, buf, Take(p.w.store, p.mode, key, part, buf), began)
	return nil
}

// decided answers a push, when its replica has taken it if it has one.
func (p *pusher) decided(id int64, h wire.Header, message []byte, buf *store.Buffer, d Decision, began time.Time) {
	p.w.metrics.splits.Add(int64(d.Splits))
	if d.Peer == nil {
		p.say(p.c.out.add, id, d.Answer)
		p.w.metrics.pushTook(time.Since(began))
		return
	}
	p.forward(d.Peer, h, message, buf, func(answer []byte, failure string) {
		p.say(p.c.out.later, id, d.Combine(Answer{Body: answer, Failure: failure}))
		p.w.metrics.pushTook(time.Since(began))
	})
}

// say puts an answer into the replies.
func (p *pusher) say(add func(func([]byte) []byte), id int64, a Answer) {
	if a.Failure != "" {
		add(func(b []byte) []byte { return wire.AppendFailure(b, id, a.Failure) })
		return
	}
	add(func(b []byte) []byte { return wire.AppendResponse(b, id, a.Body) })
}

func (p *pusher) answer(id int64, d Decision) {
	p.w.metrics.splits.Add(int64(d.Splits))
	p.say(p.c.out.add, id, d.Answer)
}

func takes(p *store.Partition) store.Verdict {
	if p == nil {
		return store.Split
	}
	return p.Takes()
}

// body reads a frame's body into memory of the port. nil without an error: there was no memory, and the push was answered.
func (p *pusher) body(ctx context.Context, id int64, n int) (*store.Buffer, error) {
	memory := p.w.store.Memory(p.mode)
	buf := memory.TryGet(n)
	if buf == nil {
		d := answered(wire.HardSplit) // of every entry, if there are some
		err := memory.Fits(n)
		switch {
		case err != nil:
			d = failed(nonCritical(p.mode), err.Error())
		case !p.w.store.Writes():
			err = store.ErrNoDisk
		default:
			p.c.out.flush(true) // who pushes may wait for these answers and for those that replicas still owe, and will not for this one soon
			ctx, cancel := context.WithTimeout(ctx, memoryTime)
			buf, err = memory.Get(ctx, n)
			cancel()
			p.c.out.working()
		}
		if err != nil {
			p.w.log.Warn("a push found no memory", "bytes", n, "err", err)
			if err := p.c.r.Discard(); err != nil {
				return nil, err
			}
			p.answer(id, d)
			return nil, nil
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
func (p *pusher) refuse(id int64, key string, part *store.Partition, body int) error {
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
	p.answer(id, Refuse(p.w.store, key, part, mapID))
	return nil
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
	buf, err := p.body(ctx, id, h.Body)
	if buf == nil {
		return err
	}
	defer buf.Release()
	p.w.metrics.pushed(p.mode, h.Body)
	p.decided(id, h, forwardable, buf, TakeMerged(p.w.store, p.mode, key, m, buf), began)
	return nil
}
