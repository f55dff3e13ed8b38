//go:build e2e

// Package shuffle runs stock Spark with the stock Celeborn client over our shuffle service, and breaks it. Executors are processes
// of their own; every row is counted and summed, and Spark's event log says which stages were run again.
package shuffle

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/e2e/shuffle")
	s := &testbed.Suite{}
	testbed.InNamespace("tests/e2e/shuffle", func() {
		testbed.FetchSpark(s, testbed.OldSpark)
		testbed.CelebornClient(s)
	})
	code := m.Run()
	s.End()
	os.Exit(code)
}

// servers starts a master and workers, and shows what they logged if the test fails.
func servers(t *testing.T, o testbed.ShuffleServers) *testbed.Shuffle {
	t.Helper()
	s := testbed.StartShuffle(t, o)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.Logs())
		}
	})
	return s
}

// run starts a job over these servers.
func run(t *testing.T, s *testbed.Shuffle, o testbed.ShuffleOptions) *testbed.ShuffleJob {
	t.Helper()
	o.Masters, o.Verify, o.User = []string{s.Address}, true, "ann"
	return testbed.StartShuffleJob(t, o)
}

// right is a job's result, which must be right, and says what it cost.
func right(t *testing.T, j *testbed.ShuffleJob) testbed.ShuffleResult {
	t.Helper()
	r := j.Result()
	t.Logf("%s: %.1f s, %d stages in %d attempts, %d failed tasks %v, longest stall %d ms (%s), longest fetch wait %d ms", r.Kind, r.Wall, r.Stages, r.StageAttempts, r.FailedTasks, r.Failures, r.Stall, r.Stalled, r.LongestFetch)
	require.True(t, r.Verified)
	return r
}
