//go:build e2e

package runtimes

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
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// An old Spark forgets sessions without a word. As many as its engine says that it takes are never forgotten, however
// many come and go beside them.
func TestWhatAnOldSparkForgets(t *testing.T) {
	ctx := context.Background()
	id := open(t, old).All("SET spark.sluice.engine")[0][1]
	rec, err := shared.Store(t).Engine(ctx, id)
	require.NoError(t, err)
	start := func(e engines.Engine) (engines.Session, engines.SessionSpec) {
		t.Helper()
		spec := engines.SessionSpec{ID: uuid.New(), User: "ann", Conf: map[string]string{"mark": "kept"}}
		s, err := e.OpenSession(ctx, spec)
		require.NoError(t, err)
		return s, spec
	}
	forgotten := func(s engines.Session) bool {
		t.Helper()
		before, err := s.Set(ctx, map[string]*string{"mark": nil})
		require.NoError(t, err)
		return before["mark"] == nil
	}

	engine := shared.DialEngine(t, rec)
	who, err := engine.Identify(ctx)
	require.NoError(t, err)
	require.Equal(t, testbed.OldSpark, who.Version)
	require.Positive(t, who.MaxSessions)
	var open []engines.Session
	for range who.MaxSessions {
		s, _ := start(engine)
		open = append(open, s)
	}
	for range 150 {
		s, _ := start(engine)
		require.NoError(t, s.Close(ctx))
	}
	for i, s := range open {
		require.False(t, forgotten(s), "session %d", i)
		require.NoError(t, s.Close(ctx))
	}

	// A client that has not asked who it is takes no care. The server does not say that a session is gone; we do.
	victim, spec := start(engine)
	careless := shared.DialEngine(t, rec)
	for range 300 {
		_, err := careless.OpenSession(ctx, engines.SessionSpec{ID: uuid.New(), User: "ann"})
		require.NoError(t, err)
	}
	spec.Known = true
	_, err = engine.OpenSession(ctx, spec)
	require.ErrorIs(t, err, engines.ErrLost)
	require.True(t, forgotten(victim))
}

// A gateway that is killed leaves an engine of an old Spark that works on, and a store that tells how to find both it
// and the statement; the gateway that comes after takes the engine over.
func TestAKilledGatewayWithAnOldSpark(t *testing.T) {
	ctx := context.Background()
	c := open(t, old)
	id := c.All("SET spark.sluice.engine")[0][1]
	pid := onlyEngine(t, testbed.OldSpark)
	st := shared.Store(t)
	// Each row takes a millisecond, so that the statement is running when the gateway dies.
	op := c.Async("SELECT id FROM range(0, 5000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL")
	opID, err := uuid.FromBytes(op.OperationId.GUID)
	require.NoError(t, err)
	testbed.Until(t, 20*time.Second, "it runs on the engine", func() bool {
		rec, err := st.Operation(ctx, opID)
		return err == nil && rec.EngineID == id && c.Status(op).GetOperationState() == tcli.TOperationState_RUNNING_STATE
	})
	shared.Kill()

	rec, err := st.Operation(ctx, opID)
	require.NoError(t, err)
	sess, err := st.Session(ctx, rec.SessionID)
	require.NoError(t, err)
	engineRec, err := st.Engine(ctx, id)
	require.NoError(t, err)
	engine := shared.DialEngine(t, engineRec)
	_, err = engine.Identify(ctx)
	require.NoError(t, err)
	remote, err := engine.OpenSession(ctx, engines.SessionSpec{ID: sess.EngineSession, User: sess.User, Known: true})
	require.NoError(t, err, "the engine still has the session")
	e, err := remote.Attach(ctx, rec.EngineOp, engines.Position{})
	require.NoError(t, err)
	next := int64(0)
	for {
		b, _, err := e.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		for _, id := range b.Column(0).(*array.Int64).Int64Values() {
			require.Equal(t, next, id)
			next++
		}
		b.Release()
	}
	require.Equal(t, int64(5000), next, "every row once")

	shared = shared.Restart(both)
	require.Equal(t, id, open(t, old).All("SET spark.sluice.engine")[0][1], "the same engine")
	require.Equal(t, pid, onlyEngine(t, testbed.OldSpark))
}

// An old Spark's engine is given as many sessions as it keeps; the next one gets another engine, and one that is closed
// makes room.
func TestTheSessionThatIsTooMany(t *testing.T) {
	const takes = 24
	many := map[string]string{"sluice.runtime": "old", "sluice.engine.share.name": "many"} // an engine of their own
	first := open(t, many)
	id := first.All("SET spark.sluice.engine")[0][1]
	engines := len(shared.EnginesOf(testbed.OldSpark))
	clients := []*testbed.HS2{first}
	for len(clients) < takes {
		c := open(t, many)
		c.All("SET v=" + id)
		c.All("CREATE TEMPORARY VIEW mine AS SELECT 1 AS one")
		clients = append(clients, c)
	}
	rec, err := shared.Store(t).Engine(context.Background(), id)
	require.NoError(t, err)
	require.Equal(t, int64(takes), rec.Opened)
	require.Len(t, shared.EnginesOf(testbed.OldSpark), engines)
	other := open(t, many)
	require.NotEqual(t, id, other.All("SET spark.sluice.engine")[0][1])
	require.Len(t, shared.EnginesOf(testbed.OldSpark), engines+1)
	for _, c := range clients[1:] {
		require.Equal(t, [][]string{{"1"}}, c.All("SELECT * FROM mine"), "nobody's session was forgotten")
	}
	_, err = first.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: first.Session})
	require.NoError(t, err)
	testbed.Until(t, 20*time.Second, "there is room again", func() bool {
		c := open(t, many)
		defer func() { _, _ = c.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: c.Session}) }()
		return c.All("SET spark.sluice.engine")[0][1] == id
	})
}
