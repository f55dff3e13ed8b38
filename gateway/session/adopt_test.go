package session

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/spool"
	"github.com/sluicedata/sluice/gateway/store"
)

var (
	plainColumn = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	richColumn  = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64,
		Metadata: arrow.NewMetadata([]string{"comment"}, []string{"told once"})}}, nil)
)

func numbers(schema *arrow.Schema, from, to int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := from; i < to; i++ {
		b.Field(0).(*array.Int64Builder).Append(i)
	}
	return b.NewRecordBatch()
}

// rest is an execution that gives the numbers of a span, ten at a time, without what an engine tells only at the start.
type rest struct {
	from, to int64
	end      error
	durable  []engines.Position
}

func (e *rest) Schema() *arrow.Schema { return plainColumn }
func (e *rest) Next(context.Context) (arrow.RecordBatch, engines.Position, error) {
	if e.from >= e.to {
		return nil, engines.Position{}, e.end
	}
	b := numbers(plainColumn, e.from, e.from+10)
	e.from += 10
	return b, engines.Position{Token: strconv.FormatInt(e.from, 10), Rows: e.from}, nil
}
func (e *rest) Durable(at engines.Position)   { e.durable = append(e.durable, at) }
func (e *rest) Cancel(context.Context) error  { return nil }
func (e *rest) Release(context.Context) error { return nil }

// killed stores an operation as a gateway leaves it that is killed, with so many rows on disk.
func killed(t *testing.T, w *world, m *Manager, state State, rows int64, complete bool) uuid.UUID {
	t.Helper()
	first, _ := exec(t, open(t, m, nil), "SELECT 'an engine'")
	require.NoError(t, first.Close(t.Context()))
	engine := string(w.tag)
	sess := store.Session{ID: uuid.New(), Replica: m.opt.Replica(), Fence: 1, User: "ann", EngineID: engine, OpenedAt: time.Now(), SeenAt: time.Now()}
	require.NoError(t, w.store.CreateSession(t.Context(), sess))
	op := store.Operation{ID: uuid.New(), SessionID: sess.ID, Fence: 1, Kind: string(Statement), Statement: "SELECT n FROM t", State: string(Pending),
		EngineID: engine, EngineOp: uuid.New(), CreatedAt: time.Now()}
	require.NoError(t, w.store.CreateOperation(t.Context(), op))
	op.State, op.Rows = string(state), rows
	require.NoError(t, w.store.UpdateOperation(t.Context(), op))
	if rows > 0 {
		limits := m.opt.Spool
		limits.Memory = 0 // so that the disk has them
		s := spool.NewPool(limits).New(op.ID)
		for from := int64(0); from < rows; from += 10 {
			_, err := s.Append(numbers(richColumn, from, from+10), strconv.FormatInt(from+10, 10))
			require.NoError(t, err)
		}
		if complete {
			s.Finish(nil)
		}
	}
	return op.ID
}

// adopt takes over and returns the operation once it has ended.
func adopt(t *testing.T, m *Manager, id uuid.UUID) *Operation {
	t.Helper()
	_, err := m.Adopt(t.Context())
	require.NoError(t, err)
	m.mu.Lock()
	o := m.ops[id]
	m.mu.Unlock()
	require.NotNil(t, o)
	<-o.done
	return o
}

func all(t *testing.T, o *Operation) []int64 {
	t.Helper()
	var out []int64
	for {
		page, _, err := o.Rows(t.Context(), int64(len(out)), 7, 1<<20, func(arrow.RecordBatch, int, int) int { return 1 })
		require.NoError(t, err)
		if len(page) == 0 {
			return out
		}
		for _, b := range page {
			out = append(out, b.Column(0).(*array.Int64).Int64Values()...)
			b.Release()
		}
	}
}

func upTo(n int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func TestRowsOnDiskSurviveAKill(t *testing.T) {
	for name, tc := range map[string]struct {
		state    State
		complete bool
		attached bool // to the engine
	}{
		"of a statement that had ended":                   {Finished, true, false},
		"of one that had ended, which nobody could store": {Pending, true, false},
		"of one that ran":                                 {Pending, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := play(t, func(o *Options) { o.Spool.Memory = 0 })
			exec := &rest{from: 30, to: 60, end: io.EOF}
			var asked []engines.Position
			w.attach = func(at engines.Position) (engines.Execution, error) { asked = append(asked, at); return exec, nil }
			id := killed(t, w, m, tc.state, 30, tc.complete)
			o := adopt(t, m, id)
			require.Equal(t, Finished, o.Snapshot().State, "%v", o.Snapshot().Failure)
			schema, err := o.Schema(t.Context())
			require.NoError(t, err)
			require.True(t, richColumn.Equal(schema) && richColumn.Field(0).Metadata.Equal(schema.Field(0).Metadata), "%s", schema)
			if !tc.attached {
				require.Empty(t, asked)
				require.Len(t, w.opened, 1, "no engine is needed")
				require.Equal(t, upTo(30), all(t, o))
				o.SetFetched(t.Context(), 20)
				rec, err := w.store.Operation(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, int64(20), rec.Fetched, "a second kill is survived too")
				return
			}
			require.Equal(t, []engines.Position{{Token: "30", Rows: 30}}, asked)
			require.Equal(t, upTo(60), all(t, o), "every row once")
			require.Equal(t, []engines.Position{{Token: "40", Rows: 40}, {Token: "50", Rows: 50}, {Token: "60", Rows: 60}}, exec.durable)
			require.NoError(t, o.Close(t.Context()))
			require.Empty(t, leftOf(t, m), "a closed operation leaves no file")
		})
	}
}

// Whoever asks how an INSERT went must not hear that it is to be run again.
func TestACommandThatHadEnded(t *testing.T) {
	w, m := play(t)
	sess := store.Session{ID: uuid.New(), Replica: m.opt.Replica(), User: "ann", OpenedAt: time.Now(), SeenAt: time.Now()}
	require.NoError(t, w.store.CreateSession(t.Context(), sess))
	op := store.Operation{ID: uuid.New(), SessionID: sess.ID, Kind: string(Statement), Statement: "INSERT INTO t VALUES (1)", CreatedAt: time.Now()}
	require.NoError(t, w.store.CreateOperation(t.Context(), op))
	op.State = string(Finished)
	require.NoError(t, w.store.UpdateOperation(t.Context(), op))
	o := adopt(t, m, op.ID)
	require.Equal(t, Finished, o.Snapshot().State)
	require.Empty(t, all(t, o))
}

func leftOf(t *testing.T, m *Manager) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.opt.Spool.Dir, "*.rows"))
	require.NoError(t, err)
	return found
}

func TestRowsThatAKillHasLost(t *testing.T) {
	gone := &engines.Error{Class: "INVALID_CURSOR.POSITION_NOT_AVAILABLE", Message: "no longer available"}
	for name, tc := range map[string]struct {
		state  State
		rows   int64
		attach func(engines.Position) (engines.Execution, error)
		class  string
		text   string
	}{
		"ended, in memory":         {Finished, 0, nil, "SLUICE_ROWS_LOST", "lost with the gateway that held them: run it again"},
		"ended, without its end":   {Finished, 30, nil, "SLUICE_ROWS_LOST", "lost with the gateway that held them: run it again"},
		"the engine forgot them":   {Pending, 30, func(engines.Position) (engines.Execution, error) { return &rest{end: gone}, nil }, "SLUICE_ROWS_LOST", "its engine no longer holds all of them: run it again"},
		"the engine forgot it all": {Pending, 30, func(engines.Position) (engines.Execution, error) { return nil, engines.ErrLost }, "SLUICE_ENGINE_LOST", "The engine was lost"},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := play(t, func(o *Options) { o.Spool.Memory = 0 })
			w.attach = tc.attach
			o := adopt(t, m, killed(t, w, m, tc.state, tc.rows, false))
			require.Equal(t, Failed, o.Snapshot().State)
			require.Equal(t, tc.class, o.Snapshot().Failure.Class)
			require.Contains(t, o.Snapshot().Failure.Message, tc.text)
			require.Empty(t, leftOf(t, m), "its file is gone")
			_, _, err := o.Rows(t.Context(), 0, 10, 100, func(arrow.RecordBatch, int, int) int { return 1 })
			require.ErrorContains(t, err, tc.text)
		})
	}
}

func TestFilesThatNobodyAsksForAreSwept(t *testing.T) {
	w, m := play(t)
	id := killed(t, w, m, Finished, 30, true)
	require.NoError(t, w.store.CloseOperation(t.Context(), id, 1, time.Now()))
	unknown := filepath.Join(m.opt.Spool.Dir, uuid.NewString()+".rows")
	require.NoError(t, os.WriteFile(unknown, []byte("half a head"), 0o600))
	require.Len(t, leftOf(t, m), 2)
	_, err := m.Adopt(t.Context())
	require.NoError(t, err)
	require.Empty(t, leftOf(t, m))
}

// A result that meets a limit ends with an error that names its key; the gateway goes on.
func TestAResultBeyondTheSpool(t *testing.T) {
	w, m := play(t, func(o *Options) { o.Spool.Memory, o.Spool.Disk = 0, 2000 })
	w.start = func() engines.Execution { return &rest{to: 1000, end: io.EOF} }
	o, snap := exec(t, open(t, m, nil), "SELECT n FROM t")
	require.Equal(t, Failed, snap.State)
	require.Equal(t, "SLUICE_SPOOL_FULL", snap.Failure.Class)
	require.Equal(t, "54000", snap.Failure.SQLState)
	require.Contains(t, snap.Failure.Message, "raise spool.disk")
	require.Empty(t, leftOf(t, m))
	require.NoError(t, o.Close(t.Context()))

	require.NoError(t, os.RemoveAll(m.opt.Spool.Dir))
	_, snap = exec(t, open(t, m, nil), "SELECT n FROM t")
	require.Equal(t, "SLUICE_SPOOL_DISK", snap.Failure.Class)
	require.Contains(t, snap.Failure.Message, m.opt.Spool.Dir)
	require.Contains(t, snap.Failure.Message, "name another directory in spool.dir")
}
