package kube

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/sluicedata/sluice/engines"
)

// How often the capacity is told, and how often the API server is asked for quotas. That is cheap, and shows that it still
// answers: a watch does not hear of a server that is silent.
const (
	tellPause  = 250 * time.Millisecond
	quotaEvery = 3 * time.Second
	quotaLimit = 4 * time.Second // for one answer
)

// What a meter has to hear of before it can tell anything.
var sources = []string{"nodes", "pods", "resourcequotas"}

// meter knows how much room there is as long as somebody watches it.
type meter struct {
	c       *Cluster
	tally   *tally
	class   string // of executors
	changed chan struct{}

	mu      sync.Mutex
	heard   map[string]bool
	refused map[string]string // the verb, by source
	lost    map[string]error
	quota   quotaRoom
}

// WatchCapacity implements engines.Measurer. Each call watches for itself. It ends without an error with ctx or the cluster.
func (c *Cluster) WatchCapacity(ctx context.Context, tell func(engines.Capacity, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	c.startInformer() // for our drivers
	spec := executorSpec(c.opt.Site)
	m := &meter{c: c, tally: newTally(executorNodes(spec)), class: spec.PriorityClassName, changed: make(chan struct{}, 1),
		heard: map[string]bool{}, refused: map[string]string{}, lost: map[string]error{}}
	var all sync.WaitGroup
	defer all.Wait()
	for _, f := range m.tally.feeds(c.opt.API, m.said, m.moved) {
		all.Go(func() { f.run(ctx) })
	}
	all.Go(func() { m.askQuotas(ctx) })
	all.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), c.pods.HasSynced) {
			m.moved()
		}
	})
	m.run(ctx, tell)
	return nil
}

// run tells until ctx ends.
func (m *meter) run(ctx context.Context, tell func(engines.Capacity, error)) {
	var last engines.Capacity
	known, lost := false, false
	for {
		select {
		case <-m.changed:
		case <-ctx.Done():
			return
		}
		now, complete, err := m.now()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !lost:
			lost = true
			tell(engines.Capacity{}, fmt.Errorf("the capacity of cluster %s: %w", m.c.opt.Name, explain(err, m.c.path())))
		case err == nil && complete && (lost || !known || !reflect.DeepEqual(last, now)):
			last, known, lost = now, true, false
			tell(now, nil)
		}
		select {
		case <-time.After(tellPause):
		case <-ctx.Done():
			return
		}
	}
}

// moved says that something may have changed.
func (m *meter) moved() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// said notes how a source has answered.
func (m *meter) said(what, verb string, err error) {
	m.mu.Lock()
	delete(m.lost, what)
	delete(m.refused, what)
	m.heard[what] = true
	switch {
	case apierrors.IsForbidden(err):
		m.refused[what] = verb
	case err != nil:
		m.lost[what] = err
	}
	m.mu.Unlock()
	m.moved()
}

// askQuotas asks for the namespace's quotas again and again.
func (m *meter) askQuotas(ctx context.Context) {
	tick := time.NewTicker(quotaEvery)
	defer tick.Stop()
	for {
		soon, cancel := context.WithTimeout(ctx, quotaLimit)
		list, err := m.c.opt.API.ListQuotas(soon, metav1.ListOptions{})
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			m.mu.Lock()
			m.quota = roomOf(list.Items, m.class)
			m.mu.Unlock()
		}
		m.said("resourcequotas", "list", err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// now is how it is. It is complete when everything has been heard of once.
func (m *meter) now() (out engines.Capacity, complete bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	complete = m.c.pods.HasSynced()
	for _, what := range sources {
		if m.lost[what] != nil {
			return out, false, m.lost[what]
		}
		complete = complete && m.heard[what]
	}
	if !complete {
		return out, false, nil
	}
	out.Drivers, out.MaxDrivers = m.c.drivers(), m.c.opt.MaxDrivers
	out.Known = m.refused["nodes"] == "" && m.refused["pods"] == ""
	out.Note = m.note()
	if out.Known {
		nodes, waiting, total, free := m.tally.sums()
		out.Nodes, out.Waiting = nodes, waiting
		out.Total, out.Free = total.room(), free.room()
		if m.quota.some {
			out.Total, out.Free = out.Total.Within(m.quota.hard), out.Free.Within(m.quota.left)
		}
	} else if m.quota.some {
		out.Total, out.Free = finite(m.quota.hard), finite(m.quota.left)
	}
	return out, true, nil
}

// capacityRole is the ClusterRole of our manifest that lets a gateway count nodes.
const capacityRole = "sluice-capacity"

// note says what is not known, and what to do.
func (m *meter) note() string {
	var missing, out []string
	for _, r := range []struct{ what, where string }{{"nodes", "nodes"}, {"pods", "pods of all namespaces"}} {
		if verb := m.refused[r.what]; verb != "" {
			missing = append(missing, verb+" "+r.where)
		}
	}
	if len(missing) > 0 {
		known := "what is free is not known"
		if m.quota.some {
			known = "what is free is what the namespace's quota leaves"
		}
		out = append(out, fmt.Sprintf("nodes are not counted, and %s: the gateway's account may not %s; bind it to the ClusterRole %s of charts/manifests/kubernetes.yaml (docs/kubernetes.md)",
			known, strings.Join(missing, " and "), capacityRole))
	}
	if verb := m.refused["resourcequotas"]; verb != "" {
		out = append(out, fmt.Sprintf("quotas are not known: the gateway's account may not %s resourcequotas in namespace %s; give it the Role sluice-gateway as it is in charts/manifests/kubernetes.yaml", verb, m.c.opt.Site.Namespace))
	}
	return strings.Join(out, "; ")
}

// checkCapacity says whether capacity can be read. Without it engines run all the same.
func (c *Cluster) checkCapacity(ctx context.Context, tell func(what string, err error)) {
	m := &meter{c: c, refused: map[string]string{}}
	one := metav1.ListOptions{Limit: 1}
	_, nodes := c.opt.API.ListNodes(ctx, one)
	_, pods := c.opt.API.ListAllPods(ctx, one)
	list, quotas := c.opt.API.ListQuotas(ctx, metav1.ListOptions{})
	for what, err := range map[string]error{"nodes": nodes, "pods": pods, "resourcequotas": quotas} {
		switch {
		case apierrors.IsForbidden(err):
			m.refused[what] = "list"
		case err != nil:
			tell("count what is free", explain(err, c.path()))
			return
		}
	}
	if quotas == nil {
		m.quota = roomOf(list.Items, executorSpec(c.opt.Site).PriorityClassName)
	}
	if note := m.note(); note != "" {
		tell("note: "+note, nil)
		return
	}
	tell("count what nodes have free", nil)
}
