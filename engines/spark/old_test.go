package spark

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// oldPeer is a server of the given version that keeps settings of sessions, and remembers in which order sessions were
// used. It has no ReleaseSession.
type oldPeer struct {
	peer
	version  string
	mu       sync.Mutex
	sessions map[string]map[string]string
	used     []string
	analysed []*connectpb.AnalyzePlanRequest
}

func (p *oldPeer) Config(_ context.Context, req *connectpb.ConfigRequest) (*connectpb.ConfigResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = append(p.used, req.SessionId)
	conf := p.sessions[req.SessionId]
	if conf == nil { // as the real one: whatever id is asked for begins a session
		conf = map[string]string{}
		p.sessions[req.SessionId] = conf
	}
	resp := &connectpb.ConfigResponse{}
	for _, pair := range req.Operation.GetSet().GetPairs() {
		if pair.Key == "spark.driver.memory" {
			return nil, status.Error(codes.Internal, "[CANNOT_MODIFY_CONFIG] Cannot modify the value of the Spark config")
		}
		conf[pair.Key] = pair.GetValue()
	}
	for _, k := range req.Operation.GetGetOption().GetKeys() {
		pair := &connectpb.KeyValue{Key: k}
		if v, ok := conf[k]; ok {
			pair.Value = &v
		}
		resp.Pairs = append(resp.Pairs, pair)
	}
	return resp, nil
}

func (p *oldPeer) AnalyzePlan(_ context.Context, req *connectpb.AnalyzePlanRequest) (*connectpb.AnalyzePlanResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.analysed = append(p.analysed, req)
	return &connectpb.AnalyzePlanResponse{Result: &connectpb.AnalyzePlanResponse_SparkVersion_{
		SparkVersion: &connectpb.AnalyzePlanResponse_SparkVersion{Version: p.version}}}, nil
}

func (p *oldPeer) Interrupt(context.Context, *connectpb.InterruptRequest) (*connectpb.InterruptResponse, error) {
	return &connectpb.InterruptResponse{}, nil
}

// usedSince returns who was used since the last call.
func (p *oldPeer) usedSince() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := p.used
	p.used = nil
	return used
}

func dialOld(t *testing.T, version string) (*oldPeer, *engine, engines.Identity) {
	t.Helper()
	p := &oldPeer{version: version, sessions: map[string]map[string]string{}}
	e := dial(t, p)
	who, err := e.Identify(t.Context())
	require.NoError(t, err)
	p.usedSince()
	return p, e, who
}

func TestHowManySessionsAnEngineTakes(t *testing.T) {
	for version, want := range map[string]int{"3.5.7": maxOldSessions, "4.0.0": 0, "4.3.0": 0, "10.0": 0} {
		_, _, who := dialOld(t, version)
		require.Equal(t, engines.Identity{Version: version, MaxSessions: want}, who)
	}
}

// What an old server forgets must be a session that nobody uses: so the others are used before one is opened.
func TestOpenSessionsAreUsedBeforeAnotherIsOpened(t *testing.T) {
	p, e, _ := dialOld(t, "3.5.7")
	open := func() (engines.Session, string) {
		id := uuid.New()
		s, err := e.OpenSession(t.Context(), engines.SessionSpec{ID: id, User: "ann"})
		require.NoError(t, err)
		return s, id.String()
	}
	_, first := open()
	second, _ := open()
	_, third := open()
	require.NoError(t, second.Close(t.Context()))
	p.usedSince()
	_, fourth := open()
	used := p.usedSince()
	require.ElementsMatch(t, []string{first, third}, used[:2], "the open ones, not the one that was closed")
	require.Equal(t, []string{fourth}, slices.Compact(used[2:]))
}

func TestOpenSessionsAreUsedNowAndThen(t *testing.T) {
	p, e, _ := dialOld(t, "3.5.7")
	r := newRoster(10 * time.Millisecond)
	e.old.Swap(r).close()
	id := uuid.New()
	_, err := e.OpenSession(t.Context(), engines.SessionSpec{ID: id, User: "ann"})
	require.NoError(t, err)
	p.usedSince()
	require.Eventually(t, func() bool { return slices.Contains(p.usedSince(), id.String()) }, 5*time.Second, 10*time.Millisecond)
}

func TestASessionThatWasForgotten(t *testing.T) {
	p, e, _ := dialOld(t, "3.5.7")
	spec := engines.SessionSpec{ID: uuid.New(), User: "ann", Conf: map[string]string{"spark.driver.memory": "2g", "mark": "x"}}
	_, err := e.OpenSession(t.Context(), spec)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"mark": "x", markKey: spec.ID.String()}, p.sessions[spec.ID.String()], "what is refused keeps nothing else out")

	spec.Known = true
	_, err = e.OpenSession(t.Context(), spec)
	require.NoError(t, err, "it is still there")
	delete(p.sessions, spec.ID.String())
	_, err = e.OpenSession(t.Context(), spec)
	require.ErrorIs(t, err, engines.ErrLost)
}

// A server before 4.0 executes a command that it is asked to analyse, so it is asked about names only.
func TestATableIsAnalysedByItsName(t *testing.T) {
	p, e, _ := dialOld(t, "3.5.7")
	p.analysed = nil
	_, err := e.session(uuid.New(), "ann").TableSchema(t.Context(), "db", "t` VALUES (1)")
	require.NoError(t, err)
	require.Len(t, p.analysed, 1)
	root := p.analysed[0].GetSchema().GetPlan().GetRoot()
	require.Equal(t, "`db`.`t`` VALUES (1)`", root.GetRead().GetNamedTable().GetUnparsedIdentifier())
	require.Nil(t, root.GetSql(), "never text")
}
