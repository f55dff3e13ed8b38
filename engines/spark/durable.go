package spark

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// forgetPause is how long a release waits for a later one to take its place. A server drops what it has sent beyond
// 10 MiB by itself, so a release frees no more than that, and is not worth a call for every batch.
const forgetPause = 100 * time.Millisecond

// forgetter releases responses on the server behind the reader's back: one call at a time, the newest place wins.
type forgetter struct {
	mu      sync.Mutex
	until   string             // the response to release next
	running bool               // a goroutine is at it
	cancel  context.CancelFunc // ends that goroutine
	stopped bool
	wait    sync.WaitGroup
}

// Durable implements engines.Execution. Responses are released up to the one that the position names: a server keeps the
// ids of what it has dropped, so that Attach behind one goes on with the next. The answer of a command is one response,
// which Attach reads anew, and so is not released.
func (e *execution) Durable(at engines.Position) {
	kind, id, ok := strings.Cut(at.Token, ":")
	if !ok || kind != string(rowsStep) || id == "" {
		return
	}
	f := &e.forget
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = id
	if f.running || f.stopped {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.running, f.cancel = true, cancel
	f.wait.Go(func() {
		defer cancel()
		for id := f.next(ctx); id != ""; id = f.next(ctx) {
			e.releaseUntil(ctx, id)
		}
	})
}

// next waits a while and returns what is to be released then, or nothing, which ends the goroutine.
func (f *forgetter) next(ctx context.Context) string {
	select {
	case <-time.After(forgetPause):
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.until
	f.until = ""
	if f.stopped || id == "" {
		f.running = false
		return ""
	}
	return id
}

// stop ends what is under way and waits for it.
func (f *forgetter) stop() {
	f.mu.Lock()
	f.stopped = true
	if f.cancel != nil {
		f.cancel()
	}
	f.mu.Unlock()
	f.wait.Wait()
}

// releaseUntil is no loss when it fails: the server keeps a little more for a little longer.
func (e *execution) releaseUntil(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, _ = e.s.rpc.ReleaseExecute(ctx, &connectpb.ReleaseExecuteRequest{
		SessionId: e.s.id, UserContext: e.s.user, OperationId: rowsStep.operation(e.id), ClientType: clientType,
		Release: &connectpb.ReleaseExecuteRequest_ReleaseUntil_{
			ReleaseUntil: &connectpb.ReleaseExecuteRequest_ReleaseUntil{ResponseId: id}},
	})
}
