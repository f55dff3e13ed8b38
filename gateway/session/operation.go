package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/spool"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router/sql"
)

// State is where an operation stands. The names are HiveServer2's.
type State string

// The states of an operation.
const (
	Pending  State = "PENDING" // waits for an engine
	Running  State = "RUNNING"
	Finished State = "FINISHED" // rows can be fetched; more may still be coming
	Canceled State = "CANCELED"
	TimedOut State = "TIMEDOUT"
	Failed   State = "ERROR"
	Closed   State = "CLOSED"
)

// Terminal says that the state does not change any more by itself.
func (s State) Terminal() bool { return s != Pending && s != Running }

// Kind of an operation: a statement, or a metadata call by its HiveServer2 name.
type Kind string

// Statement is the kind of an operation that runs SQL.
const Statement Kind = "STATEMENT"

var (
	errCanceled = errors.New("the statement was cancelled")
	errClosed   = errors.New("the operation was closed")
)

// Failure is why an operation failed, as its user sees it.
type Failure struct {
	Class    string
	SQLState string
	Message  string
	Stack    string
}

func (f *Failure) Error() string { return f.Message }

// Snapshot is an operation at one moment.
type Snapshot struct {
	State     State
	Failure   *Failure // set in Failed, TimedOut and Canceled
	Created   time.Time
	Started   time.Time // zero while it waits
	Ended     time.Time // zero while it runs
	Progress  engines.Progress
	HasResult bool
}

// Operation is one statement or metadata call. It outlives the call that began it, not its session.
type Operation struct {
	ID      uuid.UUID
	Secret  [16]byte
	Kind    Kind
	Session *Session

	text   string
	what   *sql.Facts      // for the router; nil if it runs already, where it does; owned by the goroutine
	rec    store.Operation // owned by the goroutine that runs the operation
	spool  *spool.Spool
	log    *Log
	life   context.Context // of the operation, with the trace of the call that began it
	cancel context.CancelCauseFunc
	done   chan struct{}     // closed when the operation has ended and is stored
	exec   engines.Execution // what is to be released in the end; owned by the goroutine
	jobs   jobs              // what the log has said of them; owned by the goroutine
	audit  audit
	before time.Duration // from its acceptance until the engine was asked, where nothing had to be waited for; or 0

	mu       sync.Mutex
	snap     Snapshot
	changed  chan struct{}
	seen     time.Time
	frontEnd any   // what a front end keeps with it
	fetched  int64 // rows that the client had when the operation was taken over
}

// FrontEnd returns what a front end keeps with the operation, made by the first caller.
func (o *Operation) FrontEnd(make func() any) any {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.frontEnd == nil {
		o.frontEnd = make()
	}
	return o.frontEnd
}

// Snapshot returns where the operation stands.
func (o *Operation) Snapshot() Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.snap
}

// Wait returns once the operation is terminal, after d, or when ctx ends, whichever is first.
func (o *Operation) Wait(ctx context.Context, d time.Duration) Snapshot {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		o.mu.Lock()
		snap, changed := o.snap, o.changed
		o.mu.Unlock()
		if snap.State.Terminal() {
			return snap
		}
		select {
		case <-changed:
		case <-timer.C:
			return snap
		case <-ctx.Done():
			return snap
		}
	}
}

func (o *Operation) update(change func(*Snapshot)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.snap)
	close(o.changed)
	o.changed = make(chan struct{})
}

// Schema waits until the columns of the result are known. A statement without a result has none.
func (o *Operation) Schema(ctx context.Context) (*arrow.Schema, error) {
	o.touch()
	schema, err := o.spool.Schema(ctx)
	if err != nil {
		return nil, o.failure(err)
	}
	if schema == nil {
		schema = arrow.NewSchema(nil, nil)
	}
	return schema, nil
}

// Has says that Rows from the given one on would not wait.
func (o *Operation) Has(row int64) bool { return o.spool.Has(row) }

// Sizer estimates the bytes that rows [from,to) of a batch take in a front end's format.
type Sizer = func(b arrow.RecordBatch, from, to int) int

// Rows returns rows from the given one on, at most max and about limit bytes, and whether there are certainly more. It
// waits for the first one; none and no error mean the end. The caller releases the batches.
func (o *Operation) Rows(ctx context.Context, from, max, limit int64, size Sizer) ([]arrow.RecordBatch, bool, error) {
	o.touch()
	batches, more, err := o.spool.Read(ctx, from, limit, max, size)
	if err != nil {
		return nil, false, o.failure(err)
	}
	return batches, more, nil
}

// failure prefers what the operation's user should read over what a reader of rows met.
func (o *Operation) failure(err error) error {
	if f := o.Snapshot().Failure; f != nil {
		return f
	}
	return spoolFailure(err)
}

// Log is what was said about the operation.
func (o *Operation) Log() *Log { o.touch(); return o.log }

// Cancel interrupts the operation. It is no error to cancel one that has ended; its rows stay.
func (o *Operation) Cancel() {
	o.touch()
	o.stop(errCanceled)
}

func (o *Operation) stop(why error) {
	if done, _ := o.spool.Done(); done {
		return
	}
	o.cancel(why)
}

// Ended says that no more rows will come, and none are missing.
func (o *Operation) Ended() bool {
	done, err := o.spool.Done()
	return done && err == nil
}

// Forget makes the handle unknown. Close has to follow.
func (o *Operation) Forget() { o.Session.manager.drop(o) }

// Close ends the operation and forgets its rows.
func (o *Operation) Close(ctx context.Context) error {
	o.Forget()
	o.awaitRest(ctx)
	o.stop(errClosed)
	select { // the engine must be told before the handle is gone
	case <-o.done:
	case <-ctx.Done():
	}
	o.spool.Close()
	o.update(func(s *Snapshot) { s.State = Closed })
	err := o.Session.manager.ledger.closeOperation(context.WithoutCancel(ctx), o.ID, o.Session.fence(), time.Now())
	if !errors.Is(err, store.ErrFenced) { // it goes on at another gateway
		o.audit.closed.Store(true)
		o.over()
	}
	return err
}

// restPause is how long a result whose first rows are there may take to be complete before it is interrupted: most are within
// milliseconds, and an interrupt that comes between costs a second or more.
const restPause = 100 * time.Millisecond

func (o *Operation) awaitRest(ctx context.Context) {
	if o.Snapshot().State != Finished {
		return
	}
	timer := time.NewTimer(restPause)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (o *Operation) touch() {
	o.mu.Lock()
	o.seen = time.Now()
	o.mu.Unlock()
	o.Session.touch()
}

// settled says that the operation has ended and its client is done with it, or has been silent for a while.
func (o *Operation) settled(pause time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.snap.State == Closed {
		return true
	}
	quiet := func(since time.Time) bool { return time.Since(since) > pause }
	return o.snap.State.Terminal() && quiet(o.seen) && quiet(o.snap.Ended)
}

// idleSince says since when nobody has asked for a terminal operation; zero while it runs.
func (o *Operation) idleSince() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.snap.State.Terminal() {
		return time.Time{}
	}
	return o.seen
}
