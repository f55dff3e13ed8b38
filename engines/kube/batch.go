package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicedata/sluice/engines"
)

// Batch implements engines.BatchCluster. A batch that has ended is remembered on this machine.
func (c *Cluster) Batch(ctx context.Context, tag engines.Tag) (engines.App, bool, error) {
	if a := c.find(tag); a != nil && a.hasPod() {
		return a.now(), true, nil
	}
	if app, found, err := c.opt.Logs.Ended(tag); err != nil || found {
		return app, found, err
	}
	if err := c.start(ctx); err != nil {
		return engines.App{}, false, err
	}
	list, err := c.list(ctx, metav1.ListOptions{LabelSelector: c.selector(roleLabel + "=driver," + tagLabel + "=" + string(key(tag)))})
	if err != nil {
		return engines.App{}, false, fmt.Errorf("look for %s on cluster %s: %w", tag, c.opt.Name, explain(err, c.path()))
	}
	if len(list.Items) == 0 {
		return engines.App{}, false, nil
	}
	return c.adopt(&list.Items[0]).now(), true, nil
}

func (a *app) hasPod() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.uid != "" || a.last.State == engines.Ended
}

// Output implements engines.BatchCluster. Kubernetes writes what a container prints and what it logs into one text.
func (c *Cluster) Output(ctx context.Context, tag engines.Tag, n int) (string, error) {
	return c.Log(ctx, tag, n)
}

// followLog keeps the end of a batch's log while it is written: a pod that is deleted takes its log with it.
func (c *Cluster) followLog(ctx context.Context, a *app) {
	for {
		a.mu.Lock()
		begun := a.pod != nil && (a.pod.Status.Phase == corev1.PodRunning || !live(a.pod))
		a.mu.Unlock()
		pause := lookPause // its node may be lost a moment later
		if begun {
			c.readOn(ctx, a)
			pause = lookEvents
		}
		select {
		case <-time.After(pause):
		case <-a.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// readOn reads a log until it ends, or the way to it is cut.
func (c *Cluster) readOn(ctx context.Context, a *app) {
	r, err := c.opt.API.PodLog(ctx, podName(a.tag), &corev1.PodLogOptions{Container: driverContainer, Follow: true, TailLines: new(int64(logLines))})
	if err != nil {
		return
	}
	defer func() { _ = r.Close() }()
	var end tail
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_, _ = end.Write(buf[:n]) // it takes everything
			a.mu.Lock()
			a.log = end.bytes()
			a.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}
