//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// An engine of a profile is ready before anybody asks; once it is old it is replaced, and who uses it moves to the new one
// with what it has made, between two statements.
func TestWarmEnginesAndTheirEnd(t *testing.T) {
	g := testbed.StartGateway(t, `
engine: {max_lifetime: 40s, lease: 9s}
profiles:
  bi:
    share_level: server
    warm: true
    memory: 768m
    conf: {spark.sql.shuffle.partitions: 3, spark.executor.heartbeatInterval: 11s}
    init_sql: "CREATE TEMPORARY VIEW given AS SELECT 'by the profile' AS v; SET spark.sql.session.timeZone = Asia/Tokyo"
`)
	testbed.Until(t, time.Minute, "an engine is ready", func() bool { return strings.Contains(g.Log(), "engine ready") })
	pids := g.Engines()
	require.Len(t, pids, 1)
	open := func(user string) *testbed.HS2 {
		return testbed.DialHS2(t, g.Thrift, user, "x", map[string]string{"sluice.profile": "bi"})
	}
	ann := open("ann")
	testbed.Within(t, 8*time.Second, "the first statement", func() { ann.All("SELECT * FROM given") })
	require.Equal(t, [][]string{{"by the profile"}}, ann.All("SELECT * FROM given"))
	for key, want := range map[string]string{"spark.sql.shuffle.partitions": "3", "spark.executor.heartbeatInterval": "11s", "spark.sql.session.timeZone": "Asia/Tokyo"} {
		require.Equal(t, [][]string{{key, want}}, ann.All("SET "+key))
	}
	old := engineID(ann)
	require.Equal(t, old, engineID(open("bob")), "everybody who asks for the profile shares it")
	ann.All("CREATE TEMPORARY VIEW mine AS SELECT 'kept' AS v")
	ann.All("DECLARE VARIABLE n INT DEFAULT 1")
	ann.All("SET VAR n = 7")

	testbed.Until(t, 2*time.Minute, "the session has moved", func() bool { return engineID(ann) != old })
	require.Equal(t, [][]string{{"by the profile", "kept", "7"}}, ann.All("SELECT given.v, mine.v, n FROM given, mine"))
	require.Contains(t, g.Log(), "engine.max_lifetime")
	testbed.Until(t, time.Minute, "the old engine ends", func() bool { return len(g.Engines()) == 1 && g.Engines()[0] != pids[0] })
}
