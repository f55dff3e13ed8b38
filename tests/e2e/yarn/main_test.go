//go:build e2e

// Package yarn proves what runs on a real Hadoop: HDFS and YARN. An older Spark, which listens on every interface, is among
// it, so all of it happens in a network namespace of its own.
package yarn

import (
	"os"
	"testing"

	"github.com/sluicedata/sluice/tests/testbed"
)

// shared is a cluster that most tests use.
var shared *testbed.Hadoop

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/yarn")
	s := &testbed.Suite{}
	testbed.InNamespace("tests/e2e/yarn", func() {
		testbed.SparkHome(s)
		testbed.FetchSpark(s, testbed.OldSpark)
		testbed.FetchHadoop(s, testbed.HadoopVersion)
		_ = testbed.InstallKDC() // NeedKDC says so where it is missed
	})
	shared = testbed.StartHadoop(s, testbed.HadoopOptions{})
	code := m.Run()
	s.End()
	os.Exit(code)
}
