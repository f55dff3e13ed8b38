//go:build e2e

package yarn

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// join is a query with a shuffle.
const join = `SELECT a.k, count(*) AS n, sum(a.v) AS s FROM (SELECT id % 7 AS k, id AS v FROM range(0, 10000, 1, 4)) a
	JOIN (SELECT id AS k FROM range(7)) b ON a.k = b.k GROUP BY a.k ORDER BY a.k`

// gatewayFor starts a gateway with this machine and the cluster to choose from.
func gatewayFor(t *testing.T, h *testbed.Hadoop, queue string) *testbed.Gateway {
	t.Helper()
	return testbed.StartGateway(t, fmt.Sprintf(`
clusters:
  local: {kind: local}
  y:
    kind: yarn
    yarn:
      hadoop_conf: %s
      queue: %s
      service_user: root
      shared_dir: /apps/sluice
      conf:
        spark.executor.instances: "1"
        spark.executor.memory: 512m
        spark.executor.cores: "1"
        spark.connect.grpc.binding.address: 127.0.0.1
        spark.yarn.appMasterEnv.SPARK_LOCAL_IP: 127.0.0.1
        spark.executorEnv.SPARK_LOCAL_IP: 127.0.0.1
`, h.ConfDir, queue), "SLUICE_LOG_LEVEL=debug")
}

func onYARN(t *testing.T, g *testbed.Gateway, user string) *testbed.HS2 {
	t.Helper()
	return testbed.DialHS2(t, g.Thrift, user, "x", map[string]string{"sluice.cluster": "y"})
}

// A statement runs on the cluster as its user, in the queue, and gives the rows that it gives on this machine.
func TestTheSameStatementRunsOnYARN(t *testing.T) {
	g := gatewayFor(t, shared, "root.etl")
	here := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.engine.share": "connection"})
	want := here.All(join)
	_ = here.Conn.Close()

	c := onYARN(t, g, "ann")
	op := c.Async(join)
	st := c.WaitState(op, 5*time.Minute)
	log := strings.Join(c.Log(op), "\n")
	require.Equal(t, tcli.TOperationState_FINISHED_STATE, st.GetOperationState(), "%s\n%s\n%s", st.GetErrorMessage(), log, g.Log())
	require.Equal(t, want, testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 100, 0).Results))
	for _, line := range []string{"Routed to cluster y", "is ACCEPTED in queue", "is RUNNING in queue root.etl", "is ready: Spark 4.3.0 on cluster y"} {
		require.Contains(t, log, line)
	}
	require.Equal(t, [][]string{{"ann", "yarn"}}, c.All("SELECT current_user(), 'yarn'"))
}
