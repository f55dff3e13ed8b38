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
		q := newPlace(t, "rights-events", "driver_template: "+testbed.Write(t, "t.yaml", "spec: {volumes: [{name: x, secret: {secretName: nosuch}}]}"))
		g := q.gateway()
		c := q.dial(g, "ann")
		log := logOf(c, c.Async("SELECT 1"))
		says(t, log, `FailedMount: MountVolume.SetUp failed for volume "x" : secret "nosuch" not found`)
		g.Stop()
		q.withoutRight("sluice-gateway", "events", "list")
		testbed.Until(t, 10*time.Second, "the right is gone", func() bool { return !q.may("sluice-gateway", "list", "events") })
		g = q.gateway()
		c = q.dial(g, "ann")
		log = logOf(c, c.Async("SELECT 1"))
		says(t, log, "is on node1: its container is being made")
		began := time.Now()
		testbed.Until(t, 20*time.Second, "it would have been said", func() bool { return time.Since(began) > 6*time.Second })
		require.NotContains(t, log(), "FailedMount")
		g.Stop()
		q.awaitNothing()
	})
	p.awaitNothing()
}

// Each right of a driver's account is needed: without it the driver cannot make its executors, or leaves them.
func TestRightsOfADriver(t *testing.T) {
	p := newPlace(t, "drivers", "min_executors: 1")
	g := p.gateway()
	for _, right := range []string{"create", "get", "list", "watch", "delete", "deletecollection", "patch"} {
		t.Run(right, func(t *testing.T) {
			p.withoutRight("sluice-driver", "pods", right)
			testbed.Until(t, 10*time.Second, "the right is gone", func() bool { return !p.may("sluice-driver", right, "pods") })
			c := p.dial(g, "u-"+right, "sluice.engine.share=connection")
			op := c.Async("SELECT count(*) FROM range(10)")
			failed := ""
			testbed.Until(t, 90*time.Second, "it works, or the driver says why not", func() bool {
				for _, d := range p.drivers() {
					text := p.log(d.Name)
					if at := strings.Index(text, "cannot "+right+" resource \"pods\""); at >= 0 {
						failed = text[at:min(len(text), at+80)]
						return true
					}
				}
				return c.Status(op).GetOperationState() != 1
			})
			_ = c.Conn.Close()
			if failed == "" {
				testbed.Until(t, 20*time.Second, "its driver stops", func() bool {
					for _, d := range p.drivers() {
						text := p.log(d.Name)
						if strings.Contains(text, "cannot "+right+" resource \"pods\"") {
							failed = "at its end"
						}
					}
					return failed != "" || len(p.drivers()) == 0
				})
			}
			t.Logf("without %s: %s", right, failed)
			require.NotEmpty(t, failed, "nobody misses this right")
		})
	}
	g.Stop()
	p.awaitNothing()
}
