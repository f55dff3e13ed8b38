//go:build e2e

// Package runtimes proves engines of two Sparks side by side. The older one has no token and listens on every interface,
// so all of it happens in a network namespace of its own.
package runtimes

import (
	"os"
	"testing"

	"github.com/sluicedata/sluice/tests/testbed"
)

// both is the configuration of a gateway with the default Spark and an older one, and a second cluster whose network
// is not said to be closed.
const both = `
runtimes:
  old: {version: ` + testbed.OldSpark + `}
clusters:
  local: {closed_network: true}
  open: {kind: local}
`

var old = map[string]string{"sluice.runtime": "old"}

// shared is a gateway that most tests use. Each runtime's engine of a user is another one, and a machine has room for
// few, so the user is always "ann".
var shared *testbed.Gateway

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/runtimes")
	s := &testbed.Suite{}
	testbed.InNamespace("tests/e2e/runtimes", func() {
		testbed.SparkHome(s)
		testbed.FetchSpark(s, testbed.OldSpark)
	})
	shared = testbed.StartGateway(s, both)
	code := m.Run()
	s.End()
	os.Exit(code)
}
