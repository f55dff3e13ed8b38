package spool

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	plenty  = int64(1 << 30)
	allRows = int64(1 << 40)
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "list", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
}, nil)

// batch makes rows from first on: a number, null in every fifth row, and a list of one text that tells the number too.
func batch(mem memory.Allocator, first, rows int) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	n, list := b.Field(0).(*array.Int64Builder), b.Field(1).(*array.ListBuilder)
	for i := first; i < first+rows; i++ {
		if i%5 == 0 {
			n.AppendNull()
		} else {
			n.Append(int64(i))
		}
		list.Append(true)
		list.ValueBuilder().(*array.StringBuilder).Append("row " + strconv.Itoa(i))
	}
	return b.NewRecordBatch()
}

// numbers says which rows batches hold, and releases them.
func numbers(t *testing.T, batches []arrow.RecordBatch) []int {
	t.Helper()
	out := []int{}
	for _, b := range batches {
		n, list := b.Column(0).(*array.Int64), b.Column(1).(*array.List)
		texts := list.ListValues().(*array.String)
		for i := range int(b.NumRows()) {
			from, _ := list.ValueOffsets(i)
			row, err := strconv.Atoi(texts.Value(int(from))[len("row "):])
			require.NoError(t, err)
			require.Equal(t, row%5 == 0, n.IsNull(i), "row %d", row)
			if n.IsValid(i) {
				require.Equal(t, int64(row), n.Value(i))
			}
			out = append(out, row)
		}
		b.Release()
	}
	return out
}

func seq(from, to int) []int {
	out := []int{}
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// tenBytes is a size of rows that is easy to count with.
func tenBytes(_ arrow.RecordBatch, from, to int) int { return 10 * (to - from) }

// newPool makes a pool that must be empty when the test ends.
func newPool(t *testing.T, l Limits) *Pool {
	t.Helper()
	l.Dir = t.TempDir()
	if l.TotalMemory == 0 {
		l.TotalMemory = plenty
	}
	if l.TotalDisk == 0 {
		l.TotalDisk = plenty
	}
	p := NewPool(l)
	t.Cleanup(func() {
		held, disk := p.Usage()
		require.Zero(t, held)
		require.Zero(t, disk)
		require.Empty(t, files(t, p))
	})
	return p
}

func files(t *testing.T, p *Pool) []string {
	t.Helper()
	entries, err := os.ReadDir(p.limits.Dir)
	require.NoError(t, err)
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// newSpool makes a spool whose rows must all be given back when the test ends. Rows on disk are read back with another
// allocator, that of Arrow's reader.
func newSpool(t *testing.T, l Limits) (*Spool, memory.Allocator) {
	t.Helper()
	return inPool(t, newPool(t, l))
}

func inPool(t *testing.T, p *Pool) (*Spool, memory.Allocator) {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	s := p.New(uuid.New())
	t.Cleanup(func() {
		s.Close()
		mem.AssertSize(t, 0)
	})
	return s, mem
}

// fill appends batches of ten rows.
func fill(t *testing.T, s *Spool, mem memory.Allocator, batches int) {
	t.Helper()
	for i := range batches {
		add(t, s, batch(mem, i*10, 10))
	}
}

// add appends a batch whose token is the number of rows up to its end.
func add(t *testing.T, s *Spool, b arrow.RecordBatch) {
	t.Helper()
	_, err := s.Append(b, strconv.FormatInt(s.rows+b.NumRows(), 10))
	require.NoError(t, err)
}

// read reads rows that must be there.
func read(t *testing.T, s *Spool, from, limit, rows int64) ([]int, bool) {
	t.Helper()
	batches, more, err := s.Read(t.Context(), from, limit, rows, tenBytes)
	require.NoError(t, err)
	return numbers(t, batches), more
}

func oneBatch(t *testing.T) int64 {
	t.Helper()
	b := batch(memory.NewGoAllocator(), 0, 10)
	defer b.Release()
	return heldBytes(b)
}

// Wherever rows lie, readers get the same ones.
func TestPlaces(t *testing.T) {
	one := oneBatch(t)
	for name, tc := range map[string]struct {
		limits Limits
		disk   bool
	}{
		"memory": {Limits{Memory: plenty}, false},
		"both":   {Limits{Memory: 2*one + one/2, Disk: plenty}, true},
		"disk":   {Limits{Disk: plenty}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, mem := newSpool(t, tc.limits)
			fill(t, s, mem, 5)
			s.Finish(nil)
			require.Equal(t, tc.disk, s.file != nil)
			require.LessOrEqual(t, s.memory, tc.limits.Memory)
			if name == "both" {
				require.Nil(t, s.parts[0].batch)
				require.NotNil(t, s.parts[4].batch, "what came last is read without the disk")
			}
			for range 2 { // again from the first row
				rows, more := read(t, s, 0, plenty, allRows)
				require.Equal(t, seq(0, 50), rows)
				require.False(t, more)
			}
			rows, more := read(t, s, 50, plenty, allRows)
			require.Empty(t, rows, "no rows and no error mean the end")
			require.False(t, more)
		})
	}
}

func TestPaging(t *testing.T) {
	one := oneBatch(t)
	for place, limits := range map[string]Limits{"memory": {Memory: plenty}, "both": {Memory: one, Disk: plenty}, "disk": {Disk: plenty}} {
		for name, tc := range map[string]struct {
			from, limit, max int64
			want             []int
			more             bool
		}{
			"rows within a batch":          {0, plenty, 4, seq(0, 4), true},
			"rows up to a batch's end":     {0, plenty, 10, seq(0, 10), true},
			"rows over batches":            {0, plenty, 25, seq(0, 25), true},
			"from inside a batch":          {7, plenty, 5, seq(7, 12), true},
			"the last row of a batch":      {9, plenty, 1, seq(9, 10), true},
			"to the end":                   {13, plenty, allRows, seq(13, 30), false},
			"just to the end":              {13, plenty, 17, seq(13, 30), false},
			"after the end":                {30, plenty, 5, seq(0, 0), false},
			"far after the end":            {1000, plenty, 5, seq(0, 0), false},
			"bytes of a batch":             {0, 100, allRows, seq(0, 10), true},
			"bytes of a part, by halves":   {0, 59, allRows, seq(0, 5), true},
			"bytes of a batch and a part":  {0, 150, allRows, seq(0, 15), true},
			"bytes from inside a batch":    {8, 70, allRows, seq(8, 15), true},
			"one row is always given":      {3, 1, allRows, seq(3, 4), true},
			"even the last one of a batch": {9, 1, allRows, seq(9, 10), true},
			"rows before bytes":            {0, 100, 3, seq(0, 3), true},
		} {
			t.Run(place+"/"+name, func(t *testing.T) {
				s, mem := newSpool(t, limits)
				fill(t, s, mem, 3)
				s.Finish(nil)
				rows, more := read(t, s, tc.from, tc.limit, tc.max)
				require.Equal(t, tc.want, rows)
				require.Equal(t, tc.more, more)
			})
		}
	}
}

// Pages of any size put together are the whole result.
func TestPagesJoin(t *testing.T) {
	s, mem := newSpool(t, Limits{Memory: oneBatch(t), Disk: plenty})
	fill(t, s, mem, 6)
	s.Finish(nil)
	for _, limit := range []int64{1, 35, 99, 100, 250, plenty} {
		for _, rows := range []int64{1, 3, 10, 11, 59, allRows} {
			var all []int
			for more := true; more; {
				var page []int
				page, more = read(t, s, int64(len(all)), limit, rows)
				require.NotEmpty(t, page)
				all = append(all, page...)
			}
			require.Equal(t, seq(0, 60), all, "limit %d, rows %d", limit, rows)
		}
	}
}

// waiting runs f in a goroutine and returns, when f waits in the spool, where its result will come.
func waiting[R any](f func(started func()) R) <-chan R {
	out, begun := make(chan R, 1), make(chan struct{})
	go func() { out <- f(sync.OnceFunc(func() { close(begun) })) }()
	<-begun
	return out
}

type page struct {
	batches []arrow.RecordBatch
	more    bool
	err     error
}

// firstLook is a context that says when somebody begins to wait for its end: after the spool was found without rows.
type firstLook struct {
	context.Context
	seen func()
}

func (c firstLook) Done() <-chan struct{} {
	c.seen()
	return c.Context.Done()
}

func TestReadWaits(t *testing.T) {
	boom, gone := errors.New("boom"), errors.New("the client is gone")
	for name, tc := range map[string]struct {
		wake func(*testing.T, *Spool, memory.Allocator, context.CancelCauseFunc)
		rows []int
		err  error
	}{
		"for rows": {func(t *testing.T, s *Spool, mem memory.Allocator, _ context.CancelCauseFunc) {
			s.SetSchema(schema)         // wakes it for nothing
			add(t, s, batch(mem, 0, 0)) // too
			add(t, s, batch(mem, 0, 3))
		}, seq(0, 3), nil},
		"for the end":     {func(_ *testing.T, s *Spool, _ memory.Allocator, _ context.CancelCauseFunc) { s.Finish(nil) }, seq(0, 0), nil},
		"for a failure":   {func(_ *testing.T, s *Spool, _ memory.Allocator, _ context.CancelCauseFunc) { s.Finish(boom) }, nil, boom},
		"for Close":       {func(_ *testing.T, s *Spool, _ memory.Allocator, _ context.CancelCauseFunc) { s.Close() }, nil, ErrClosed},
		"for its context": {func(_ *testing.T, _ *Spool, _ memory.Allocator, cancel context.CancelCauseFunc) { cancel(gone) }, nil, gone},
	} {
		t.Run(name, func(t *testing.T) {
			s, mem := newSpool(t, Limits{Memory: plenty})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			got := waiting(func(started func()) page {
				batches, more, err := s.Read(firstLook{ctx, started}, 0, plenty, allRows, tenBytes)
				return page{batches, more, err}
			})
			select {
			case p := <-got:
				t.Fatalf("it did not wait: %v", p)
			default:
			}
			tc.wake(t, s, mem, cancel)
			p := <-got
			require.ErrorIs(t, p.err, tc.err)
			if tc.err == nil {
				require.Equal(t, tc.rows, numbers(t, p.batches))
			}
		})
	}
}

func TestSchema(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		wake func(*testing.T, *Spool, memory.Allocator)
		want *arrow.Schema
		err  error
	}{
		"said":             {func(_ *testing.T, s *Spool, _ memory.Allocator) { s.SetSchema(schema) }, schema, nil},
		"of rows":          {func(t *testing.T, s *Spool, mem memory.Allocator) { add(t, s, batch(mem, 0, 1)) }, schema, nil},
		"of no rows":       {func(t *testing.T, s *Spool, mem memory.Allocator) { add(t, s, batch(mem, 0, 0)) }, schema, nil},
		"none, at the end": {func(_ *testing.T, s *Spool, _ memory.Allocator) { s.Finish(nil) }, nil, nil},
		"a failure":        {func(_ *testing.T, s *Spool, _ memory.Allocator) { s.Finish(boom) }, nil, boom},
		"closed":           {func(_ *testing.T, s *Spool, _ memory.Allocator) { s.Close() }, nil, ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			s, mem := newSpool(t, Limits{Memory: plenty})
			type result struct {
				schema *arrow.Schema
				err    error
			}
			got := waiting(func(started func()) result {
				schema, err := s.Schema(firstLook{t.Context(), started})
				return result{schema, err}
			})
			tc.wake(t, s, mem)
			r := <-got
			require.ErrorIs(t, r.err, tc.err)
			require.Equal(t, tc.want, r.schema)
		})
	}
}

func TestNoRowsKeepTheSchema(t *testing.T) {
	s, mem := newSpool(t, Limits{Memory: plenty})
	add(t, s, batch(mem, 0, 0))
	add(t, s, batch(mem, 0, 2))
	add(t, s, batch(mem, 2, 0))
	add(t, s, batch(mem, 2, 2))
	s.Finish(nil)
	got, err := s.Schema(t.Context())
	require.NoError(t, err)
	require.Equal(t, schema, got)
	rows, more := read(t, s, 0, plenty, allRows)
	require.Equal(t, seq(0, 4), rows)
	require.False(t, more)
}

// While the writer goes on, an end of what is there is not the end.
func TestReadBeforeTheEnd(t *testing.T) {
	s, mem := newSpool(t, Limits{Memory: plenty})
	fill(t, s, mem, 1)
	rows, more := read(t, s, 0, plenty, 3)
	require.Equal(t, seq(0, 3), rows)
	require.True(t, more)
	rows, _ = read(t, s, 3, plenty, allRows)
	require.Equal(t, seq(3, 10), rows)
	done, err := s.Done()
	require.False(t, done)
	require.NoError(t, err)

	boom := errors.New("boom")
	s.Finish(boom)
	s.Finish(nil) // the first word holds
	done, err = s.Done()
	require.True(t, done)
	require.ErrorIs(t, err, boom)
	_, _, err = s.Read(t.Context(), 0, plenty, allRows, tenBytes)
	require.ErrorIs(t, err, boom, "a failure drops the rows before it")
}

func TestAppendAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(*Spool){"Finish": func(s *Spool) { s.Finish(nil) }, "Close": (*Spool).Close} {
		t.Run(name, func(t *testing.T) {
			s, mem := newSpool(t, Limits{Memory: plenty})
			end(s)
			_, err := s.Append(batch(mem, 0, 1), "")
			require.ErrorIs(t, err, ErrClosed)
		})
	}
}

// A client that fetches while another closes the operation must not take the missing rows for the end of the result.
func TestReadAfterClose(t *testing.T) {
	for name, limits := range map[string]Limits{"memory": {Memory: plenty}, "disk": {Disk: plenty}} {
		t.Run(name, func(t *testing.T) {
			s, mem := newSpool(t, limits)
			fill(t, s, mem, 3)
			s.Finish(nil)
			held, _, err := s.Read(t.Context(), 5, plenty, 10, tenBytes)
			require.NoError(t, err)
			s.Close()
			s.Close() // again is no fault
			for _, from := range []int64{0, 15, 30} {
				_, more, err := s.Read(t.Context(), from, plenty, allRows, tenBytes)
				require.ErrorIs(t, err, ErrClosed, "from %d", from)
				require.False(t, more)
			}
			require.Equal(t, seq(5, 15), numbers(t, held), "rows that a reader holds stay until it releases them")
		})
	}
}

// One writer and several readers at once, each of which must see every row in order; the race detector looks on.
func TestRace(t *testing.T) {
	const batches, readers = 40, 4
	s, mem := newSpool(t, Limits{Memory: 10 * oneBatch(t), Disk: plenty})
	var wg sync.WaitGroup
	got := make([][]int, readers)
	errs := make([]error, readers)
	for r := range readers {
		wg.Go(func() {
			for {
				page, _, err := s.Read(t.Context(), int64(len(got[r])), int64(50+100*r), int64(3+7*r), tenBytes)
				if err != nil || len(page) == 0 {
					errs[r] = err
					return
				}
				got[r] = append(got[r], numbers(t, page)...)
			}
		})
	}
	fill(t, s, mem, batches)
	s.Finish(nil)
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	for r := range readers {
		require.Equal(t, seq(0, batches*10), got[r], "reader %d", r)
	}
}

// Readers that are at work when the spool is closed get ErrClosed, and release what they hold.
func TestCloseWhileReading(t *testing.T) {
	s, mem := newSpool(t, Limits{Memory: oneBatch(t), Disk: plenty})
	fill(t, s, mem, 20)
	var wg, reading sync.WaitGroup
	errs := make([]error, 3)
	reading.Add(len(errs))
	for r := range errs {
		wg.Go(func() {
			started := sync.OnceFunc(reading.Done)
			for from := int64(0); errs[r] == nil; from = (from + 7) % 200 {
				var page []arrow.RecordBatch
				page, _, errs[r] = s.Read(t.Context(), from, plenty, 30, tenBytes)
				release(page)
				started()
			}
		})
	}
	reading.Wait()
	s.Close()
	wg.Wait()
	for _, err := range errs {
		require.ErrorIs(t, err, ErrClosed)
	}
}
