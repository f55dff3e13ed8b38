//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/tests/testbed"
)

// place is a namespace of a real Kubernetes of three nodes on this machine, with the rights of our own manifest, and what is
// measured there.
type place struct {
	t          *testbed.Suite
	k          *testbed.Kubernetes
	namespace  string
	kubeconfig string // of the gateway's account
	image      string // of engines
}

// onKubernetes measures submissions, cold starts, adoption, the watch and nodes that are taken away.
func onKubernetes(t *testbed.Suite, wanted func(part string) bool) []Figure {
	k := testbed.InKubernetes("tests/bench", testbed.KubernetesOptions{Evictable: []string{"node2", "node3"}, Images: func() []testbed.Image {
		return []testbed.Image{testbed.SparkImage(t, testbed.SparkVersion)}
	}}, func() {
		testbed.SparkHome(t)
		testbed.Binary(t)
	})
	var out []Figure
	for _, part := range []struct {
		name    string
		measure func(*place) []Figure
	}{{"cold", (*place).cold}, {"adopt", (*place).adopt}, {"submit", (*place).submit}, {"spark-submit", (*place).sparkSubmit},
		{"faults", (*place).faults}, {"watch", (*place).watch}} { // the last one leaves thousands of pods
		if wanted(part.name) {
			began := time.Now()
			out = append(out, part.measure(newPlace(t, k, part.name))...)
			t.Logf("%s: %.0f s", part.name, time.Since(began).Seconds())
		}
	}
	return out
}

func newPlace(t *testbed.Suite, k *testbed.Kubernetes, name string) *place {
	p := &place{t: t, k: k, namespace: name, image: sparkImage}
	_, err := k.Client().CoreV1().Namespaces().Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err == nil {
		err = p.apply()
	}
	if err != nil {
		t.Fatalf("namespace %s: %v", name, err)
	}
	p.kubeconfig = k.KubeconfigFor(t, name, "sluice-gateway")
	return p
}

// apply makes what is in the manifest.
func (p *place) apply() error {
	file, err := os.ReadFile(filepath.Join(testbed.Root(), "charts", "manifests", "kubernetes.yaml"))
	if err != nil {
		return err
	}
	ctx, c, docs := context.Background(), p.k.Client(), yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil)
		if err != nil {
			return err
		}
		switch o := object.(type) {
		case *corev1.ServiceAccount:
			_, err = c.CoreV1().ServiceAccounts(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.Role:
			_, err = c.RbacV1().Roles(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.RoleBinding:
			o.Subjects[0].Namespace = p.namespace
			_, err = c.RbacV1().RoleBindings(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.ClusterRole:
			_, err = c.RbacV1().ClusterRoles().Create(ctx, o, metav1.CreateOptions{})
		case *schedulingv1.PriorityClass: // all namespaces have the same
			_, err = c.SchedulingV1().PriorityClasses().Create(ctx, o, metav1.CreateOptions{})
		default:
			err = fmt.Errorf("the manifest has a %T", object)
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
}

// config is a gateway's, with more keys of the cluster's section and more of its Spark settings.
func (p *place) config(keys, conf []string) string {
	lines := func(by int, list []string) (out string) {
		for _, l := range list {
			out += strings.Repeat(" ", by) + l + "\n"
		}
		return out
	}
	return fmt.Sprintf(`
clusters:
  k:
    kind: kubernetes
    kubernetes:
      kubeconfig: %s
      namespace: %s
      image: %s
      pull_policy: Never
      executor_cpu: 200m
      driver_priority_class: sluice-driver
      executor_priority_class: sluice-executor
%s      conf:
        spark.executor.memory: 512m
%s`, p.kubeconfig, p.namespace, p.image, lines(6, keys), lines(8, conf))
}

const sparkImage = "sluice.test/spark:" + testbed.SparkVersion

// gateway starts one whose engines run in the place.
func (p *place) gateway(keys, conf []string, more string) (*testbed.Gateway, string, []string) {
	config, env := p.config(keys, conf)+more, []string{"SLUICE_ENGINE_CLUSTER=k", "SLUICE_ENGINE_START_TIMEOUT=3m", "SLUICE_ENGINE_MEMORY=512m"}
	return testbed.StartGateway(p.t, config, env...), config, env
}

// api is a client of ours with the rights of the gateway.
func (p *place) api() kube.API {
	cfg, _, err := kube.Access{Kubeconfig: p.kubeconfig}.Connect()
	if err == nil {
		var api kube.API
		if api, err = kube.NewAPI(cfg, p.namespace); err == nil {
			return api
		}
	}
	p.t.Fatalf("%v", err)
	return nil
}

// instance is that of clusters which this process makes itself.
const instance = "bench"

// cluster is ours, as the gateway would make it, but with drivers that no scheduler looks at: they wait.
func (p *place) cluster(api kube.API, hostNetwork bool) *kube.Cluster {
	c := kube.New(kube.Options{Name: "k", Instance: instance, API: api, Images: map[string]kube.Image{"": {Name: sparkImage}},
		Ports: engines.Ports{First: 24000, Last: 24999}, Lease: 30 * time.Minute, Log: slog.New(slog.DiscardHandler),
		MaxDrivers: 1000, // the gateway's limit is looked at, but not met
		Site: kube.Site{Namespace: p.namespace, Account: "sluice-driver", PullPolicy: "Never", HostNetwork: hostNetwork, MaxExecutors: 20,
			Evictable: kube.Label{Key: "sluice/evictable"}, Executor: kube.Pool{PriorityClass: "sluice-executor"},
			Driver: kube.Pool{PriorityClass: "sluice-driver", Template: &corev1.PodTemplateSpec{Spec: corev1.PodSpec{SchedulerName: nobody}}}}})
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// nobody is the name of a scheduler that there is not.
const nobody = "nobody"

// pods are the place's, for somebody who may do everything.
func (p *place) pods() corev1client.PodInterface { return p.k.Client().CoreV1().Pods(p.namespace) }

func (p *place) list(selector string) []corev1.Pod {
	list, err := p.pods().List(context.Background(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	return list.Items
}

// none waits until the place has no pod, and nothing that belonged to one.
func (p *place) none() {
	testbed.Until(p.t, 2*time.Minute, "no pod and no secret is left in "+p.namespace, func() bool {
		secrets, err := p.k.Client().CoreV1().Secrets(p.namespace).List(context.Background(), metav1.ListOptions{})
		return err == nil && len(secrets.Items) == 0 && len(p.list("")) == 0
	})
}

// clear deletes all pods at once.
func (p *place) clear() {
	err := p.pods().DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{})
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	p.none()
}

// servers are the processes of the cluster that submissions keep busy.
func (p *place) servers() map[string]int {
	out := map[string]int{}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		text, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(text, []byte(p.k.Dir)) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
		argv0, _, _ := strings.Cut(string(text), "\x00")
		switch filepath.Base(argv0) {
		case "kube-apiserver":
			out["API server"] = pid
		case "etcd":
			out["etcd"] = pid
		}
	}
	return out
}
