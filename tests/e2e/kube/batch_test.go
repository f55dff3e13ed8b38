//go:build e2e

package kube

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/kept"
	kubernetes "github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/tests/testbed"
)

// files serves what batches fetch, where pods reach it.
func files(t *testing.T) *kubernetes.FileServer {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", kube.Control+":0")
	require.NoError(t, err)
	s := &kubernetes.FileServer{Base: "http://" + l.Addr().String(), Secret: []byte("of the test")}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return s
}

// client is one of the place's cluster, as a gateway has it. Another one of the same directory is the gateway started anew.
func (p *place) client(dir string, change func(*kubernetes.Options)) *kubernetes.Cluster {
	p.t.Helper()
	cfg, _, err := kubernetes.Access{Kubeconfig: p.kubeconfig}.Connect()
	require.NoError(p.t, err)
	api, err := kubernetes.NewAPI(cfg, p.namespace)
	require.NoError(p.t, err)
	o := kubernetes.Options{
		Name: "k", Instance: "sluice-batches", API: api, Images: map[string]kubernetes.Image{"": {Name: p.image}}, Ports: engines.Ports{First: 24000, Last: 24999},
		Site: kubernetes.Site{Namespace: p.namespace, Account: "sluice-driver", PullPolicy: "Never", HostNetwork: true, Evictable: kubernetes.Label{Key: "sluice/evictable"},
			Driver: kubernetes.Pool{CPU: "100m"}, Executor: kubernetes.Pool{CPU: "100m"}, MaxExecutors: 2},
		Lease: 10 * time.Minute, Closed: true, Logs: kept.Dir(dir), Log: slog.Default(),
		Conf: map[string]string{"spark.executor.memory": "512m", "spark.executor.cores": "2"},
	}
	if change != nil {
		change(&o)
	}
	c := kubernetes.New(o)
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// plan renders a batch of ann's.
func plan(t *testing.T, c *kubernetes.Cluster, b engines.Batch) engines.Launch {
	t.Helper()
	p, err := c.Platform(t.Context(), "", func(string) {})
	require.NoError(t, err)
	b.ID, b.User, b.Name, b.Memory = uuid.NewString(), "ann", t.Name(), "512m"
	l, err := spark.Driver{}.PlanBatch(b, p)
	require.NoError(t, err)
	return l
}

func submit(t *testing.T, c *kubernetes.Cluster, l engines.Launch) {
	t.Helper()
	app, err := c.Submit(t.Context(), l)
	require.NoError(t, err)
	require.NotEmpty(t, app.ID)
}

// result is all that is left of a batch.
type result struct {
	engines.App
	text string // what it has printed and logged
}

func wait(t *testing.T, c *kubernetes.Cluster, tag engines.Tag) (r result) {
	t.Helper()
	r.App, r.text = testbed.EndOfBatch(t, c, tag)
	return r
}

func (r result) require(t *testing.T, want engines.Outcome, lines ...string) {
	t.Helper()
	all := r.Reason + "\n" + r.text
	require.Equal(t, want, r.Outcome, all)
	for _, line := range lines {
		require.Contains(t, r.text, line+"\n", all)
	}
}

// odd are arguments that a shell, or the kubelet, would take for something else.
var odd = []string{"two words", "it's", `say "x"`, "$HOME", "`id`", `a\b\\c`, "$(HOME)", "$$(HOME)", "$(KUBERNETES_SERVICE_HOST)", `{"a":{"b":1}}`}

// Batches of every kind, whose files the driver fetches from the gateway.
func TestBatches(t *testing.T) {
	p := newPlace(t, "batches")
	server := files(t)
	dir := t.TempDir()
	c := p.client(dir, func(o *kubernetes.Options) { o.Files = server })
	job, extra := testbed.BatchJars(t, testbed.SparkVersion)
	words := testbed.Write(t, "words.txt", "hello from a file")

	t.Run("a jar", func(t *testing.T) {
		l := plan(t, c, engines.Batch{Jar: job, Class: "Job", Jars: []string{"file://" + extra}, Files: []string{words, words + "#again.txt", testbed.Write(t, "empty.txt", "")},
			Args: append([]string{"end"}, odd...)})
		submit(t, c, l)
		lines := []string{"file [hello from a file]", "again.txt [hello from a file]", "empty.txt []", "twice [2, 4, 6, 8]", "user ann", "line 0", "line 1999", "the last line"}
		for _, arg := range odd {
			lines = append(lines, "arg ["+arg+"]")
		}
		wait(t, c, l.Tag).require(t, engines.Succeeded, lines...)

		// Whoever asks again, and is the gateway started anew, has the same batch: it does not run twice.
		testbed.Until(t, 20*time.Second, "its pod is gone", func() bool { return len(p.pods("")) == 0 })
		anew := p.client(dir, func(o *kubernetes.Options) { o.Files = server })
		app, err := anew.Submit(t.Context(), l)
		require.NoError(t, err)
		require.Equal(t, engines.Succeeded, app.Outcome)
		require.Empty(t, p.pods(""))
		wait(t, anew, l.Tag).require(t, engines.Succeeded, "the last line")
	})
	t.Run("a Python program that fails", func(t *testing.T) {
		l := plan(t, c, engines.Batch{Python: testbed.BatchProgram(), Args: []string{"fail", "a  b"},
			PyFiles:  []string{testbed.Write(t, "util.py", "def plus(n):\n    return n + 1\n"), testbed.Pack(t, "packed.zip", "packed/__init__.py", "NAME = 'a package'\n")},
			Archives: []string{testbed.Pack(t, "things.zip", "inner/note.txt", "a note") + "#data"}})
		submit(t, c, l)
		r := wait(t, c, l.Tag)
		r.require(t, engines.Failed, "packed a package", "archive a note", "plus [2, 3, 4]", "on executors {'a note'}", "user ann", "args ['fail', 'a  b']", "ValueError: the program gives up")
		require.Contains(t, r.Reason, "its container ended with code 1")
		require.Equal(t, "ValueError: the program gives up", spark.Driver{}.RootCause(r.text))
	})
	t.Run("a script of SQL", func(t *testing.T) {
		script := testbed.Write(t, "daily.sql", "CREATE TEMPORARY VIEW v AS SELECT id, 'a;b' AS text FROM range(3);\nSELECT id, text FROM v ORDER BY id;")
		l := plan(t, c, engines.Batch{SQL: script})
		submit(t, c, l)
		wait(t, c, l.Tag).require(t, engines.Succeeded, "0\ta;b\n1\ta;b\n2\ta;b")
	})
	t.Run("refused", func(t *testing.T) {
		l := plan(t, c, engines.Batch{Jar: job, Class: "Job", Files: []string{"/no/such/file"}})
		_, err := c.Submit(t.Context(), l)
		require.ErrorContains(t, err, "files[0]: /no/such/file is not there: it must be on the gateway's machine")
		l = plan(t, p.client(dir, nil), engines.Batch{Jar: job, Class: "Job"})
		_, err = p.client(dir, nil).Submit(t.Context(), l)
		require.ErrorContains(t, err, "set clusters.k.kubernetes.files_url")
		l = plan(t, c, engines.Batch{Jar: "hdfs://nn:8020/job.jar#other.jar", Class: "Job"})
		_, err = c.Submit(t.Context(), l)
		require.ErrorContains(t, err, "leave out #other.jar")
	})
	p.awaitNothing()
}

// trivial makes a place's drivers run a command of busybox in place of Spark.
func trivial(t *testing.T, command string, resources string) *corev1.PodTemplateSpec {
	t.Helper()
	tmpl, err := kubernetes.ReadTemplate(testbed.Write(t, "driver.yaml", fmt.Sprintf("spec:\n  containers:\n  - name: spark-kubernetes-driver\n    command: [sh, -c, %q]\n%s", command, resources)))
	require.NoError(t, err)
	return tmpl
}

// However a batch ends, its outcome is right, and its log is kept when its pod is gone.
func TestHowBatchesEnd(t *testing.T) {
	t.Parallel() // it waits for a node
	p := newPlace(t, "ends")
	p.image = testbed.Busybox
	dir := t.TempDir()
	began := func(t *testing.T, c *kubernetes.Cluster) engines.Launch {
		t.Helper()
		l := plan(t, c, engines.Batch{Python: "hdfs://nn:8020/a.py"})
		submit(t, c, l)
		testbed.Until(t, time.Minute, "the program waits", func() bool {
			out, _ := c.Output(t.Context(), l.Tag, 1<<10)
			return strings.HasSuffix(out, "waiting\n")
		})
		return l
	}
	start := func(t *testing.T, command, resources string) (*kubernetes.Cluster, engines.Launch) {
		t.Helper()
		c := p.client(dir, func(o *kubernetes.Options) {
			o.Site.Driver.Template = trivial(t, command, resources)
			o.Images[""] = kubernetes.Image{Name: testbed.Busybox, Version: testbed.SparkVersion}
		})
		return c, began(t, c)
	}
	const waits = "echo waiting; trap 'exit 143' TERM; sleep 1000 & wait"
	name := func(l engines.Launch) string { return "sluice-" + string(l.Tag) }
	pods := kube.Client().CoreV1().Pods(p.namespace)

	// This takes longest: a node may be away for a while.
	lost := p.client(dir, func(o *kubernetes.Options) {
		o.Site.Driver.Template, o.Site.Evictable = trivial(t, waits, ""), kubernetes.Label{}
		o.Site.Driver.Selector, o.Site.Driver.Tolerations = map[string]string{"kubernetes.io/hostname": "node3"}, []corev1.Toleration{{Key: "sluice/evictable", Operator: "Exists"}}
		o.Images[""] = kubernetes.Image{Name: testbed.Busybox, Version: testbed.SparkVersion}
	})
	onLost := began(t, lost)
	kube.Off("node3")

	t.Run("deleted by hand", func(t *testing.T) {
		c, l := start(t, waits, "")
		require.NoError(t, pods.Delete(t.Context(), name(l), metav1.DeleteOptions{}))
		r := wait(t, c, l.Tag)
		require.Contains(t, r.text, "waiting")
		require.NotEqual(t, engines.Succeeded, r.Outcome)
		require.Contains(t, r.Reason, "was deleted by somebody")
	})
	t.Run("killed", func(t *testing.T) {
		c, l := start(t, waits, "")
		require.NoError(t, c.Kill(t.Context(), l.Tag))
		wait(t, c, l.Tag).require(t, engines.Killed, "waiting")
	})
	t.Run("drained", func(t *testing.T) {
		c, l := start(t, waits, "")
		require.NoError(t, pods.EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name(l)}}))
		r := wait(t, c, l.Tag)
		r.require(t, engines.Failed, "waiting")
		require.Contains(t, r.Reason, "its node is being drained")
	})
	t.Run("evicted by the kubelet", func(t *testing.T) {
		c, l := start(t, "echo waiting; head -c 30000000 /dev/zero > /var/data/spark/large; sleep 1000", "    resources: {limits: {ephemeral-storage: 10Mi}}\n")
		r := wait(t, c, l.Tag)
		r.require(t, engines.Failed, "waiting")
		require.Contains(t, r.Reason, "Evicted")
	})
	t.Run("out of memory", func(t *testing.T) {
		c, l := start(t, "echo waiting; dd if=/dev/zero of=/dev/null bs=2000M count=1", "")
		r := wait(t, c, l.Tag)
		r.require(t, engines.Failed, "waiting")
		require.Contains(t, r.Reason, "OOMKilled")
	})
	t.Run("while no gateway runs", func(t *testing.T) {
		c, l := start(t, "echo waiting; sleep 1; echo done", "")
		require.NoError(t, c.Close())
		testbed.Until(t, 20*time.Second, "it has ended", func() bool {
			pod, err := pods.Get(t.Context(), name(l), metav1.GetOptions{})
			require.NoError(t, err)
			return pod.Status.Phase == corev1.PodSucceeded
		})
		wait(t, p.client(dir, nil), l.Tag).require(t, engines.Succeeded, "waiting", "done")
	})
	t.Run("its node is lost", func(t *testing.T) {
		r := wait(t, lost, onLost.Tag)
		kube.On("node3")
		r.require(t, engines.Failed, "waiting")
		require.Contains(t, r.Reason, "whether it still runs there cannot be known")
	})
	p.awaitNothing()
	kept, err := filepath.Glob(filepath.Join(dir, "*.log"))
	require.NoError(t, err)
	require.Len(t, kept, 7)
	_, err = os.Stat(kept[0])
	require.NoError(t, err)
}
