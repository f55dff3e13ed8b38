//go:build e2e

package kube

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicedata/sluice/engines"
	kubernetes "github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/tests/testbed"
)

// told is what a cluster has told of its capacity last.
type told struct {
	mu  sync.Mutex
	c   engines.Capacity
	err error
}

func (w *told) last() (engines.Capacity, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.c, w.err
}

// measure watches the capacity until the test ends.
func measure(t *testing.T, c *kubernetes.Cluster) *told {
	t.Helper()
	w := &told{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- c.WatchCapacity(ctx, func(c engines.Capacity, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.c, w.err = c, err
		})
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return w
}

// mayCount gives the gateway's account the manifest's ClusterRole, as docs/kubernetes.md says.
func (p *place) mayCount() {
	p.t.Helper()
	ctx, all := context.Background(), kube.Client().RbacV1().ClusterRoleBindings()
	b := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "sluice-capacity-" + p.namespace},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sluice-capacity"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "sluice-gateway", Namespace: p.namespace}}}
	_, err := all.Create(ctx, b, metav1.CreateOptions{})
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = all.Delete(ctx, b.Name, metav1.DeleteOptions{}) })
	for _, what := range []string{"nodes", "pods"} {
		for _, verb := range []string{"list", "watch"} {
			testbed.Until(p.t, 10*time.Second, "the right is there", func() bool { return p.mayEverywhere(verb, what) })
		}
	}
}

func (p *place) mayEverywhere(verb, what string) bool {
	p.t.Helper()
	r, err := kube.Client().AuthorizationV1().SubjectAccessReviews().Create(context.Background(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: "system:serviceaccount:" + p.namespace + ":sluice-gateway", ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Resource: what}}}, metav1.CreateOptions{})
	require.NoError(p.t, err)
	return r.Status.Allowed
}

// asked is what the API server itself says is free on nodes that are not cordoned.
func asked(t *testing.T) (nodes, waiting int, free engines.Room) {
	t.Helper()
	all, err := kube.Client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	pods, err := kube.Client().CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	var memory, cpu resource.Quantity
	takes := map[string]bool{}
	for _, n := range all.Items {
		if !n.Spec.Unschedulable {
			takes[n.Name] = true
			memory.Add(*n.Status.Allocatable.Memory())
			cpu.Add(*n.Status.Allocatable.Cpu())
		}
	}
	for _, p := range pods.Items {
		if p.Spec.NodeName == "" {
			waiting++
		}
		if !takes[p.Spec.NodeName] || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, c := range p.Spec.Containers {
			memory.Sub(*c.Resources.Requests.Memory())
			cpu.Sub(*c.Resources.Requests.Cpu())
		}
	}
	return len(takes), waiting, engines.Room{Memory: memory.Value() >> 20, MilliCores: cpu.MilliValue()}
}

// equal waits until what is told is what the API server says, and it is as wanted.
func (w *told) equal(t *testing.T, what string, wanted func(engines.Capacity) bool) engines.Capacity {
	t.Helper()
	var c engines.Capacity
	testbed.Until(t, 20*time.Second, what, func() bool {
		nodes, waiting, free := asked(t)
		var err error
		c, err = w.last()
		return err == nil && c.Known && c.Nodes == nodes && c.Waiting == waiting && c.Free == free && wanted(c)
	})
	return c
}

func requesting(pod *corev1.Pod, cpu, memory string) *corev1.Pod {
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	return pod
}

// What is free is what the API server says is free, however that changes, and within the namespace's quota.
func TestCapacity(t *testing.T) {
	p := newPlace(t, "capacity")
	p.mayCount()
	c := p.client(t.TempDir(), func(o *kubernetes.Options) {
		o.Site.Driver.Template, o.MaxDrivers = trivial(t, listens, ""), 7
		o.Images[""] = kubernetes.Image{Name: testbed.Busybox, Version: testbed.SparkVersion}
	})
	w := measure(t, c)
	idle := w.equal(t, "all is counted", func(c engines.Capacity) bool { return c.Drivers == 0 })
	t.Logf("%+v", idle)
	require.Equal(t, 3, idle.Nodes)
	require.Equal(t, 7, idle.MaxDrivers)
	require.Empty(t, idle.Note)

	l := engine(t, c)
	_, err := c.Submit(t.Context(), l)
	require.NoError(t, err)
	w.equal(t, "an engine takes room", func(c engines.Capacity) bool {
		return c.Drivers == 1 && c.Free == idle.Free.Minus(engines.Room{Memory: 80, MilliCores: 100})
	})
	require.NoError(t, c.Kill(t.Context(), l.Tag))
	w.equal(t, "and gives it back", func(c engines.Capacity) bool { return c.Drivers == 0 && c.Free == idle.Free })

	start(t, requesting(script("of-others", "node2", testbed.Busybox, "exec sleep 60"), "300m", "64Mi"))
	w.equal(t, "others' pods count", func(c engines.Capacity) bool {
		return c.Free == idle.Free.Minus(engines.Room{Memory: 64, MilliCores: 300})
	})
	lost := requesting(script("lost", "", testbed.Busybox, "exit"), "100m", "64Mi")
	lost.Spec.NodeSelector = map[string]string{"no": "where"}
	start(t, lost)
	w.equal(t, "a pod without a node waits", func(c engines.Capacity) bool { return c.Waiting == 1 })

	cordon := func(yes string) {
		_, err := kube.Client().CoreV1().Nodes().Patch(context.Background(), "node3", types.MergePatchType, []byte(`{"spec":{"unschedulable":`+yes+`}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	t.Cleanup(func() { cordon("false") })
	cordon("true")
	w.equal(t, "a cordoned node takes nothing", func(c engines.Capacity) bool { return c.Nodes == 2 && c.Total.Memory < idle.Total.Memory })
	cordon("false")
	w.equal(t, "it takes pods again", func(c engines.Capacity) bool { return c.Total == idle.Total })

	// No API server: that is told soon, and so is its return.
	began := time.Now()
	kube.Stop("apiserver")
	testbed.Until(t, 20*time.Second, "it is told that the API server is away", func() bool { _, err := w.last(); return err != nil })
	require.Less(t, time.Since(began), 10*time.Second)
	kube.Start("apiserver")
	began = time.Now()
	w.equal(t, "it is back", func(engines.Capacity) bool { return true })
	t.Logf("it was told %.1f s after the API server was ready", time.Since(began).Seconds())

	// One that takes requests and answers none.
	began = time.Now()
	kube.Freeze("apiserver")
	testbed.Until(t, 20*time.Second, "it is told that the API server is silent", func() bool { _, err := w.last(); return err != nil })
	silent := time.Since(began)
	kube.Thaw("apiserver")
	require.Less(t, silent, 10*time.Second)
	w.equal(t, "it answers again", func(engines.Capacity) bool { return true })

	p.quota("requests.memory", "1Gi")
	testbed.Until(t, 10*time.Second, "the quota bounds it", func() bool {
		c, err := w.last()
		return err == nil && c.Free.Memory == 1024 && c.Total.Memory == 1024 && c.Free.MilliCores > 1024
	})
}

// Without the right to count nodes that is said, with the quota that is known; and without that one, too.
func TestCapacityWithoutTheRight(t *testing.T) {
	p := newPlace(t, "capacity-refused")
	c := p.client(t.TempDir(), nil)
	w := measure(t, c)
	noted := func(free int64, note string) {
		t.Helper()
		testbed.Until(t, 20*time.Second, note, func() bool {
			c, err := w.last()
			return err == nil && !c.Known && c.Nodes == 0 && c.Free.Memory == free && note == c.Note
		})
	}
	const bind = "; bind it to the ClusterRole sluice-capacity of charts/manifests/kubernetes.yaml (docs/kubernetes.md)"
	noted(0, "nodes are not counted, and what is free is not known: the gateway's account may not list nodes and list pods of all namespaces"+bind)
	p.quota("requests.memory", "2Gi")
	noted(2048, "nodes are not counted, and what is free is what the namespace's quota leaves: the gateway's account may not list nodes and list pods of all namespaces"+bind)

	says := func(want string) {
		t.Helper()
		file := testbed.Write(t, "sluice.yaml", p.config())
		r := testbed.Run(t, testbed.Binary(t), "config", "check", "--online", "--config", file)
		require.Contains(t, r.Out, "ok      cluster k: "+want, r.Out+r.Err)
	}
	says("note: nodes are not counted, and what is free is what the namespace's quota leaves")
	p.mayCount()
	says("count what nodes have free")
	p.withoutRight("sluice-gateway", "resourcequotas", "list")
	testbed.Until(t, 10*time.Second, "the right is gone", func() bool { return !p.may("sluice-gateway", "list", "resourcequotas") })
	says("note: quotas are not known: the gateway's account may not list resourcequotas in namespace capacity-refused")
	again := measure(t, c)
	testbed.Until(t, 10*time.Second, "nodes are counted", func() bool { c, err := again.last(); return err == nil && c.Known && c.Nodes == 3 && c.Note != "" })
}
