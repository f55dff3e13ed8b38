package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluicedata/sluice/engines"
)

// seenExecutor tells an application's users what happens to its executors: a statement that takes longer than it should has a
// reason that its user can read.
func (c *Cluster) seenExecutor(a *app, p *corev1.Pod) {
	if a.batch && c.opt.Files != nil { // its driver has what it needs
		c.opt.Files.done(a.tag)
	}
	kind, text := executorNews(p)
	if text == "" {
		return
	}
	id := p.Name + " " + kind
	a.mu.Lock()
	known := a.told[id]
	a.told[id] = true
	now := a.last
	a.mu.Unlock()
	if !known && now.State == engines.Running {
		c.watchers.Tell(engines.Event{App: now, News: text})
	}
}

// executorNews is what there is to say of an executor, if anything. What Spark does itself, such as giving back an executor
// that has nothing to do, is no news.
func executorNews(p *corev1.Pod) (kind, text string) {
	name := fmt.Sprintf("Executor %s", p.Labels[execLabel])
	if p.Spec.NodeName != "" {
		name += " on " + p.Spec.NodeName
	}
	if why := disruption(p); why != "" {
		return "leaves", name + " has to go: " + why + ". What it had begun is done again by others"
	}
	if p.DeletionTimestamp != nil {
		return "", ""
	}
	for _, cs := range p.Status.ContainerStatuses {
		if t := cs.State.Terminated; t != nil && t.ExitCode != 0 {
			return "failed", name + " " + howItEnded(p)
		}
	}
	if p.Status.Phase == corev1.PodFailed {
		return "failed", name + " " + howItEnded(p)
	}
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionFalse && cond.Reason == "NodeNotReady" {
			return "silent", name + " does not answer: its node is not ready"
		}
	}
	if p.Status.Phase == corev1.PodPending {
		if why := unschedulable(p); why != "" {
			return "waits: " + why, name + " has no node yet: " + why
		}
		if why := neverRuns(p); why != "" {
			return "never", name + " cannot start: " + why
		}
	}
	return "", ""
}
