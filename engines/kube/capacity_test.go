package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sluicedata/sluice/engines"
)

var _ engines.Measurer = (*Cluster)(nil)

// pretended is an API server of a few nodes and pods that fails as it is told to. Only what is asked for room is there.
type pretended struct {
	API

	mu       sync.Mutex
	nodes    []corev1.Node
	pods     []corev1.Pod
	quotas   []corev1.ResourceQuota
	fails    map[string]error // by what is asked: "list pods"
	watchers map[string]*watch.FakeWatcher
}

func (p *pretended) fail(asked string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fails[asked]
}

func (p *pretended) set(asked string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails[asked] = err
}

// page gives pages of two, whatever size is asked for.
func page[T any](p *pretended, what string, all []T, o metav1.ListOptions) ([]T, metav1.ListMeta, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fails["list "+what]; err != nil {
		return nil, metav1.ListMeta{}, err
	}
	from, _ := strconv.Atoi(o.Continue)
	to := min(from+2, len(all))
	m := metav1.ListMeta{ResourceVersion: "7"}
	if to < len(all) {
		m.Continue = strconv.Itoa(to)
	}
	return all[from:to], m, nil
}

func (p *pretended) watch(what string) (watch.Interface, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fails["watch "+what]; err != nil {
		return nil, err
	}
	p.watchers[what] = watch.NewFake()
	return p.watchers[what], nil
}

func (p *pretended) watcher(what string) *watch.FakeWatcher {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watchers[what]
}

func (p *pretended) ListNodes(_ context.Context, o metav1.ListOptions) (*corev1.NodeList, error) {
	items, m, err := page(p, "nodes", p.nodes, o)
	return &corev1.NodeList{ListMeta: m, Items: items}, err
}

func (p *pretended) ListAllPods(_ context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	items, m, err := page(p, "pods", p.pods, o)
	return &corev1.PodList{ListMeta: m, Items: items}, err
}

func (p *pretended) WatchNodes(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return p.watch("nodes")
}

func (p *pretended) WatchAllPods(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return p.watch("pods")
}

func (p *pretended) ListQuotas(ctx context.Context, _ metav1.ListOptions) (*corev1.ResourceQuotaList, error) {
	err := p.fail("list quotas")
	if errors.Is(err, errSilent) {
		<-ctx.Done()
		err = ctx.Err()
	}
	return &corev1.ResourceQuotaList{Items: p.quotas}, err
}

var errSilent = errors.New("no answer")

// ListPods and WatchPods are of our own drivers, of which there are none.
func (p *pretended) ListPods(context.Context, metav1.ListOptions) (*corev1.PodList, error) {
	return &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
}

func (p *pretended) WatchPods(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
	if o.SendInitialEvents != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil)
	}
	return watch.NewFake(), nil
}

func refuses(verb, what string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: what}, "", fmt.Errorf("cannot %s", verb))
}

// measured starts a watch over a pretended API server, and returns what it tells next.
func measured(t *testing.T, p *pretended, fails map[string]error) (next func() (engines.Capacity, error)) {
	t.Helper()
	p.fails, p.watchers = map[string]error{}, map[string]*watch.FakeWatcher{}
	maps.Copy(p.fails, fails)
	c := New(Options{Name: "k", API: p, MaxDrivers: 5, Site: Site{Namespace: "spark"}, Log: slog.New(slog.DiscardHandler)})
	type told struct {
		c   engines.Capacity
		err error
	}
	all, ended := make(chan told, 100), make(chan error, 1)
	next = func() (engines.Capacity, error) {
		t.Helper()
		select {
		case got := <-all:
			return got.c, got.err
		case <-time.After(15 * time.Second):
			t.Fatal("nothing is told")
			return engines.Capacity{}, nil
		}
	}
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		require.NoError(t, <-ended)
		require.Empty(t, all)
	})
	go func() {
		ended <- c.WatchCapacity(t.Context(), func(c engines.Capacity, err error) { all <- told{c, err} })
	}()
	return next
}

func someNodes() *pretended {
	return &pretended{
		nodes: []corev1.Node{*aNode("a", "4", "8Gi", 10), *aNode("b", "4", "8Gi", 10), *aNode("c", "4", "8Gi", 10)},
		pods:  []corev1.Pod{*aPod("1", "a", "1", "1Gi"), *aPod("2", "b", "5", "1Gi"), *aPod("3", "", "1", "1Gi"), *aPod("4", "c", "0", "2Gi"), *aPod("5", "gone", "1", "1Gi")},
	}
}

func TestCapacityIsLive(t *testing.T) {
	t.Parallel()
	p := someNodes()
	next := measured(t, p, nil)
	want := engines.Capacity{Known: true, Nodes: 3, Total: engines.Room{Memory: 24576, MilliCores: 12000}, Free: engines.Room{Memory: 20480, MilliCores: 7000}, Waiting: 1, MaxDrivers: 5}
	got, err := next()
	require.NoError(t, err)
	require.Equal(t, want, got)

	p.watcher("pods").Modify(aPod("3", "c", "1", "1Gi")) // it got a node
	got, err = next()
	require.NoError(t, err)
	want.Waiting, want.Free = 0, engines.Room{Memory: 19456, MilliCores: 6000}
	require.Equal(t, want, got)

	n := aNode("c", "4", "8Gi", 10)
	n.Spec.Unschedulable = true
	p.watcher("nodes").Modify(n)
	got, err = next()
	require.NoError(t, err)
	want.Nodes, want.Total, want.Free = 2, engines.Room{Memory: 16384, MilliCores: 8000}, engines.Room{Memory: 14336, MilliCores: 3000}
	require.Equal(t, want, got)

	// What has gone while nobody watched is noticed by the next list.
	p.mu.Lock()
	p.nodes, p.pods = p.nodes[:1], p.pods[:1]
	p.mu.Unlock()
	gone := apierrors.NewResourceExpired("too old").Status()
	p.watcher("nodes").Error(&gone)
	p.watcher("pods").Error(&gone)
	for want = (engines.Capacity{Known: true, Nodes: 1, Total: engines.Room{Memory: 8192, MilliCores: 4000}, Free: engines.Room{Memory: 7168, MilliCores: 3000}, MaxDrivers: 5}); got.Free != want.Free || got.Nodes != 1; {
		got, err = next()
		require.NoError(t, err)
	}
	require.Equal(t, want, got)
}

// Who may not count nodes is told so once, with what a quota leaves.
func TestCapacityWithoutTheRight(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		quota   []corev1.ResourceQuota
		refused map[string]error
		want    engines.Capacity
	}{
		"no nodes, a quota": {quota: []corev1.ResourceQuota{{Status: corev1.ResourceQuotaStatus{Hard: corev1.ResourceList{"requests.memory": list("1", "2Gi")["memory"]}, Used: corev1.ResourceList{"requests.memory": list("1", "1Gi")["memory"]}}}},
			refused: map[string]error{"list nodes": refuses("list", "nodes"), "watch pods": refuses("watch", "pods")},
			want: engines.Capacity{Total: engines.Room{Memory: 2048}, Free: engines.Room{Memory: 1024}, Note: "nodes are not counted, and what is free is what the namespace's quota leaves: " +
				"the gateway's account may not list nodes and watch pods of all namespaces; bind it to the ClusterRole sluice-capacity of charts/manifests/kubernetes.yaml (docs/kubernetes.md)"}},
		"neither": {refused: map[string]error{"list pods": refuses("list", "pods"), "list quotas": refuses("list", "resourcequotas")},
			want: engines.Capacity{Note: "nodes are not counted, and what is free is not known: the gateway's account may not list pods of all namespaces; bind it to the ClusterRole sluice-capacity of " +
				"charts/manifests/kubernetes.yaml (docs/kubernetes.md); quotas are not known: the gateway's account may not list resourcequotas in namespace spark; give it the Role sluice-gateway as it is in charts/manifests/kubernetes.yaml"}},
		"quotas alone": {refused: map[string]error{"list quotas": refuses("list", "resourcequotas")},
			want: engines.Capacity{Known: true, Nodes: 3, Total: engines.Room{Memory: 24576, MilliCores: 12000}, Free: engines.Room{Memory: 20480, MilliCores: 7000}, Waiting: 1,
				Note: "quotas are not known: the gateway's account may not list resourcequotas in namespace spark; give it the Role sluice-gateway as it is in charts/manifests/kubernetes.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := someNodes()
			p.quotas = tc.quota
			tc.want.MaxDrivers = 5
			got, err := measured(t, p, tc.refused)()
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

// However the API server goes away, that is told once, within ten seconds, and its return at once.
func TestCapacityOfAnAPIServerThatIsAway(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for name, fails := range map[string]map[string]error{
		"it is down":                {"list quotas": refused, "list nodes": refused, "list pods": refused, "watch nodes": refused, "watch pods": refused},
		"it is silent":              {"list quotas": errSilent},
		"it has lost its store":     {"watch pods": apierrors.NewInternalError(errors.New("etcdserver: no leader"))},
		"it does not know who asks": {"list quotas": apierrors.NewUnauthorized("expired")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // no time passes in truth
				p := someNodes()
				next := measured(t, p, fails) // from the beginning
				away := func() {
					t.Helper()
					began := time.Now()
					_, err := next()
					require.ErrorContains(t, err, "the capacity of cluster k: ")
					require.Less(t, time.Since(began), 10*time.Second)
				}
				back := func() {
					t.Helper()
					for asked := range fails {
						p.set(asked, nil)
					}
					got, err := next()
					require.NoError(t, err)
					require.Equal(t, 3, got.Nodes)
				}
				away()
				back()
				for asked, err := range fails {
					p.set(asked, err)
				}
				for _, what := range []string{"nodes", "pods"} {
					p.watcher(what).Stop()
				}
				away()
				back()
			})
		})
	}
}
