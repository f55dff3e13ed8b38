package testbed

import (
	"fmt"
	"os"
)

// Suite stands in for a test where there is none yet: in TestMain. End must be called before the process exits.
type Suite struct{ cleanups []func() }

// Helper implements T.
func (*Suite) Helper() {}

// Logf implements T.
func (*Suite) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// Fatalf implements T.
func (s *Suite) Fatalf(format string, args ...any) {
	fmt.Printf("FAIL: "+format+"\n", args...)
	s.End()
	os.Exit(1)
}

// Cleanup implements T.
func (s *Suite) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// End runs what was to be cleaned up, the last first.
func (s *Suite) End() {
	cleanups := s.cleanups
	s.cleanups = nil
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
}
