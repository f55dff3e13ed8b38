package kube

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluicedata/sluice/engines"
)

// describe says in the gateway's words where an application stands. The caller holds a.mu.
func (a *app) describe(namespace string) engines.App {
	out := engines.App{Tag: a.tag, ID: engines.AppID(appID(a.tag)), State: engines.Pending, Address: a.address, Steps: a.steps}
	p := a.pod
	switch {
	case a.doomed != "":
		out.State, out.Reason, out.Outcome = engines.Ended, a.doomed, a.outcome()
	case p == nil:
		out.Reason = a.waiting
	case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		out.State, out.Reason, out.Outcome = engines.Ended, a.named(namespace)+" "+a.howItEnded(), a.outcome()
	case p.DeletionTimestamp != nil && !a.batch: // it stops, and takes no more work
		out.State, out.Reason = engines.Ended, a.named(namespace)+" "+a.goes()
	case p.DeletionTimestamp != nil && time.Since(p.DeletionTimestamp.Time) > lostAfter:
		out.State, out.Outcome = engines.Ended, engines.Failed
		out.Reason = a.named(namespace) + " " + a.goes() + "; its node " + p.Spec.NodeName + " does not say how it ended, and whether it still runs there cannot be known"
	case p.Status.Phase == corev1.PodRunning && (a.batch || a.address != ""):
		out.State, out.Reason = engines.Running, a.named(namespace)+" runs on "+p.Spec.NodeName
	case p.Status.Phase == corev1.PodRunning:
		out.State, out.Reason = engines.Starting, a.named(namespace)+" runs on "+p.Spec.NodeName+", and Spark starts in it"
		if a.deaf != nil {
			out.Reason += fmt.Sprintf("; the gateway cannot reach it: %v", a.deaf)
		}
	default:
		out.Reason = a.named(namespace) + " " + a.waitsFor()
		if why := a.neverRuns(); why != "" {
			out.State, out.Outcome, out.Reason = engines.Ended, engines.Failed, a.named(namespace)+" cannot start: "+why
		}
	}
	if out.State == engines.Ended {
		out.Address = ""
	}
	return out
}

func (a *app) named(namespace string) string {
	return "pod " + podName(a.tag) + " in namespace " + namespace
}

// outcome is how an application that has ended did so.
func (a *app) outcome() engines.Outcome {
	switch {
	case a.pod != nil && a.pod.Status.Phase == corev1.PodSucceeded:
		return engines.Succeeded
	case a.killed || a.pod == nil:
		return engines.Killed
	case disruption(a.pod) != "":
		return engines.Failed
	case a.pod.Status.Phase == corev1.PodFailed && (a.pod.DeletionTimestamp == nil || !wasStopped(a.pod)):
		return engines.Failed
	}
	return engines.Killed
}

// wasStopped says that a container ended because of a signal that asks for that: SIGTERM, and SIGKILL in the end.
func wasStopped(p *corev1.Pod) bool {
	for _, cs := range p.Status.ContainerStatuses {
		if t := cs.State.Terminated; t != nil {
			return t.ExitCode == 128+15 || t.ExitCode == 128+9
		}
	}
	return false
}

// howItEnded says how a driver's container ended, and who wanted it.
func (a *app) howItEnded() string {
	if a.pod.Status.Phase == corev1.PodFailed && a.pod.DeletionTimestamp != nil {
		return a.goes() + " and " + howItEnded(a.pod)
	}
	return howItEnded(a.pod)
}

// gone says why a pod that is not there any more went.
func (a *app) gone(why string) string {
	name := "pod " + podName(a.tag)
	switch {
	case why != "":
		return name + " is gone: " + why
	case a.killed:
		return name + " is gone: it was ended"
	case a.pod == nil:
		return name + " is gone"
	case a.pod.Status.Phase == corev1.PodSucceeded || a.pod.Status.Phase == corev1.PodFailed:
		return name + " " + a.howItEnded()
	}
	return name + " " + a.goes()
}

// goes says why a pod is being deleted.
func (a *app) goes() string {
	switch why := disruption(a.pod); {
	case why != "":
		return "has to leave " + a.pod.Spec.NodeName + ": " + why
	case a.killed:
		return "was ended"
	}
	return "was deleted by somebody"
}

// disruption is why a pod has to leave its node, in words; empty if it need not. Kubernetes, DisruptionTarget.
func disruption(p *corev1.Pod) string {
	for _, cond := range p.Status.Conditions {
		if cond.Type != corev1.DisruptionTarget || cond.Status != corev1.ConditionTrue {
			continue
		}
		switch cond.Reason {
		case "EvictionByEvictionAPI":
			return "its node is being drained"
		case "PreemptionByScheduler":
			return "a pod of a higher priority gets its place"
		case "DeletionByTaintManager":
			return "its node has a taint that sends it away, or does not answer"
		case "DeletionByPodGC":
			return "its node is gone"
		case "TerminationByKubelet":
			return "its node is short of resources, or shuts down: " + cond.Message
		}
		return cond.Reason + ": " + cond.Message
	}
	return ""
}

// waitsFor says what a pod that does not run yet waits for.
func (a *app) waitsFor() string {
	p := a.pod
	if p.Spec.NodeName == "" {
		if why := unschedulable(p); why != "" {
			return "has no node yet: " + why
		}
		return "waits for the scheduler"
	}
	text := "is on " + p.Spec.NodeName
	if w := waitingState(p); w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
		return text + ": " + strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
	}
	return text + ": " + cmp.Or(a.news, "its container is being made")
}

// unschedulable is why the scheduler finds no node for a pod.
func unschedulable(p *corev1.Pod) string {
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			return cmp.Or(cond.Message, cond.Reason)
		}
	}
	return ""
}

func waitingState(p *corev1.Pod) *corev1.ContainerStateWaiting {
	for _, cs := range p.Status.ContainerStatuses {
		if cs.State.Waiting != nil {
			return cs.State.Waiting
		}
	}
	return nil
}

// What the kubelet says of a container that it cannot make now.
const (
	configError = "CreateContainerConfigError" // a Secret or ConfigMap is missing
	pullError   = "ErrImagePull"
	pullBackOff = "ImagePullBackOff"
)

// mayPass says that a pod cannot run, and perhaps will with the next try.
func mayPass(p *corev1.Pod) bool {
	w := waitingState(p)
	return w != nil && (w.Reason == configError || w.Reason == pullError || w.Reason == pullBackOff)
}

// Patience with what may pass. A driver's Secret is made a moment after it, by who has made it, if that is still there. The
// way to a registry may be back soon.
const (
	secretPatience   = 10 * time.Second
	registryPatience = 30 * time.Second
)

// neverRuns says why the application's pod will never run, and its user need not wait. The caller holds a.mu.
func (a *app) neverRuns() string {
	w := waitingState(a.pod)
	if w == nil {
		return ""
	}
	since := time.Duration(0)
	if !a.stuck.IsZero() {
		since = time.Since(a.stuck)
	}
	switch {
	case w.Reason == configError && since > secretPatience:
		return w.Message + ": what it needs was not made"
	case w.Reason == pullBackOff && since > registryPatience:
		return "its image cannot be pulled: " + w.Message
	}
	return neverRuns(a.pod)
}

// registryAway says that an image could not be pulled because of the way to its registry, or because that has too much to do.
func registryAway(message string) bool {
	for _, passing := range []string{"i/o timeout", "connection refused", "connection reset", "toomanyrequests", "503", "TLS handshake timeout", "EOF"} {
		if strings.Contains(message, passing) {
			return true
		}
	}
	return false
}

// neverRuns says what of a pod no time will mend.
func neverRuns(p *corev1.Pod) string {
	w := waitingState(p)
	if w == nil {
		return ""
	}
	switch w.Reason {
	case "InvalidImageName", "ErrImageNeverPull", "CreateContainerError", "RunContainerError":
		return w.Reason + ": " + w.Message
	case pullBackOff:
		if !registryAway(w.Message) {
			return "its image cannot be pulled: " + w.Message
		}
	}
	return ""
}

// howItEnded says how a pod's container ended.
func howItEnded(p *corev1.Pod) string {
	if p.Status.Phase == corev1.PodSucceeded {
		return "ended well"
	}
	if p.Status.Reason != "" { // the pod as a whole, such as Evicted
		return strings.TrimSuffix("failed: "+p.Status.Reason+": "+p.Status.Message, ": ")
	}
	text := "failed"
	if why := disruption(p); why != "" {
		text += ": " + why
	}
	for _, cs := range p.Status.ContainerStatuses {
		if t := cs.State.Terminated; t != nil {
			text += fmt.Sprintf(": its container ended with code %d", t.ExitCode)
			if t.Reason != "" && t.Reason != "Error" {
				text += " (" + t.Reason + ")"
			}
			if t.Reason == "OOMKilled" {
				text += ": it needed more memory than it has; give spark.driver.memory or spark.driver.memoryOverhead more"
			}
		}
	}
	return text
}
