package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
)

// place is a store that a test plays.
type place struct {
	mu      sync.Mutex
	batches [][]Record
	pruned  []time.Time
	old     int64                // records that are there to be pruned
	answer  func([]Record) error // before it takes records
}

func (p *place) AddAudit(_ context.Context, records []Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answer != nil {
		if err := p.answer(records); err != nil {
			return err
		}
	}
	p.batches = append(p.batches, append([]Record(nil), records...))
	return nil
}

func (p *place) PruneAudit(_ context.Context, before time.Time, max int) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pruned = append(p.pruned, before)
	n := min(p.old, int64(max))
	p.old -= n
	return n, nil
}

func (p *place) say(answer func([]Record) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// users are the users of all records that the place took, in order.
func (p *place) users() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.batches {
		for _, r := range b {
			out = append(out, r.User)
		}
	}
	return out
}

func named(n int) Record {
	return Record{ID: uuid.New(), Time: time.Now(), Kind: SessionOpened, User: fmt.Sprint("u", n)}
}

func upTo(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("u", i))
	}
	return out
}

// text is a buffer that a test reads while others write. It fails as often as it is told.
type text struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	fails int
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.fails > 0 {
		x.fails--
		return 0, errors.New("no space left on device")
	}
	return x.buf.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.String()
}

// bench is a trail that runs in a bubble of its own time.
type bench struct {
	*Trail
	store   *place
	lines   *text
	log     *text
	mu      sync.Mutex
	dropped map[string]int
	stop    func() // and wait
}

func (b *bench) lost() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.dropped)
}

func run(t *testing.T, change ...func(*Options)) *bench {
	b := &bench{store: &place{}, lines: &text{}, log: &text{}, dropped: map[string]int{}}
	opt := Options{Store: b.store, Lines: b.lines, Keep: 24 * time.Hour, MaxStatement: 100, Buffer: 1 << 20, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		Dropped: func(to string, n int) { b.mu.Lock(); defer b.mu.Unlock(); b.dropped[to] += n }}
	for _, c := range change {
		c(&opt)
	}
	b.Trail = New(opt)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = b.Run(ctx) }()
	b.stop = func() { cancel(); <-ended }
	t.Cleanup(b.stop)
	return b
}

func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t)
		for i := range 2*batch + 50 {
			b.Add(named(i))
		}
		synctest.Wait()
		require.Equal(t, 2*batch+50, strings.Count(b.lines.String(), "\n"), "lines are written at once")
		require.Empty(t, b.store.users(), "the store waits for others to share the transaction")
		require.Equal(t, 2*batch+50, b.Waiting())
		<-time.After(gather + time.Millisecond)
		require.Equal(t, upTo(2*batch+50), b.store.users(), "in their order")
		require.Len(t, b.store.batches, 3, "few transactions")
		require.Zero(t, b.Waiting())
		b.stop()
		require.Empty(t, b.lost())
	})
}

// While the store is away records wait for it, lines are written regardless, and nobody who adds one waits.
func TestAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t)
		b.store.say(func([]Record) error { return fmt.Errorf("%w: no route", store.ErrUnavailable) })
		for i := range 300 {
			b.Add(named(i))
		}
		<-time.After(time.Minute)
		require.Equal(t, 300, strings.Count(b.lines.String(), "\n"))
		require.Equal(t, 300, b.Waiting())
		require.Equal(t, 1, strings.Count(b.log.String(), "level=WARN"), "told once: %s", b.log.String())
		b.store.say(nil)
		<-time.After(retryAfter + time.Millisecond)
		require.Equal(t, upTo(300), b.store.users())
		require.Contains(t, b.log.String(), "audit records are written again")
		b.stop()
		require.Empty(t, b.lost())
	})
}

func TestWhatDoesNotFitIsCountedAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, func(o *Options) { o.Buffer = 10 * weight(Record{}) })
		b.store.say(func([]Record) error { return store.ErrUnavailable })
		for i := range 25 {
			b.Add(named(i))
			synctest.Wait() // the lines keep up
		}
		require.Equal(t, map[string]int{"store": 15}, b.lost())
		require.Equal(t, 25, strings.Count(b.lines.String(), "\n"), "each place has a buffer of its own")
		require.Equal(t, 1, strings.Count(b.log.String(), "audit records are dropped"), b.log.String())
		b.store.say(nil)
		<-time.After(2 * retryAfter)
		require.Equal(t, upTo(10), b.store.users(), "the oldest are kept")
		require.Contains(t, b.log.String(), "records=15")
		b.Add(named(0))
		<-time.After(2 * gather)
		require.Len(t, b.store.users(), 11, "there is room again")
	})
}

// One record that the store refuses must not hold up the others.
func TestARefusedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t)
		b.store.say(func(records []Record) error {
			for _, r := range records {
				if r.User == "u33" {
					return errors.New("no such column")
				}
			}
			return nil
		})
		for i := range 100 {
			b.Add(named(i))
		}
		<-time.After(gather + time.Millisecond)
		want := append(upTo(33), upTo(100)[34:]...)
		require.Equal(t, want, b.store.users())
		require.Equal(t, map[string]int{"store": 1}, b.lost())
		require.Contains(t, b.log.String(), "no such column")
	})
}

func TestTheEndWritesWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t)
		for i := range 3 * batch {
			b.Add(named(i))
		}
		b.stop()
		require.Equal(t, upTo(3*batch), b.store.users())
		require.Empty(t, b.lost())
	})
	synctest.Test(t, func(t *testing.T) {
		b := run(t)
		b.store.say(func([]Record) error { return store.ErrUnavailable })
		for i := range 5 {
			b.Add(named(i))
		}
		b.stop()
		require.Equal(t, map[string]int{"store": 5}, b.lost(), "what cannot be written then is lost, and counted")
		require.Contains(t, b.log.String(), "records=5")
	})
}

func TestAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, func(o *Options) { o.Lines = &text{fails: 3} })
		for i := range 5 {
			b.Add(named(i))
		}
		<-time.After(time.Minute)
		require.Equal(t, 5, strings.Count(b.opt.Lines.(*text).String(), "\n"), "every record once, later")
		require.Contains(t, b.log.String(), "no space left on device")
	})
}

func TestOldRecordsArePruned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t)
		b.store.mu.Lock()
		b.store.old = 2*pruneBatch + 1
		b.store.mu.Unlock()
		began := time.Now()
		synctest.Wait()
		<-time.After(pruneEvery + time.Second)
		b.store.mu.Lock()
		defer b.store.mu.Unlock()
		require.Zero(t, b.store.old, "all of them, a part at a time")
		require.Equal(t, began.Add(-24*time.Hour), b.store.pruned[0])
		require.Equal(t, began, b.store.pruned[len(b.store.pruned)-1], "and again a day later")
	})
}

func TestWhatIsKeptOfAStatement(t *testing.T) {
	long := strings.Repeat("ü", 60)
	for name, tc := range map[string]struct {
		statements, text, err, want, wantErr string
	}{
		"full":            {"full", "SELECT 1", "first\nsecond", "SELECT 1", "first"},
		"a long one":      {"full", long, "", strings.Repeat("ü", 50) + "… (120 bytes)", ""},
		"not in a letter": {"full", "x" + long, "", "x" + strings.Repeat("ü", 49) + "… (121 bytes)", ""},
		"a hash":          {Hash, "SELECT 1", "near 'SELECT'", "sha256:e004ebd5b5532a4b85984a62f8ad48a81aa3460c1ca07701f386135d72cdecf5", ""},
		"nothing":         {None, "SELECT 1", "near 'SELECT'", "", ""},
		"no statement":    {Hash, "", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := run(t, func(o *Options) { o.Statements = tc.statements })
				b.Add(Record{Kind: OperationEnded, Statement: tc.text, Error: tc.err, ErrorClass: "C", SQLState: "42000"})
				b.Add(Record{Kind: LoginRefused, Error: "why"})
				b.stop()
				got := b.store.batches[0]
				require.Equal(t, tc.want, got[0].Statement)
				require.Equal(t, tc.wantErr, got[0].Error)
				require.Equal(t, "C 42000", got[0].ErrorClass+" "+got[0].SQLState, "the class tells nothing of the statement")
				require.Equal(t, "why", got[1].Error)
			})
		})
	}
}

// Who reads the lines relies on these names, and on all of them being there always.
func TestNamesOfTheFields(t *testing.T) {
	data, err := json.Marshal(Record{})
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(data, &fields))
	var names []string
	for i := range reflect.TypeFor[Record]().NumField() {
		names = append(names, strings.Split(reflect.TypeFor[Record]().Field(i).Tag.Get("json"), ",")[0])
	}
	require.Equal(t, []string{"id", "time", "kind", "gateway", "session", "operation", "user", "real_user", "address", "front_end", "statement_kind",
		"statement", "catalog", "database", "engine", "cluster", "share_key", "profile", "route", "waited_ms", "ran_ms", "rows", "rows_fetched", "bytes",
		"state", "error_class", "sql_state", "error", "reason"}, names)
	require.Len(t, fields, len(names), "an empty field is there too")
}

func TestIDs(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	require.Equal(t, ID(OperationEnded, a), ID(OperationEnded, a))
	require.NotEqual(t, ID(OperationEnded, a), ID(OperationEnded, b))
	require.NotEqual(t, ID(SessionOpened, a), ID(SessionClosed, a))
}

// The lines and the table hold the same, with a real database.
func TestLinesAndTableAgree(t *testing.T) {
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	b := run(t, func(o *Options) { o.Store = s })
	for i := range 30 {
		r := named(i)
		r.Statement, r.Error, r.Bytes = "SELECT '\n\"<ü>'", "first\nsecond", 1<<50
		b.Add(r)
	}
	b.stop()
	rows, err := s.Audit(t.Context(), time.Time{}, time.Now().Add(time.Hour), 1000)
	require.NoError(t, err)
	byID := map[uuid.UUID]Record{}
	for line := range strings.Lines(b.lines.String()) {
		var r Record
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		byID[r.ID] = r
	}
	require.Len(t, byID, 30)
	require.Len(t, rows, 30)
	for _, r := range rows {
		r.Time = r.Time.UTC()
		require.Equal(t, byID[r.ID], r)
	}
}

func BenchmarkAdd(b *testing.B) {
	t := New(Options{Store: &place{}, Buffer: 1 << 40, MaxStatement: 1 << 16, Log: slog.New(slog.DiscardHandler), Dropped: func(string, int) {}})
	r := named(1)
	r.Statement = strings.Repeat("SELECT ", 100)
	for b.Loop() {
		t.Add(r)
		t.sinks[0].queue, t.sinks[0].size = t.sinks[0].queue[:0], 0
	}
}
