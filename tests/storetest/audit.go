package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
)

func newAudit(t time.Time) store.Audit {
	return store.Audit{
		ID: uuid.New(), Time: t, Kind: "operation_ended", Gateway: "r1", Session: "s", Operation: "o", User: "ann", RealUser: "hué", Address: "10.0.0.1:5",
		FrontEnd: "hs2", StatementKind: "SELECT", Statement: "SELECT '\x00', \"\xff\"; -- $1", Catalog: "c", Database: "d", Engine: "e", Cluster: "k",
		ShareKey: "local/spark/user/ann///", Profile: "p", Route: "why", WaitedMS: 1, RanMS: 2, Rows: 1 << 40, RowsFetched: 4, Bytes: 1 << 41,
		State: "ERROR", ErrorClass: "C", SQLState: "42000", Error: "no such", Reason: "r",
	}
}

func testAudit(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ever := func() []store.Audit {
		t.Helper()
		list, err := s.Audit(ctx, at(-1000), at(1000), 1000)
		require.NoError(t, err)
		return list
	}
	require.Empty(t, ever())
	third, first, second, empty := newAudit(at(3)), newAudit(at(1)), newAudit(at(2)), store.Audit{ID: uuid.New(), Time: at(4)}
	require.NoError(t, s.AddAudit(ctx, []store.Audit{third, first}))
	require.NoError(t, s.AddAudit(ctx, []store.Audit{second, empty}))
	require.NoError(t, s.AddAudit(ctx, nil))
	require.Equal(t, []store.Audit{first, second, third, empty}, ever())

	changed := first
	changed.Error = "another"
	fourth := newAudit(at(5))
	require.NoError(t, s.AddAudit(ctx, []store.Audit{changed, fourth}), "what is written again is no error")
	require.Equal(t, []store.Audit{first, second, third, empty, fourth}, ever(), "and changes nothing; what is new beside it is there")

	some, err := s.Audit(ctx, at(2), at(4), 1000)
	require.NoError(t, err)
	require.Equal(t, []store.Audit{second, third}, some, "from a time on until before another")
	some, err = s.Audit(ctx, at(2), at(1000), 1)
	require.NoError(t, err)
	require.Equal(t, []store.Audit{second}, some)

	removed, err := s.PruneAudit(ctx, at(4), 2)
	require.NoError(t, err)
	require.Equal(t, int64(2), removed, "no more than it was told")
	require.Equal(t, []store.Audit{third, empty, fourth}, ever(), "the oldest ones")
	removed, err = s.PruneAudit(ctx, at(4), 2)
	require.NoError(t, err)
	require.Equal(t, int64(1), removed)
	require.Equal(t, []store.Audit{empty, fourth}, ever())

	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.AddAudit(ended, []store.Audit{newAudit(at(6))}), context.Canceled)
	require.Len(t, ever(), 2, "all of them or none")
}
