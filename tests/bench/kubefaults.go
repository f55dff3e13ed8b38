//go:build e2e

package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// What the query does: so many tasks before its shuffle and behind it, and rows behind it.
const mapTasks, reduceTasks = 64, 16

// napping is a query whose tasks sleep, so that its time does not depend on the processors: a row in each task before the
// shuffle, and 64 rows in all behind it.
func napping(before, behind time.Duration) string {
	nap := func(d time.Duration) string {
		return fmt.Sprintf("coalesce(reflect('java.lang.Thread', 'sleep', %dL), '')", d.Milliseconds())
	}
	return fmt.Sprintf(`SELECT id, a, %s AS b FROM (SELECT /*+ REPARTITION(%d, id) */ id, a FROM (SELECT id, %s AS a FROM range(0, %d, 1, %[4]d)))`,
		nap(behind), reduceTasks, nap(before), mapTasks)
}

// troubled is a query on two executors of two cores, on two nodes that are evictable.
type troubled struct {
	*place
	c  *testbed.HS2
	ui string // of the engine
}

// faults is what nodes that are taken away cost, where each executor keeps its own shuffle files. One engine runs the query once
// for each fault; between two of them it gets its executors back where they were. No two executors share a node, so that one
// that is lost comes back on another one: the third.
func (p *place) faults() []Figure {
	const before, behind = time.Second, 750 * time.Millisecond
	g, _, _ := p.gateway([]string{"driver_cpu: 200m", "ports: " + block, "min_executors: 2", "max_executors: 2", "executor_template: " + p.template("executor", `
spec:
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {spark-role: executor}}}
`)}, []string{`spark.executor.cores: "2"`, `spark.ui.enabled: "true"`}, "")
	f := &troubled{place: p, c: testbed.DialHS2(p.t, g.Thrift, "ann", "x", nil)}
	f.c.All(one)
	f.ui = "http://10.90.0.1:24003/api/v1/applications/"
	var apps []struct{ ID string }
	if err := ask(http.DefaultClient, http.MethodGet, f.ui, nil, &apps); err != nil || len(apps) != 1 {
		p.t.Fatalf("the engine's applications: %v %v", apps, err)
	}
	f.ui += apps[0].ID
	f.settle()
	f.run(napping(10*time.Millisecond, 10*time.Millisecond), func() bool { return true }) // its classes are loaded
	var out []Figure
	for _, fault := range []struct {
		name  string
		tasks int // those of the stage in which it comes
		done  int // of them
		do    func() (undo func())
	}{
		{"no fault", 0, 0, nil},
		{"a node is drained at 60 % of the map stage", mapTasks, mapTasks * 6 / 10, f.drain},
		{"an executor is evicted in the reduce stage", reduceTasks, reduceTasks / 3, f.evict},
		{"a node reboots at 60 % of the map stage", mapTasks, mapTasks * 6 / 10, f.reboot},
		{"a node reboots in the reduce stage", reduceTasks, reduceTasks / 3, f.reboot},
		{"an executor is preempted at 60 % of the map stage", mapTasks, mapTasks * 6 / 10, f.preempt},
		{"no fault, again", 0, 0, nil},
	} {
		undo := func() {}
		took := f.run(napping(before, behind), func() bool {
			if fault.do != nil && f.reached(fault.tasks, fault.done) {
				undo = fault.do()
				return true
			}
			return fault.do == nil
		})
		figure := series{took}.figure("64 map tasks of 1 s and 64 rows of 0.75 s on 4 cores, "+fault.name, "s")
		if len(out) > 0 {
			figure = figure.against(out[0])
			figure.Peer = "no fault"
		}
		out = append(out, figure)
		p.t.Logf("%s: %.1f s", fault.name, took)
		undo()
		f.settle()
	}
	g.Stop()
	p.none()
	return out
}

// run runs a query; do is called again and again until it says that it has done what it wanted: beside the questions for the
// query's state, because the gateway lets those wait for a change.
func (f *troubled) run(sql string, do func() bool) (seconds float64) {
	began := time.Now()
	op := f.c.Async(sql)
	ended, done := make(chan struct{}), make(chan bool, 1)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for !do() {
			select {
			case <-tick.C:
			case <-ended:
				done <- false
				return
			}
		}
		done <- true
	}()
	f.c.WaitState(op, 5*time.Minute)
	if st := f.c.Status(op); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
		f.t.Fatalf("%s", st.GetErrorMessage())
	}
	rows := 0
	for page := -1; page != 0; rows += page {
		page = len(testbed.Texts(f.c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1000, 0).Results))
	}
	seconds = time.Since(began).Seconds()
	close(ended)
	if came := <-done; rows != mapTasks || !came {
		f.t.Fatalf("%d rows; the fault has come: %t", rows, came)
	}
	return seconds
}

// reached says that so many tasks of a stage that runs are done.
func (f *troubled) reached(tasks, done int) bool {
	var stages []struct{ NumTasks, NumCompleteTasks int }
	if err := ask(http.DefaultClient, http.MethodGet, f.ui+"/stages?status=active", nil, &stages); err != nil {
		f.t.Fatalf("%v", err)
	}
	for _, s := range stages {
		if s.NumTasks == tasks && s.NumCompleteTasks >= done {
			return true
		}
	}
	return false
}

// settle waits until the engine has an executor on each of the two nodes, and sends away one that is elsewhere.
func (f *troubled) settle() {
	gone := map[string]bool{}
	testbed.Until(f.t, 3*time.Minute, "the engine has its executors", func() bool {
		pods := f.list("spark-role=executor")
		for _, pod := range pods {
			if pod.Spec.NodeName == "node1" && !gone[pod.Name] {
				gone[pod.Name] = true
				if err := f.pods().Delete(context.Background(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
					f.t.Fatalf("%v", err)
				}
			}
		}
		var known []struct {
			ID       string
			IsActive bool
		}
		if err := ask(http.DefaultClient, http.MethodGet, f.ui+"/executors", nil, &known); err != nil {
			f.t.Fatalf("%v", err)
		}
		on := map[string]bool{}
		for _, pod := range pods {
			for _, e := range known {
				if e.IsActive && e.ID == pod.Labels["spark-exec-id"] && pod.DeletionTimestamp == nil {
					on[pod.Spec.NodeName] = true
				}
			}
		}
		return len(known) == 3 && len(pods) == 2 && on["node2"] && on["node3"] // the driver is one of those that Spark knows
	})
}

// on is the executor on a node.
func (f *troubled) on(node string) string {
	pods := f.list("spark-role=executor")
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == node && p.DeletionTimestamp == nil })
	if i < 0 {
		f.t.Fatalf("%s has no executor", node)
	}
	return pods[i].Name
}

func (f *troubled) evict() (undo func()) {
	err := f.k.Client().PolicyV1().Evictions(f.namespace).Evict(context.Background(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: f.on("node2")}})
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	return func() {}
}

func (f *troubled) drain() (undo func()) {
	f.cordon(true)
	f.evict()
	return func() { f.cordon(false) }
}

func (f *troubled) cordon(cordoned bool) {
	patch := fmt.Appendf(nil, `{"spec": {"unschedulable": %t}}`, cordoned)
	if _, err := f.k.Client().CoreV1().Nodes().Patch(context.Background(), "node2", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		f.t.Fatalf("%v", err)
	}
}

func (f *troubled) reboot() (undo func()) {
	f.on("node2")
	up := make(chan struct{})
	go func() { f.k.Reboot("node2"); close(up) }()
	return func() { <-up }
}

// preempt makes a pod that is worth more than an executor, and has room on its node only without it.
func (f *troubled) preempt() (undo func()) {
	ctx := context.Background()
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "online"}, Value: 10_000}
	_, err := f.k.Client().SchedulingV1().PriorityClasses().Create(ctx, class, metav1.CreateOptions{})
	if err == nil {
		_, err = f.pods().Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "online"}, Spec: corev1.PodSpec{
			PriorityClassName: "online", NodeSelector: map[string]string{"kubernetes.io/hostname": "node2"}, TerminationGracePeriodSeconds: new(int64(0)),
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "main", Image: testbed.Busybox, Command: []string{"sleep", "1000"},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: quantity.MustParse("1900m")}}}},
		}}, metav1.CreateOptions{})
	}
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	return func() {
		if err := f.pods().Delete(ctx, "online", metav1.DeleteOptions{}); err != nil {
			f.t.Fatalf("%v", err)
		}
	}
}
