package kube

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicedata/sluice/engines"
)

// checkPatience is for how long a check waits for a service.
const checkPatience = 5 * time.Second

// Check tries everything that engines there will need, and tells what it tried, with what is wrong and the next step. It makes
// nothing: a driver of each image is only shown to the API server, whose rules it must meet.
func (c *Cluster) Check(ctx context.Context, plan func(engines.Platform) (engines.Launch, error), tell func(what string, err error)) {
	soon, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	ns := c.opt.Site.Namespace
	mine := metav1.ListOptions{LabelSelector: instanceLabel, Limit: 1}
	_, err := c.opt.API.ListPods(soon, mine)
	if err != nil {
		tell("list pods in namespace "+ns, explain(err, c.path()))
		return
	}
	tell("list pods in namespace "+ns, nil)
	w, err := c.opt.API.WatchPods(soon, metav1.ListOptions{LabelSelector: instanceLabel, TimeoutSeconds: new(int64(1))})
	if err == nil {
		w.Stop()
	}
	tell("watch pods", explain(err, c.path()))
	_, err = c.opt.API.ListEvents(soon, metav1.ListOptions{Limit: 1})
	tell("list events", explain(err, c.path()))
	for _, runtime := range slices.Sorted(maps.Keys(c.opt.Images)) {
		tell("a driver of "+c.opt.Images[runtime].Name, explain(c.tryDriver(soon, runtime, plan), c.path()))
	}
	c.checkCapacity(soon, tell)
	c.checkKerberos(soon, tell)
	for _, uri := range strings.Split(c.opt.Conf["spark.hadoop.hive.metastore.uris"], ",") {
		if u, err := url.Parse(strings.TrimSpace(uri)); err == nil && u.Host != "" {
			conn, err := (&net.Dialer{Timeout: checkPatience}).DialContext(ctx, "tcp", u.Host)
			if err == nil {
				_ = conn.Close()
			}
			tell("Hive metastore "+u.Host, err)
		}
	}
}

// tryDriver renders a driver and lets the API server look at it: account, priority class, quota, security of pods.
func (c *Cluster) tryDriver(ctx context.Context, runtime string, plan func(engines.Platform) (engines.Launch, error)) error {
	p, err := c.Platform(ctx, runtime, func(string) {})
	if err != nil {
		return err
	}
	l, err := plan(p)
	if err != nil {
		return err
	}
	site := c.opt.Site
	site.Image = l.Conf[imageKey]
	if site.HostNetwork {
		site.Block = Block(c.opt.Ports.First)
	}
	pod, err := driverPod(l, site)
	if err != nil {
		return err
	}
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	made, err := c.opt.API.CreatePod(ctx, pod, dry) // with an id, which the owner of a Secret has to have
	if err != nil {
		return err
	}
	if err = c.opt.API.CreateSecret(ctx, secret(l, site, made, nil), dry); err != nil {
		return fmt.Errorf("its secret: %w", err)
	}
	return nil
}
