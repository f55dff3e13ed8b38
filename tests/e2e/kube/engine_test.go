//go:build e2e

package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// join is a query with a shuffle.
const join = `SELECT a.k, count(*) AS n, sum(a.v) AS s FROM (SELECT id % 7 AS k, id AS v FROM range(0, 10000, 1, 4)) a
	JOIN (SELECT id AS k FROM range(7)) b ON a.k = b.k GROUP BY a.k ORDER BY a.k`

// A statement runs on the cluster as its user and gives the rows that it gives on this machine; its executors really are on
// nodes that may be taken away. Its engine outlives a gateway that is killed, and is replaced when it dies.
func TestTheSameStatementRunsOnKubernetes(t *testing.T) {
	p := newPlace(t, "same")
	g := p.gateway()
	here := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.engine.share": "connection"})
	want := here.All(join)
	_ = here.Conn.Close()

	c := p.dial(g, "ann")
	op := c.Async(join)
	require.Equal(t, want, finish(t, c, op))
	log := strings.Join(c.Log(op), "\n")
	for _, line := range []string{"Routed to cluster k", "runs on node1, and Spark starts in it", "is ready: Spark 4.3.0 on cluster k"} {
		require.Contains(t, log, line)
	}
	require.Regexp(t, `staging \d\.\d s, scheduling \d+\.\d s, container \d+\.\d s, listening \d+\.\d s`, log)
	told := testbed.Beeline(t, g, "/default?sluice.cluster=k", "ann", "--outputformat=csv2", "--showHeader=false", "--silent=true", "-e", strings.ReplaceAll(join, "\n", " "))
	require.Zero(t, told.Code, told.Err)
	for i, row := range told.Rows() {
		require.True(t, strings.HasSuffix(row, strings.Join(want[i], ",")), row) // the first one has a prompt before it
	}
	require.Len(t, told.Rows(), len(want))
	require.Equal(t, [][]string{{"ann"}}, c.All("SELECT current_user()"))
	require.Equal(t, [][]string{{"kubernetes.default.svc.cluster.local/10.96.0.1"}}, c.All(resolves))

	running := p.drivers()
	require.Len(t, running, 1)
	require.Equal(t, "node1", running[0].Spec.NodeName)
	require.True(t, running[0].Spec.HostNetwork)
	for _, e := range p.executors() {
		require.Contains(t, []string{"node2", "node3"}, e.Spec.NodeName)
		require.True(t, e.Spec.HostNetwork)
		for _, cont := range e.Spec.Containers {
			require.Empty(t, cont.Ports)
		}
	}
	require.NotEmpty(t, p.executors())
	require.ElementsMatch(t, []string{"secret " + running[0].Name}, without(p.left(), "pod "))

	// Killed without a word, the gateway finds its engine again: nothing is submitted twice.
	g.Kill()
	g = g.Restart(p.config())
	again := p.dial(g, "ann")
	began := time.Now()
	require.Equal(t, want, again.All(join))
	require.Less(t, time.Since(began), 15*time.Second, "a new engine takes longer")
	require.Equal(t, names(running), names(p.drivers()))

	// The driver dies: the session goes on with another engine, and nothing of the first one is left.
	kube.Exec("node1", "sh", "-c", "kill -9 $(pgrep -f [d]eploy.SparkSubmit)")
	testbed.Until(t, 2*time.Minute, "the session has another engine", func() bool {
		op, st := again.Exec("SELECT 7 AS seven FROM range(1)")
		if st.StatusCode != tcli.TStatusCode_SUCCESS_STATUS { // it may meet the old one while that dies
			return false
		}
		return fmt.Sprint(testbed.Texts(again.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results)) == "[[7]]"
	})
	testbed.Until(t, time.Minute, "the first engine and its executors are gone", func() bool {
		for _, pod := range p.pods("") {
			if strings.HasPrefix(pod.Name, running[0].Name) {
				return false
			}
		}
		return len(p.drivers()) == 1
	})
	g.Stop()
	p.awaitNothing()
}

func names(pods []corev1.Pod) (out []string) {
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func without(list []string, prefix string) (out []string) {
	for _, name := range list {
		if !strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	return out
}
