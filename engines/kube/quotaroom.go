package kube

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sluicedata/sluice/engines"
)

// quotaRoom is what a namespace's quotas give, and what they leave. What they do not limit is boundless.
type quotaRoom struct {
	some       bool
	hard, left engines.Room
}

// boundless is more than any cluster has.
const boundless = int64(math.MaxInt64)

// counted is how each resource that a quota may limit is counted. Spark's pods have no limits of memory beside their requests.
var counted = []struct {
	of       func(*engines.Room) *int64
	measure  func(resource.Quantity) int64
	resource []corev1.ResourceName
}{
	{func(r *engines.Room) *int64 { return &r.Memory }, func(q resource.Quantity) int64 { return q.Value() >> 20 },
		[]corev1.ResourceName{corev1.ResourceRequestsMemory, corev1.ResourceMemory, corev1.ResourceLimitsMemory}},
	{func(r *engines.Room) *int64 { return &r.MilliCores }, func(q resource.Quantity) int64 { return q.MilliValue() },
		[]corev1.ResourceName{corev1.ResourceRequestsCPU, corev1.ResourceCPU}},
}

// roomOf is what the quotas leave to pods of a priority class, which run until they end and request something.
func roomOf(quotas []corev1.ResourceQuota, class string) quotaRoom {
	all := engines.Room{Memory: boundless, MilliCores: boundless}
	out := quotaRoom{hard: all, left: all}
	for i := range quotas {
		if q := &quotas[i]; covers(q, class) {
			out.within(q)
		}
	}
	return out
}

func (r *quotaRoom) within(q *corev1.ResourceQuota) {
	hard, used := q.Status.Hard, q.Status.Used
	if len(hard) == 0 { // it is not counted yet
		hard = q.Spec.Hard
	}
	for _, c := range counted {
		for _, name := range c.resource {
			if most, ok := hard[name]; ok {
				left := most.DeepCopy()
				left.Sub(used[name])
				r.some = true
				*c.of(&r.hard) = min(*c.of(&r.hard), c.measure(most))
				*c.of(&r.left) = max(0, min(*c.of(&r.left), c.measure(left)))
			}
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourcePods, "count/pods"} {
		if most, ok := hard[name]; ok {
			r.some = true
			if taken := used[name]; taken.Cmp(most) >= 0 {
				r.left = engines.Room{}
			}
		}
	}
}

// finite has nothing of what is boundless.
func finite(r engines.Room) engines.Room {
	if r.Memory == boundless {
		r.Memory = 0
	}
	if r.MilliCores == boundless {
		r.MilliCores = 0
	}
	return r
}

// covers says whether a quota counts executors.
func covers(q *corev1.ResourceQuota, class string) bool {
	for _, s := range q.Spec.Scopes {
		if !inScope(corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists}, class) {
			return false
		}
	}
	if q.Spec.ScopeSelector != nil {
		for _, s := range q.Spec.ScopeSelector.MatchExpressions {
			if !inScope(s, class) {
				return false
			}
		}
	}
	return true
}

func inScope(s corev1.ScopedResourceSelectorRequirement, class string) bool {
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeNotBestEffort:
		return true
	case corev1.ResourceQuotaScopePriorityClass:
		switch s.Operator {
		case corev1.ScopeSelectorOpExists:
			return class != ""
		case corev1.ScopeSelectorOpDoesNotExist:
			return class == ""
		case corev1.ScopeSelectorOpIn:
			return slices.Contains(s.Values, class)
		case corev1.ScopeSelectorOpNotIn:
			return !slices.Contains(s.Values, class)
		}
	}
	return false
}
