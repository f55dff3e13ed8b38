//go:build e2e

package kube

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicedata/sluice/engines"
	kubernetes "github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/tests/testbed"
)

// listens is a main that listens on all ports of its block, and fails if one of them is taken.
const listens = `trap "exit 0" TERM; for k in driver.port driver.blockManager.port connect.grpc.binding.port ui.port; do
	p=$(sed -n "s/^spark.$k=//p" /etc/sluice/spark.properties); httpd -f -p $p || kill $$ & done; wait`

// engine renders one of ann's that has nothing of Spark in it but its settings.
func engine(t *testing.T, c *kubernetes.Cluster) engines.Launch {
	t.Helper()
	p, err := c.Platform(t.Context(), "", func(string) {})
	require.NoError(t, err)
	l, err := spark.Driver{}.Plan(engines.Spec{ID: uuid.NewString(), User: "ann", Name: "sluice ann", Memory: "64m", Token: "t", Conf: map[string]string{"spark.driver.memoryOverhead": "16m"}}, p)
	require.NoError(t, err)
	return l
}

// stateOf waits until an application has a state.
func stateOf(ctx context.Context, events <-chan engines.Event, want map[engines.Tag]engines.State) error {
	for {
		done := true
		for _, s := range want {
			done = done && s == engines.Running
		}
		if done {
			return nil
		}
		select {
		case ev := <-events:
			if _, ours := want[ev.App.Tag]; !ours {
				continue
			}
			if ev.App.State == engines.Ended {
				return fmt.Errorf("%s: %s", ev.App.Tag, ev.App.Reason)
			}
			want[ev.App.Tag] = ev.App.State
		case <-ctx.Done():
			return fmt.Errorf("%w: %v", ctx.Err(), want)
		}
	}
}

// Many drivers share the nodes' networks, and none meets another one's ports.
func TestTwoHundredLaunches(t *testing.T) {
	testbed.Long(t)
	p := newPlace(t, "launches")
	c := p.client(t.TempDir(), func(o *kubernetes.Options) {
		o.Site.Driver.Template, o.Site.Driver.CPU, o.Site.Evictable = trivial(t, listens, ""), "1m", kubernetes.Label{}
		o.Site.Driver.Tolerations = []corev1.Toleration{{Key: "sluice/evictable", Operator: "Exists"}}
		o.Images[""] = kubernetes.Image{Name: testbed.Busybox, Version: testbed.SparkVersion}
	})
	events, err := c.Watch(t.Context())
	require.NoError(t, err)
	const all, wave = 200, 50 // a node takes about a hundred pods
	seen := map[string]bool{}
	for range all / wave {
		want := map[engines.Tag]engines.State{}
		var g errgroup.Group
		g.SetLimit(8)
		for range wave {
			l := engine(t, c)
			want[l.Tag] = engines.Pending
			g.Go(func() error { _, err := c.Submit(t.Context(), l); return err })
		}
		require.NoError(t, g.Wait())
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		require.NoError(t, stateOf(ctx, events, want), "a clash ends a main")
		cancel()
		for _, d := range p.drivers() {
			for _, port := range d.Spec.Containers[0].Ports {
				at := fmt.Sprint(d.Spec.NodeName, ":", port.HostPort)
				require.False(t, seen[at] && port.HostPort == 0, at)
				seen[at] = true
			}
		}
		var kill errgroup.Group
		kill.SetLimit(16)
		for tag := range want {
			kill.Go(func() error { return c.Kill(t.Context(), tag) })
		}
		require.NoError(t, kill.Wait())
	}
	p.awaitNothing()
}

// clash starts a driver whose first ports somebody else has on the only node that it could have, and waits until it runs.
func clash(t *testing.T, p *place) error {
	t.Helper()
	c := p.client(t.TempDir(), func(o *kubernetes.Options) {
		o.Site.Driver.Template, o.Ports = trivial(t, listens, ""), engines.Ports{First: 24800, Last: 24814}
		o.Images[""] = kubernetes.Image{Name: testbed.Busybox, Version: testbed.SparkVersion}
	})
	defer func() { _ = c.Close() }()
	l := engine(t, c)
	first := int32(24800 + l.Tag.Place(3)*kubernetes.BlockSize)
	other := trivialPod("other")
	other.Spec.HostNetwork, other.Spec.NodeSelector = true, map[string]string{"kubernetes.io/hostname": "node1"}
	other.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: first + 1, HostPort: first + 1}}
	_, err := kube.Client().CoreV1().Pods(p.namespace).Create(t.Context(), other, metav1.CreateOptions{})
	require.NoError(t, err)
	testbed.Until(t, 30*time.Second, "somebody else has the port", func() bool { return len(p.pods("")) == 1 && p.pods("")[0].Status.Phase == corev1.PodRunning })

	events, err := c.Watch(t.Context())
	require.NoError(t, err)
	submit(t, c, l)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := stateOf(ctx, events, map[engines.Tag]engines.State{l.Tag: engines.Pending}); err != nil {
		return err
	}
	d := p.drivers()
	require.Len(t, d, 1)
	require.NotEqual(t, first, d[0].Spec.Containers[0].Ports[0].HostPort)
	return c.Kill(t.Context(), l.Tag)
}

// A driver whose ports somebody else has on the node gets others, when the scheduler says so.
func TestPortsThatAreTaken(t *testing.T) {
	p := newPlace(t, "taken")
	require.NoError(t, clash(t, p))
	p.deleteAll()
	p.awaitNothing()
}

// Six drivers of real Spark live on one node, in its network, and executors listen where they are told.
func TestSixDriversOnOneNode(t *testing.T) {
	testbed.Long(t)
	p := newPlace(t, "six", "ports: 24000-24039", "executor_ports: 25000-25019", "max_executors: 1")
	g := p.gateway("SLUICE_ENGINE_MEMORY=512m")
	for i := range 6 {
		user := fmt.Sprint("user", i)
		require.Equal(t, [][]string{{"default"}}, p.dial(g, user).All("SHOW DATABASES")) // no executor is needed for that
	}
	blocks := map[int32]bool{}
	for _, d := range p.drivers() {
		require.Equal(t, "node1", d.Spec.NodeName)
		blocks[d.Spec.Containers[0].Ports[0].HostPort] = true
	}
	require.Len(t, blocks, 6)
	require.Equal(t, [][]string{{"1000"}}, p.dial(g, "user0").All("SELECT count(*) FROM range(1000)"))
	e := p.executorsOf("user0")
	require.Len(t, e, 1)
	require.Regexp(t, `10\.90\.0\.[23]\]?:250[01]\d\s`, kube.Exec(e[0].Spec.NodeName, "ss", "-ltn"))
	g.Stop()
	p.awaitNothing()
}
