package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/spool"
)

// cancelTime bounds how long the engine may take to hear that a statement is to be stopped.
const cancelTime = 20 * time.Second

var tracer = otel.Tracer("github.com/sluicedata/sluice/gateway/session")

type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string {
	return fmt.Sprintf("the statement was stopped after its time limit of %s", e.after)
}

// begin runs the operation in a goroutine that belongs to the session, not to the call that began it.
func (o *Operation) begin(limit time.Duration, run func(context.Context) error) {
	stop := context.AfterFunc(o.Session.life, func() { o.cancel(context.Cause(o.Session.life)) })
	var timer *time.Timer
	if limit > 0 {
		timer = time.AfterFunc(limit, func() { o.cancel(timeoutError{limit}) })
	}
	go func() {
		defer stop()
		if timer != nil {
			defer timer.Stop()
		}
		ctx, span := tracer.Start(o.life, "operation "+string(o.Kind))
		span.SetAttributes(attribute.String("sluice.operation", o.ID.String()), attribute.String("sluice.session", o.Session.ID.String()))
		err := run(ctx)
		span.End()
		o.finish(ctx, err)
		close(o.done)
		o.over()
		o.release(ctx)
	}()
}

// finish brings the operation into its last state and stores it.
func (o *Operation) finish(ctx context.Context, err error) {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	state, failure := o.outcome(err)
	if failure != nil {
		headline, _, _ := strings.Cut(failure.Message, "\n") // clients print the whole of it themselves
		o.log.Say(string(state) + ": " + headline)
		o.spool.Finish(failure)
	} else {
		o.spool.Finish(nil)
	}
	now := time.Now()
	o.update(func(s *Snapshot) {
		s.State, s.Failure, s.Ended = state, failure, now
		if failure == nil { // the engine does not report the end of the last stages
			s.Progress = complete(s.Progress)
		}
		if s.Started.IsZero() {
			s.Started = s.Created
		}
	})
	snap := o.Snapshot()
	o.rec.State, o.rec.StartedAt, o.rec.EndedAt = string(state), &snap.Started, &now
	if failure != nil {
		o.rec.ErrorClass, o.rec.SQLState, o.rec.ErrorMessage = failure.Class, failure.SQLState, failure.Message
	}
	if err := o.Session.manager.ledger.updateOperation(context.WithoutCancel(ctx), o.rec); err != nil {
		o.Session.log.Error("cannot store the operation", "operation", o.ID, "error", err)
	}
	if hook := o.Session.manager.opt.Hooks.OperationEnded; hook != nil {
		hook(o.Kind, state, now.Sub(snap.Created))
	}
	o.Session.log.Info("operation ended", "operation", o.ID, "kind", o.Kind, "state", state, "took", now.Sub(snap.Created), "rows", o.rec.Rows)
}

// outcome translates an error into a state and what the user reads.
func (o *Operation) outcome(err error) (State, *Failure) {
	var engine *engines.Error
	var failure *Failure
	var timeout timeoutError
	switch {
	case err == nil:
		return Finished, nil
	case errors.As(err, &timeout):
		return TimedOut, &Failure{Class: "SLUICE_TIMEOUT", SQLState: "HYT00", Message: timeout.Error()}
	case errors.Is(err, errCanceled), errors.Is(err, errClosed):
		return Canceled, &Failure{Class: "OPERATION_CANCELED", SQLState: "HY008", Message: err.Error()}
	case errors.As(err, &failure):
		return Failed, failure
	case errors.As(err, &engine) && engine.Canceled:
		return Canceled, &Failure{Class: "OPERATION_CANCELED", SQLState: "HY008", Message: "the engine says that the statement was cancelled: " + engine.Message}
	case errors.As(err, &engine):
		return Failed, &Failure{Class: engine.Class, SQLState: cmp.Or(engine.SQLState, "HY000"), Message: engine.Message, Stack: engine.Stack}
	case errors.Is(err, engines.ErrLost):
		return Failed, &Failure{Class: "SLUICE_ENGINE_LOST", SQLState: "HY000",
			Message: fmt.Sprintf("The engine was lost while the statement ran, so whether its writes happened is not known: %v. The session goes on: its next statement gets a new engine, on which its temporary views and functions are made again.", err)}
	}
	return Failed, &Failure{Class: "SLUICE_ERROR", SQLState: "HY000", Message: err.Error()}
}

// runStatement answers what needs no engine if the session has none, and otherwise runs the text on one.
func (o *Operation) runStatement(ctx context.Context, st statement) error {
	if st.verb == explainRoute {
		return o.explain(st.name)
	}
	what := o.Session.facts(st.text)
	o.what = &what
	if !o.Session.hasEngine() && len(o.rec.Overlay) == 0 {
		if done := o.answer(ctx, st); done {
			return nil
		}
	}
	err := o.runOnEngine(ctx, st)
	if errors.Is(err, engines.ErrLost) && o.mayRunAgain(st) {
		o.log.Say("The engine was lost: " + err.Error())
		o.log.Say("The statement only reads, and none of its rows were fetched: it runs again (" + RetryKey + ")")
		err = o.runOnEngine(ctx, st)
	}
	return err
}

// mayRunAgain says that a statement whose engine was lost can be repeated without anybody noticing: it only reads, its
// session asks for it, and nobody has had a row. What had come is dropped.
func (o *Operation) mayRunAgain(st statement) bool {
	text, _ := o.Session.Setting(RetryKey)
	wanted, _ := strconv.ParseBool(text)
	return wanted && st.reads() && o.fetched == 0 && o.spool.Restart()
}

func (o *Operation) runOnEngine(ctx context.Context, st statement) error {
	warm := o.Session.hasEngine() && o.Session.running() <= 1
	return o.onEngine(ctx, func(ctx context.Context, remote engines.Session) error {
		release, err := o.lockOverlay(ctx, remote)
		if err != nil {
			return err
		}
		defer release()
		if warm {
			o.before = time.Since(o.rec.CreatedAt)
		}
		tags := append([]string{"sluice-operation-" + o.ID.String(), "sluice-session-" + o.Session.ID.String()}, traceTags(ctx)...)
		exec, err := remote.Start(ctx, o.rec.EngineOp, engines.Query{
			SQL: st.text, ReturnRows: st.verb == query || st.verb == ping, Tags: tags, Progress: o.onProgress,
		})
		if err != nil {
			return err
		}
		if err := o.drain(ctx, exec); err != nil {
			return err
		}
		o.Session.remember(ctx, st)
		return nil
	})
}

// answer gives the rows of a statement that a session without an engine needs none for.
func (o *Operation) answer(ctx context.Context, st statement) bool {
	switch st.verb {
	case setValue:
		o.Session.remember(ctx, st)
		o.give(textRecord([]string{"key", "value"}, []string{cmp.Or(st.shown, st.key), st.value}))
	case setShow:
		v, ok := o.Session.Setting(st.key)
		if !ok {
			return false // the engine knows the defaults
		}
		o.give(textRecord([]string{"key", "value"}, []string{st.key, v}))
	case useSchema, useCatalog, reset:
		o.Session.remember(ctx, st) // whether it exists is seen when an engine is needed
		o.give(nil)
	case ping:
		o.give(one(st.name))
	default:
		return false
	}
	o.log.Say("Answered by the gateway: no engine is needed for this yet")
	return true
}

// give makes a complete result of one batch, or of none.
func (o *Operation) give(b arrow.RecordBatch) {
	if b == nil {
		o.spool.SetSchema(arrow.NewSchema(nil, nil))
		return
	}
	_ = o.Emit(b) // one row always fits
}

// onEngine runs f with the session's engine, and ends f's context when that engine is gone.
func (o *Operation) onEngine(ctx context.Context, f func(context.Context, engines.Session) error) error {
	remote, lease, leave, err := o.Session.admitted(ctx, o.what, o.log.Say)
	if err != nil {
		return err
	}
	defer leave()
	if o.rec.EngineID != lease.EngineID() {
		o.rec.EngineID = lease.EngineID()
		if err := o.Session.manager.ledger.reached(ctx, o.rec); err != nil {
			return fmt.Errorf("store the operation before its engine hears of it: %w", err)
		}
	}
	o.audit.place = o.Session.whereabouts()
	o.update(func(s *Snapshot) { s.State, s.Started = Running, time.Now() })
	defer lease.News(o.log.Say)()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-lease.Done():
			cancel(lease.Err())
		case <-ctx.Done():
		}
	}()
	err = f(ctx, remote)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if errors.Is(err, engines.ErrLost) {
		o.Session.lost(remote)
	}
	return err
}

// lockOverlay sets the statement's own settings and returns what puts the old ones back.
func (o *Operation) lockOverlay(ctx context.Context, remote engines.Session) (func(), error) {
	overlay := sessionConf(o.rec.Overlay)
	weight := int64(1)
	if len(overlay) > 0 {
		weight = allOverlays
	}
	if err := o.Session.overlays.Acquire(ctx, weight); err != nil {
		return nil, context.Cause(ctx)
	}
	unlock := func() { o.Session.overlays.Release(weight) }
	if len(overlay) == 0 {
		return unlock, nil
	}
	set := make(map[string]*string, len(overlay))
	for k, v := range overlay {
		set[SettingKey(k)] = &v
	}
	before, err := remote.Set(ctx, set)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("set the statement's own settings: %w", err)
	}
	return func() {
		defer unlock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		if _, err := remote.Set(ctx, before); err != nil && !errors.Is(err, engines.ErrLost) {
			o.Session.log.Warn("cannot put a statement's settings back", "operation", o.ID, "error", err)
		}
	}, nil
}

// drain takes the execution's rows into the spool at full speed, and interrupts it when the operation is stopped.
func (o *Operation) drain(ctx context.Context, exec engines.Execution) (err error) {
	defer func() {
		if cause := context.Cause(ctx); errors.Is(cause, engines.ErrLost) || errors.Is(cause, errTakenOver) {
			return // there is no execution any more, or it is another gateway's
		}
		o.exec = exec
		if err == nil {
			return
		}
		bg, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		if cerr := exec.Cancel(bg); cerr != nil {
			o.Session.log.Debug("cannot interrupt an execution", "operation", o.ID, "error", cerr)
		}
	}()
	// After a restart the engine tells Spark's own types no more: they come with the first response only.
	schema := o.spool.Known()
	for {
		batch, at, err := exec.Next(ctx)
		if errors.Is(err, io.EOF) {
			if schema := exec.Schema(); o.rec.Rows == 0 && schema != nil {
				o.spool.SetSchema(schema)
			}
			return nil
		}
		if err != nil {
			return err
		}
		arrived := time.Now()
		if schema == nil {
			schema = exec.Schema()
		}
		o.rec.Rows, o.rec.Position = at.Rows, at.Token
		durable, err := o.spool.Append(withSchema(batch, schema), at.Token)
		if err != nil {
			return spoolFailure(err)
		}
		if durable {
			exec.Durable(at)
		}
		if o.Snapshot().State == Running {
			o.update(func(s *Snapshot) { s.State = Finished })
			if hook := o.Session.manager.opt.Hooks.Overhead; hook != nil && o.before > 0 {
				hook(o.before + time.Since(arrived))
			}
		}
	}
}

// spoolFailure says what the spool met in the user's words: its text names the key and the next step.
func spoolFailure(err error) error {
	switch {
	case errors.Is(err, spool.ErrFull):
		return &Failure{Class: "SLUICE_SPOOL_FULL", SQLState: "54000", Message: err.Error()}
	case errors.Is(err, spool.ErrDisk):
		return &Failure{Class: "SLUICE_SPOOL_DISK", SQLState: "58030", Message: err.Error()}
	}
	return err
}

// release lets the engine forget the execution. It comes last: nobody has to wait for it.
func (o *Operation) release(ctx context.Context) {
	if o.exec == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	if err := o.exec.Release(ctx); err != nil && !errors.Is(err, engines.ErrLost) {
		o.Session.log.Debug("cannot release an execution; the engine forgets it in time", "operation", o.ID, "error", err)
	}
}

func complete(p engines.Progress) engines.Progress {
	done := engines.Progress{BytesRead: p.BytesRead}
	for _, st := range p.Stages {
		done.Stages = append(done.Stages, engines.Stage{ID: st.ID, Tasks: st.Tasks, Done: st.Tasks, Finished: true})
	}
	return done
}

func (o *Operation) onProgress(p engines.Progress) {
	before := o.Snapshot().Progress
	o.update(func(s *Snapshot) { s.Progress = p })
	for _, line := range o.jobs.lines(before, p) {
		o.log.Say(line)
	}
}

func textRecord(columns, values []string) arrow.RecordBatch {
	return textRecords(columns, [][]string{values})
}

func textRecords(columns []string, rows [][]string) arrow.RecordBatch {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c, Type: arrow.BinaryTypes.String}
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for _, values := range rows {
		for i, v := range values {
			b.Field(i).(*array.StringBuilder).Append(v)
		}
	}
	return b.NewRecordBatch()
}

// one is the result of SELECT 1 AS name.
func one(name string) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: name, Type: arrow.PrimitiveTypes.Int32}}, nil))
	defer b.Release()
	b.Field(0).(*array.Int32Builder).Append(1)
	return b.NewRecordBatch()
}
