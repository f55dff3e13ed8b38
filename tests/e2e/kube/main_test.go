//go:build e2e

// Package kube proves what runs on a real Kubernetes of several nodes: one is stable, two may be taken away.
package kube

import (
	"os"
	"testing"

	"github.com/sluicedata/sluice/tests/testbed"
)

// kube is the cluster that all tests use. Whoever breaks it mends it.
var kube *testbed.Kubernetes

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/kube")
	s := &testbed.Suite{}
	kube = testbed.InKubernetes("tests/e2e/kube", testbed.KubernetesOptions{Evictable: []string{"node2", "node3"}, Images: func() []testbed.Image {
		return []testbed.Image{testbed.SparkImage(s, testbed.SparkVersion), testbed.SparkImage(s, testbed.OldSpark), testbed.ShuffleClientImage(s), testbed.GatewayImage(s)}
	}}, func() {
		testbed.SparkHome(s)
		testbed.FetchSpark(s, testbed.OldSpark)
		testbed.FetchHadoop(s, testbed.HadoopVersion)
		_ = testbed.InstallKDC() // NeedKDC says so where it is missed
	})
	code := m.Run()
	s.End()
	os.Exit(code)
}
