//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/tests/testbed"
)

// driver is all that is made for one.
type driver struct {
	tag    engines.Tag
	pod    *corev1.Pod
	secret *corev1.Secret
}

// recorder keeps what was made last.
type recorder struct {
	kube.API
	mu   sync.Mutex
	last driver
}

// CreatePod implements kube.API.
func (r *recorder) CreatePod(ctx context.Context, p *corev1.Pod, o metav1.CreateOptions) (*corev1.Pod, error) {
	r.mu.Lock()
	r.last.pod = p.DeepCopy()
	r.mu.Unlock()
	return r.API.CreatePod(ctx, p, o)
}

// CreateSecret implements kube.API.
func (r *recorder) CreateSecret(ctx context.Context, s *corev1.Secret, o metav1.CreateOptions) error {
	r.mu.Lock()
	r.last.secret = s.DeepCopy()
	r.mu.Unlock()
	return r.API.CreateSecret(ctx, s, o)
}

// sample is what ours makes for an engine.
func (p *place) sample(hostNetwork bool) driver {
	r := &recorder{API: p.api()}
	c := p.cluster(r, hostNetwork)
	tag := p.submitOne(c)
	if err := c.Kill(context.Background(), tag); err != nil {
		p.t.Fatalf("%v", err)
	}
	p.none()
	if err := c.Close(); err != nil {
		p.t.Fatalf("%v", err)
	}
	r.last.tag = tag
	return r.last
}

// another is the same driver under another name.
func (d driver) another(t *testbed.Suite) driver {
	n := driver{tag: engines.Tag(uuid.NewString()), pod: &corev1.Pod{}, secret: &corev1.Secret{}}
	bare := func(t engines.Tag) string { return strings.ReplaceAll(string(t), "-", "") }
	names := strings.NewReplacer(string(d.tag), string(n.tag), bare(d.tag), bare(n.tag))
	for from, to := range map[any]any{d.pod: n.pod, d.secret: n.secret} {
		text, err := json.Marshal(from)
		if err == nil {
			err = json.Unmarshal([]byte(names.Replace(string(text))), to)
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
	}
	return n
}

// create makes a driver with the two calls that it takes, and nothing else.
func (d driver) create(c kubernetes.Interface) error {
	made, err := c.CoreV1().Pods(d.pod.Namespace).Create(context.Background(), d.pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	d.secret.OwnerReferences[0].UID = made.UID
	_, err = c.CoreV1().Secrets(d.pod.Namespace).Create(context.Background(), d.secret, metav1.CreateOptions{})
	return err
}

// straight is client-go's own client with the rights of the gateway, and as many requests as it likes.
func (p *place) straight() kubernetes.Interface {
	cfg, _, err := kube.Access{Kubeconfig: p.kubeconfig}.Connect()
	if err == nil {
		var c kubernetes.Interface
		if c, err = kubernetes.NewForConfig(cfg); err == nil {
			return c
		}
	}
	p.t.Fatalf("%v", err)
	return nil
}

func (p *place) costs() *costs { return &costs{pids: p.servers(), all: map[string]series{}} }

// submit is how many engines a minute can be submitted, against a loop that makes the same objects, which are rendered
// before. No scheduler knows the pods, so that they wait until they are deleted after each turn, and our side follows those of
// the turn, as the gateway does.
func (p *place) submit() []Figure {
	const warm, rounds, each = 1, 5, 200
	sample, client := p.sample(true), p.straight()
	c := p.cluster(p.api(), true)
	var out []Figure
	for _, clients := range []int{1, 8} {
		straight, ours := p.costs(), p.costs()
		figures := race(fmt.Sprintf("submissions, %d at a time", clients), "/min", warm, rounds,
			runner{"straight client-go", nil, func() float64 { return p.submitRaw(straight, client, sample, clients, each) }},
			runner{"gateway's cluster", nil, func() float64 { return p.submitOurs(ours, c, clients, each) }})
		figures[0].CPU, figures[1].CPU = straight.medians(), ours.medians()
		out = append(out, figures...)
	}
	return out
}

func (p *place) submitRaw(c *costs, client kubernetes.Interface, sample driver, clients, n int) (perMinute float64) {
	drivers := make([]driver, n)
	for i := range drivers {
		drivers[i] = sample.another(p.t)
	}
	c.of(n, func() {
		perMinute = 60 * float64(n) / timed(1, func() {
			together(clients, n, func(i int) {
				if err := drivers[i].create(client); err != nil {
					p.t.Fatalf("%v", err)
				}
			})
		})()
	})
	p.clear()
	return perMinute
}

func (p *place) submitOurs(c *costs, on *kube.Cluster, clients, n int) (perMinute float64) {
	tags := make([]engines.Tag, n)
	c.of(n, func() {
		perMinute = 60 * float64(n) / timed(1, func() { together(clients, n, func(i int) { tags[i] = p.submitOne(on) }) })()
	})
	together(16, n, func(i int) {
		if err := on.Kill(context.Background(), tags[i]); err != nil {
			p.t.Fatalf("%v", err)
		}
	})
	p.none()
	return perMinute
}

// submitOne does what the gateway does for a new engine, its records apart.
func (p *place) submitOne(on *kube.Cluster) engines.Tag {
	l, err := plan(on)
	if err == nil {
		_, err = on.Submit(context.Background(), l)
	}
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	return l.Tag
}

// sparkSubmit is the processor time of a submission by Spark's own program, which is a process each, and by ours.
func (p *place) sparkSubmit() []Figure {
	const rounds, each = 3, 40
	c := p.cluster(p.api(), true)
	kubeconfig := p.editor()
	ours, took, theirs := p.costs(), series{}, series{}
	p.submitOurs(p.costs(), c, 1, 10)
	figures := race("a submission, CPU", "ms", 0, rounds,
		runner{"spark-submit", nil, func() float64 {
			cmd := p.sparkSubmitCommand(kubeconfig)
			theirs = append(theirs, timed(1, func() {
				if said, err := cmd.CombinedOutput(); err != nil {
					p.t.Fatalf("spark-submit: %v: %s", err, said)
				}
			})())
			if left := p.list("spark-role=driver"); len(left) != 1 {
				p.t.Fatalf("spark-submit has left %d drivers", len(left))
			}
			p.clear()
			return 1000 * (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
		}},
		runner{"gateway's cluster", nil, func() float64 {
			took = append(took, 60/p.submitOurs(ours, c, 1, each))
			all := ours.all["this process"]
			return 1000 * all[len(all)-1]
		}})
	wall := theirs.figure("a submission, spark-submit", "s")
	return append(figures, wall, took.figure("a submission, gateway's cluster", "s").against(wall))
}

// editor is the kubeconfig of somebody who may also make services and configuration maps, which spark-submit does.
func (p *place) editor() string {
	ctx, c := context.Background(), p.k.Client()
	_, err := c.CoreV1().ServiceAccounts(p.namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "editor"}}, metav1.CreateOptions{})
	if err == nil {
		_, err = c.RbacV1().RoleBindings(p.namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "editor"},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "editor", Namespace: p.namespace}}}, metav1.CreateOptions{})
	}
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	return p.k.KubeconfigFor(p.t, p.namespace, "editor")
}

// sparkSubmitCommand is what the script spark-submit runs.
func (p *place) sparkSubmitCommand(kubeconfig string) *exec.Cmd {
	args := append([]string{"-Xmx1g"}, spark.JVMOptions()...)
	args = append(args, "-cp", filepath.Join(testbed.SparkHome(p.t), "jars", "*"), "org.apache.spark.deploy.SparkSubmit",
		"--master", "k8s://https://"+p.k.Control+":6443", "--deploy-mode", "cluster", "--name", "bench", "--driver-memory", "512m")
	for _, kv := range []string{"spark.kubernetes.namespace=" + p.namespace, "spark.kubernetes.container.image=" + sparkImage,
		"spark.kubernetes.authenticate.driver.serviceAccountName=sluice-driver", "spark.kubernetes.driver.scheduler.name=" + nobody,
		"spark.kubernetes.submission.waitAppCompletion=false"} {
		args = append(args, "--conf", kv)
	}
	cmd := exec.CommandContext(context.Background(), testbed.Java(p.t), append(args, "--class", "bench.Nothing", "local:///nothing.jar")...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HADOOP_USER_NAME=ann", "SPARK_LOCAL_IP=127.0.0.1")
	return cmd
}
