package spark

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

// releases are the ids up to which the server was told to drop responses.
func (p *peer) releases() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, r := range p.released {
		if until := r.GetReleaseUntil(); until != nil {
			out = append(out, until.ResponseId)
		}
	}
	return out
}

func next(t *testing.T, e engines.Execution) ([]int64, engines.Position) {
	t.Helper()
	b, at, err := e.Next(t.Context())
	require.NoError(t, err)
	defer b.Release()
	return append([]int64(nil), b.Column(0).(*array.Int64).Int64Values()...), at
}

// Whatever is released as soon as it is durable, and wherever the stream is cut, every row comes once: a reader never
// needs what it has released.
func TestReleasedRowsAreNotNeededToMendACut(t *testing.T) {
	n := len(rowsScript(t))
	for cut := 1; cut < n; cut++ {
		p := &peer{script: rowsScript(t), cutAfter: map[int]error{cut: io.EOF}}
		e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
		require.NoError(t, err)
		var got []int64
		for range 3 {
			rows, at := next(t, e)
			got = append(got, rows...)
			e.Durable(at)
			want := at.Token[len("r:"):]
			require.Eventually(t, func() bool { r := p.releases(); return len(r) > 0 && r[len(r)-1] == want }, 10*time.Second, time.Millisecond)
		}
		_, _, err = e.Next(t.Context())
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(30), got, "cut behind response %d", cut)
		require.NoError(t, e.Release(t.Context()))
	}
}

// Another process goes on behind what was released, and is told clearly when it asks for what was.
func TestAttachBehindWhatWasReleased(t *testing.T) {
	p := &peer{script: rowsScript(t)}
	s, id := connect(t, p), uuid.New()
	e, err := s.Start(t.Context(), id, engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
	require.NoError(t, err)
	_, _ = next(t, e)
	_, at := next(t, e)
	e.Durable(at)
	require.Eventually(t, func() bool { return len(p.releases()) == 1 }, 10*time.Second, time.Millisecond)
	e.(*execution).close()

	other, err := s.Attach(t.Context(), id, at)
	require.NoError(t, err)
	rows, _ := next(t, other)
	require.Equal(t, upTo(30)[20:], rows)
	other.(*execution).close()

	other, err = s.Attach(t.Context(), id, engines.Position{})
	require.NoError(t, err)
	_, _, err = other.Next(t.Context())
	var failure *engines.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "INVALID_CURSOR.POSITION_NOT_AVAILABLE", failure.Class)
	require.NoError(t, e.Release(t.Context()))
}

func TestReleasesAreFewAndTheNewest(t *testing.T) {
	p := &peer{script: rowsScript(t)}
	e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
	require.NoError(t, err)
	var last engines.Position
	for range 3 {
		_, last = next(t, e)
		e.Durable(last)
	}
	require.Eventually(t, func() bool { return len(p.releases()) > 0 }, 10*time.Second, time.Millisecond)
	require.Equal(t, []string{last.Token[len("r:"):]}, p.releases())
	e.(*execution).close()
	require.NoError(t, e.Release(t.Context()))
}

func TestWhatIsNotReleased(t *testing.T) {
	for name, at := range map[string]engines.Position{
		"a command's answer, which is read anew": {Token: "c:x", Rows: 4},
		"a place that no id tells":               {Rows: 4},
	} {
		t.Run(name, func(t *testing.T) {
			e := &execution{}
			e.Durable(at)
			require.False(t, e.forget.running)
		})
	}
	t.Run("after Release", func(t *testing.T) {
		p := &peer{script: rowsScript(t)}
		e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
		require.NoError(t, err)
		_, at := next(t, e)
		e.Durable(at)
		require.NoError(t, e.Release(t.Context()), "it ends what is under way")
		e.Durable(at)
		require.False(t, e.(*execution).forget.running)
		require.Empty(t, p.releases())
		e.(*execution).close()
	})
}

// A response with several batches has one id, which tells the place behind the last of them only.
func TestAPlaceInsideAResponse(t *testing.T) {
	script := rowsScript(t)
	script = append(script[:2:2], script[5:]...) // schema, progress, one batch, the end
	script[2].GetArrowBatch().Data = two(t)
	p := &peer{script: script}
	s, id := connect(t, p), uuid.New()
	e, err := s.Start(t.Context(), id, engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
	require.NoError(t, err)
	_, at := next(t, e)
	require.Equal(t, engines.Position{Rows: 10}, at)
	e.(*execution).close()
	other, err := s.Attach(t.Context(), id, at)
	require.NoError(t, err)
	rows, end := next(t, other)
	require.Equal(t, upTo(20)[10:], rows)
	require.NotEmpty(t, end.Token)
	_, _, err = other.Next(context.Background())
	require.True(t, errors.Is(err, io.EOF))
}
