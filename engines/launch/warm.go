package launch

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// warmth is the wish that a place always has an engine.
type warmth struct {
	req  Request
	wait *backoff.ExponentialBackOff // between starts that fail
	next time.Time
}

// KeepWarm has the engines of a request always ready, as many as its pool. It must be called before Run.
func (l *Launcher) KeepWarm(req Request) {
	for slot := range max(1, req.Pool) {
		wait := backoff.NewExponentialBackOff()
		wait.InitialInterval, wait.MaxInterval = 5*time.Second, 5*time.Minute
		l.warm[place{req.Key, slot}] = &warmth{req: req, wait: wait}
	}
}

// keepWarm starts engines where one shall always be, and none is. The claim sees to it that several gateways that keep
// the same engine warm have it once.
func (l *Launcher) keepWarm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, w := range l.warm {
		if e := l.byPlace[at]; e != nil {
			if e.isReady() {
				w.wait.Reset()
				w.next = time.Time{}
			}
			continue
		}
		if time.Now().Before(w.next) {
			continue
		}
		w.next = time.Now().Add(w.wait.NextBackOff())
		if _, err := l.begin(w.req, at.slot); err != nil {
			l.opt.Log.Warn("cannot keep an engine warm", "key", at.key.String(), "error", err)
		}
	}
}
