//go:build e2e

package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	kubernetes "github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// exercise does what a gateway does with a driver from its beginning to its end, and says what did not work.
func exercise(t *testing.T, p *place) error {
	t.Helper()
	c := p.client(t.TempDir(), func(o *kubernetes.Options) {
		o.Site.Driver.Template, o.Lease = trivial(t, "echo hello; "+listens, ""), time.Second
		o.Images[""] = kubernetes.Image{Name: testbed.Busybox, Version: testbed.SparkVersion}
	})
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	events, err := c.Watch(ctx)
	if err != nil {
		return err
	}
	l := engine(t, c)
	if _, err := c.Submit(ctx, l); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	said := false
	for state := engines.Pending; state != engines.Running; {
		select {
		case ev := <-events:
			state = ev.App.State
			said = said || strings.Contains(ev.App.Reason, "Pulled") || strings.Contains(ev.App.Reason, "already present") || strings.Contains(ev.App.Reason, "Created container") ||
				strings.Contains(ev.App.Reason, "FailedMount")
		case <-ctx.Done():
			return fmt.Errorf("it does not run: %w", ctx.Err())
		}
	}
	if _, err := c.List(ctx); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if err := c.Renew(ctx, l.Tag); err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	if text, err := c.Log(ctx, l.Tag, 100); err != nil || text != "hello\n" {
		return fmt.Errorf("log %q: %w", text, err)
	}
	if err := c.Kill(ctx, l.Tag); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// Each right of the gateway's account is needed: without it something does not work.
func TestRightsOfTheGateway(t *testing.T) {
	p := newPlace(t, "rights")
	require.NoError(t, exercise(t, p))
	for _, right := range []string{"pods create", "pods delete", "pods list", "pods patch", "pods watch", "pods/log get", "secrets create"} {
		t.Run(right, func(t *testing.T) {
			resource, verb, _ := strings.Cut(right, " ")
			p.withoutRight("sluice-gateway", resource, verb)
			testbed.Until(t, 10*time.Second, "the right is gone", func() bool { return !p.may("sluice-gateway", verb, resource) })
			err := exercise(t, p)
			require.Error(t, err)
			t.Log(err)
			p.withoutRight("sluice-gateway", "", "")
			testbed.Until(t, 10*time.Second, "the right is back", func() bool { return p.may("sluice-gateway", verb, resource) })
			p.deleteAll()
		})
	}
	t.Run("events list", func(t *testing.T) { // without it the log does not say why a pod waits on its node
		q := newPlace(t, "rights-events", "driver_template: "+testbed.Write(t, "t.yaml", "spec: {containers: [{name: spark-kubernetes-driver, volumeMounts: [{name: x, mountPath: /x}]}], volumes: [{name: x, secret: {secretName: nosuch}}]}"))
		g := q.gateway()
		c := q.dial(g, "ann")
		log := logOf(c, c.Async("SELECT current_user()"))
		says(t, log, `FailedMount: MountVolume.SetUp failed for volume "x" : secret "nosuch" not found`)
		g.Stop()
		q.withoutRight("sluice-gateway", "events", "list")
		testbed.Until(t, 10*time.Second, "the right is gone", func() bool { return !q.may("sluice-gateway", "list", "events") })
		g = q.gateway()
		c = q.dial(g, "ann")
		log = logOf(c, c.Async("SELECT current_user()"))
		says(t, log, "is on node1: its container is being made")
		began := time.Now()
		testbed.Until(t, 20*time.Second, "it would have been said", func() bool { return time.Since(began) > 6*time.Second })
		require.NotContains(t, log(), "FailedMount")
		g.Stop()
		q.awaitNothing()
	})
	p.awaitNothing()
}

// Each right of a driver's account is needed: without it the driver cannot make its executors, does not hear of them, or
// leaves them.
func TestRightsOfADriver(t *testing.T) {
	testbed.Long(t)
	p := newPlace(t, "drivers", "min_executors: 1")
	g := p.gateway()
	for _, right := range []string{"create", "get", "list", "watch", "delete", "deletecollection"} {
		t.Run(right, func(t *testing.T) {
			p.withoutRight("sluice-driver", "pods", right)
			testbed.Until(t, 10*time.Second, "the right is gone", func() bool { return !p.may("sluice-driver", right, "pods") })
			c := p.dial(g, "u-"+right, "sluice.engine.share=connection")
			op := c.Async("SELECT count(*) FROM range(10)")
			missed := func() bool {
				for _, d := range p.drivers() {
					text := p.log(d.Name)
					if strings.Contains(text, "cannot "+right+` resource "pods"`) || right == "watch" && strings.Contains(text, "403 on websocket") {
						return true
					}
				}
				return false
			}
			works := false
			testbed.Until(t, 90*time.Second, "it works, or the driver says why not", func() bool {
				works = c.Status(op).GetOperationState() == tcli.TOperationState_FINISHED_STATE
				return works || missed()
			})
			switch {
			case !works || missed():
			case right == "delete": // an executor that has died is deleted by its driver
				for _, e := range p.executors() {
					kube.Exec(e.Spec.NodeName, "sh", "-c", "kill -9 $(pgrep -f [K]ubernetesExecutorBackend)")
				}
				testbed.Until(t, 30*time.Second, "the driver misses the right", missed)
			case right == "deletecollection": // and what is left at its end
				_, err := c.CloseSession(t.Context(), &tcli.TCloseSessionReq{SessionHandle: c.Session})
				require.NoError(t, err)
				testbed.Until(t, 30*time.Second, "the driver misses the right", missed)
			default:
				for _, d := range p.drivers() {
					t.Log(p.log(d.Name))
				}
				t.Fatal("nobody misses this right")
			}
			p.withoutRight("sluice-driver", "", "")
			p.deleteAll()
			testbed.Until(t, 30*time.Second, "no pod is left", func() bool { return len(p.pods("")) == 0 })
		})
	}
	g.Stop()
	p.awaitNothing()
}
