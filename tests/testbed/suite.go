package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicedata/sluice/engines/spark/dist"
)

// NeedJDK skips a whole package of tests on a machine without a JDK.
func NeedJDK(area string) {
	if _, err := dist.Default("", SparkVersion, "").Java(SparkVersion); err != nil {
		SkipAll(area, err)
	}
}

// SkipAll ends a whole package of tests that cannot run on this machine.
func SkipAll(area string, err error) {
	noteSkipped(fmt.Sprintf("%s: %v", area, err))
	os.Exit(0)
}

// Long leaves a test out of `make test`: it takes long, and another there shows that its subject works at all.
func Long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long: make test-all runs it")
	}
}

// Skip skips one test that this machine cannot run.
func Skip(t *testing.T, why string) {
	t.Helper()
	noteSkipped(t.Name() + ": " + why)
	t.Skip(why)
}

// noteSkipped says here, and in build/skipped, which `make test` prints at its end, what is not run.
func noteSkipped(what string) {
	line := "SKIPPED " + what + "\n"
	fmt.Print(line)
	file := filepath.Join(Root(), "build", "skipped")
	_ = os.MkdirAll(filepath.Dir(file), 0o755)
	if f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
		_, _ = f.WriteString(line)
		_ = f.Close()
	}
}

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
