package kube

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/sluicedata/sluice/engines"
)

// informer watches the pods of this instance, drivers and executors: one watch, whatever there is. A watch that is lost, and
// one that is too old, is begun again by the library.
func (c *Cluster) informer() cache.SharedIndexInformer {
	mine := func(o *metav1.ListOptions) { o.LabelSelector = instanceLabel + "=" + c.opt.Instance }
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			mine(&o)
			return insist(ctx, c, func() (*corev1.PodList, error) { return c.opt.API.ListPods(ctx, o) })
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			mine(&o)
			return insist(ctx, c, func() (watch.Interface, error) { return c.opt.API.WatchPods(ctx, o) })
		},
	}
	inf := cache.NewSharedIndexInformer(source, &corev1.Pod{}, 0, cache.Indexers{})
	// These only fail once the informer runs.
	_ = inf.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		c.opt.Log.Debug("the watch of pods has ended", "cluster", c.opt.Name, "error", err) // it is begun again; answered tells what matters
	})
	_ = inf.SetTransform(func(o any) (any, error) {
		if p, ok := o.(*corev1.Pod); ok {
			return trimmed(p), nil
		}
		return o, nil
	})
	_, _ = inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { c.see(o) },
		UpdateFunc: func(_, o any) { c.see(o) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			if p, ok := o.(*corev1.Pod); ok && p.Labels[roleLabel] == "driver" {
				if a := c.appOf(p); a != nil {
					c.seen(p) // how its container ended may come with the last word only
					c.vanished(a, p.UID, "")
				}
			}
		},
	})
	return inf
}

// watchPause is between two tries to reach an API server that is away.
const watchPause = time.Second

// insist asks again until an API server answers. The library would do that, too, but with pauses of up to a minute: for so
// long nobody would hear that it is back.
func insist[T any](ctx context.Context, c *Cluster, ask func() (T, error)) (T, error) {
	for {
		out, err := ask()
		if !apierrors.IsInvalid(err) { // the library asks first for what older API servers do not have
			c.answered(err)
		}
		if err == nil || !away(err) {
			return out, err
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return out, context.Cause(ctx)
		}
	}
}

func (c *Cluster) startInformer() {
	c.begin.Do(func() {
		c.wait.Go(func() { c.pods.RunWithContext(c.life) })
		c.wait.Go(func() { c.sweepOften(c.life) })
	})
}

// answered notes whether the API server can be watched.
func (c *Cluster) answered(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.lost == nil && c.life.Err() == nil {
		c.opt.Log.Warn("the API server does not answer; what runs goes on", "cluster", c.opt.Name, "error", err)
	}
	if err == nil && c.lost != nil {
		c.opt.Log.Info("the API server answers again", "cluster", c.opt.Name)
	}
	c.lost = err
}

// trimmed is a pod with no more than is asked of it here: there may be thousands.
func trimmed(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion, Labels: map[string]string{},
		CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp}}
	for _, k := range []string{instanceLabel, tagLabel, kindLabel, roleLabel, execLabel} {
		if v, ok := p.Labels[k]; ok {
			out.Labels[k] = v
		}
	}
	if lease := p.Annotations[leaseNote]; lease != "" {
		out.Annotations = map[string]string{leaseNote: lease, userNote: p.Annotations[userNote]}
	}
	out.Spec.NodeName = p.Spec.NodeName
	s := p.Status
	out.Status = corev1.PodStatus{Phase: s.Phase, Reason: s.Reason, Message: s.Message, PodIP: s.PodIP}
	for _, cond := range s.Conditions {
		if cond.Type == corev1.PodScheduled || cond.Type == corev1.DisruptionTarget || cond.Type == corev1.PodReady && cond.Reason != "" {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{Type: cond.Type, Status: cond.Status, Reason: cond.Reason, Message: cond.Message})
		}
	}
	for _, cs := range s.ContainerStatuses {
		if cs.Name == driverContainer || cs.Name == executorContainer {
			out.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: cs.Name, State: cs.State}}
		}
	}
	if p.Labels[roleLabel] == "driver" {
		for _, cont := range p.Spec.Containers {
			if cont.Name == driverContainer {
				out.Spec.Containers = []corev1.Container{{Name: cont.Name, Image: cont.Image, Ports: cont.Ports}}
			}
		}
	}
	return out
}

// execLabel is Spark's number of an executor.
const execLabel = "spark-exec-id"

// appOf is the application that a pod belongs to, if it is followed.
func (c *Cluster) appOf(p *corev1.Pod) *app {
	return c.find(engines.Tag(p.Labels[tagLabel]))
}

// see takes in what the informer has of a pod.
func (c *Cluster) see(o any) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	if p.Labels[roleLabel] == "driver" {
		c.seen(p)
		return
	}
	if a := c.appOf(p); a != nil {
		c.seenExecutor(a, p)
	}
}

// cached is a driver as the informer knows it, or nil.
func (c *Cluster) cached(tag engines.Tag) *corev1.Pod {
	o, ok, err := c.pods.GetStore().GetByKey(c.opt.Site.Namespace + "/" + podName(tag))
	if !ok || err != nil {
		return nil
	}
	p, _ := o.(*corev1.Pod)
	return p
}
