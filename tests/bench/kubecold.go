//go:build e2e

package main

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// Parts of a start on Kubernetes, in order; the others have the names of those on YARN.
const (
	untilMade      = "until Kubernetes has the pod (ours)"
	untilScheduled = "from there until the pod has a node"
	untilContainer = "from there until its container runs"
	untilListens   = "from there until its engine's port is open"
	untilReached   = "from there until the gateway connects (ours)"
)

// block is the one block of ports that the only driver gets, so that the bench knows where it listens.
const block = "24000-24004"

// engineAt is where that driver listens, which runs on the one node that is not evictable.
const engineAt = "10.90.0.1:24002"

// cold is from the opening of a session that wants an engine of its own to the first row, and the same by hand: the same pod
// and secret made with client-go, knocked at every 5 ms, and asked with our client of Connect. Both ends of each part are
// seen from outside the gateway: a watch of the bench's own tells when there is a pod, when it has a node and when its
// container runs; the bench knocks at the engine's port, and then reads in /proc/net/tcp when somebody holds a connection
// to it, which is the gateway's first question; its log says when that is answered. The steps by the gateway's own metric
// are told besides.
func (p *place) cold() []Figure {
	const runs = 3
	g, _, _ := p.gateway([]string{"driver_cpu: 200m", "ports: " + block}, []string{`spark.executor.cores: "1"`, `spark.dynamicAllocation.initialExecutors: "1"`}, "")
	f := &field{t: p.t}
	seen, steps := map[string]series{}, map[string]series{}
	var sample driver
	p.coldStart(f, g, func() { sample = p.readBack() }) // the machine has read Spark, and its Java
	out := race("cold engine to first row", "s", 0, runs,
		runner{"by hand", nil, func() float64 { return p.byHand(f, sample) }},
		runner{"gateway", nil, func() float64 {
			before := stepSeconds(g)
			s := p.coldStart(f, g, func() {})
			for part, took := range s {
				seen[part] = append(seen[part], took)
			}
			for step, took := range stepSeconds(g) {
				steps[step] = append(steps[step], took-before[step])
			}
			return s[untilRow]
		}})
	for _, part := range []string{untilMade, untilScheduled, untilContainer, untilListens, untilReached, untilNamed, untilRead} {
		out = append(out, seen[part].figure("cold engine, "+part, "s"))
	}
	out = append(out, seen[untilOurs].figure("cold engine, "+untilOurs, "s").against(Figure{Name: "the limit", Median: 0.3}))
	for _, step := range []string{"staging", "scheduling", "container", "process", "listening"} {
		if len(steps[step]) > 0 {
			out = append(out, steps[step].figure("cold engine, by the gateway's metric, "+step, "s"))
		}
	}
	g.Stop()
	p.none()
	return out
}

// life is when a driver's pod was first seen in each state.
type life struct{ made, scheduled, running time.Time }

// lives tells of the next driver, once its container runs.
func (p *place) lives() <-chan life {
	w, err := p.pods().Watch(context.Background(), metav1.ListOptions{LabelSelector: "spark-role=driver"})
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	out := make(chan life, 1)
	go func() {
		defer w.Stop()
		var l life
		for e := range w.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok || e.Type == watch.Deleted {
				continue
			}
			now := time.Now()
			first(&l.made, now)
			if pod.Spec.NodeName != "" {
				first(&l.scheduled, now)
			}
			if pod.Status.Phase == corev1.PodRunning {
				first(&l.running, now)
				break
			}
		}
		out <- l
	}()
	return out
}

func first(at *time.Time, now time.Time) {
	if at.IsZero() {
		*at = now
	}
}

// coldStart starts one engine, reads a row, does something, and ends it.
func (p *place) coldStart(f *field, g *testbed.Gateway, then func()) start {
	ready, lives := strings.Count(g.Log(), "engine ready"), p.lives()
	type sight struct{ open, met, named time.Time }
	saw := make(chan sight, 1)
	began := time.Now()
	go func() {
		var s sight
		s.open = when(func() bool { return knock(engineAt) })
		s.met = when(func() bool { return connected(engineAt) })
		s.named = when(func() bool { return strings.Count(g.Log(), "engine ready") > ready })
		saw <- s
	}()
	c := testbed.DialHS2(p.t, g.Thrift, "ann", "x", map[string]string{"sluice.engine.share": "connection"})
	f.thriftRows(c, one, 1000)
	took := time.Since(began)
	s, l := <-saw, <-lives
	then()
	if _, err := c.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: c.Session}); err != nil {
		p.t.Fatalf("%v", err)
	}
	_ = c.Conn.Close()
	p.none()
	testbed.Until(p.t, time.Minute, "the engine's port is closed", func() bool { return !knock(engineAt) })
	out := start{
		untilRow: took.Seconds(), untilMade: l.made.Sub(began).Seconds(), untilScheduled: l.scheduled.Sub(l.made).Seconds(),
		untilContainer: l.running.Sub(l.scheduled).Seconds(), untilListens: s.open.Sub(l.running).Seconds(), untilReached: s.met.Sub(s.open).Seconds(),
		untilNamed: s.named.Sub(s.met).Seconds(), untilRead: (took - s.named.Sub(began)).Seconds(),
	}
	out[untilOurs] = out[untilMade] + out[untilReached]
	return out
}

// readBack is the driver that runs, as it could be made again.
func (p *place) readBack() driver {
	running := p.list("spark-role=driver")
	if len(running) != 1 {
		p.t.Fatalf("there are %d drivers", len(running))
	}
	pod := &running[0]
	secret, err := p.k.Client().CoreV1().Secrets(p.namespace).Get(context.Background(), pod.Name, metav1.GetOptions{})
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	meta := func(m metav1.ObjectMeta) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, Labels: m.Labels, Annotations: m.Annotations, OwnerReferences: m.OwnerReferences}
	}
	pod.ObjectMeta, secret.ObjectMeta = meta(pod.ObjectMeta), meta(secret.ObjectMeta)
	pod.Status, pod.Spec.NodeName = corev1.PodStatus{}, ""
	return driver{tag: engines.Tag(pod.Labels["sluice/tag"]), pod: pod, secret: secret}
}

// byHand starts an engine like the sample, reads a row, and ends it.
func (p *place) byHand(f *field, sample driver) float64 {
	d, client, ctx := sample.another(p.t), p.straight(), context.Background()
	began := time.Now()
	if err := d.create(client); err != nil {
		p.t.Fatalf("%v", err)
	}
	when(func() bool { return knock(engineAt) })
	e, err := spark.Driver{}.Dial(ctx, engines.Endpoint{Address: engineAt, Token: string(d.secret.Data["SPARK_CONNECT_AUTHENTICATE_TOKEN"])})
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	s, err := e.OpenSession(ctx, engines.SessionSpec{ID: uuid.New(), User: "ann"})
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	f.connectRows(s, one)
	took := time.Since(began).Seconds()
	_ = e.Close()
	if err := p.pods().Delete(ctx, d.pod.Name, metav1.DeleteOptions{}); err != nil {
		p.t.Fatalf("%v", err)
	}
	p.none()
	testbed.Until(p.t, time.Minute, "the engine's port is closed", func() bool { return !knock(engineAt) })
	return took
}
