package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/store"
)

// witness keeps what observers are told.
type witness struct {
	mu      sync.Mutex
	done    []Done
	closed  []string
	opened  []uuid.UUID
	refused []string
}

func (w *witness) hooks(o *Options) {
	with := func(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }
	o.Hooks = Hooks{
		OperationDone: func(d Done) { with(func() { w.done = append(w.done, d) }) },
		SessionOpened: func(s store.Session) { with(func() { w.opened = append(w.opened, s.ID) }) },
		SessionClosed: func(_ store.Session, why string) { with(func() { w.closed = append(w.closed, why) }) },
		SessionRefused: func(r OpenRequest, err error) {
			with(func() { w.refused = append(w.refused, r.Identity.User+": "+err.Error()) })
		},
	}
}

func (w *witness) told() []Done {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

func TestAnOperationIsDoneOnce(t *testing.T) {
	var seen witness
	w, m := play(t, seen.hooks)
	s := open(t, m, map[string]string{ProfileKey + ".not": "x"})
	_, _ = exec(t, s, "USE db") // answered here
	o, _ := exec(t, s, "SELECT a FROM t")
	require.Empty(t, seen.told(), "not while its client may still fetch")
	o.Sent(1, 100)
	o.Sent(0, 20)
	require.NoError(t, o.Close(t.Context()))
	require.Len(t, seen.told(), 1)
	d := seen.told()[0]
	require.Equal(t, o.ID, d.Operation.ID)
	require.Equal(t, "FINISHED", d.Operation.State)
	require.Equal(t, []int64{1, 1, 120}, []int64{d.Operation.Rows, d.RowsSent, d.BytesSent})
	require.Equal(t, s.ID, d.Session.ID)
	require.Equal(t, "db", d.Database)
	require.Equal(t, "c/spark/user/ann///", d.Key.String())
	require.Equal(t, string(w.tag), d.Operation.EngineID)
	require.NotEmpty(t, d.Route)
	require.NoError(t, o.Close(t.Context()))
	require.Len(t, seen.told(), 1, "closing twice tells once")

	w.answer = func(string) error { return &engines.Error{Class: "C", SQLState: "22012", Message: "no\nstack"} }
	failed, _ := exec(t, s, "SELECT b FROM t")
	require.NoError(t, m.Close(t.Context(), s, "test"))
	require.NoError(t, failed.Close(t.Context()))
	require.Len(t, seen.told(), 3, "the session's end tells of what was open")
	states := map[string]string{}
	for _, d := range seen.told() {
		states[d.Operation.Statement] = d.Operation.State + " " + d.Operation.ErrorClass
	}
	require.Equal(t, map[string]string{"USE db": "FINISHED ", "SELECT a FROM t": "FINISHED ", "SELECT b FROM t": "ERROR C"}, states)
	require.Equal(t, []string{"test"}, seen.closed)
	require.Equal(t, []uuid.UUID{s.ID}, seen.opened)
}

// A client that goes while it closes must not make the end of its statement go unseen.
func TestDoneWhenClosedBeforeItEnded(t *testing.T) {
	var seen witness
	w, m := play(t, seen.hooks)
	o, err := open(t, m, nil).Execute(t.Context(), ExecuteRequest{Text: block})
	require.NoError(t, err)
	w.awaitRun(t, block)
	w.cancelled = make(chan string) // the engine takes its time to hear of it
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, o.Close(gone))
	require.Empty(t, seen.told(), "it has not ended yet")
	<-w.cancelled
	<-o.done
	require.Eventually(t, func() bool { return len(seen.told()) == 1 }, 5*time.Second, time.Millisecond)
	require.Equal(t, "CANCELED", seen.told()[0].Operation.State)
}

func TestRefusedSessionsAreTold(t *testing.T) {
	var seen witness
	_, m := play(t, seen.hooks)
	req := OpenRequest{Identity: auth.Identity{User: "ann"}, Conf: map[string]string{ClusterKey: "nope"}}
	_, err := m.Open(t.Context(), req)
	require.Error(t, err)
	m.Refused(req, errors.New("a front end's reason"))
	require.Len(t, seen.refused, 2)
	require.Contains(t, seen.refused[0], `ann: there is no cluster "nope"`)
	require.Equal(t, "ann: a front end's reason", seen.refused[1])
	require.Empty(t, seen.opened)
}

// A statement that ended at a gateway that was killed is told of as it ended there, whatever became of its rows. One that
// cannot go on is told of with its failure.
func TestDoneAfterAKill(t *testing.T) {
	for name, tc := range map[string]struct {
		left        store.Operation
		state, code string
	}{
		"had ended":       {store.Operation{State: "FINISHED", Rows: 5, Fetched: 3, EndedAt: new(time.Time)}, "FINISHED", ""},
		"had failed":      {store.Operation{State: "ERROR", ErrorClass: "C", ErrorMessage: "no", EndedAt: new(time.Time)}, "ERROR", "C"},
		"had not begun":   {store.Operation{State: "PENDING"}, "FINISHED", ""},
		"its engine died": {store.Operation{State: "PENDING", EngineID: "gone"}, "ERROR", "SLUICE_ENGINE_LOST"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen witness
			w, m := play(t, seen.hooks)
			sess := store.Session{ID: uuid.New(), Replica: m.opt.Replica(), Fence: 1, User: "ann", OpenedAt: time.Now(), SeenAt: time.Now()}
			require.NoError(t, w.store.CreateSession(t.Context(), sess))
			op := tc.left
			op.ID, op.SessionID, op.Fence, op.Kind, op.Statement, op.CreatedAt = uuid.New(), sess.ID, 1, string(Statement), "SELECT 1 FROM t", time.Now()
			require.NoError(t, w.store.CreateOperation(t.Context(), op))
			o := adopt(t, m, op.ID)
			require.NoError(t, m.Close(t.Context(), o.Session, "test"))
			require.Len(t, seen.told(), 1)
			d := seen.told()[0]
			require.Equal(t, tc.state, d.Operation.State)
			require.Equal(t, tc.code, d.Operation.ErrorClass)
			if op.EndedAt != nil {
				require.Equal(t, op.Rows, d.Operation.Rows)
			}
			require.Equal(t, op.Fetched, d.RowsSent, "what was sent before counts")
		})
	}
}

// What another gateway has taken over is told of there.
func TestLostSessionsAreNotDone(t *testing.T) {
	var seen witness
	_, m := play(t, seen.hooks)
	s := open(t, m, nil)
	o, _ := exec(t, s, "SELECT a FROM t")
	m.Lost(m.opt.Replica())
	<-o.done
	require.Empty(t, seen.told())
	require.Empty(t, seen.closed)
}

func TestFirstWord(t *testing.T) {
	for text, want := range map[string]string{
		"select 1": "select", " -- c\n/* x */ (((INSERT INTO t": "INSERT", "WITH a AS (SELECT 1) SELECT": "WITH", "": "", "/* open": "", "7": "",
	} {
		require.Equal(t, want, FirstWord(text), text)
	}
}
