package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicedata/sluice/engines"
)

// app is an application that is followed until it ends.
type app struct {
	tag   engines.Tag
	batch bool
	met   time.Time // since when it is followed
	ended chan struct{}

	mu        sync.Mutex
	uid       types.UID   // of its pod; empty while there is none
	pod       *corev1.Pod // as it was last seen, trimmed
	waiting   string      // why it has no pod yet
	news      string      // what the kubelet does for it, in the words of its last event
	doomed    string      // why it is ended by us
	killed    bool        // somebody asked for its end
	address   string      // where it listens, once it does
	deaf      error       // why it could not be reached yet
	finishing bool
	stuck     time.Time // since when its container cannot be made, for what may pass
	steps     engines.Steps
	scheduled time.Time
	running   time.Time
	last      engines.App
	log       []byte
	tokens    []byte          // the file of them that its Secret has
	told      map[string]bool // of its executors
	again     func(context.Context) error
}

// key is a tag as labels have it.
func key(t engines.Tag) engines.Tag { return engines.Tag(strings.ToLower(string(t))) }

// attend follows an application, once.
func (c *Cluster) attend(tag engines.Tag, batch bool) *app {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.apps[key(tag)]; a != nil {
		return a
	}
	a := &app{tag: tag, batch: batch, met: time.Now(), ended: make(chan struct{}), told: map[string]bool{}, last: engines.App{Tag: tag, State: engines.Pending}}
	c.apps[key(tag)] = a
	return a
}

func (c *Cluster) forget(a *app) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apps[key(a.tag)] == a {
		delete(c.apps, key(a.tag))
	}
}

// find is an application that is followed, or nil.
func (c *Cluster) find(tag engines.Tag) *app {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apps[key(tag)]
}

func (a *app) now() engines.App {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// waits notes why there is no pod yet.
func (a *app) waits(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = why
}

// created notes which pod is the application's.
func (a *app) created(p *corev1.Pod, began time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uid, a.waiting = p.UID, ""
	a.steps.Staging = max(time.Since(began), time.Millisecond)
	if a.pod == nil || a.pod.UID != p.UID {
		a.pod = trimmed(p)
	}
}

// keepLog keeps what was read of its log, unless more is known.
func (a *app) keepLog(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(text) > len(a.log) {
		a.log = []byte(text)
	}
}

func (a *app) keptLog() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.log)
}

// kill notes that its end was asked for.
func (a *app) kill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.killed, a.again = true, nil
}

// seen takes in a driver as the API server has it.
func (c *Cluster) seen(p *corev1.Pod) {
	a := c.appOf(p)
	if a == nil {
		return
	}
	a.mu.Lock()
	if a.uid == "" && a.waiting == "" && a.again == nil { // it was there before us, or our request has not been answered yet
		a.uid = p.UID
	}
	if a.uid != p.UID {
		a.mu.Unlock()
		return
	}
	now := time.Now()
	a.pod = p
	if p.Spec.NodeName != "" && a.scheduled.IsZero() {
		a.scheduled = now
		a.steps.Scheduling = max(now.Sub(a.met)-a.steps.Staging, time.Millisecond)
	}
	if !mayPass(p) {
		a.stuck = time.Time{}
	} else if a.stuck.IsZero() {
		a.stuck = now
	}
	if p.Status.Phase == corev1.PodRunning && a.running.IsZero() {
		a.running = now
		a.steps.Container = max(now.Sub(a.scheduled), time.Millisecond)
	}
	a.mu.Unlock()
	c.tell(a)
}

// tell tells who watches how an application stands, if that has changed. One that has ended is told when its log has been read.
func (c *Cluster) tell(a *app) {
	a.mu.Lock()
	now := a.describe(c.opt.Site.Namespace)
	if now.State == engines.Ended && a.last.State != engines.Ended {
		if !a.finishing {
			a.finishing = true
			c.wait.Go(func() { c.finish(a, now) })
		}
		a.mu.Unlock()
		return
	}
	changed := now != a.last && a.last.State != engines.Ended
	if changed {
		a.last = now
	}
	a.mu.Unlock()
	if changed {
		c.watchers.Tell(engines.Event{App: now})
	}
}

// finishLimit is for how long the last things are done for an application that has ended.
const finishLimit = time.Minute

// finish keeps the log of an application that has ended, tells its end, and deletes its pod: executors of a driver that has
// failed stay until then.
func (c *Cluster) finish(a *app, now engines.App) {
	ctx, cancel := context.WithTimeout(c.life, finishLimit)
	defer cancel()
	text, err := c.readLog(ctx, podName(a.tag))
	if err == nil {
		a.keepLog(text)
	}
	kept := a.keptLog()
	a.mu.Lock()
	uid := a.uid
	a.mu.Unlock()
	if at, err := c.opt.Logs.Log(string(a.tag), kept); err != nil {
		c.opt.Log.Warn("cannot keep a driver's log", "cluster", c.opt.Name, "application", a.tag, "error", err)
	} else if at != "" {
		now.Log = at
	}
	if a.batch {
		if err := c.opt.Logs.App(now); err != nil {
			c.opt.Log.Warn("cannot keep how a batch ended", "cluster", c.opt.Name, "application", a.tag, "error", err)
		}
	}
	a.mu.Lock()
	a.last = now
	a.mu.Unlock()
	c.watchers.Tell(engines.Event{App: now})
	close(a.ended)
	if err := c.remove(ctx, a, uid); err != nil && c.life.Err() == nil {
		c.opt.Log.Warn("cannot delete the pod of a driver that has ended; the next sweep will", "cluster", c.opt.Name, "pod", podName(a.tag), "error", err)
	}
	c.freeBlocks(a.tag)
	if c.opt.Files != nil {
		c.opt.Files.done(a.tag)
	}
	time.AfterFunc(remember, func() { c.forget(a) })
}

// remove deletes the pod of an application that has ended. One whose node does not answer would stay for ever, and its
// executors with it, so it is forced to go when it has had its time.
func (c *Cluster) remove(ctx context.Context, a *app, uid types.UID) error {
	if uid == "" {
		return nil
	}
	if err := c.deletePod(ctx, podName(a.tag), uid, nil); err != nil {
		return err
	}
	deadline := time.NewTimer(driverGrace*time.Second + lostAfter)
	defer deadline.Stop()
	look := time.NewTicker(killPause)
	defer look.Stop()
	for {
		if p := c.cached(a.tag); p == nil || p.UID != uid {
			return nil
		}
		select {
		case <-look.C:
		case <-deadline.C:
			return c.deletePod(ctx, podName(a.tag), uid, new(int64(0)))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lostAfter is how long after its time a pod that is being deleted is taken for lost with its node.
const lostAfter = 10 * time.Second

// remember is for how long an application that has ended can still be asked for.
const remember = 10 * time.Minute

// vanished takes in that a driver's pod is gone. With a uid it is that one's end.
func (c *Cluster) vanished(a *app, uid types.UID, why string) {
	a.mu.Lock()
	ours := uid == "" || a.uid == uid
	if ours && a.doomed == "" {
		a.doomed = a.gone(why)
	}
	a.mu.Unlock()
	if ours {
		c.tell(a)
	}
}

// lookPause is between two tries to reach a driver that starts; lookEvents between two looks at what the kubelet says.
const (
	lookPause  = 100 * time.Millisecond
	lookEvents = time.Second
)

// bring looks after an application until it runs, or has ended; after a batch until it has ended.
func (c *Cluster) bring(ctx context.Context, a *app) {
	if a.batch {
		c.wait.Go(func() { c.followLog(ctx, a) })
	}
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	asked := time.Now() // most pods need no more than that
	for {
		if c.unclash(ctx, a) {
			continue
		}
		a.mu.Lock()
		pod, listens := a.pod, a.address != ""
		a.mu.Unlock()
		switch {
		case pod == nil || listens:
		case pod.Status.Phase == corev1.PodRunning && !a.batch:
			c.reach(ctx, a, pod)
		case pod.Status.Phase == corev1.PodPending && time.Since(asked) > lookEvents:
			asked = time.Now()
			c.ask(ctx, a, pod)
		}
		switch now := a.now(); {
		case now.State != engines.Running:
		case !a.batch:
			return
		default: // there may be no event of the end of one whose node is lost
			tick.Reset(lookEvents)
			c.tell(a)
		}
		select {
		case <-tick.C:
		case <-a.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// reach tries to connect with an engine.
func (c *Cluster) reach(ctx context.Context, a *app, pod *corev1.Pod) {
	address := net.JoinHostPort(pod.Status.PodIP, connectPortOf(pod))
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	var timeout net.Error
	a.mu.Lock()
	if err == nil {
		_ = conn.Close()
		a.address, a.deaf = address, nil
		a.steps.Listening = max(time.Since(a.running), time.Millisecond)
	} else if errors.As(err, &timeout) && timeout.Timeout() { // refused is what is expected while Spark starts
		a.deaf = err
	}
	a.mu.Unlock()
	c.tell(a)
}

func connectPortOf(pod *corev1.Pod) string {
	for _, cont := range pod.Spec.Containers {
		for _, p := range cont.Ports {
			if p.Name == "connect" {
				return strconv.Itoa(int(p.ContainerPort))
			}
		}
	}
	return strconv.Itoa(Block(0).at(connectPort))
}

// ask looks at the events of a pod that waits: pulling of images, volumes that cannot be mounted.
func (c *Cluster) ask(ctx context.Context, a *app, pod *corev1.Pod) {
	soon, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := c.opt.API.ListEvents(soon, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		c.opt.Log.Debug("cannot read the events of a pod", "cluster", c.opt.Name, "pod", pod.Name, "error", err)
		return
	}
	var latest *corev1.Event
	for i := range list.Items {
		e := &list.Items[i]
		if e.Source.Component != "default-scheduler" && e.Reason != "Scheduled" && (latest == nil || !when(e).Before(when(latest))) {
			latest = e
		}
	}
	if latest == nil {
		return
	}
	a.mu.Lock()
	a.news = strings.TrimSpace(latest.Message)
	if latest.Type == corev1.EventTypeWarning {
		a.news = latest.Reason + ": " + a.news
	}
	a.mu.Unlock()
	c.tell(a)
}

func when(e *corev1.Event) time.Time {
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}

// unclash gives a driver other ports when the scheduler says that its own are not free on any node that it could have. A pod
// that has no node yet is gone at once when it is deleted.
func (c *Cluster) unclash(ctx context.Context, a *app) bool {
	a.mu.Lock()
	again, pod := a.again, a.pod
	a.mu.Unlock()
	if again == nil || pod == nil || pod.Spec.NodeName != "" || !strings.Contains(unschedulable(pod), "free ports for the requested pod ports") {
		return false
	}
	err := c.replace(ctx, a)
	if err == nil {
		c.opt.Log.Info("a driver's ports are taken on its node; it gets others", "cluster", c.opt.Name, "pod", pod.Name, "ports", blockOf(pod))
		err = again(ctx)
	}
	if err != nil && ctx.Err() == nil {
		c.vanished(a, "", fmt.Sprintf("its ports are taken, and it could not be made anew: %v", err))
	}
	return true
}

// replace deletes the pod of an application that is to have another one.
func (c *Cluster) replace(ctx context.Context, a *app) error {
	a.mu.Lock()
	pod, uid := a.pod, a.uid
	a.uid, a.pod, a.waiting = "", nil, "it gets another pod"
	a.scheduled = time.Time{}
	a.mu.Unlock()
	return c.deletePod(ctx, pod.Name, uid, new(int64(0)))
}
