//go:build e2e

package kube

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluicedata/sluice/tests/testbed"
)

// resolves looks names up on the driver and on executors.
const resolves = "SELECT DISTINCT java_method('java.net.InetAddress', 'getByName', concat('kubernetes.default.svc.cluster.local', repeat('', cast(id AS int)))) FROM range(2)"

// A gateway in a pod, with nothing but its account, runs engines on the pod network, which has names as well.
func TestAGatewayInAPod(t *testing.T) {
	p := newPlace(t, "inside", "host_network: false")
	p.kubeconfig = "''"
	g := p.gatewayPod()
	c := testbed.DialHS2(t, g+":10009", "ann", "x", map[string]string{"sluice.cluster": "k"})
	op := c.Async(join)
	require.Len(t, finish(t, c, op), 7)
	require.Contains(t, strings.Join(c.Log(op), "\n"), "is ready: Spark 4.3.0 on cluster k")
	told := testbed.Beeline(t, &testbed.Gateway{Thrift: g + ":10009"}, "/default?sluice.cluster=k", "ann", "--outputformat=csv2", "--showHeader=false", "--silent=true", "-e", "SELECT current_user()")
	require.Contains(t, told.Out, "ann", told.Err)
	require.Equal(t, [][]string{{"kubernetes.default.svc.cluster.local/10.96.0.1"}}, c.All(resolves))
	for _, pod := range append(p.drivers(), p.executors()...) {
		require.False(t, pod.Spec.HostNetwork)
		require.True(t, strings.HasPrefix(pod.Status.PodIP, "10.91."), pod.Status.PodIP)
	}
	require.NotEmpty(t, p.executors())
	_ = c.Conn.Close()
	// A gateway that is stopped ends its engines.
	require.NoError(t, kube.Client().CoreV1().Pods(p.namespace).Delete(t.Context(), "gateway", metav1.DeleteOptions{}))
	testbed.Until(t, time.Minute, "nothing is left", func() bool { return len(without(p.left(), "configmap gateway")) == 0 })
}

// gatewayPod starts a gateway as a pod, and returns its address.
func (p *place) gatewayPod() string {
	p.t.Helper()
	ctx := context.Background()
	core := kube.Client().CoreV1()
	_, err := core.ConfigMaps(p.namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "gateway"}, Data: map[string]string{"sluice.yaml": p.config()}}, metav1.CreateOptions{})
	require.NoError(p.t, err)
	_, err = core.Pods(p.namespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "gateway"}, Spec: corev1.PodSpec{
		ServiceAccountName: "sluice-gateway",
		NodeSelector:       map[string]string{"sluice/stable": "true"},
		Containers: []corev1.Container{{
			Name: "gateway", Image: testbed.GatewayName, Args: []string{"gateway", "--config", "/etc/sluice/sluice.yaml"}, ImagePullPolicy: corev1.PullNever,
			Env: []corev1.EnvVar{{Name: "SLUICE_LISTEN_THRIFT", Value: "0.0.0.0:10009"}, {Name: "SLUICE_LISTEN_HTTP", Value: "0.0.0.0:10099"},
				{Name: "SLUICE_AUTH_OPEN_TO_NETWORK", Value: "true"}, {Name: "SLUICE_DATA_DIR", Value: "/var/lib/sluice"}, {Name: "SLUICE_ENGINE_CLUSTER", Value: "k"}},
			VolumeMounts:   []corev1.VolumeMount{{Name: "conf", MountPath: "/etc/sluice"}},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(10099)}}},
		}},
		Volumes: []corev1.Volume{{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "gateway"}}}}},
	}}, metav1.CreateOptions{})
	require.NoError(p.t, err)
	var at string
	testbed.Until(p.t, time.Minute, "the gateway is ready", func() bool {
		pod, err := core.Pods(p.namespace).Get(ctx, "gateway", metav1.GetOptions{})
		require.NoError(p.t, err)
		at = pod.Status.PodIP
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	})
	return at
}

// An older Spark asks nobody who they are: it runs where only the gateway reaches it.
func TestAnOldSpark(t *testing.T) {
	testbed.Long(t)
	p := newPlace(t, "old")
	p.image = "sluice.test/spark:" + testbed.OldSpark
	g := p.gateway()
	_, st := p.dial(g, "ann").Exec("SELECT current_user()")
	require.Contains(t, st.GetErrorMessage(), "set clusters.NAME.closed_network: true")
	g.Stop()
	p.closed = true
	g = p.gateway()
	c := p.dial(g, "ann")
	op := c.Async(join)
	require.Len(t, finish(t, c, op), 7)
	require.Contains(t, strings.Join(c.Log(op), "\n"), "is ready: Spark 3.5.7 on cluster k")
	require.NotEmpty(t, p.executors())
	g.Stop()
	p.awaitNothing()
}
