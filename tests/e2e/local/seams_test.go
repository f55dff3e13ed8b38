//go:build e2e

package local

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// take reads batches of a column of ascending ids, checks that none is missing or comes twice, and returns the count.
func take(t *testing.T, e engines.Execution, next int64, batches int) (int64, engines.Position, bool) {
	t.Helper()
	var at engines.Position
	for range batches {
		b, pos, err := e.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return next, at, true
		}
		require.NoError(t, err)
		for _, id := range b.Column(0).(*array.Int64).Int64Values() {
			require.Equal(t, next, id)
			next++
		}
		b.Release()
		at = pos
		require.Equal(t, next, at.Rows)
	}
	return next, at, false
}

const million = "SELECT id FROM range(0, 1000000, 1, 8)"

func TestACutStreamGoesOn(t *testing.T) {
	ctx := context.Background()
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("SELECT 2")
	rec := shared.EngineOf(t, "ann")
	first := shared.DialEngine(t, rec)
	who, err := first.Identify(ctx)
	require.NoError(t, err)
	require.Equal(t, engines.Tag(rec.ID), who.Tag, "the engine says that it is ours")

	spec := engines.SessionSpec{ID: uuid.New(), User: "ann"}
	session, err := first.OpenSession(ctx, spec)
	require.NoError(t, err)
	defer func() { _ = session.Close(ctx) }()

	t.Run("a context's end detaches and the next call goes on", func(t *testing.T) {
		e, err := session.Start(ctx, uuid.New(), engines.Query{SQL: million})
		require.NoError(t, err)
		next, _, _ := take(t, e, 0, 3)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, _, err = e.Next(ended)
		require.ErrorIs(t, err, context.Canceled)
		next, _, end := take(t, e, next, 1000)
		require.True(t, end)
		require.Equal(t, int64(1_000_000), next)
		require.NoError(t, e.Release(ctx))
	})
	t.Run("another client attaches behind a position", func(t *testing.T) {
		id := uuid.New()
		e, err := session.Start(ctx, id, engines.Query{SQL: million, ReturnRows: true})
		require.NoError(t, err)
		next, at, _ := take(t, e, 0, 5)

		second := shared.DialEngine(t, rec)
		other, err := second.OpenSession(ctx, spec)
		require.NoError(t, err)
		rest, err := other.Attach(ctx, id, at)
		require.NoError(t, err)
		next, _, end := take(t, rest, next, 1000)
		require.True(t, end)
		require.Equal(t, int64(1_000_000), next, "every row came once")
		require.NoError(t, rest.Release(ctx))
	})
	t.Run("attach to a command gives its rows", func(t *testing.T) {
		id := uuid.New()
		e, err := session.Start(ctx, id, engines.Query{SQL: "SHOW NAMESPACES"})
		require.NoError(t, err)
		b, _, err := e.Next(ctx)
		require.NoError(t, err)
		b.Release()
		again, err := session.Attach(ctx, id, engines.Position{})
		require.NoError(t, err)
		b, _, err = again.Next(ctx)
		require.NoError(t, err)
		require.Positive(t, b.NumRows())
		b.Release()
		require.NoError(t, again.Release(ctx))
	})
	t.Run("a wrong token is refused", func(t *testing.T) {
		e, err := spark.Driver{}.Dial(ctx, engines.Endpoint{Address: rec.Address, Token: "wrong"})
		require.NoError(t, err)
		defer func() { _ = e.Close() }()
		_, err = e.Identify(ctx)
		require.ErrorIs(t, err, engines.ErrDenied)
	})
}

// A gateway that is killed in the middle of a statement leaves an engine that works on, and a store that tells how to
// find it: from there another process gets every row. Nobody renews the engine then, so it ends with its lease.
func TestAKilledGateway(t *testing.T) {
	ctx := context.Background()
	g := testbed.StartGateway(t, "", "SLUICE_ENGINE_LEASE=20s", "SLUICE_HS2_DISCONNECT_GRACE=1h")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"mark": "kept"})
	c.All("SELECT 2")
	c.All("CREATE TABLE survivors USING parquet AS SELECT 1 AS one")
	// Each row takes a millisecond, so that the statement is running when the gateway dies.
	op := c.Async("SELECT id FROM range(0, 5000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL AND '${mark}' = 'kept'")
	id, err := uuid.FromBytes(op.OperationId.GUID)
	require.NoError(t, err)
	st := g.Store(t)
	require.Eventually(t, func() bool { return started(c, op) }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, tcli.TOperationState_RUNNING_STATE, c.Status(op).GetOperationState())
	g.Kill()

	rec, err := st.Operation(ctx, id)
	require.NoError(t, err)
	sess, err := st.Session(ctx, rec.SessionID)
	require.NoError(t, err)
	engine := g.DialEngine(t, g.EngineOf(t, "ann"))
	remote, err := engine.OpenSession(ctx, engines.SessionSpec{ID: sess.EngineSession, User: sess.User})
	require.NoError(t, err)
	e, err := remote.Attach(ctx, rec.EngineOp, engines.Position{})
	require.NoError(t, err)
	next, _, end := take(t, e, 0, 1000)
	require.True(t, end)
	require.Equal(t, int64(5000), next, "every row of the statement that the dead gateway had begun")

	g.WaitNoProcess(60 * time.Second)

	n := g.Restart("")
	c = testbed.DialHS2(t, n.Thrift, "ann", "x", nil)
	require.Equal(t, [][]string{{"1"}}, c.All("SELECT * FROM survivors"), "tables outlive engines and gateways")
}

// started says that the engine has told how far the operation has come.
func started(c *testbed.HS2, op *tcli.TOperationHandle) bool {
	return strings.Contains(strings.Join(c.Log(op), "\n"), "Stage ")
}
