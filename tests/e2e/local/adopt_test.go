//go:build e2e

package local

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

func TestARestartedGatewayFindsItsEngines(t *testing.T) {
	g := testbed.StartGateway(t, "")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	id := engineID(c)
	pids := g.Engines()
	require.Len(t, pids, 1)
	g.Kill()

	n := g.Restart("")
	c = testbed.DialHS2(t, n.Thrift, "ann", "x", nil)
	testbed.Within(t, 10*time.Second, "the first statement", func() {
		require.Equal(t, id, engineID(c), "the same engine, found by listing")
	})
	require.Equal(t, pids, n.Engines(), "no other was started")
	require.Contains(t, n.Log(), "engine taken over")
	n.Stop()
	n.WaitNoProcess(10 * time.Second)
}
