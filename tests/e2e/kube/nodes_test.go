//go:build e2e

package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicedata/sluice/tests/testbed"
)

// slow has 24 tasks of a second each, a shuffle, and eight more: some ten seconds on four cores.
const slow = `SELECT sum(n), count(*) FROM (SELECT id % 8 AS k, count(*) AS n FROM range(0, 24, 1, 24)
	WHERE java_method('java.lang.Thread', 'sleep', 1000L) IS NOT NULL GROUP BY id % 8)`

// Nodes are drained, tainted, taken for something else and started anew while a query runs: it goes on, its rows are right,
// and its log says what happened.
func TestNodesAreTakenAway(t *testing.T) {
	p := newPlace(t, "nodes", "min_executors: 2", "max_executors: 3")
	p.conf = []string{"spark.sql.shuffle.partitions: 8", "spark.sql.adaptive.enabled: false"}
	g := p.gateway()
	c := p.dial(g, "ann")
	c.All("SELECT count(*) FROM range(10)")
	run := func(name string, fault func(victim corev1.Pod), says string) {
		t.Run(name, func(t *testing.T) {
			testbed.Until(t, 90*time.Second, "two executors run", func() bool { return len(p.running()) >= 2 })
			began := time.Now()
			op := c.Async(slow)
			log := logOf(c, op)
			testbed.Until(t, time.Minute, "half of its tasks are done", func() bool { return taskShare(log()) >= 0.4 })
			victim := p.running()[0]
			fault(victim)
			rows := finish(t, c, op)
			require.Equal(t, "24", rows[0][0])
			t.Logf("%s: %.1f s", name, time.Since(began).Seconds())
			if says != "" {
				require.Contains(t, log(), "Executor "+victim.Labels["spark-exec-id"]+" on "+victim.Spec.NodeName+" has to go: "+says)
			}
		})
	}
	pods := kube.Client().CoreV1().Pods(p.namespace)
	run("drain", func(e corev1.Pod) {
		require.NoError(t, pods.EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: e.Name}}))
	}, "its node is being drained")
	run("taint", func(e corev1.Pod) {
		taint(t, e.Spec.NodeName, "go/away", "NoExecute")
		t.Cleanup(func() { taint(t, e.Spec.NodeName, "", "") })
	}, "its node has a taint that sends it away")
	taint(t, "node2", "", "")
	taint(t, "node3", "", "")
	run("preemption", func(e corev1.Pod) { p.preempt(t, e.Spec.NodeName) }, "a pod of a higher priority gets its place")
	require.NoError(t, pods.Delete(t.Context(), "hungry", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	run("reboot", func(e corev1.Pod) { kube.Reboot(e.Spec.NodeName) }, "")
	require.Len(t, p.drivers(), 1, "the engine is the one that began")
	g.Stop()
	p.awaitNothing()
}

// running are the executors that may be given work.
func (p *place) running() (out []corev1.Pod) {
	for _, e := range p.executors() {
		if e.Status.Phase == corev1.PodRunning && e.DeletionTimestamp == nil {
			out = append(out, e)
		}
	}
	return out
}

// taskShare is how much of the first stage is done by the last line about it: "Stage-0 map = 40%".
func taskShare(log string) float64 {
	share := 0.0
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(line, " map = "); ok {
			var percent float64
			if _, err := fmt.Sscanf(rest, "%f%%", &percent); err == nil {
				share = max(share, percent/100)
			}
		}
	}
	return share
}

// taint puts a taint on a node besides its own; none takes it off.
func taint(t *testing.T, node, key, effect string) {
	t.Helper()
	taints := `{"key":"sluice/evictable","value":"true","effect":"NoSchedule"}`
	if key != "" {
		taints += `,{"key":"` + key + `","effect":"` + effect + `"}`
	}
	_, err := kube.Client().CoreV1().Nodes().Patch(context.Background(), node, types.MergePatchType, []byte(`{"spec":{"taints":[`+taints+`]}}`), metav1.PatchOptions{})
	require.NoError(t, err)
}

// preempt starts a pod that needs a node for itself.
func (p *place) preempt(t *testing.T, node string) {
	t.Helper()
	pod := trivialPod("hungry")
	pod.Spec.NodeSelector, pod.Spec.PriorityClassName = map[string]string{"kubernetes.io/hostname": node}, "sluice-driver"
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1900m")}
	_, err := kube.Client().CoreV1().Pods(p.namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
}
