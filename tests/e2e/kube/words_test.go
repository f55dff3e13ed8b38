//go:build e2e

package kube

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// What can never run is told in a sentence, with the next step, within seconds, and leaves nothing.
func TestRefusedLaunches(t *testing.T) {
	t.Parallel() // one of them waits for a registry
	for name, tc := range map[string]struct {
		keys  []string
		image string
		make  func(p *place)
		want  []string
	}{
		"no such image here": {image: "sluice.test/nosuch:4.3.0", want: []string{"ErrImageNeverPull", "sluice.test/nosuch:4.3.0"}},
		"an image that cannot be pulled": {image: "registry.invalid/spark:4.3.0", keys: []string{"pull_policy: IfNotPresent"},
			want: []string{"its image cannot be pulled", "registry.invalid/spark:4.3.0"}},
		"no image name":     {image: "Spark:4.3.0", want: []string{"InvalidImageName"}},
		"no account":        {keys: []string{"service_account: nobody"}, want: []string{"service account", "correct clusters.k.kubernetes.service_account"}},
		"no priority class": {keys: []string{"driver_priority_class: nosuch"}, want: []string{"no PriorityClass with name nosuch", "clusters.k.kubernetes.driver_priority_class"}},
		"a quota that is too small": {make: func(p *place) { p.quota("requests.memory", "256Mi") },
			want: []string{"exceeded quota", "requests.memory", "ask for a larger quota, or for less memory"}},
		"a namespace without host networking": {make: func(p *place) { p.label("pod-security.kubernetes.io/enforce", "baseline") },
			want: []string{"violates PodSecurity", "hostNetwork", "set clusters.k.kubernetes.host_network: false"}},
		"no rights": {make: func(p *place) { p.withoutRight("sluice-gateway", "pods", "create") }, want: []string{"is forbidden", "give the gateway's account that right"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, "refused-"+strings.ReplaceAll(name, " ", "-"), tc.keys...)
			if tc.image != "" {
				p.image = tc.image
			}
			if tc.make != nil {
				tc.make(p)
			}
			g := p.gateway()
			began := time.Now()
			_, st := p.dial(g, "ann").Exec("SELECT 3 FROM range(1)")
			for _, w := range tc.want {
				require.Contains(t, st.GetErrorMessage(), w)
			}
			require.Less(t, time.Since(began), 45*time.Second, "the limit of a start is 150 s")
			p.awaitNothing()
		})
	}
}

func (p *place) quota(what, most string) {
	p.t.Helper()
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceName(what): resource.MustParse(most)}}}
	_, err := kube.Client().CoreV1().ResourceQuotas(p.namespace).Create(context.Background(), q, metav1.CreateOptions{})
	require.NoError(p.t, err)
	testbed.Until(p.t, 20*time.Second, "the quota counts", func() bool { // one that is not counted yet refuses everything
		q, err := kube.Client().CoreV1().ResourceQuotas(p.namespace).Get(context.Background(), "small", metav1.GetOptions{})
		return err == nil && len(q.Status.Hard) > 0
	})
}

func (p *place) label(key, value string) {
	p.t.Helper()
	_, err := kube.Client().CoreV1().Namespaces().Patch(context.Background(), p.namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"`+key+`":"`+value+`"}}}`), metav1.PatchOptions{})
	require.NoError(p.t, err)
}

// While it waits, a statement's log says what for, in the words of who makes it wait; and when that has passed it goes on.
func TestWhatAStatementWaitsFor(t *testing.T) {
	p := newPlace(t, "waits", "driver_selector: waits/here=yes", "max_drivers: 1", "evictable: ''")
	g := p.gateway()
	c := p.dial(g, "ann")
	op := c.Async("SELECT current_user()")
	log := logOf(c, op)
	says(t, log, "has no node yet: 0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 node(s) had untolerated taint")

	// Another user's engine has to wait for this one's: together they would leave no room for executors.
	c2 := p.dial(g, "bob")
	op2 := c2.Async("SELECT current_user()")
	log2 := logOf(c2, op2)
	says(t, log2, "1 drivers run in namespace waits, and more would leave no room for executors (clusters.k.kubernetes.max_drivers)")
	require.Len(t, p.drivers(), 1)

	labelNode(t, "node1", "waits/here", "yes")
	require.Equal(t, [][]string{{"ann"}}, finish(t, c, op))
	require.Contains(t, log(), "is on node1: ")
	require.Len(t, p.drivers(), 1, "bob's engine waits still")
	_ = c.Conn.Close()
	kill(t, p, "ann")
	require.Equal(t, [][]string{{"bob"}}, finish(t, c2, op2))
	labelNode(t, "node1", "waits/here", "")

	// A quota that others fill is waited for, too.
	_ = c2.Conn.Close()
	kill(t, p, "bob")
	testbed.Until(t, time.Minute, "no driver runs", func() bool { return len(p.drivers()) == 0 })
	p.quota("pods", "1")
	filler, err := kube.Client().CoreV1().Pods(p.namespace).Create(t.Context(), trivialPod("filler"), metav1.CreateOptions{})
	require.NoError(t, err)
	c3 := p.dial(g, "eve")
	op3 := c3.Async("SELECT current_user()")
	says(t, logOf(c3, op3), "the namespace's quota has no room: small, requested: pods=1, used: pods=1, limited: pods=1")
	require.NoError(t, kube.Client().CoreV1().Pods(p.namespace).Delete(t.Context(), filler.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	testbed.Until(t, 20*time.Second, "the driver is made", func() bool { return len(p.drivers()) == 1 })
	g.Stop()
	p.awaitNothing()
}

// trivialPod is one that does nothing.
func trivialPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		TerminationGracePeriodSeconds: new(int64(0)),
		Containers:                    []corev1.Container{{Name: "c", Image: testbed.Busybox, Command: []string{"sleep", "100000"}}},
	}}
}

// kill deletes the driver of a user behind the gateway's back.
func kill(t *testing.T, p *place, user string) {
	t.Helper()
	for _, d := range p.drivers() {
		if d.Annotations["sluice/user"] == user {
			require.NoError(t, kube.Client().CoreV1().Pods(p.namespace).Delete(t.Context(), d.Name, metav1.DeleteOptions{}))
		}
	}
}

func labelNode(t *testing.T, node, key, value string) {
	t.Helper()
	text := `"` + value + `"`
	if value == "" {
		text = "null"
	}
	_, err := kube.Client().CoreV1().Nodes().Patch(context.Background(), node, types.MergePatchType, []byte(`{"metadata":{"labels":{"`+key+`":`+text+`}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
}

// logOf returns a function that reads a statement's log so far.
func logOf(c *testbed.HS2, op *tcli.TOperationHandle) func() string {
	all := ""
	return func() string { // a line is given once
		all += strings.Join(append(c.Log(op), ""), "\n")
		return all
	}
}

// says waits until a text is in a statement's log.
func says(t *testing.T, log func() string, text string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Log(log())
		}
	}()
	testbed.Until(t, time.Minute, "its log says "+text, func() bool { return strings.Contains(log(), text) })
}
