package kube

import (
	"math"
	"sync"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicedata/sluice/engines"
)

// tally adds up what nodes have and what pods have asked for. There may be a million pods: of each it keeps what has to be
// taken back when the pod goes, without a pointer, and every change costs the same however many there are.
type tally struct {
	takes func(*corev1.Node) bool // whether our executors may run there

	mu      sync.Mutex
	pods    map[podID]podUse
	nodes   []nodeUse // places are used again
	byName  map[string]int32
	unused  []int32
	waiting int // pods that have no node yet
	count   int // nodes that take work
	total   amount
	free    amount
}

// podID is a pod's uid.
type podID [16]byte

func idOf(uid types.UID) podID {
	id, err := uuid.Parse(string(uid))
	if err != nil { // no API server makes such
		id = uuid.NewSHA1(uuid.Nil, []byte(uid))
	}
	return podID(id)
}

// amount is of memory, in bytes, and of processors, in thousandths.
type amount struct{ memory, cpu int64 }

func (a amount) plus(b amount) amount { return amount{a.memory + b.memory, a.cpu + b.cpu} }
func (a amount) less(b amount) amount { return amount{a.memory - b.memory, a.cpu - b.cpu} }

func (a amount) room() engines.Room {
	return engines.Room{Memory: a.memory >> 20, MilliCores: a.cpu}
}

// podUse is what a pod that has not finished has asked for. round is the last list that it was in.
type podUse struct {
	amount
	node  int32 // nowhere if it waits for one
	round uint32
}

const nowhere = int32(-1)

// nodeUse is a node, or the name of one that pods are on and that is not known yet, or no longer.
type nodeUse struct {
	name   string
	known  bool
	takes  bool
	round  uint32
	has    amount
	used   amount
	places int64 // for pods, whatever they ask for
	pods   int64
}

// free is what a node still takes.
func (n *nodeUse) free() amount {
	if !n.known || !n.takes || n.pods >= n.places {
		return amount{}
	}
	left := n.has.less(n.used) // it may be less than nothing where a node was made smaller
	return amount{max(0, left.memory), max(0, left.cpu)}
}

func newTally(takes func(*corev1.Node) bool) *tally {
	return &tally{takes: takes, pods: map[podID]podUse{}, byName: map[string]int32{}}
}

// at is the place of a node.
func (t *tally) at(name string) int32 {
	if i, ok := t.byName[name]; ok {
		return i
	}
	var i int32
	if n := len(t.unused); n > 0 {
		i, t.unused = t.unused[n-1], t.unused[:n-1]
		t.nodes[i] = nodeUse{name: name}
	} else {
		i = int32(len(t.nodes)) //nolint:gosec // a cluster has no two thousand million nodes
		t.nodes = append(t.nodes, nodeUse{name: name})
	}
	t.byName[name] = i
	return i
}

// change changes a node, and the sums by what that makes of it.
func (t *tally) change(i int32, how func(*nodeUse)) {
	n := &t.nodes[i]
	t.sum(n, -1)
	how(n)
	t.sum(n, 1)
	if !n.known && n.pods == 0 {
		delete(t.byName, n.name)
		t.unused = append(t.unused, i)
	}
}

func (t *tally) sum(n *nodeUse, sign int64) {
	if !n.known || !n.takes {
		return
	}
	free := n.free()
	t.count += int(sign)
	t.total = t.total.plus(amount{sign * n.has.memory, sign * n.has.cpu})
	t.free = t.free.plus(amount{sign * free.memory, sign * free.cpu})
}

// putNode takes in a node that is there.
func (t *tally) putNode(node *corev1.Node, round uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	takes := t.takes(node)
	has, places := amountOf(node.Status.Allocatable), int64(math.MaxInt64)
	if q, ok := node.Status.Allocatable[corev1.ResourcePods]; ok {
		places = q.Value()
	}
	t.change(t.at(node.Name), func(n *nodeUse) {
		n.known, n.takes, n.round, n.has, n.places = true, takes, round, has, places
	})
}

func (t *tally) dropNode(node *corev1.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.byName[node.Name]; ok {
		t.change(i, func(n *nodeUse) { n.known = false })
	}
}

// keepNodes drops the nodes that were not in a list.
func (t *tally) keepNodes(round uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range t.byName {
		if n := &t.nodes[i]; n.known && n.round != round {
			t.change(i, func(n *nodeUse) { n.known = false })
		}
	}
}

// putPod takes in a pod that is there.
func (t *tally) putPod(pod *corev1.Pod, round uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := idOf(pod.UID)
	finished := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if finished || pod.Spec.NodeName == "" && len(pod.Spec.SchedulingGates) > 0 { // nobody looks for a node for it yet
		t.drop(id)
		return
	}
	use := podUse{amount: requests(pod), node: nowhere, round: round}
	old, there := t.pods[id]
	if pod.Spec.NodeName != "" {
		use.node = t.at(pod.Spec.NodeName)
	}
	if there && old.node == use.node && old.amount == use.amount { // as with most of what the kubelets say
		t.pods[id] = use
		return
	}
	t.pods[id] = use // before the old one goes: a node that nobody is on any more loses its place
	t.move(use, 1)
	if there {
		t.move(old, -1)
	}
}

func (t *tally) dropPod(pod *corev1.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(idOf(pod.UID))
}

func (t *tally) drop(id podID) {
	if old, there := t.pods[id]; there {
		delete(t.pods, id)
		t.move(old, -1)
	}
}

func (t *tally) move(p podUse, sign int64) {
	if p.node == nowhere {
		t.waiting += int(sign)
		return
	}
	t.change(p.node, func(n *nodeUse) {
		n.pods += sign
		n.used = n.used.plus(amount{sign * p.memory, sign * p.cpu})
	})
}

// keepPods drops the pods that were not in a list.
func (t *tally) keepPods(round uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.pods {
		if p.round != round {
			t.drop(id)
		}
	}
}

// sums are what the tally comes to.
func (t *tally) sums() (nodes, waiting int, total, free amount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count, t.waiting, t.total, t.free
}

func amountOf(l corev1.ResourceList) amount {
	return amount{l.Memory().Value(), l.Cpu().MilliValue()}
}

// requests is what the scheduler takes a pod for: its containers and sidecars together, or what is larger while one of
// the others initialises it; what is said of the pod as a whole goes before; and its overhead.
func requests(pod *corev1.Pod) amount {
	var sum, sidecars, most amount
	for i := range pod.Spec.Containers {
		sum = sum.plus(amountOf(pod.Spec.Containers[i].Resources.Requests))
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		now := amountOf(c.Resources.Requests).plus(sidecars)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sum = sum.plus(now.less(sidecars))
			sidecars = now
		}
		most = amount{max(most.memory, now.memory), max(most.cpu, now.cpu)}
	}
	sum = amount{max(sum.memory, most.memory), max(sum.cpu, most.cpu)}
	if whole := pod.Spec.Resources; whole != nil {
		if q, ok := whole.Requests[corev1.ResourceMemory]; ok {
			sum.memory = q.Value()
		}
		if q, ok := whole.Requests[corev1.ResourceCPU]; ok {
			sum.cpu = q.MilliValue()
		}
	}
	return sum.plus(amountOf(pod.Spec.Overhead))
}
