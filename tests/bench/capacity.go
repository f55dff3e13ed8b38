//go:build e2e

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// capacity measures what it costs to know how much room a large cluster has. The clusters are pretended: nothing here is
// asked of an API server, and what decoding its answers costs is not in these figures.
func capacity(t *testbed.Suite, wanted func(part string) bool) []Figure {
	var out []Figure
	if wanted("kubernetes") {
		for _, nodes := range []int{12_000, 100_000} {
			out = append(out, manyNodes(t, nodes, 10)...)
		}
	}
	if wanted("yarn") {
		out = append(out, manyQueues(t, 200)...)
	}
	return out
}

// crowd is an API server with many nodes and pods, which are made when they are asked for.
type crowd struct {
	kube.API
	nodes, podsEach int
	events          chan watch.Event // of pods
}

var (
	nodeHas = corev1.ResourceList{corev1.ResourceCPU: quantity.MustParse("64"), corev1.ResourceMemory: quantity.MustParse("256Gi"), corev1.ResourcePods: quantity.MustParse("110")}
	podAsks = []corev1.ResourceList{{corev1.ResourceCPU: quantity.MustParse("2"), corev1.ResourceMemory: quantity.MustParse("9Gi")},
		{corev1.ResourceCPU: quantity.MustParse("1"), corev1.ResourceMemory: quantity.MustParse("4Gi")}}
)

func (c *crowd) pod(i int, asks corev1.ResourceList) corev1.Pod {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(i)*0x9E3779B97F4A7C15) // they are random in truth
	binary.BigEndian.PutUint64(id[8:], uint64(i))
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod-" + strconv.Itoa(i), Namespace: "others", UID: types.UID(id.String()), ResourceVersion: "2"}}
	p.Spec.NodeName = "node-" + strconv.Itoa(i/c.podsEach)
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: asks}}}
	p.Status.Phase = corev1.PodRunning
	return p
}

// slice says which things are in a page, and whether there are more.
func slice(o metav1.ListOptions, all int) (from, to int, m metav1.ListMeta) {
	from, _ = strconv.Atoi(o.Continue)
	to, m.ResourceVersion = min(from+int(o.Limit), all), "1"
	if to < all {
		m.Continue = strconv.Itoa(to)
	}
	return from, to, m
}

// ListNodes implements kube.API.
func (c *crowd) ListNodes(_ context.Context, o metav1.ListOptions) (*corev1.NodeList, error) {
	from, to, m := slice(o, c.nodes)
	out := &corev1.NodeList{ListMeta: m}
	for i := from; i < to; i++ {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + strconv.Itoa(i)}}
		n.Status.Allocatable, n.Status.Conditions = nodeHas, []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		out.Items = append(out.Items, n)
	}
	return out, nil
}

// ListAllPods implements kube.API.
func (c *crowd) ListAllPods(_ context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	from, to, m := slice(o, c.nodes*c.podsEach)
	out := &corev1.PodList{ListMeta: m}
	for i := from; i < to; i++ {
		out.Items = append(out.Items, c.pod(i, podAsks[0]))
	}
	return out, nil
}

// eventful is a watch.
type eventful struct{ events chan watch.Event }

// Stop implements watch.Interface.
func (eventful) Stop() {}

// ResultChan implements watch.Interface.
func (e eventful) ResultChan() <-chan watch.Event { return e.events }

// WatchNodes implements kube.API.
func (c *crowd) WatchNodes(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return eventful{}, nil
}

// WatchAllPods implements kube.API.
func (c *crowd) WatchAllPods(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return eventful{c.events}, nil
}

// ListQuotas implements kube.API.
func (c *crowd) ListQuotas(context.Context, metav1.ListOptions) (*corev1.ResourceQuotaList, error) {
	return &corev1.ResourceQuotaList{}, nil
}

// ListPods implements kube.API: none of them is ours.
func (c *crowd) ListPods(context.Context, metav1.ListOptions) (*corev1.PodList, error) {
	return &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
}

// WatchPods implements kube.API.
func (c *crowd) WatchPods(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
	if o.SendInitialEvents != nil { // a list will do
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil)
	}
	return eventful{}, nil
}

// manyNodes is what a cluster's tally keeps and needs, to know everything and then to follow.
func manyNodes(t *testbed.Suite, nodes, podsEach int) []Figure {
	const runs, updates = 3, 2_000_000
	var sync, cpu, heap, update series
	for range runs {
		api := &crowd{nodes: nodes, podsEach: podsEach, events: make(chan watch.Event, 1024)}
		changes := make([]corev1.Pod, 2*500) // the same pods, in two sizes
		for i := range changes {
			changes[i] = api.pod(i%500*(nodes*podsEach/500), podAsks[i/500])
		}
		c := kube.New(kube.Options{Name: "k", API: api, Log: slog.New(slog.DiscardHandler)})
		ctx, end := context.WithCancel(context.Background())
		before, used, began := liveHeap(), ownCPU(), time.Now()
		told, ended := make(chan engines.Capacity, 10_000), make(chan error, 1)
		go func() {
			ended <- c.WatchCapacity(ctx, func(c engines.Capacity, err error) {
				if err != nil {
					t.Fatalf("%v", err)
				}
				told <- c
			})
		}()
		until(t, told, func(c engines.Capacity) bool { return c.Nodes == nodes })
		sync, cpu = append(sync, time.Since(began).Seconds()), append(cpu, ownCPU()-used)
		heap = append(heap, mib(liveHeap()-before))
		used = ownCPU()
		for i := range updates {
			api.events <- watch.Event{Type: watch.Modified, Object: &changes[(i+500)%len(changes)]}
		}
		last := api.pod(nodes*podsEach, podAsks[0])
		last.Spec.NodeName = ""
		api.events <- watch.Event{Type: watch.Added, Object: &last}
		until(t, told, func(c engines.Capacity) bool { return c.Waiting == 1 })
		update = append(update, (ownCPU()-used)/updates*1e9)
		end()
		if err := <-ended; err != nil {
			t.Fatalf("%v", err)
		}
		_ = c.Close()
		runtime.KeepAlive(api)
	}
	title := fmt.Sprintf("capacity of %d nodes with %d pods", nodes, nodes*podsEach)
	return []Figure{sync.figure(title+", first known", "s"), cpu.figure(title+", CPU of it", "s"), heap.figure(title+", heap that it keeps", "MiB"),
		update.figure(title+", CPU of an update", "ns")}
}

// until waits until something is told.
func until(t *testbed.Suite, told <-chan engines.Capacity, there func(engines.Capacity) bool) {
	late := time.After(5 * time.Minute)
	for {
		select {
		case c := <-told:
			if there(c) {
				return
			}
		case <-late:
			t.Fatalf("it is never told")
		}
	}
}

// manyQueues is what a look at so many queues costs, with the pretended ResourceManager, which only writes what it has ready.
func manyQueues(t *testbed.Suite, queues int) []Figure {
	const looks = 200
	scheduler, metrics := recording(t, queues)
	var asked atomic.Int64
	enough := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws/v1/cluster/scheduler" {
			_, _ = w.Write(metrics)
			return
		}
		if asked.Add(1) == looks {
			close(enough)
		}
		_, _ = w.Write(scheduler)
	}))
	defer s.Close()
	c, err := yarn.New(yarn.Options{Name: "y", Hadoop: yarn.Hadoop{ResourceManagers: []string{s.URL}}, User: "sluice", Poll: time.Microsecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("%v", err)
	}
	known := make(chan int, 1)
	used := ownCPU()
	ended := make(chan error, 1)
	go func() {
		ended <- c.WatchCapacity(context.Background(), func(c engines.Capacity, err error) {
			if err != nil {
				t.Fatalf("%v", err)
			}
			known <- len(c.Queues)
		})
	}()
	if n := <-known; n != queues {
		t.Fatalf("%d queues are known", n)
	}
	<-enough
	look := (ownCPU() - used) / looks * 1000
	_ = c.Close()
	if err := <-ended; err != nil {
		t.Fatalf("%v", err)
	}
	title := fmt.Sprintf("capacity of %d queues", queues)
	return []Figure{series{mib(int64(len(scheduler)))}.figure(title+", an answer", "MiB"), series{look}.figure(title+", CPU of a look, each 3 s", "ms")}
}

// recording is what a real ResourceManager has said of a queue, so many times.
func recording(t *testbed.Suite, queues int) (scheduler, metrics []byte) {
	dir := filepath.Join(testbed.Root(), "engines", "yarn", "testdata", "scheduler")
	var tree map[string]map[string]map[string]any
	text, err := os.ReadFile(filepath.Join(dir, "labelled-scheduler.json"))
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}
	if err == nil {
		metrics, err = os.ReadFile(filepath.Join(dir, "labelled-metrics.json"))
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	info := tree["scheduler"]["schedulerInfo"]
	sample, ok := info["queues"].(map[string]any)["queue"].([]any)
	if !ok {
		t.Fatalf("the recording has no queues")
	}
	var all []any
	for i := range queues {
		q := map[string]any{}
		for k, v := range sample[i%len(sample)].(map[string]any) {
			q[k] = v
		}
		q["queuePath"] = "root.q" + strconv.Itoa(i)
		all = append(all, q)
	}
	info["queues"] = map[string]any{"queue": all}
	if scheduler, err = json.Marshal(tree); err != nil {
		t.Fatalf("%v", err)
	}
	return scheduler, metrics
}
