//go:build e2e

package kube

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluicedata/sluice/tests/testbed"
)

// shuffling is a place of an engine with two executors that shuffles by the service, or without one.
func shuffling(t *testing.T, name string, s *testbed.KubeShuffle) *place {
	t.Helper()
	keys := []string{"min_executors: 2", "max_executors: 2"}
	if s != nil {
		template := testbed.ShuffleClientTemplate(t)
		keys = append(keys, "driver_template: "+template, "executor_template: "+template)
	}
	p := newPlace(t, name, keys...)
	p.image, p.closed = "sluice.test/spark:"+testbed.CelebornClient(t).Spark, true
	p.conf = []string{"spark.sql.adaptive.enabled: false", `spark.ui.enabled: "true"`}
	if s != nil {
		p.shuffle = "{masters: \"" + s.Masters + "\", client: \"local://" + testbed.ShuffleClient + "\", replicate: false}" // there is one stable node
	}
	return p
}

// evict runs a big shuffle and takes all executors away in its reduce stage. It says how many shuffle files they had then.
func (p *place) evict(c *testbed.HS2) (r testbed.BigResult, files int) {
	p.t.Helper()
	require.Len(p.t, p.drivers(), 1)
	b := testbed.BigShuffle{C: c, UI: testbed.SparkUIOf(p.t, p.drivers()[0]), Rows: 400_000, Maps: 16, Reduces: 12, MapNap: 500 * time.Millisecond, Naps: 120}
	want := b.Want()
	b.Executors(p.t, 2)
	before := map[string]bool{}
	r = b.Run(p.t, func() {
		for _, e := range p.running() {
			require.NotEqual(p.t, "node1", e.Spec.NodeName, "executors are on nodes that may be taken away")
			before[e.Name] = true
			files += len(strings.Fields(kube.Exec(e.Spec.NodeName, "find", "/var/lib/kubelet/pods/"+string(e.UID), "-name", "shuffle_*.data")))
		}
		require.Equal(p.t, 2, kube.EvictExecutors(p.t, p.namespace))
	})
	p.t.Logf("%s: %.1f s, %d MB shuffled; all executors were evicted with %d of %d reduce tasks done; %d map tasks and %d reduce tasks were run again, %d were lost, stages had %d attempts",
		p.namespace, r.Seconds, r.Shuffled>>20, r.DoneBefore, r.InReduce, r.MapsAgain, r.ReducesAgain, r.Lost, r.Attempts)
	require.Equal(p.t, want, r.Row)
	for _, e := range p.running() {
		require.False(p.t, before[e.Name])
	}
	return r, files
}

// All executors of a query are taken away in its reduce stage, with a second of notice. What they have mapped, and what they have
// reduced already, lies on workers on the stable node: the query goes on with new executors where it was.
func TestExecutorsAreEvicted(t *testing.T) {
	s := kube.StartShuffle(t)
	for _, pod := range s.Pods {
		require.Equal(t, "node1", pod.Spec.NodeName, "workers are on stable nodes")
	}
	p := shuffling(t, "evicted", s)
	g := p.gateway()
	c := p.dial(g, "ann")
	require.Equal(t, [][]string{{"default"}}, c.All("SHOW DATABASES"))
	r, files := p.evict(c)
	require.Zero(t, files, "executors hold no shuffle files")
	require.Zero(t, r.MapsAgain, "no map task is run again")
	require.Zero(t, r.ReducesAgain, "nor a reduce task that had ended")
	require.Equal(t, 2, r.Attempts)
	require.Greater(t, s.Pushed(), 40e6)
	d := p.drivers()
	require.Len(t, d, 1, "the engine is the one that began")
	p.listens(d[0])
	g.Stop()
	p.awaitNothing()
}

// listens says that a driver's shuffle client listens where the driver says it does.
func (p *place) listens(driver corev1.Pod) {
	p.t.Helper()
	for _, port := range driver.Spec.Containers[0].Ports {
		if port.Name == "shuffle" {
			require.NotEmpty(p.t, kube.Exec(driver.Spec.NodeName, "sh", "-c", "ss -Hltn 'sport = :"+strconv.Itoa(int(port.HostPort))+"'"))
			return
		}
	}
	require.Fail(p.t, "the driver declares no port of its shuffle client")
}

// The same without the service: what proves something above is that this is not so here.
func TestExecutorsAreEvictedWithTheirFiles(t *testing.T) {
	testbed.Long(t)
	p := shuffling(t, "evicted-files", nil)
	g := p.gateway()
	c := p.dial(g, "ann")
	require.Equal(t, [][]string{{"default"}}, c.All("SHOW DATABASES"))
	r, files := p.evict(c)
	require.Positive(t, files)
	require.Positive(t, r.MapsAgain, "map tasks are run again")
	g.Stop()
	p.awaitNothing()
}
