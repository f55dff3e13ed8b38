package kube

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluicedata/sluice/engines"
)

// sweepPause is between two looks for what nobody looks after.
const sweepPause = time.Minute

// unattended is for how long the pod of a driver that has ended is left to the gateway that follows it.
const unattended = 5 * time.Minute

func (c *Cluster) sweepOften(ctx context.Context) {
	for {
		select {
		case <-time.After(sweepPause):
		case <-ctx.Done():
			return
		}
		if c.pods.HasSynced() && c.away() == nil {
			c.sweep(ctx, time.Now())
		}
		if err := c.opt.Logs.DropOld(time.Now()); err != nil {
			c.opt.Log.Warn("cannot delete old logs", "cluster", c.opt.Name, "error", err)
		}
	}
}

// sweep deletes the pods that nobody looks after: engines whose lease has ended one lease ago, which their kubelet has not
// ended either, and drivers that have ended. No round deletes more than a tenth of the engines that run: if clocks are wrong, or the API
// server was away, their gateways renew them meanwhile.
func (c *Cluster) sweep(ctx context.Context, now time.Time) {
	budget := c.drivers()/10 + 1
	for _, o := range c.pods.GetStore().List() {
		p, ok := o.(*corev1.Pod)
		if !ok || p.Labels[roleLabel] != "driver" || p.DeletionTimestamp != nil || c.find(engines.Tag(p.Labels[tagLabel])) != nil {
			continue
		}
		switch {
		case !live(p):
			if c.first(p, now).Add(unattended).After(now) {
				continue
			}
			c.keepOrphan(ctx, p)
		case p.Labels[kindLabel] != kindEngine || leaseOf(p).IsZero() || leaseOf(p).Add(c.opt.Lease).After(now) || budget == 0:
			continue
		default:
			budget--
			c.opt.Log.Warn("an engine that no gateway renews is ended", "cluster", c.opt.Name, "pod", p.Name)
		}
		if err := c.deletePod(ctx, p.Name, p.UID, nil); err != nil {
			c.opt.Log.Warn("cannot delete a pod that nobody looks after", "cluster", c.opt.Name, "pod", p.Name, "error", err)
		}
	}
}

// first is when a pod that has ended was first seen to have; a restarted gateway counts from its own start.
func (c *Cluster) first(p *corev1.Pod, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.orphans == nil {
		c.orphans = map[string]time.Time{}
	}
	at, ok := c.orphans[string(p.UID)]
	if !ok {
		c.orphans[string(p.UID)] = now
		return now
	}
	return at
}

// keepOrphan keeps what is known of a batch that ended while no gateway followed it.
func (c *Cluster) keepOrphan(ctx context.Context, p *corev1.Pod) {
	if p.Labels[kindLabel] == kindBatch {
		a := c.adopt(p)
		select {
		case <-a.ended:
		case <-ctx.Done():
		}
	}
}
