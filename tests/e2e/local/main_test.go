//go:build e2e

// Package local proves the gateway on the smallest cluster there is: real engines on this machine, stock clients, and a
// raw client for what no stock client does.
package local

import (
	"os"
	"testing"

	"github.com/sluicedata/sluice/tests/testbed"
)

// shared is a gateway that most tests use, each with a user or a session of its own. Users have engines of their own,
// and a machine has room for few, so most are "ann", and engines idle out quickly.
var shared *testbed.Gateway

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/local")
	s := &testbed.Suite{}
	testbed.SparkHome(s)
	shared = testbed.StartGateway(s, "", "SLUICE_HS2_DISCONNECT_GRACE=2s", "SLUICE_ENGINE_IDLE_TIMEOUT=15s")
	code := m.Run()
	s.End()
	os.Exit(code)
}
