package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// feed brings what there is of one kind of thing in the whole cluster, and then what changes. client-go's Reflector does it,
// too, but it wants a list as a whole, which may be a gigabyte of pods, and pauses for half a minute when an API server is away.
type feed struct {
	what  string // the resource
	list  func(ctx context.Context, o metav1.ListOptions, round uint32) (metav1.ListMeta, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
	put   func(o runtime.Object, round uint32)
	drop  func(runtime.Object)
	keep  func(round uint32) // drops what was not in the list of this round
	said  func(what, verb string, err error)
	moved func()
	round uint32
}

// How feeds ask: things in a page, and pauses between two tries. One that is refused waits for an administrator.
const (
	pageSize     = 500
	feedPause    = time.Second
	refusedPause = 3 * time.Minute
)

// watchFor is how long a watch lasts, in seconds; as long again is left to chance, so that not all end at once.
const watchFor = 300

// run goes on until its context ends.
func (f *feed) run(ctx context.Context) {
	for version := ""; ; {
		verb, err := "list", error(nil)
		if version == "" {
			version, err = f.all(ctx)
		}
		if err == nil {
			verb = "watch"
			version, err = f.follow(ctx, version)
		}
		if ctx.Err() != nil {
			return
		}
		pause := feedPause
		if err != nil {
			f.said(f.what, verb, err)
		}
		if apierrors.IsForbidden(err) {
			pause = refusedPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// all lists, page by page, and returns the version of the list.
func (f *feed) all(ctx context.Context) (version string, err error) {
	f.round++
	o := metav1.ListOptions{Limit: pageSize, FieldSelector: f.selector()}
	for {
		soon, cancel := context.WithTimeout(ctx, requestTimeout)
		page, err := f.list(soon, o, f.round)
		cancel()
		if err != nil {
			return "", fmt.Errorf("list %s: %w", f.what, err)
		}
		if o.Continue = page.Continue; o.Continue == "" {
			f.keep(f.round)
			return page.ResourceVersion, nil
		}
	}
}

// selector leaves out pods that have finished: they need no room, and there may be many.
func (f *feed) selector() string {
	if f.what != "pods" {
		return ""
	}
	return "status.phase!=" + string(corev1.PodSucceeded) + ",status.phase!=" + string(corev1.PodFailed)
}

// follow takes in what changes after a version, and returns the last one; none says that a list is needed again.
func (f *feed) follow(ctx context.Context, version string) (string, error) {
	seconds := int64(watchFor + rand.IntN(watchFor)) //nolint:gosec // no secret
	w, err := f.watch(ctx, metav1.ListOptions{ResourceVersion: version, FieldSelector: f.selector(), AllowWatchBookmarks: true, TimeoutSeconds: &seconds})
	switch {
	case tooOld(err):
		return "", nil
	case err != nil:
		return version, fmt.Errorf("watch %s: %w", f.what, err)
	}
	defer w.Stop()
	f.said(f.what, "watch", nil)
	for {
		var ev watch.Event
		var ok bool
		select {
		case ev, ok = <-w.ResultChan():
		case <-ctx.Done():
			return version, context.Cause(ctx)
		}
		if !ok {
			return version, nil
		}
		if ev.Type == watch.Error {
			if err := apierrors.FromObject(ev.Object); !tooOld(err) {
				return "", fmt.Errorf("watch %s: %w", f.what, err)
			}
			return "", nil
		}
		if m, err := meta.Accessor(ev.Object); err == nil {
			version = m.GetResourceVersion()
		}
		switch ev.Type {
		case watch.Added, watch.Modified:
			f.put(ev.Object, f.round)
			f.moved()
		case watch.Deleted:
			f.drop(ev.Object)
			f.moved()
		}
	}
}

// tooOld says that an API server cannot go on from a version, or, after it was set back, does not know it yet.
func tooOld(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// feeds are those of a tally.
func (t *tally) feeds(api API, said func(what, verb string, err error), moved func()) []*feed {
	nodes := &feed{what: "nodes", watch: api.WatchNodes, keep: t.keepNodes, said: said, moved: moved}
	nodes.list = func(ctx context.Context, o metav1.ListOptions, round uint32) (metav1.ListMeta, error) {
		list, err := api.ListNodes(ctx, o)
		if err != nil {
			return metav1.ListMeta{}, err
		}
		for i := range list.Items {
			t.putNode(&list.Items[i], round)
		}
		return list.ListMeta, nil
	}
	nodes.put = func(o runtime.Object, round uint32) {
		if n, ok := o.(*corev1.Node); ok {
			t.putNode(n, round)
		}
	}
	nodes.drop = func(o runtime.Object) {
		if n, ok := o.(*corev1.Node); ok {
			t.dropNode(n)
		}
	}
	pods := &feed{what: "pods", watch: api.WatchAllPods, keep: t.keepPods, said: said, moved: moved}
	pods.list = func(ctx context.Context, o metav1.ListOptions, round uint32) (metav1.ListMeta, error) {
		list, err := api.ListAllPods(ctx, o)
		if err != nil {
			return metav1.ListMeta{}, err
		}
		for i := range list.Items {
			t.putPod(&list.Items[i], round)
		}
		return list.ListMeta, nil
	}
	pods.put = func(o runtime.Object, round uint32) {
		if p, ok := o.(*corev1.Pod); ok {
			t.putPod(p, round)
		}
	}
	pods.drop = func(o runtime.Object) {
		if p, ok := o.(*corev1.Pod); ok {
			t.dropPod(p)
		}
	}
	return []*feed{nodes, pods}
}
