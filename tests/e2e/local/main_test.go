//go:build e2e

// Package local proves the gateway on the smallest cluster there is: real engines on this machine, stock clients, and a
// raw client for what no stock client does.
package local

import (
	"fmt"
	"os"
	"testing"

	"github.com/sluicedata/sluice/tests/testbed"
)

// shared is a gateway that most tests use, each with a user or a session of its own. Users have engines of their own,
// and a machine has room for few, so most are "ann", and engines idle out quickly.
var shared *testbed.Gateway

// suite stands in for a test where there is none yet.
type suite struct{ cleanups []func() }

func (*suite) Helper()                         {}
func (*suite) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (s *suite) Fatalf(format string, args ...any) {
	fmt.Printf("FAIL: "+format+"\n", args...)
	s.end()
	os.Exit(1)
}
func (s *suite) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *suite) end() {
	cleanups := s.cleanups
	s.cleanups = nil
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
}

func TestMain(m *testing.M) {
	s := &suite{}
	testbed.SparkHome(s)
	shared = testbed.StartGateway(s, "", "SLUICE_HS2_DISCONNECT_GRACE=2s", "SLUICE_ENGINE_IDLE_TIMEOUT=15s")
	code := m.Run()
	s.end()
	os.Exit(code)
}
