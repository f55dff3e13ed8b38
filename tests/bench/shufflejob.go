//go:build e2e

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
	"github.com/sluicedata/sluice/tests/testbed"
	"github.com/sluicedata/sluice/tests/testbed/shuffleclient"
)

// jobMB is what the job of stock Spark moves.
const jobMB = 5 << 10

// shuffleJobs runs the same job through Spark's own sort shuffle and through one worker, in turn.
func shuffleJobs(t *testbed.Suite) []Figure {
	backed(t, 14<<30)
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := testbed.StartShuffle(t, testbed.ShuffleServers{Workers: 1, Dir: dir})
	pid := s.Workers[0].PID()
	o := testbed.ShuffleOptions{Kind: "repartition", MB: jobMB, Maps: 20, Reduces: 40, Master: "local[2,4]", Conf: map[string]string{"spark.driver.memory": "2g"}}
	var cpu series
	wall := func(o testbed.ShuffleOptions) float64 {
		before := testbed.CPUSeconds(pid)
		r := testbed.StartShuffleJob(t, o).Result()
		if len(o.Masters) > 0 {
			if r.StageAttempts != r.Stages {
				t.Fatalf("%d stages were run in %d attempts", r.Stages, r.StageAttempts)
			}
			cpu = append(cpu, (testbed.CPUSeconds(pid)-before)/(jobMB<<20/1e9))
		}
		return r.Wall
	}
	through := o
	through.Masters = []string{s.Address}
	figures := race(fmt.Sprintf("a job that shuffles %d GiB, wall", jobMB>>10), "s", 0, 5,
		runner{name: "Spark's own sort shuffle", run: func() float64 { return wall(o) }},
		runner{name: "a worker", run: func() float64 { return wall(through) }})
	return append(figures, cpu.figure("the worker's CPU s per GB of that job", "s"),
		Figure{Name: "the worker's peak memory after those jobs", Unit: "MiB", Median: float64(testbed.PeakMemory(pid)) / (1 << 20)})
}

// Many small batches: every mapper has a little for every partition.
const (
	smallPartitions = 10_000
	smallMappers    = 1_000
	smallBytes      = 100 // of a batch, behind its header
	smallEntries    = 500 // of a merged push
)

// shuffleSmall pushes ten million batches of 100 bytes.
func shuffleSmall(t *testbed.Suite) []Figure {
	backed(t, 8<<30)
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var cpu, wall, commit series
	peak := 0.0
	for round := range 3 {
		s := testbed.StartShuffle(t, testbed.ShuffleServers{Workers: 1, Dir: filepath.Join(dir, fmt.Sprint(round))})
		w := s.Workers[0]
		began := time.Now()
		took, err := smallLoad(w.ID)
		if err != nil {
			t.Fatalf("%v", err)
		}
		wall = append(wall, time.Since(began).Seconds())
		commit = append(commit, took.Seconds())
		cpu = append(cpu, testbed.CPUSeconds(w.PID())/(smallPartitions*smallMappers/1e6))
		peak = max(peak, float64(testbed.PeakMemory(w.PID()))/(1<<20))
		w.Kill()
		s.Master.Kill()
	}
	name := fmt.Sprintf("%d partitions x %d mappers, batches of %d bytes: ", smallPartitions, smallMappers, smallBytes)
	return []Figure{cpu.figure(name+"worker CPU s per million", "s"), wall.figure(name+"wall, pushed, committed and read", "s"),
		commit.figure(name+"commit", "s"), {Name: name + "peak memory", Unit: "MiB", Median: peak}}
}

func smallLoad(id wire.WorkerID) (commit time.Duration, err error) {
	ctx := context.Background()
	c, err := rpc.Dial(ctx, fmt.Sprintf("%s:%d", id.Host, id.RPC))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	at := make([]wire.Location, smallPartitions)
	m := &pb.CommitFiles{ApplicationId: "small", ShuffleId: 0, Epoch: 1, MapAttempts: make([]int32, smallMappers)}
	for i := range at {
		at[i] = wire.Location{PartitionID: wire.PartitionID{ID: int32(i)}, Worker: id}
		m.PrimaryIds = append(m.PrimaryIds, at[i].String())
	}
	if err := shuffleclient.Reserve(ctx, c, "small", 0, at); err != nil {
		return 0, err
	}
	if err := smallPushes(ctx, id, at); err != nil {
		return 0, err
	}
	began := time.Now()
	out, err := shuffleclient.Commit(ctx, c, m)
	commit = time.Since(began)
	if err != nil || len(out.GetCommittedPrimaryIds()) != smallPartitions {
		return 0, fmt.Errorf("commit: %d partitions of %d: %w", len(out.GetCommittedPrimaryIds()), smallPartitions, err)
	}
	return commit, smallReads(ctx, id)
}

func smallPushes(ctx context.Context, id wire.WorkerID, at []wire.Location) error {
	var group errgroup.Group
	data := noise(smallBytes)
	for k := range shuffleClients {
		group.Go(func() error {
			push, err := shuffleclient.Dial(ctx, id.Host, id.Push)
			if err != nil {
				return err
			}
			defer func() { _ = push.Close() }()
			room := make(chan struct{}, shuffleWindow)
			var all sync.WaitGroup
			var mu sync.Mutex
			var failed error
			for mapper := int32(k); mapper < smallMappers; mapper += shuffleClients {
				batch := wire.AppendBatch(nil, mapper, 0, 1, data)
				for from := 0; from < len(at); from += smallEntries {
					entries := make([]shuffleclient.Entry, 0, smallEntries)
					for _, l := range at[from:min(from+smallEntries, len(at))] {
						entries = append(entries, shuffleclient.Entry{ID: l.PartitionID, Batch: batch})
					}
					room <- struct{}{}
					all.Add(1)
					push.PushMerged("small-0", wire.Primary, entries, func(a shuffleclient.Answer) {
						if a.Err != nil || a.Status() != wire.Success {
							mu.Lock()
							failed = fmt.Errorf("push: %v %w", a.Body, a.Err)
							mu.Unlock()
						}
						<-room
						all.Done()
					})
				}
			}
			all.Wait()
			return failed
		})
	}
	return group.Wait()
}

func smallReads(ctx context.Context, id wire.WorkerID) error {
	var group errgroup.Group
	for k := range shuffleClients {
		group.Go(func() error {
			c, err := shuffleclient.Dial(ctx, id.Host, id.Fetch)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			for p := int32(k); p < smallPartitions; p += shuffleClients {
				chunks, err := c.ReadAll(ctx, "small-0", wire.PartitionID{ID: p}.String()+"-0", 0, math.MaxInt32)
				if err != nil {
					return err
				}
				n := 0
				for _, b := range chunks {
					n += len(b)
				}
				if want := smallMappers * (wire.BatchHeader + smallBytes); n != want {
					return fmt.Errorf("partition %d has %d bytes of %d", p, n, want)
				}
			}
			return nil
		})
	}
	return group.Wait()
}
