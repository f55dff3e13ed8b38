//go:build e2e

package kube

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// place is a namespace that a gateway uses, with the rights of our own manifest.
type place struct {
	t          *testing.T
	namespace  string
	kubeconfig string   // of the gateway's account
	keys       []string // of the cluster's section in the configuration, beside what newPlace sets
	conf       []string // of its Spark settings
	closed     bool
	image      string
	shuffle    string // the section of a shuffle service, if there is one
}

// newPlace makes a namespace. Its pods are gone when the test ends.
func newPlace(t *testing.T, name string, keys ...string) *place {
	t.Helper()
	p := &place{t: t, namespace: name, keys: keys, image: "sluice.test/spark:" + testbed.SparkVersion}
	ctx := context.Background()
	_, err := kube.Client().CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	p.apply(nil)
	p.kubeconfig = kube.KubeconfigFor(t, name, "sluice-gateway")
	t.Cleanup(func() {
		p.explain()
		if t.Failed() {
			_ = kube.Client().CoreV1().Pods(name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{})
		}
		testbed.Until(t, time.Minute, "no pod of the test is left", func() bool { return len(p.pods("")) == 0 })
	})
	return p
}

// apply makes what is in the manifest; change may take something away from it.
func (p *place) apply(change func(*rbacv1.Role)) {
	p.t.Helper()
	file, err := os.ReadFile(filepath.Join(testbed.Root(), "charts", "manifests", "kubernetes.yaml"))
	require.NoError(p.t, err)
	ctx, docs := context.Background(), yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(p.t, err)
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil)
		require.NoError(p.t, err, string(doc))
		c := kube.Client()
		switch o := object.(type) {
		case *corev1.ServiceAccount:
			_, err = c.CoreV1().ServiceAccounts(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.Role:
			if change != nil {
				change(o)
			}
			if _, err = c.RbacV1().Roles(p.namespace).Create(ctx, o, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
				_, err = c.RbacV1().Roles(p.namespace).Update(ctx, o, metav1.UpdateOptions{})
			}
		case *rbacv1.RoleBinding:
			o.Subjects[0].Namespace = p.namespace
			_, err = c.RbacV1().RoleBindings(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.ClusterRole: // which gives nothing to anybody without a binding
			_, err = c.RbacV1().ClusterRoles().Create(ctx, o, metav1.CreateOptions{})
		case *schedulingv1.PriorityClass:
			_, err = c.SchedulingV1().PriorityClasses().Create(ctx, o, metav1.CreateOptions{})
		default:
			p.t.Fatalf("the manifest has a %T", object)
		}
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(p.t, err)
		}
	}
}

// withoutRight takes one right away from those of the manifest, or none.
func (p *place) withoutRight(role, resource, verb string) {
	p.t.Helper()
	p.apply(func(r *rbacv1.Role) {
		for i := range r.Rules {
			if r.Name == role && slices.Contains(r.Rules[i].Resources, resource) {
				r.Rules[i].Verbs = slices.DeleteFunc(r.Rules[i].Verbs, func(v string) bool { return v == verb })
			}
		}
		r.Rules = slices.DeleteFunc(r.Rules, func(r rbacv1.PolicyRule) bool { return len(r.Verbs) == 0 })
	})
}

// may says whether an account of the place has a right.
func (p *place) may(account, verb, resource string) bool {
	p.t.Helper()
	name, sub, _ := strings.Cut(resource, "/")
	r, err := kube.Client().AuthorizationV1().SubjectAccessReviews().Create(context.Background(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               "system:serviceaccount:" + p.namespace + ":" + account,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: p.namespace, Verb: verb, Resource: name, Subresource: sub},
	}}, metav1.CreateOptions{})
	require.NoError(p.t, err)
	return r.Status.Allowed
}

// deleteAll deletes all pods.
func (p *place) deleteAll() {
	p.t.Helper()
	require.NoError(p.t, kube.Client().CoreV1().Pods(p.namespace).DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{}))
}

// log is what a pod's main container has written, as far as it can be read.
func (p *place) log(pod string) string {
	text, _ := kube.Client().CoreV1().Pods(p.namespace).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(context.Background())
	return string(text)
}

// config has this machine and the place, as cluster k.
func (p *place) config() string {
	keys := []string{"kubeconfig: " + p.kubeconfig, "namespace: " + p.namespace, "image: " + p.image, "pull_policy: Never", "driver_cpu: 200m", "executor_cpu: 200m",
		"driver_priority_class: sluice-driver", "executor_priority_class: sluice-executor"}
	for _, k := range p.keys { // the last word wins
		name, _, _ := strings.Cut(k, ":")
		keys = append(slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, name+":") }), k)
	}
	shuffle := ""
	if p.shuffle != "" {
		shuffle = "    shuffle: " + p.shuffle + "\n"
	}
	return fmt.Sprintf(`
clusters:
  local: {kind: local}
  k:
    kind: kubernetes
    closed_network: %t
    kubernetes:
%s      conf:
        spark.executor.memory: 512m
        spark.executor.cores: "2"
%s%s`, p.closed, indented(6, keys), indented(8, p.conf), shuffle)
}

func indented(by int, lines []string) string {
	out := ""
	for _, l := range lines {
		out += strings.Repeat(" ", by) + l + "\n"
	}
	return out
}

// gateway starts one beside the cluster's control plane.
func (p *place) gateway(env ...string) *testbed.Gateway {
	p.t.Helper()
	return testbed.StartGateway(p.t, p.config(), append([]string{"SLUICE_ENGINE_START_TIMEOUT=150s"}, env...)...)
}

// pods are those of the namespace with some labels.
func (p *place) pods(selector string) []corev1.Pod {
	p.t.Helper()
	list, err := kube.Client().CoreV1().Pods(p.namespace).List(context.Background(), metav1.ListOptions{LabelSelector: selector})
	require.NoError(p.t, err)
	return list.Items
}

func (p *place) drivers() []corev1.Pod   { p.t.Helper(); return p.pods("spark-role=driver") }
func (p *place) executors() []corev1.Pod { p.t.Helper(); return p.pods("spark-role=executor") }

// executorsOf are those of a user's engine.
func (p *place) executorsOf(user string) []corev1.Pod {
	p.t.Helper()
	for _, d := range p.drivers() {
		if d.Annotations["sluice/user"] == user {
			return p.pods("spark-role=executor,sluice/tag=" + d.Labels["sluice/tag"])
		}
	}
	return nil
}

// left are the things of ours that the namespace still has.
func (p *place) left() (names []string) {
	p.t.Helper()
	ctx := context.Background()
	for _, pod := range p.pods("") {
		names = append(names, "pod "+pod.Name)
	}
	secrets, err := kube.Client().CoreV1().Secrets(p.namespace).List(ctx, metav1.ListOptions{})
	require.NoError(p.t, err)
	for _, s := range secrets.Items {
		names = append(names, "secret "+s.Name)
	}
	maps, err := kube.Client().CoreV1().ConfigMaps(p.namespace).List(ctx, metav1.ListOptions{})
	require.NoError(p.t, err)
	for _, m := range maps.Items {
		if m.Name != "kube-root-ca.crt" {
			names = append(names, "configmap "+m.Name)
		}
	}
	services, err := kube.Client().CoreV1().Services(p.namespace).List(ctx, metav1.ListOptions{})
	require.NoError(p.t, err)
	for _, s := range services.Items {
		names = append(names, "service "+s.Name)
	}
	return names
}

// awaitNothing waits until the namespace is as it was before.
func (p *place) awaitNothing() {
	p.t.Helper()
	testbed.Until(p.t, time.Minute, "nothing is left", func() bool { return len(p.left()) == 0 })
}

// explain shows the pods of a test that fails.
func (p *place) explain() {
	if !p.t.Failed() {
		return
	}
	for _, pod := range p.pods("") {
		tail := int64(60)
		text, err := kube.Client().CoreV1().Pods(p.namespace).GetLogs(pod.Name, &corev1.PodLogOptions{TailLines: &tail}).DoRaw(context.Background())
		p.t.Logf("%s on %s is %s: %+v\n%s %v", pod.Name, pod.Spec.NodeName, pod.Status.Phase, pod.Status.ContainerStatuses, text, err)
	}
}

func (p *place) dial(g *testbed.Gateway, user string, conf ...string) *testbed.HS2 {
	p.t.Helper()
	all := map[string]string{"sluice.cluster": "k"}
	for _, c := range conf {
		k, v, _ := strings.Cut(c, "=")
		all[k] = v
	}
	return testbed.DialHS2(p.t, g.Thrift, user, "x", all)
}

// finish waits for a statement and reads its rows. Where it fails, so does the test, with the statement's log.
func finish(t *testing.T, c *testbed.HS2, op *tcli.TOperationHandle) [][]string {
	t.Helper()
	if st := c.WaitState(op, 4*time.Minute); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
		t.Fatalf("%s\n%s", st.GetErrorMessage(), strings.Join(c.Log(op), "\n"))
	}
	return testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 100, 0).Results)
}
