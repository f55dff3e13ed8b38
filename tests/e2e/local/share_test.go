//go:build e2e

package local

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// engineID is the engine that a session's statements run on.
func engineID(c *testbed.HS2) string { return c.All("SET spark.sluice.engine")[0][1] }

func TestShareLevels(t *testing.T) {
	g := testbed.StartGateway(t, "")
	open := func(user string, conf map[string]string) *testbed.HS2 {
		return testbed.DialHS2(t, g.Thrift, user, "x", conf)
	}

	var wait sync.WaitGroup
	ids := make([]string, 12)
	for i := range ids {
		wait.Add(1)
		go func() {
			defer wait.Done()
			user := []string{"ann", "bob"}[i%2]
			ids[i] = engineID(open(user, map[string]string{"kyuubi.engine.share.level": "SERVER", "kyuubi.nothing": "x"}))
		}()
	}
	wait.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id, "one engine for everybody who asks for it, whoever is first")
	}
	require.Len(t, g.Engines(), 1)
	require.Contains(t, g.Log(), "kyuubi.nothing")

	own := open("ann", map[string]string{"set:hiveconf:sluice.engine.share": "connection"})
	require.NotEqual(t, ids[0], engineID(own))
	require.Len(t, g.Engines(), 2)
	_, err := own.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: own.Session})
	require.NoError(t, err)
	testbed.Until(t, 15*time.Second, "the engine of one connection ends with it", func() bool { return len(g.Engines()) == 1 })

	resp, err := own.OpenSession(context.Background(), &tcli.TOpenSessionReq{Configuration: map[string]string{"sluice.engine.share": "everybody"}})
	require.NoError(t, err)
	require.Contains(t, resp.Status.GetErrorMessage(), `sluice.engine.share: "everybody" is no share level`)
	resp, err = own.OpenSession(context.Background(), &tcli.TOpenSessionReq{Configuration: map[string]string{"sluice.engine.share": "group"}})
	require.NoError(t, err)
	require.Contains(t, resp.Status.GetErrorMessage(), "ann is in none")
}
