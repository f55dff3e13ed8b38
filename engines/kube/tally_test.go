package kube

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func aContainer(cpu, memory string) corev1.Container {
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: list(cpu, memory)}}
}

func aSidecar(cpu, memory string) corev1.Container {
	c := aContainer(cpu, memory)
	c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	return c
}

func aNode(name, cpu, memory string, pods int) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Allocatable = list(cpu, memory)
	n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse(strconv.Itoa(pods))
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func aPod(name, node, cpu, memory string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uuid.NewSHA1(uuid.Nil, []byte(name)).String())},
		Spec:   corev1.PodSpec{NodeName: node, Containers: []corev1.Container{aContainer(cpu, memory)}},
		Status: corev1.PodStatus{Phase: corev1.PodPending}}
}

// The rule is that of Kubernetes: docs/concepts/workloads/pods/sidecar-containers, "Resource sharing within containers".
func TestWhatAPodAsksFor(t *testing.T) {
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		want amount
	}{
		"nothing":         {corev1.PodSpec{Containers: []corev1.Container{{}}}, amount{}},
		"its containers":  {corev1.PodSpec{Containers: []corev1.Container{aContainer("100m", "1Mi"), aContainer("200m", "2Mi")}}, amount{3 << 20, 300}},
		"a larger init":   {corev1.PodSpec{InitContainers: []corev1.Container{aContainer("1", "1Mi"), aContainer("100m", "9Mi")}, Containers: []corev1.Container{aContainer("200m", "3Mi")}}, amount{9 << 20, 1000}},
		"a sidecar stays": {corev1.PodSpec{InitContainers: []corev1.Container{aSidecar("100m", "1Mi")}, Containers: []corev1.Container{aContainer("200m", "3Mi")}}, amount{4 << 20, 300}},
		"an init container beside a sidecar": {corev1.PodSpec{InitContainers: []corev1.Container{aSidecar("100m", "1Mi"), aContainer("500m", "5Mi"), aSidecar("50m", "1Mi")},
			Containers: []corev1.Container{aContainer("200m", "3Mi")}}, amount{6 << 20, 600}},
		"overhead":        {corev1.PodSpec{Containers: []corev1.Container{aContainer("200m", "3Mi")}, Overhead: list("10m", "1Mi")}, amount{4 << 20, 210}},
		"the whole pod":   {corev1.PodSpec{Containers: []corev1.Container{aContainer("200m", "3Mi")}, Resources: &corev1.ResourceRequirements{Requests: list("1", "7Mi")}}, amount{7 << 20, 1000}},
		"half a mebibyte": {corev1.PodSpec{Containers: []corev1.Container{aContainer("1", "512Ki")}}, amount{512 << 10, 1000}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, requests(&corev1.Pod{Spec: tc.spec})) })
	}
}

func TestNodesThatTakeExecutors(t *testing.T) {
	site := Site{Evictable: Label{Key: "sluice/evictable"}, Executor: Pool{Selector: map[string]string{"pool": "batch"},
		Tolerations: []corev1.Toleration{{Key: "team", Operator: corev1.TolerationOpEqual, Value: "a"}},
		Template: &corev1.PodTemplateSpec{Spec: corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"},
			Tolerations: []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}}}}}
	takes := executorNodes(executorSpec(site))
	taint := func(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
		}
	}
	for name, tc := range map[string]struct {
		change func(*corev1.Node)
		want   bool
	}{
		"as it should be":        {func(*corev1.Node) {}, true},
		"not ready":              {func(n *corev1.Node) { n.Status.Conditions[1].Status = corev1.ConditionUnknown }, false},
		"never heard of":         {func(n *corev1.Node) { n.Status.Conditions = nil }, false},
		"cordoned":               {func(n *corev1.Node) { n.Spec.Unschedulable = true }, false},
		"another pool":           {func(n *corev1.Node) { n.Labels["pool"] = "web" }, false},
		"not the template's":     {func(n *corev1.Node) { delete(n.Labels, "disk") }, false},
		"evictable":              {taint("sluice/evictable", "true", corev1.TaintEffectNoSchedule), true},
		"evictable, leave now":   {taint("sluice/evictable", "true", corev1.TaintEffectNoExecute), false},
		"the team's":             {taint("team", "a", corev1.TaintEffectNoExecute), true},
		"another team's":         {taint("team", "b", corev1.TaintEffectNoSchedule), false},
		"the template tolerates": {taint("gpu", "x", corev1.TaintEffectNoSchedule), true},
		"a wish only":            {taint("odd", "", corev1.TaintEffectPreferNoSchedule), true},
		"control plane":          {taint("node-role.kubernetes.io/control-plane", "", corev1.TaintEffectNoSchedule), false},
	} {
		t.Run(name, func(t *testing.T) {
			n := aNode("n", "1", "1Gi", 10)
			n.Labels = map[string]string{"pool": "batch", "disk": "ssd"}
			tc.change(n)
			require.Equal(t, tc.want, takes(n))
		})
	}
	require.True(t, executorNodes(executorSpec(Site{Executor: Pool{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}}))(func() *corev1.Node {
		n := aNode("n", "1", "1Gi", 10)
		taint("any", "x", corev1.TaintEffectNoExecute)(n)
		return n
	}()))
}

// fresh is the sum of all that is there, in one go.
func fresh(takes func(*corev1.Node) bool, nodes map[string]*corev1.Node, pods map[string]*corev1.Pod) (count, waiting int, total, free amount) {
	used, places := map[string]amount{}, map[string]int64{}
	for _, p := range pods {
		switch {
		case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		case p.Spec.NodeName != "":
			used[p.Spec.NodeName] = used[p.Spec.NodeName].plus(requests(p))
			places[p.Spec.NodeName]++
		case len(p.Spec.SchedulingGates) == 0:
			waiting++
		}
	}
	for name, n := range nodes {
		if !takes(n) {
			continue
		}
		count++
		has := amountOf(n.Status.Allocatable)
		total = total.plus(has)
		if left := has.less(used[name]); places[name] < n.Status.Allocatable.Pods().Value() {
			free = free.plus(amount{max(0, left.memory), max(0, left.cpu)})
		}
	}
	return count, waiting, total, free
}

func equalsFresh(t *testing.T, tally *tally, nodes map[string]*corev1.Node, pods map[string]*corev1.Pod) {
	t.Helper()
	count, waiting, total, free := tally.sums()
	wantCount, wantWaiting, wantTotal, wantFree := fresh(tally.takes, nodes, pods)
	require.Equal(t, []any{wantCount, wantWaiting, wantTotal, wantFree}, []any{count, waiting, total, free})
}

// Whatever happens, in whatever order it is heard, what is kept equals the sum of what is there.
func TestTheTallyEqualsAFreshSum(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			tally := newTally(executorNodes(corev1.PodSpec{}))
			nodes, pods := map[string]*corev1.Node{}, map[string]*corev1.Pod{}
			round := uint32(1)
			for range 2000 {
				node, pod := "n"+strconv.Itoa(r.IntN(12)), "p"+strconv.Itoa(r.IntN(60))
				switch r.IntN(10) {
				case 0, 1, 2:
					n := aNode(node, strconv.Itoa(1+r.IntN(4)), strconv.Itoa(1+r.IntN(8))+"Gi", 1+r.IntN(12))
					n.Spec.Unschedulable = r.IntN(4) == 0
					nodes[node] = n
					tally.putNode(n, round)
				case 3:
					if n, ok := nodes[node]; ok {
						delete(nodes, node)
						tally.dropNode(n)
					}
				case 4, 5, 6, 7:
					if r.IntN(4) == 0 {
						node = ""
					}
					p := aPod(pod, node, strconv.Itoa(r.IntN(900))+"m", strconv.Itoa(r.IntN(2048))+"Mi")
					p.Status.Phase = []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodRunning, corev1.PodUnknown, corev1.PodSucceeded, corev1.PodFailed}[r.IntN(6)]
					if r.IntN(8) == 0 {
						p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}}
					}
					pods[pod] = p
					tally.putPod(p, round)
				case 8:
					if p, ok := pods[pod]; ok {
						delete(pods, pod)
						tally.dropPod(p)
					}
				case 9:
					if r.IntN(10) == 0 { // a watch was lost: things have changed unseen
						round++
						relist(r, tally, nodes, pods, round)
					}
				}
				equalsFresh(t, tally, nodes, pods)
			}
			for _, p := range pods {
				tally.dropPod(p)
			}
			for _, n := range nodes {
				tally.dropNode(n)
			}
			require.Empty(t, tally.pods)
			require.Empty(t, tally.byName)
			require.Len(t, tally.unused, len(tally.nodes), "every place is free")
			equalsFresh(t, tally, nil, nil)
		})
	}
}

func relist(r *rand.Rand, tally *tally, nodes map[string]*corev1.Node, pods map[string]*corev1.Pod, round uint32) {
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if r.IntN(3) == 0 {
			delete(nodes, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		if r.IntN(3) == 0 {
			delete(pods, name)
		}
	}
	for _, p := range pods {
		tally.putPod(p, round)
	}
	tally.keepPods(round)
	for _, n := range nodes {
		tally.putNode(n, round)
	}
	tally.keepNodes(round)
}

func TestRoomOfQuotas(t *testing.T) {
	quota := func(hard, used corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) corev1.ResourceQuota {
		return corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes}, Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used}}
	}
	l := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	high := quota(l("cpu", "3"), l("cpu", "1"))
	high.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
		{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: corev1.ScopeSelectorOpIn, Values: []string{"high"}}}}
	uncounted := corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: l("memory", "1Gi")}}
	for name, tc := range map[string]struct {
		quotas     []corev1.ResourceQuota
		class      string
		some       bool
		hard, left [2]int64
	}{
		"none":                  {nil, "", false, [2]int64{boundless, boundless}, [2]int64{boundless, boundless}},
		"requests":              {[]corev1.ResourceQuota{quota(l("requests.memory", "4Gi", "requests.cpu", "2"), l("requests.memory", "1Gi", "requests.cpu", "500m"))}, "", true, [2]int64{4096, 2000}, [2]int64{3072, 1500}},
		"the smaller of two":    {[]corev1.ResourceQuota{quota(l("memory", "4Gi"), l("memory", "1Gi")), quota(l("limits.memory", "2Gi"), nil)}, "", true, [2]int64{2048, boundless}, [2]int64{2048, boundless}},
		"more used than it has": {[]corev1.ResourceQuota{quota(l("cpu", "1"), l("cpu", "2"))}, "", true, [2]int64{boundless, 1000}, [2]int64{boundless, 0}},
		"pods are left":         {[]corev1.ResourceQuota{quota(l("pods", "4"), l("pods", "3"))}, "", true, [2]int64{boundless, boundless}, [2]int64{boundless, boundless}},
		"no pod is left":        {[]corev1.ResourceQuota{quota(l("pods", "4"), l("pods", "4"))}, "", true, [2]int64{boundless, boundless}, [2]int64{}},
		"not counted yet":       {[]corev1.ResourceQuota{uncounted}, "", true, [2]int64{1024, boundless}, [2]int64{1024, boundless}},
		"another thing":         {[]corev1.ResourceQuota{quota(l("services", "4"), nil)}, "", false, [2]int64{boundless, boundless}, [2]int64{boundless, boundless}},
		"not for us":            {[]corev1.ResourceQuota{quota(l("cpu", "1"), nil, corev1.ResourceQuotaScopeTerminating)}, "", false, [2]int64{boundless, boundless}, [2]int64{boundless, boundless}},
		"for us":                {[]corev1.ResourceQuota{quota(l("cpu", "1"), nil, corev1.ResourceQuotaScopeNotTerminating)}, "", true, [2]int64{boundless, 1000}, [2]int64{boundless, 1000}},
		"of another class":      {[]corev1.ResourceQuota{high}, "low", false, [2]int64{boundless, boundless}, [2]int64{boundless, boundless}},
		"of our class":          {[]corev1.ResourceQuota{high}, "high", true, [2]int64{boundless, 3000}, [2]int64{boundless, 2000}},
	} {
		t.Run(name, func(t *testing.T) {
			got := roomOf(tc.quotas, tc.class)
			require.Equal(t, tc.some, got.some)
			require.Equal(t, tc.hard, [2]int64{got.hard.Memory, got.hard.MilliCores})
			require.Equal(t, tc.left, [2]int64{got.left.Memory, got.left.MilliCores})
		})
	}
}
