package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// executorSpec is what the scheduler is asked for with an executor of the site.
func executorSpec(site Site) corev1.PodSpec {
	_, spec, _ := under(site.Executor.Template, executorContainer)
	site.Evictable.prefer(&spec)
	site.Executor.place(&spec, executorPatience)
	return spec
}

// executorNodes says which nodes executors may run on: ready, not cordoned, with the labels that they want, and without a taint
// that they do not tolerate. A template's affinity is not looked at.
func executorNodes(spec corev1.PodSpec) func(*corev1.Node) bool {
	want := labels.SelectorFromSet(spec.NodeSelector)
	return func(n *corev1.Node) bool {
		return !n.Spec.Unschedulable && ready(n) && want.Matches(labels.Set(n.Labels)) && tolerated(n.Spec.Taints, spec.Tolerations)
	}
}

func ready(n *corev1.Node) bool {
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func tolerated(taints []corev1.Taint, by []corev1.Toleration) bool {
	for i := range taints {
		if taints[i].Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		if !slices.ContainsFunc(by, func(t corev1.Toleration) bool { return tolerates(t, taints[i]) }) {
			return false
		}
	}
	return true
}

// tolerates is Kubernetes's rule, without comparing numbers.
func tolerates(t corev1.Toleration, taint corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case corev1.TolerationOpExists:
		return true
	case corev1.TolerationOpEqual, "":
		return t.Value == taint.Value
	}
	return false
}
