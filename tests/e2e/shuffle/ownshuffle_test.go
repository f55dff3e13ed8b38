//go:build e2e

// Package shuffle proves the shuffle service with stock Spark and the stock client of Apache Celeborn.
package shuffle

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// The job that the other tests trust, with Spark's own shuffle: what it says, when it says it, and that every kind is what
// its name says.
func TestTheJobItself(t *testing.T) {
	testbed.Long(t)
	j := testbed.StartShuffleJob(t, testbed.ShuffleOptions{Kind: "take", MB: 32, Hold: true, Verify: true})
	j.MapsDone()
	require.Len(t, j.Executors(), 2)
	require.NotZero(t, j.Driver())
	j.Pushed(30 << 20)
	require.Less(t, j.Progress().Fetched, int64(16<<20), "one of eight partitions is fetched so far")
	j.Go()
	r := j.Result()
	require.True(t, r.Verified)
	require.EqualValues(t, 32<<20/516, r.Count)
	require.Equal(t, r.Stages, r.StageAttempts)
	require.Zero(t, r.FailedTasks, r.Failures)
	require.GreaterOrEqual(t, j.Progress().Fetched, int64(30<<20))
}

func TestTheJobsKinds(t *testing.T) {
	testbed.Long(t)
	for _, kind := range []string{"repartition", "sort", "aggregate", "join", "skew", "mappers"} {
		t.Run(kind, func(t *testing.T) {
			o := testbed.ShuffleOptions{Kind: kind, MB: 32, Verify: true, Master: "local[2,4]"}
			if kind == "repartition" {
				o.Speculate, o.Encrypt = true, true
			}
			require.True(t, testbed.StartShuffleJob(t, o).Result().Verified)
		})
	}
}
