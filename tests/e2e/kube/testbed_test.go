//go:build e2e

package kube

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluicedata/sluice/tests/testbed"
)

// script is a pod that runs one on a node, whatever the node is marked with.
func script(name, node, image, text string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: node, RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "main", Image: image, Command: []string{"sh", "-c", text}}},
	}}
}

// start makes a pod, which goes with the test.
func start(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	pods := kube.Client().CoreV1().Pods("default")
	_, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	now := int64(0)
	t.Cleanup(func() {
		_ = pods.Delete(context.Background(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	})
}

// reach waits until a pod is in a phase.
func reach(t *testing.T, name string, phase corev1.PodPhase) (pod *corev1.Pod) {
	t.Helper()
	testbed.Until(t, 2*time.Minute, name+" is "+string(phase), func() bool {
		var err error
		pod, err = kube.Client().CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		if pod.Status.Phase == corev1.PodFailed && phase != corev1.PodFailed {
			t.Fatalf("%s failed: %s", name, logs(t, name))
		}
		return pod.Status.Phase == phase
	})
	return pod
}

func logs(t *testing.T, name string) string {
	t.Helper()
	data, err := kube.Client().CoreV1().Pods("default").GetLogs(name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	return string(data)
}

func TestPodsOnBothNetworks(t *testing.T) {
	kube.Names(map[string]string{"lake.sluice.test": kube.Control})
	text := "nslookup lake.sluice.test && nslookup kubernetes.default.svc.cluster.local && hostname"
	own := script("own-network", "node2", testbed.Busybox, text)
	own.Spec.DNSPolicy = corev1.DNSClusterFirst
	host := script("host-network", "node3", testbed.Busybox, text+" && ping -c 1 node2")
	host.Spec.HostNetwork, host.Spec.DNSPolicy = true, corev1.DNSClusterFirstWithHostNet
	start(t, own)
	start(t, host)
	require.Equal(t, "node2", reach(t, "own-network", corev1.PodSucceeded).Spec.NodeName)
	require.Equal(t, "10.90.0.3", reach(t, "host-network", corev1.PodSucceeded).Status.PodIP)
	for name, hostname := range map[string]string{"own-network": "own-network", "host-network": "node3"} {
		said := logs(t, name)
		require.Contains(t, said, kube.Control)
		require.Contains(t, said, "10.96.0.1")
		require.Contains(t, strings.Fields(said), hostname)
	}
}

func TestPodAndTestReachEachOther(t *testing.T) {
	pod := script("web", "node1", testbed.Busybox, "mkdir /www && echo page > /www/index.html && exec httpd -f -p 8080 -h /www")
	start(t, pod)
	address := reach(t, "web", corev1.PodRunning).Status.PodIP
	require.True(t, strings.HasPrefix(address, "10.91.1."), address)
	testbed.Until(t, 20*time.Second, "the pod answers", func() bool {
		resp, err := http.Get("http://" + address + ":8080/index.html")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return err == nil && string(body) == "page\n"
	})
	ask := script("ask", "node2", testbed.Busybox, "wget -qO- --no-check-certificate https://10.96.0.1/livez; nc -w 3 "+kube.Control+" 6443 < /dev/null && echo reached")
	start(t, ask)
	reach(t, "ask", corev1.PodSucceeded)
	require.Contains(t, logs(t, "ask"), "reached")
}

func TestNodesAreMarked(t *testing.T) {
	nodes, err := kube.Client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: "sluice/evictable=true"})
	require.NoError(t, err)
	require.Len(t, nodes.Items, 2)
	require.Len(t, nodes.Items[0].Spec.Taints, 1)
}

func TestNodeReboots(t *testing.T) {
	start(t, script("lost", "node3", testbed.Busybox, "sleep 1000"))
	reach(t, "lost", corev1.PodRunning)
	testbed.Within(t, 30*time.Second, "a reboot", func() { kube.Reboot("node3") })
	reach(t, "lost", corev1.PodFailed)
}

func TestServerStopsAndStarts(t *testing.T) {
	kube.Stop("apiserver")
	_, err := kube.Client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	require.Error(t, err)
	kube.Start("apiserver")
	start(t, script("afterwards", "", testbed.Busybox, "true"))
	reach(t, "afterwards", corev1.PodSucceeded)
}

func TestServiceAccountMayNotMore(t *testing.T) {
	config, err := clientcmd.BuildConfigFromFlags("", kube.KubeconfigFor(t, "default", "default"))
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	_, err = client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "system:serviceaccount:default:default")
}

func TestGatewayImage(t *testing.T) {
	image := testbed.GatewayImage(t)
	kube.Load(t, image)
	pod := script("gateway", "node2", image.Name, "")
	pod.Spec.Containers[0].Command, pod.Spec.Containers[0].Args = nil, []string{"version"}
	must := true
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: &must}
	start(t, pod)
	reach(t, "gateway", corev1.PodSucceeded)
	require.NotEmpty(t, logs(t, "gateway"))
}

func TestSparkImage(t *testing.T) {
	pod := script("pi", "node1", "sluice.test/spark:"+testbed.SparkVersion, "")
	pod.Spec.Containers[0].Command = nil
	pod.Spec.Containers[0].Args = []string{"driver", "--master", "local[1]", "--conf", "spark.ui.enabled=false", "/opt/spark/examples/src/main/python/pi.py", "2"}
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SPARK_DRIVER_BIND_ADDRESS", Value: "127.0.0.1"}}
	start(t, pod)
	reach(t, "pi", corev1.PodSucceeded)
	require.Contains(t, logs(t, "pi"), "Pi is roughly 3.")
}
