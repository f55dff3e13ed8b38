//go:build e2e

// Package yarn proves what runs on a real Hadoop: HDFS and YARN.
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
	shared = testbed.StartHadoop(s, testbed.HadoopOptions{})
	code := m.Run()
	s.End()
	os.Exit(code)
}
