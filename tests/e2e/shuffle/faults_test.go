//go:build e2e

package shuffle

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// Limits of how long a task may stand still, milliseconds: when a worker's connections break, and when a node is silent.
const (
	stallOfReset  = 2_000
	stallOfSilent = 10_000
)

// job is one that lasts long enough to be broken in the middle.
func job(o testbed.ShuffleOptions) testbed.ShuffleOptions {
	o.MB, o.Maps, o.Reduces = 512, 16, 12
	return o
}

// pushing waits until a worker is in the middle of taking a job's data.
func pushing(t *testing.T, w *testbed.ShuffleWorker) {
	t.Helper()
	testbed.Until(t, 2*time.Minute, "the worker took data", func() bool {
		return w.Metric("sluice_shuffle_pushed_bytes_total") > 40e6
	})
}

// TestAWorkerIsKilled kills one of three workers with -9, with replicas: no stage is run again, and no task stands still for long.
func TestAWorkerIsKilled(t *testing.T) {
	for name, c := range map[string]struct {
		o     testbed.ShuffleOptions
		fault func(*testing.T, *testbed.Shuffle, *testbed.ShuffleJob)
		short bool
	}{
		"in push": {testbed.ShuffleOptions{}, func(t *testing.T, s *testbed.Shuffle, _ *testbed.ShuffleJob) {
			pushing(t, s.Workers[0])
			s.Workers[0].Kill()
		}, true},
		"in push, sort writer": {testbed.ShuffleOptions{Writer: "SORT"}, func(t *testing.T, s *testbed.Shuffle, _ *testbed.ShuffleJob) {
			pushing(t, s.Workers[1])
			s.Workers[1].Kill()
		}, false},
		"between push and fetch": {testbed.ShuffleOptions{Hold: true}, func(_ *testing.T, s *testbed.Shuffle, j *testbed.ShuffleJob) {
			j.MapsDone()
			s.Workers[0].Kill()
			j.Go()
		}, false},
		"in fetch": {testbed.ShuffleOptions{Hold: true}, func(t *testing.T, s *testbed.Shuffle, j *testbed.ShuffleJob) {
			j.MapsDone()
			before := s.Workers[0].Metric("sluice_shuffle_fetched_bytes_total")
			j.Go()
			testbed.Until(t, time.Minute, "the worker is read from", func() bool {
				return s.Workers[0].Metric("sluice_shuffle_fetched_bytes_total") > before+20e6
			})
			s.Workers[0].Kill()
		}, true},
		"in push, and back at once": {testbed.ShuffleOptions{}, func(t *testing.T, s *testbed.Shuffle, _ *testbed.ShuffleJob) {
			pushing(t, s.Workers[0])
			s.Workers[0].Kill()
			s.Workers[0].Start()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if !c.short {
				testbed.Long(t)
			}
			s := servers(t, testbed.ShuffleServers{Workers: 3})
			c.o.Replicate = true
			j := run(t, s, job(c.o))
			c.fault(t, s, j)
			r := right(t, j)
			require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
			require.Zero(t, r.FailedTasks)
			stall := r.Stall
			if c.o.Hold { // its readers are Python's, whose start moves nothing for a second or two without any fault
				stall = r.LongestFetch
			}
			require.Less(t, stall, stallOfReset)
		})
	}
}

// TestAWorkerIsKilledWithoutReplicas loses data, and says so: the stage that wrote it is run again, and the rows are right.
func TestAWorkerIsKilledWithoutReplicas(t *testing.T) {
	for name, fault := range map[string]func(*testing.T, *testbed.Shuffle, *testbed.ShuffleJob){
		"in push": func(t *testing.T, s *testbed.Shuffle, _ *testbed.ShuffleJob) {
			pushing(t, s.Workers[0])
			s.Workers[0].Kill()
		},
		"in push, and back before the commit": func(t *testing.T, s *testbed.Shuffle, _ *testbed.ShuffleJob) {
			pushing(t, s.Workers[0])
			s.Workers[0].Kill()
			s.Workers[0].Start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			testbed.Long(t)
			s := servers(t, testbed.ShuffleServers{Workers: 2})
			j := run(t, s, job(testbed.ShuffleOptions{}))
			fault(t, s, j)
			r := right(t, j)
			require.Greater(t, r.StageAttempts, r.Stages, "what was lost was written again")
		})
	}
}

// TestAWorkerComesBack restarts the only worker after the commit: what it had on its disk is served again, and nothing is run again.
func TestAWorkerComesBack(t *testing.T) {
	s := servers(t, testbed.ShuffleServers{Workers: 1})
	j := run(t, s, job(testbed.ShuffleOptions{Hold: true}))
	j.MapsDone()
	s.Workers[0].Kill()
	s.Workers[0].Start()
	s.Await(1)
	j.Go()
	r := right(t, j)
	require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
}

// TestTheMasterIsKilled takes the master away in the middle of a job, and brings it back empty: no stage is run again, and
// nothing of the job is deleted.
func TestTheMasterIsKilled(t *testing.T) {
	s := servers(t, testbed.ShuffleServers{Workers: 2})
	j := run(t, s, job(testbed.ShuffleOptions{Hold: true}))
	pushing(t, s.Workers[0])
	s.Master.Kill()
	s.Master.Start()
	j.MapsDone()
	s.Master.Kill()
	s.Master.Start()
	s.Await(2)
	j.Go()
	r := right(t, j)
	require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
	require.Zero(t, r.FailedTasks)
}

// silenced runs a replicated job, has a worker fall silent in the middle of its pushes or before its fetches, and says that this
// cost seconds and no stage.
func silenced(t *testing.T, s *testbed.Shuffle, inFetch bool, silence func()) {
	t.Helper()
	j := run(t, s, job(testbed.ShuffleOptions{Replicate: true, Hold: inFetch}))
	if inFetch {
		j.MapsDone()
		silence()
		j.Go()
	} else {
		pushing(t, s.Workers[0])
		silence()
	}
	r := right(t, j)
	require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
	require.Less(t, r.Stall, stallOfSilent)
}

// TestASilentWorker stops a worker's process: its connections stay, and nothing comes over them.
func TestASilentWorker(t *testing.T) {
	for name, inFetch := range map[string]bool{"in push": false, "in fetch": true} {
		t.Run(name, func(t *testing.T) {
			testbed.Long(t)
			s := servers(t, testbed.ShuffleServers{Workers: 3})
			silenced(t, s, inFetch, s.Workers[0].Pause)
		})
	}
}

// TestANodeIsGone pulls the cable of a worker's node: nothing comes back from it, no reset and no answer to a new connection.
func TestANodeIsGone(t *testing.T) {
	for name, inFetch := range map[string]bool{"in push": false, "in fetch": true} {
		t.Run(name, func(t *testing.T) {
			testbed.Long(t)
			var islands []*testbed.Island
			for n := range 3 {
				i, err := testbed.NewIsland(t, n)
				if err != nil {
					testbed.Skip(t, "no network namespaces can be joined here: "+err.Error())
				}
				islands = append(islands, i)
			}
			silenced(t, servers(t, testbed.ShuffleServers{Workers: 3, Islands: islands}), inFetch, islands[0].Pull)
		})
	}
}

// TestACorruptFile changes bytes of a worker's data between push and fetch: they are not served; with replicas the other copy is,
// without the stage is run again.
func TestACorruptFile(t *testing.T) {
	for name, replicate := range map[string]bool{"with replicas": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			testbed.Long(t)
			s := servers(t, testbed.ShuffleServers{Workers: 2})
			j := run(t, s, job(testbed.ShuffleOptions{Replicate: replicate, Hold: true}))
			j.MapsDone()
			changed := 0
			for _, f := range s.Workers[0].Files(t) {
				if info, err := os.Stat(f); err != nil || info.Size() < 1<<20 || strings.HasSuffix(f, "/manifest") {
					continue
				}
				h, err := os.OpenFile(f, os.O_WRONLY, 0)
				require.NoError(t, err)
				_, err = h.WriteAt([]byte("corrupt"), 300_000)
				require.NoError(t, err)
				require.NoError(t, h.Close())
				changed++
			}
			require.Positive(t, changed)
			j.Go()
			r := right(t, j)
			require.Contains(t, s.Workers[0].Log(), "shuffle data is corrupt")
			if replicate {
				require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
			} else {
				require.Greater(t, r.StageAttempts, r.Stages)
			}
		})
	}
}

// TestAFullDisk gives one of two workers' disks little room: what does not fit goes elsewhere.
func TestAFullDisk(t *testing.T) {
	testbed.Long(t)
	dir := t.TempDir()
	small := filepath.Join(dir, "worker-0", "disk-0")
	require.NoError(t, os.MkdirAll(small, 0o755))
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=200m"); err != nil {
		testbed.Skip(t, "no file system can be mounted here: "+err.Error())
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(small, syscall.MNT_DETACH)) })
	s := servers(t, testbed.ShuffleServers{Workers: 2, Disks: 1, Dir: dir})
	r := right(t, run(t, s, job(testbed.ShuffleOptions{})))
	require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
	require.Contains(t, s.Workers[0].Log(), "no space left on device")
}
