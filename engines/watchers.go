package engines

import (
	"context"
	"sync"
)

// Watchers passes what a cluster sees on to those who watch it. The zero value has none.
type Watchers struct {
	mu  sync.Mutex
	all map[chan Event]struct{}
}

// Watch sends every event that is told from now on, until ctx ends; then it closes the channel.
func (w *Watchers) Watch(ctx context.Context) <-chan Event {
	ch := make(chan Event, 1024)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan Event]struct{}{}
	}
	w.all[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, ch)
		close(ch)
	})
	return ch
}

// Tell never waits: who is far behind misses an event, is told the next change, and asks for the list from time to time.
func (w *Watchers) Tell(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.all {
		select {
		case ch <- e:
		default:
		}
	}
}
