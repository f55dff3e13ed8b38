package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicedata/sluice/engines"
)

// amounts reads a list of a quota's message: "requested: pods=1,requests.memory=2Gi, used: …".
func amounts(text, list string) map[string]resource.Quantity {
	out := map[string]resource.Quantity{}
	_, rest, ok := strings.Cut(text, list)
	if !ok {
		return out
	}
	rest, _, _ = strings.Cut(rest, ", ")
	for _, pair := range strings.Split(rest, ",") {
		name, amount, _ := strings.Cut(pair, "=")
		if q, err := resource.ParseQuantity(strings.TrimSpace(amount)); err == nil {
			out[name] = q
		}
	}
	return out
}

// live says that a driver has or will have a place.
func live(p *corev1.Pod) bool {
	return p.Labels[roleLabel] == "driver" && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

// drivers counts those in the namespace that are known of.
func (c *Cluster) drivers() (n int) {
	for _, o := range c.pods.GetStore().List() {
		if p, ok := o.(*corev1.Pod); ok && live(p) {
			n++
		}
	}
	return n
}

// roomPause is between two looks whether a driver has gone.
const roomPause = time.Second

// room waits until there may be one more driver. Drivers without a limit could take all places, and then none of them got an
// executor, for ever.
func (c *Cluster) room(ctx context.Context, a *app) error {
	for c.opt.MaxDrivers > 0 && c.drivers() >= c.opt.MaxDrivers {
		a.waits(fmt.Sprintf("%d drivers run in namespace %s, and more would leave no room for executors (%s.max_drivers)", c.drivers(), c.opt.Site.Namespace, c.path()))
		c.tell(a)
		select {
		case <-time.After(roomPause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), a.now().Reason)
		}
	}
	return nil
}

// oneTooMany says that a driver that was just made is beyond the limit, because another gateway has made one at the same
// time. Of two that cannot be told apart both are.
func (c *Cluster) oneTooMany(ctx context.Context, made *corev1.Pod) (bool, error) {
	if c.opt.MaxDrivers == 0 || c.drivers() < c.opt.MaxDrivers/2 {
		return false, nil
	}
	list, err := c.list(ctx, metav1.ListOptions{LabelSelector: c.selector(roleLabel + "=driver")})
	if err != nil {
		return false, err
	}
	before := 0
	for i := range list.Items {
		p := &list.Items[i]
		if live(p) && p.UID != made.UID && !made.CreationTimestamp.Before(&p.CreationTimestamp) {
			before++
		}
	}
	return before >= c.opt.MaxDrivers, nil
}

// chooseBlock gives a launch ports that no driver of ours has.
func (c *Cluster) chooseBlock(tag engines.Tag) (Block, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := map[Block]bool{}
	for _, o := range c.pods.GetStore().List() {
		if p, ok := o.(*corev1.Pod); ok && live(p) {
			taken[blockOf(p)] = true
		}
	}
	for b, owner := range c.blocks {
		if c.apps[key(owner)] == nil {
			delete(c.blocks, b)
			continue
		}
		taken[b] = true // its own, too: it is asked for another one when the first was not free
	}
	b, err := freeBlock(c.opt.Ports, tag, func(b Block) bool { return taken[b] })
	if err == nil {
		c.blocks[b] = tag
	}
	return b, err
}

// freeBlocks gives back the ports of an application that has ended.
func (c *Cluster) freeBlocks(tag engines.Tag) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b, owner := range c.blocks {
		if owner == tag {
			delete(c.blocks, b)
		}
	}
}

// blockOf is the block of a driver's pod, 0 if it has none.
func blockOf(p *corev1.Pod) Block {
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name == "driver-rpc" {
				return Block(port.HostPort)
			}
		}
	}
	return 0
}
