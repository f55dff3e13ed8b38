package spark

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// jobPatience is for how long Cancel waits until the engine has told of a job, and oldPatience how old an execution of a
// server must be that tells of none.
const (
	jobPatience = 3 * time.Second
	oldPatience = 500 * time.Millisecond
)

// observe takes in whether the execution has a job, or has come further.
func (e *execution) observe(resp *connectpb.ExecutePlanResponse) {
	switch r := resp.ResponseType.(type) {
	case *connectpb.ExecutePlanResponse_ExecutionProgress_:
		if len(r.ExecutionProgress.Stages) > 0 {
			e.hasJob.Store(true)
		}
	case *connectpb.ExecutePlanResponse_ArrowBatch_, *connectpb.ExecutePlanResponse_SqlCommandResult_, *connectpb.ExecutePlanResponse_ResultComplete_:
		e.hasJob.Store(true)
	}
}

// awaitJob waits until the execution has a job. A server that is interrupted while it plans one submits the job all the
// same and then waits for it no more: it would run to its end, and nobody could stop it.
func (e *execution) awaitJob(ctx context.Context) {
	patience := jobPatience
	if e.s.roster != nil {
		patience = time.Until(e.began.Add(oldPatience))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !e.hasJob.Load() && ctx.Err() == nil {
		if !e.reading.TryLock() { // the reader takes in what comes
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		resp, err := e.once(ctx)
		if err == nil {
			e.last = resp.ResponseId
			e.observe(resp)
		}
		e.reading.Unlock()
		if err != nil && !errors.Is(err, io.EOF) { // the end of a stream that the server cut is none
			return
		}
	}
}

// Cancel interrupts the execution on the engine, unless that has ended it with an error. An interrupt that comes before
// the server has seen the execution meets nothing, so it is repeated until it has hit, or there is nothing left to hit.
func (e *execution) Cancel(ctx context.Context) error {
	if e.failed.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	e.awaitJob(ctx)
	for try := 0; ; try++ {
		resp, err := e.s.rpc.Interrupt(ctx, &connectpb.InterruptRequest{
			SessionId: e.s.id, UserContext: e.s.user, ClientType: clientType,
			InterruptType:                     connectpb.InterruptRequest_INTERRUPT_TYPE_OPERATION_ID,
			Interrupt:                         &connectpb.InterruptRequest_OperationId{OperationId: e.current().operation(e.id)},
			ClientObservedServerSideSessionId: e.s.server.Load(),
		})
		if err != nil {
			return e.s.translate(err)
		}
		if len(resp.InterruptedIds) > 0 || try >= 20 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
