package testbed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// KubeShuffle is a shuffle master and its workers as pods, made by our own manifest.
type KubeShuffle struct {
	Masters string // as clusters name it
	Workers []*ShuffleWorker
	Pods    []corev1.Pod // of the workers

	k *Kubernetes
	t T
}

// shuffleNamespace is where StartShuffle's pods are.
const shuffleNamespace = "shuffle"

// StartShuffle makes what the manifest has, and waits until the workers are ready. The image of the gateway must be loaded.
// All of it goes with the test.
func (k *Kubernetes) StartShuffle(t T) *KubeShuffle {
	t.Helper()
	s := &KubeShuffle{Masters: "sluice-shuffle-master." + shuffleNamespace + ".svc:9097", k: k, t: t}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shuffleNamespace}}
	if _, err := k.client.CoreV1().Namespaces().Create(context.Background(), namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("%v", err)
	}
	t.Cleanup(s.end)
	if err := s.apply(); err != nil {
		t.Fatalf("the manifest of the shuffle service: %v", err)
	}
	Until(t, time.Minute, "the shuffle service is ready", func() bool {
		s.Pods = s.pods("app=sluice-shuffle-worker")
		for _, pod := range append(s.pods("app=sluice-shuffle-master"), s.Pods...) {
			if !podReady(pod) {
				return false
			}
		}
		d, err := k.client.AppsV1().DaemonSets(shuffleNamespace).Get(context.Background(), "sluice-shuffle-worker", metav1.GetOptions{})
		return err == nil && len(s.Pods) > 0 && int(d.Status.DesiredNumberScheduled) == len(s.Pods)
	})
	for _, pod := range s.Pods {
		s.Workers = append(s.Workers, &ShuffleWorker{HTTP: pod.Status.PodIP + ":9105"})
	}
	return s
}

// apply makes the objects of the manifest, of the image that nodes have. The Service's name is told to the DNS, which knows no
// Services of its own.
func (s *KubeShuffle) apply() error {
	file, err := os.ReadFile(filepath.Join(Root(), "charts", "manifests", "shuffle.yaml"))
	if err != nil {
		return err
	}
	ctx, docs := context.Background(), yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
	ours := func(spec *corev1.PodSpec) {
		spec.Containers[0].Image, spec.Containers[0].ImagePullPolicy = GatewayName, corev1.PullNever
	}
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
			return fmt.Errorf("%w: %s", err, doc)
		}
		switch o := object.(type) {
		case *corev1.Service:
			var made *corev1.Service
			if made, err = s.k.client.CoreV1().Services(shuffleNamespace).Create(ctx, o, metav1.CreateOptions{}); err == nil {
				s.k.Names(map[string]string{o.Name + "." + shuffleNamespace + ".svc.cluster.local": made.Spec.ClusterIP})
			}
		case *appsv1.Deployment:
			ours(&o.Spec.Template.Spec)
			_, err = s.k.client.AppsV1().Deployments(shuffleNamespace).Create(ctx, o, metav1.CreateOptions{})
		case *appsv1.DaemonSet:
			ours(&o.Spec.Template.Spec)
			_, err = s.k.client.AppsV1().DaemonSets(shuffleNamespace).Create(ctx, o, metav1.CreateOptions{})
		default:
			err = fmt.Errorf("it has a %T", object)
		}
		if err != nil {
			return err
		}
	}
}

func (s *KubeShuffle) pods(selector string) []corev1.Pod {
	list, err := s.k.client.CoreV1().Pods(shuffleNamespace).List(context.Background(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return list.Items
}

// Logs are the last lines of all pods, for a failure's text.
func (s *KubeShuffle) Logs() string {
	out := ""
	for _, pod := range s.pods("") {
		text, err := s.k.client.CoreV1().Pods(shuffleNamespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(context.Background())
		out += fmt.Sprintf("%s on %s is %s: %s %v\n", pod.Name, pod.Spec.NodeName, pod.Status.Phase, lastLines(string(text), 30), err)
	}
	return out
}

// Pushed is how many bytes the workers took.
func (s *KubeShuffle) Pushed() (sum float64) {
	for _, w := range s.Workers {
		sum += w.Metric("sluice_shuffle_pushed_bytes_total")
	}
	return sum
}

func (s *KubeShuffle) end() {
	if f, ok := s.t.(interface{ Failed() bool }); ok && f.Failed() {
		s.t.Logf("%s", s.Logs())
	}
	ctx, apps := context.Background(), s.k.client.AppsV1()
	for _, err := range []error{
		s.k.client.CoreV1().Services(shuffleNamespace).Delete(ctx, "sluice-shuffle-master", metav1.DeleteOptions{}),
		apps.Deployments(shuffleNamespace).Delete(ctx, "sluice-shuffle-master", metav1.DeleteOptions{}),
		apps.DaemonSets(shuffleNamespace).Delete(ctx, "sluice-shuffle-worker", metav1.DeleteOptions{}),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			s.t.Fatalf("%v", err)
		}
	}
	Until(s.t, time.Minute, "the shuffle service has ended", func() bool { return len(s.pods("")) == 0 })
}

func podReady(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// ShuffleClient is where pods with ShuffleClientTemplate have the client's jar.
const ShuffleClient = "/opt/celeborn/client.jar"

// ShuffleClientTemplate writes a template of drivers and executors that fetches the client's jar from ShuffleClientImage, as
// docs/shuffle.md shows it.
func ShuffleClientTemplate(t T) string {
	t.Helper()
	return Write(t, "client.yaml", `spec:
  initContainers:
  - name: shuffle-client
    image: `+shuffleClientName+`
    command: [cp, /client.jar, `+ShuffleClient+`]
    volumeMounts: [{name: celeborn, mountPath: /opt/celeborn}]
  containers:
  - volumeMounts: [{name: celeborn, mountPath: /opt/celeborn}]
  volumes: [{name: celeborn, emptyDir: {}}]
`)
}

const shuffleClientName = "sluice.test/shuffle-client:1"

// ShuffleClientImage makes, once, an image that has CelebornClient's jar, and cp.
func ShuffleClientImage(t T) Image {
	t.Helper()
	jar := CelebornClient(t).Jar
	info, err := os.Stat(jar)
	if err != nil {
		t.Fatalf("%v", err)
	}
	sum := sha256.Sum256(fmt.Appendln(nil, jar, info.Size(), info.ModTime()))
	dir := cached(t, "kube-shuffle-client-"+hex.EncodeToString(sum[:6]), func(dir string) error {
		l, err := newLayer(dir)
		if err != nil {
			return err
		}
		l.copy("/bin/busybox", "bin/busybox")
		l.link("bin/cp", "busybox")
		l.copy(jar, "client.jar")
		return l.image(filepath.Join(dir, "client.tar"), imageConfig{Name: shuffleClientName})
	})
	return Image{Name: shuffleClientName, Tar: filepath.Join(dir, "client.tar")}
}
