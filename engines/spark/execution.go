package spark

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// A statement takes one or two executions on a Connect server. Text that may be a command is sent as a SqlCommand: a
// command has then run, its rows are in the answer; a query has only been analysed and is sent again as a relation.
// Text that is known to be a query goes the second way at once. Each execution needs an id of its own: the second has
// the caller's, the first one derived from it, so that storing one id is enough to find both again.
type step byte

const (
	commandStep step = 'c'
	rowsStep    step = 'r'
)

func (st step) operation(id engines.OperationID) string {
	if st == commandStep {
		return uuid.NewSHA1(id, []byte("command")).String()
	}
	return id.String()
}

// reattachPatience is for how long a cut stream is tried again before the engine counts as lost.
const reattachPatience = 10 * time.Second

// outage is a time in which the server cannot be reached.
type outage struct{ began time.Time }

// failed takes in that a call of the time asked has failed, and says whether the outage has lasted too long. A call that
// was open for long began it anew: a server before 4.0 is silent while a job runs.
func (o *outage) failed(asked, now time.Time) bool {
	if o.began.IsZero() || now.Sub(asked) > reattachPatience {
		o.began = now
	}
	return now.Sub(o.began) > reattachPatience
}

type execution struct {
	s    *session
	id   engines.OperationID
	q    engines.Query
	mu   sync.Mutex // guards step, which Cancel and Release read
	step step

	reading sync.Mutex  // one reads the stream at a time
	hasJob  atomic.Bool // the engine has told of a job, or of more
	failed  atomic.Bool // the engine has said how it failed
	began   time.Time

	stream grpc.ServerStreamingClient[connectpb.ExecutePlanResponse] // nil when detached
	detach context.CancelFunc                                        // ends the stream, not the execution
	last   string                                                    // the last response that was taken in
	isRows bool                                                      // the command step said that this is a query
	probe  bool                                                      // attached without a position: the step is a guess

	spark  *connectpb.DataType_Struct
	schema *arrow.Schema
	chunks []byte              // of a batch that comes in parts
	ready  []arrow.RecordBatch // decoded, not yet handed out
	rows   int64               // handed out, or skipped by Attach
	skip   int64               // rows that an earlier reader already has
	done   bool
	err    error // final

	forget forgetter
}

// Start implements engines.Session.
func (s *session) Start(ctx context.Context, id engines.OperationID, q engines.Query) (engines.Execution, error) {
	e := &execution{s: s, id: id, q: q, step: commandStep, began: time.Now()}
	if q.ReturnRows || q.Functions != nil {
		e.step = rowsStep
	}
	if err := e.execute(ctx); err != nil {
		return nil, s.translate(err)
	}
	return e, nil
}

// Attach implements engines.Session. An empty position begins anew, as far as the server still holds it.
func (s *session) Attach(ctx context.Context, id engines.OperationID, at engines.Position) (engines.Execution, error) {
	e := &execution{s: s, id: id, step: rowsStep, skip: at.Rows, began: time.Now()}
	if kind, last, ok := strings.Cut(at.Token, ":"); ok && len(kind) == 1 {
		e.step, e.last = step(kind[0]), last
		if e.step == commandStep {
			e.last = "" // its rows are one response: read it again and skip
		} else {
			e.rows, e.skip = at.Rows, 0
		}
	}
	e.probe = at.Token == ""
	if err := e.reattach(ctx); err != nil {
		return nil, s.translate(err)
	}
	return e, nil
}

func (e *execution) Schema() *arrow.Schema { return e.schema }

func (e *execution) plan() *connectpb.Plan {
	if e.q.Functions != nil {
		list := &connectpb.Catalog_ListFunctions{DbName: ptr(engines.QuoteName(e.q.Functions...))}
		catalog := &connectpb.Catalog{CatType: &connectpb.Catalog_ListFunctions_{ListFunctions: list}}
		return &connectpb.Plan{OpType: &connectpb.Plan_Root{Root: &connectpb.Relation{RelType: &connectpb.Relation_Catalog{Catalog: catalog}}}}
	}
	sql := &connectpb.Relation{RelType: &connectpb.Relation_Sql{Sql: &connectpb.SQL{Query: e.q.SQL}}}
	if e.step == rowsStep {
		return &connectpb.Plan{OpType: &connectpb.Plan_Root{Root: sql}}
	}
	// Only the deprecated field: it works on every version, and 3.5 would read `input` as an empty statement.
	cmd := &connectpb.Command{CommandType: &connectpb.Command_SqlCommand{SqlCommand: &connectpb.SqlCommand{Sql: e.q.SQL}}}
	return &connectpb.Plan{OpType: &connectpb.Plan_Command{Command: cmd}}
}

func (e *execution) execute(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := e.s.rpc.ExecutePlan(sctx, &connectpb.ExecutePlanRequest{
		SessionId: e.s.id, UserContext: e.s.user, Plan: e.plan(), ClientType: clientType,
		OperationId: ptr(e.step.operation(e.id)), Tags: e.q.Tags,
		ClientObservedServerSideSessionId: e.s.server.Load(),
		RequestOptions: []*connectpb.ExecutePlanRequest_RequestOption{
			{RequestOption: &connectpb.ExecutePlanRequest_RequestOption_ReattachOptions{
				ReattachOptions: &connectpb.ReattachOptions{Reattachable: true}}},
			// Without chunks a single row above the server's message limit fails the query.
			{RequestOption: &connectpb.ExecutePlanRequest_RequestOption_ResultChunkingOptions{
				ResultChunkingOptions: &connectpb.ResultChunkingOptions{AllowArrowBatchChunking: true}}},
		},
	})
	return e.opened(stream, cancel, err)
}

func (e *execution) reattach(ctx context.Context) error {
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	req := &connectpb.ReattachExecuteRequest{
		SessionId: e.s.id, UserContext: e.s.user, OperationId: e.step.operation(e.id), ClientType: clientType,
		ClientObservedServerSideSessionId: e.s.server.Load(),
	}
	if e.last != "" {
		req.LastResponseId = ptr(e.last)
	}
	stream, err := e.s.rpc.ReattachExecute(sctx, req)
	return e.opened(stream, cancel, err)
}

func (e *execution) opened(stream grpc.ServerStreamingClient[connectpb.ExecutePlanResponse], cancel context.CancelFunc, err error) error {
	if err != nil {
		cancel()
		return err
	}
	e.stream, e.detach = stream, cancel
	return nil
}

func (e *execution) close() {
	if e.stream != nil {
		e.detach()
		e.stream, e.detach = nil, nil
	}
}

// Next implements engines.Execution.
func (e *execution) Next(ctx context.Context) (arrow.RecordBatch, engines.Position, error) {
	e.reading.Lock()
	defer e.reading.Unlock()
	for {
		if ctx.Err() != nil {
			return nil, engines.Position{}, context.Cause(ctx)
		}
		if rec := e.take(); rec != nil {
			return rec, e.position(), nil
		}
		if e.err == nil && e.done {
			e.err = io.EOF
		}
		if e.err != nil {
			e.close()
			return nil, engines.Position{}, e.err
		}
		resp, err := e.receive(ctx)
		if err == nil {
			err = e.takeIn(ctx, resp)
		}
		if ctx.Err() != nil && err != nil {
			return nil, engines.Position{}, context.Cause(ctx) // detached: the next call goes on
		}
		if err != nil {
			e.err = err
		}
	}
}

// position is behind the batch that was handed out last. A server sends one batch a response; should it send several, no
// response's id tells the place between them, and a reader that goes on there has to begin anew.
func (e *execution) position() engines.Position {
	at := engines.Position{Rows: e.rows}
	if len(e.ready) == 0 {
		at.Token = string(e.step) + ":" + e.last
	}
	return at
}

// take hands out the next decoded batch, without the rows that an earlier reader has.
func (e *execution) take() arrow.RecordBatch {
	for len(e.ready) > 0 {
		rec := e.ready[0]
		e.ready = e.ready[1:]
		n := rec.NumRows()
		if e.skip >= n && n > 0 {
			e.skip -= n
			e.rows += n
			rec.Release()
			continue
		}
		if e.skip > 0 {
			rest := rec.NewSlice(e.skip, n)
			rec.Release()
			e.rows, e.skip, rec = e.rows+e.skip, 0, rest
		}
		e.rows += rec.NumRows()
		return rec
	}
	return nil
}

// receive returns the next response of the current step. It mends cuts: the server ends every stream after two
// minutes on purpose, and a network may end it at any time.
func (e *execution) receive(ctx context.Context) (*connectpb.ExecutePlanResponse, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, 2*time.Second
	var down outage
	for {
		asked := time.Now()
		resp, err := e.once(ctx)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f, over := parseFailure(err), down.failed(asked, time.Now())
		switch {
		case errors.Is(err, io.EOF): // OK without a ResultComplete: go on at once
			continue
		case f.Class == "INVALID_HANDLE.OPERATION_NOT_FOUND" && e.probe:
			e.probe = false
			e.setStep(commandStep)
			continue
		case f.Class == "INVALID_HANDLE.OPERATION_NOT_FOUND" && e.last == "" && e.step == rowsStep && e.q.SQL != "":
			// The server never saw it, and it is a query, which may be sent twice.
			if err := e.execute(ctx); err != nil {
				return nil, e.s.translate(err)
			}
		case !f.cut() || over:
			e.failed.Store(!f.cut() && f.code == codes.Internal)
			return nil, e.s.translate(err)
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (e *execution) once(ctx context.Context) (*connectpb.ExecutePlanResponse, error) {
	if e.stream == nil {
		if err := e.reattach(ctx); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, e.detach)
	resp, err := e.stream.Recv()
	stop()
	if err != nil {
		e.close()
	}
	return resp, err
}

func (e *execution) takeIn(ctx context.Context, resp *connectpb.ExecutePlanResponse) error {
	e.last, e.probe = resp.ResponseId, false
	e.observe(resp)
	e.s.observed(resp.ServerSideSessionId)
	if st := resp.Schema.GetStruct(); st != nil {
		e.spark = st
	}
	switch r := resp.ResponseType.(type) {
	case *connectpb.ExecutePlanResponse_ArrowBatch_:
		return e.batch(r.ArrowBatch)
	case *connectpb.ExecutePlanResponse_SqlCommandResult_:
		rel := r.SqlCommandResult.GetRelation()
		if local := rel.GetLocalRelation(); local != nil {
			return e.decode(local.Data)
		}
		e.isRows = true
		e.q.SQL = rel.GetSql().GetQuery() // the text that was sent; after Attach this is where we learn it
	case *connectpb.ExecutePlanResponse_ExecutionProgress_:
		e.progress(r.ExecutionProgress)
	case *connectpb.ExecutePlanResponse_ResultComplete_:
		e.close()
		if e.step == commandStep && e.isRows {
			return e.toRows(ctx)
		}
		e.done = true
	}
	return nil
}

// toRows begins the second step of a text that turned out to be a query.
func (e *execution) toRows(ctx context.Context) error {
	_ = e.release(ctx, commandStep) // it goes by itself when nobody reads it
	e.setStep(rowsStep)
	e.last = ""
	return e.s.translate(e.execute(ctx))
}

func (e *execution) batch(b *connectpb.ExecutePlanResponse_ArrowBatch) error {
	data := b.Data
	if n := b.GetNumChunksInBatch(); n > 1 {
		e.chunks = append(e.chunks, data...)
		if b.GetChunkIndex() < n-1 {
			return nil
		}
		data, e.chunks = e.chunks, nil
	}
	return e.decode(data)
}

// decode reads one Arrow IPC stream: a schema, its batches and an end. An empty result still has its schema.
func (e *execution) decode(data []byte) error {
	r, err := ipc.NewReaderFromMessageReader(&messages{data})
	if err != nil {
		return fmt.Errorf("read the engine's Arrow data: %w", err)
	}
	defer r.Release()
	if e.schema == nil {
		e.schema = withSparkTypes(r.Schema(), e.spark)
	}
	for r.Next() {
		rec := r.RecordBatch()
		rec.Retain()
		e.ready = append(e.ready, rec)
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the engine's Arrow data: %w", err)
	}
	return nil
}

func (e *execution) progress(p *connectpb.ExecutePlanResponse_ExecutionProgress) {
	if e.q.Progress == nil || len(p.Stages) == 0 {
		return // the first ones of a query have no stages yet
	}
	out := engines.Progress{Running: p.NumInflightTasks}
	for _, st := range p.Stages {
		out.Stages = append(out.Stages, engines.Stage{ID: st.StageId, Tasks: st.NumTasks, Done: st.NumCompletedTasks, Finished: st.Done})
		out.BytesRead += st.InputBytesRead
	}
	e.q.Progress(out)
}

func (e *execution) setStep(st step) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.step = st
}

func (e *execution) current() step {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.step
}

// Release implements engines.Execution.
func (e *execution) Release(ctx context.Context) error {
	e.forget.stop()
	return e.release(ctx, e.current())
}

func (e *execution) release(ctx context.Context, st step) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := e.s.rpc.ReleaseExecute(ctx, &connectpb.ReleaseExecuteRequest{
		SessionId: e.s.id, UserContext: e.s.user, OperationId: st.operation(e.id), ClientType: clientType,
		Release: &connectpb.ReleaseExecuteRequest_ReleaseAll_{ReleaseAll: &connectpb.ReleaseExecuteRequest_ReleaseAll{}},
	})
	return e.s.translate(err)
}

// run executes a statement whose rows nobody wants.
func (s *session) run(ctx context.Context, sql string) error {
	e, err := s.Start(ctx, uuid.New(), engines.Query{SQL: sql})
	if err != nil {
		return err
	}
	defer func() { _ = e.Release(context.WithoutCancel(ctx)) }()
	for {
		rec, _, err := e.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		rec.Release()
	}
}
