//go:build e2e

package shuffle

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// TestJobs runs what Spark does with a shuffle: both writers, all codecs, encryption, replicas, splits, ranges of maps, readers
// that end early and tasks that run twice.
func TestJobs(t *testing.T) {
	s := servers(t, testbed.ShuffleServers{Workers: 2, Disks: 2})
	small := map[string]string{"spark.celeborn.client.shuffle.partitionSplit.threshold": "512k"}
	hard := map[string]string{"spark.celeborn.client.shuffle.partitionSplit.threshold": "512k", "spark.celeborn.client.shuffle.partitionSplit.mode": "HARD"}
	for name, c := range map[string]struct {
		o     testbed.ShuffleOptions
		short bool
	}{
		"sort":                           {testbed.ShuffleOptions{Kind: "sort", Codec: "ZSTD"}, false},
		"aggregate, sort writer":         {testbed.ShuffleOptions{Kind: "aggregate", Writer: "SORT", Codec: "NONE"}, false},
		"join, replicas, soft splits":    {testbed.ShuffleOptions{Kind: "join", Replicate: true, Conf: small}, true},
		"repartition, hard splits":       {testbed.ShuffleOptions{Kind: "repartition", Conf: hard}, false},
		"sort writer, replicas, hard":    {testbed.ShuffleOptions{Kind: "repartition", Writer: "SORT", Replicate: true, Conf: hard}, false},
		"skew by ranges of maps":         {testbed.ShuffleOptions{Kind: "skew"}, true},
		"skew, replicas, sort writer":    {testbed.ShuffleOptions{Kind: "skew", Replicate: true, Writer: "SORT"}, false},
		"local reader":                   {testbed.ShuffleOptions{Kind: "mappers", Conf: map[string]string{"spark.sql.adaptive.localShuffleReader.enabled": "true"}}, false},
		"readers end early":              {testbed.ShuffleOptions{Kind: "take", Takes: 5, Master: "local-cluster[2,1,1024]"}, false},
		"tasks run twice, and encrypted": {testbed.ShuffleOptions{Kind: "aggregate", Speculate: true, Encrypt: true, Maps: 12}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if !c.short {
				testbed.Long(t)
			}
			r := right(t, run(t, s, c.o))
			require.Equal(t, r.Stages, r.StageAttempts)
		})
	}
	testbed.Until(t, 30*time.Second, "ended applications leave nothing on the disks", func() bool {
		st, err := s.Status()
		if err != nil || len(st.GetApplications()) > 0 {
			return false
		}
		for _, w := range st.GetWorkers() {
			if len(w.GetLast().GetShuffles()) > 0 {
				return false
			}
		}
		return len(files(t, s)) == 0
	})
}

// files are the workers' files of data.
func files(t *testing.T, s *testbed.Shuffle) (out []string) {
	t.Helper()
	for _, w := range s.Workers {
		for _, f := range w.Files(t) {
			if !strings.HasSuffix(f, "/lock") {
				out = append(out, f)
			}
		}
	}
	return out
}

// TestAQuota lets one user hold little: his next job uses Spark's own shuffle where it may, and others are not held up.
func TestAQuota(t *testing.T) {
	testbed.Long(t)
	s := servers(t, testbed.ShuffleServers{Workers: 1, MasterArgs: []string{"--quota", "ann=20MiB"}})
	first := run(t, s, testbed.ShuffleOptions{Hold: true, Fallback: true})
	first.MapsDone()
	testbed.Until(t, 10*time.Second, "the master knows what ann holds", func() bool {
		st, err := s.Status()
		return err == nil && len(st.GetUsers()) == 1 && st.GetUsers()[0].GetBytes() > 20<<20
	})
	before := s.Workers[0].Metric("sluice_shuffle_pushed_bytes_total")
	right(t, run(t, s, testbed.ShuffleOptions{Fallback: true}))
	require.Equal(t, before, s.Workers[0].Metric("sluice_shuffle_pushed_bytes_total"), "it fell back")
	first.Go()
	right(t, first)
	right(t, run(t, s, testbed.ShuffleOptions{Fallback: true}))
	require.Greater(t, s.Workers[0].Metric("sluice_shuffle_pushed_bytes_total"), before+20e6, "nothing is held any more")
}
