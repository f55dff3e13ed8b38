package kube

import (
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Pool says where pods of one role run, and what they get there.
type Pool struct {
	Selector      map[string]string   // labels that a node must have
	Tolerations   []corev1.Toleration // taints of nodes that they may run on all the same
	PriorityClass string
	CPU           string                  // requested for a pod; empty follows its cores
	Template      *corev1.PodTemplateSpec // lies under what is set here
}

// Label is a label of nodes. An empty Value is any.
type Label struct{ Key, Value string }

// ReadLabel reads KEY or KEY=VALUE.
func ReadLabel(text string) (Label, error) {
	if text == "" {
		return Label{}, nil
	}
	key, value, _ := strings.Cut(text, "=")
	if bad := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(bad) > 0 {
		return Label{}, fmt.Errorf("%q is no label of nodes: %s; write it like sluice/evictable or spot=true", text, bad[0])
	}
	return Label{key, value}, nil
}

// ReadSelector reads labels with commas between them: pool=batch,zone=a.
func ReadSelector(text string) (map[string]string, error) {
	out := map[string]string{}
	for _, part := range split(text) {
		l, err := ReadLabel(part)
		if err == nil && !strings.Contains(part, "=") {
			err = fmt.Errorf("%q has no value; write it like %[1]s=true", part)
		}
		if err != nil {
			return nil, err
		}
		out[l.Key] = l.Value
	}
	return out, nil
}

// ReadTolerations reads taints as kubectl writes them, with commas between them: KEY=VALUE:EFFECT, KEY:EFFECT, KEY for any
// effect, and * for every taint.
func ReadTolerations(text string) ([]corev1.Toleration, error) {
	var out []corev1.Toleration
	for _, part := range split(text) {
		if part == "*" {
			out = append(out, corev1.Toleration{Operator: corev1.TolerationOpExists})
			continue
		}
		taint, effect, _ := strings.Cut(part, ":")
		l, err := ReadLabel(taint)
		effects := []string{"", string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}
		if err != nil || !slices.Contains(effects, effect) {
			return nil, fmt.Errorf("%q is no taint; write it like spot=true:NoSchedule or spot:NoExecute", part)
		}
		t := corev1.Toleration{Key: l.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(effect)}
		if l.Value != "" {
			t.Operator, t.Value = corev1.TolerationOpEqual, l.Value
		}
		out = append(out, t)
	}
	return out, nil
}

func split(list string) []string {
	var out []string
	for _, part := range strings.Split(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// ReadCPU reads a quantity of processors: 1, 0.5 or 500m. Empty text is none.
func ReadCPU(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() <= 0 {
		return "", fmt.Errorf("%q is no number of processors; write it like 1, 0.5 or 500m", text)
	}
	return q.String(), nil
}

// ReadTemplate reads a PodTemplateSpec, or a Pod, as Spark's own templates are. What Kubernetes does not know in it is an error.
func ReadTemplate(file string) (*corev1.PodTemplateSpec, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var t struct {
		metav1.TypeMeta        `json:",inline"`
		corev1.PodTemplateSpec `json:",inline"`
	}
	if err := yaml.UnmarshalStrict(data, &t); err != nil {
		return nil, fmt.Errorf("%s is no PodTemplateSpec: %w", file, err)
	}
	if t.Kind != "" && t.Kind != "Pod" && t.Kind != "PodTemplate" {
		return nil, fmt.Errorf("%s is a %s: write a PodTemplateSpec, metadata and spec", file, t.Kind)
	}
	return &t.PodTemplateSpec, nil
}

// patience is for how long pods stay on a node that does not answer, in seconds: five minutes, which is Kubernetes's own, is
// long for who waits for a statement.
const (
	driverPatience   = 60
	executorPatience = 20
)

// unreachable tolerates a node that does not answer for some seconds.
func unreachable(seconds int64) []corev1.Toleration {
	var out []corev1.Toleration
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		out = append(out, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds})
	}
	return out
}

// place puts a pool's wishes on a pod.
func (p Pool) place(spec *corev1.PodSpec, patience int64) {
	for k, v := range p.Selector {
		if spec.NodeSelector == nil {
			spec.NodeSelector = map[string]string{}
		}
		spec.NodeSelector[k] = v
	}
	spec.Tolerations = append(append(spec.Tolerations, p.Tolerations...), unreachable(patience)...)
	if p.PriorityClass != "" {
		spec.PriorityClassName = p.PriorityClass
	}
}

// requirement asks for nodes with the label, or without it: one operator is for any value, the other for the one that is said.
func (l Label) requirement(whatever, this corev1.NodeSelectorOperator) corev1.NodeSelectorRequirement {
	if l.Value == "" {
		return corev1.NodeSelectorRequirement{Key: l.Key, Operator: whatever}
	}
	return corev1.NodeSelectorRequirement{Key: l.Key, Operator: this, Values: []string{l.Value}}
}

// stayOff keeps a pod from nodes that may be taken away. Nodes that are not marked are taken for stable.
func (l Label) stayOff(spec *corev1.PodSpec) {
	if l.Key == "" {
		return
	}
	r := l.requirement(corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpNotIn)
	at := affinity(spec)
	if at.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		at.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
	}
	need := at.RequiredDuringSchedulingIgnoredDuringExecution
	if len(need.NodeSelectorTerms) == 0 {
		need.NodeSelectorTerms = []corev1.NodeSelectorTerm{{}}
	}
	for i := range need.NodeSelectorTerms { // a node has to meet one of the terms
		t := &need.NodeSelectorTerms[i]
		t.MatchExpressions = append(t.MatchExpressions, r)
	}
}

// prefer draws a pod to nodes that may be taken away. What their taint keeps off it may run there; but a taint that says "leave
// now" (NoExecute) holds for it, too.
func (l Label) prefer(spec *corev1.PodSpec) {
	if l.Key == "" {
		return
	}
	r := l.requirement(corev1.NodeSelectorOpExists, corev1.NodeSelectorOpIn)
	at := affinity(spec)
	at.PreferredDuringSchedulingIgnoredDuringExecution = append(at.PreferredDuringSchedulingIgnoredDuringExecution,
		corev1.PreferredSchedulingTerm{Weight: 100, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{r}}})
	spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Key: l.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
}

func affinity(spec *corev1.PodSpec) *corev1.NodeAffinity {
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	return spec.Affinity.NodeAffinity
}
