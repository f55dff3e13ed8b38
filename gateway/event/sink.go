package event

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// retryAfter is how long a place that failed is left alone.
const retryAfter = time.Second

// sink writes records to one place, in their order and at that place's own pace. What waits is bounded.
type sink struct {
	to     string
	write  func(context.Context, []Record) (written int, err error) // an error means: later
	gather time.Duration
	limit  int64
	lost   func(to string, n int)
	log    *slog.Logger

	wake chan struct{} // holds one when there is something new

	mu      sync.Mutex
	queue   []Record
	size    int64
	dropped int // since all was well
}

func newSink(to string, opt Options, gather time.Duration, write func(context.Context, []Record) (int, error)) *sink {
	return &sink{to: to, write: write, gather: gather, limit: opt.Buffer, lost: opt.Dropped, log: opt.Log, wake: make(chan struct{}, 1)}
}

// weight is about what a record takes in memory.
func weight(r Record) int64 { return 1024 + int64(len(r.Statement)+len(r.Error)) }

func (s *sink) add(r Record) {
	s.mu.Lock()
	full := s.size+weight(r) > s.limit
	if full {
		s.dropped++
	} else {
		s.queue = append(s.queue, r)
		s.size += weight(r)
	}
	first := full && s.dropped == 1
	s.mu.Unlock()
	if first {
		s.log.Error("audit records are dropped: audit.buffer is full", "to", s.to, "waiting", s.waiting())
	}
	if full {
		s.lost(s.to, 1)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sink) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// run writes until ctx ends. What waits then is left to finish.
func (s *sink) run(ctx context.Context) {
	failing := false
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, s.gather) {
			return
		}
		for {
			left, err := s.flush(ctx)
			if err == nil && left == 0 {
				if failing {
					s.log.Info("audit records are written again", "to", s.to)
				}
				failing = false
				s.recovered()
				break
			}
			if err == nil {
				continue
			}
			if !failing && ctx.Err() == nil {
				s.log.Warn("audit records cannot be written and wait", "to", s.to, "error", err)
			}
			failing = true
			if !pause(ctx, retryAfter) {
				return
			}
		}
	}
}

// flush writes one batch, and says how many records are left.
func (s *sink) flush(ctx context.Context) (left int, err error) {
	s.mu.Lock()
	some := s.queue[:min(len(s.queue), batch)] // others only append meanwhile
	s.mu.Unlock()
	n := 0
	if len(some) > 0 {
		n, err = s.write(ctx, some)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.queue[:n] {
		s.size -= weight(r)
	}
	clear(s.queue[:n]) // the memory of what they hold
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return len(s.queue), err
}

// recovered tells what was lost while records could not be written.
func (s *sink) recovered() {
	s.mu.Lock()
	n := s.dropped
	s.dropped = 0
	s.mu.Unlock()
	if n > 0 {
		s.log.Error("audit records were dropped, because audit.buffer was full", "to", s.to, "records", n)
	}
}

// finish writes what is left, as far as that is possible at once.
func (s *sink) finish(ctx context.Context) {
	left, err := s.flush(ctx)
	for err == nil && left > 0 {
		left, err = s.flush(ctx)
	}
	if err != nil {
		s.log.Error("audit records are lost: the gateway stops, and they cannot be written", "to", s.to, "records", left, "error", err)
		s.lost(s.to, left)
	}
	s.recovered()
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
