//go:build e2e

package shuffle

import (
	"context"
	"log/slog"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/worker"
	"github.com/sluicedata/sluice/tests/testbed"
)

// within runs a worker inside of the test, so that its disks can be what the test makes of them.
func within(t *testing.T, s *testbed.Shuffle, disks ...store.Disk) *testbed.Log {
	t.Helper()
	log := &testbed.Log{}
	w, err := worker.New(worker.Options{
		Host: "127.0.0.1", Masters: []string{s.Address}, Log: slog.New(slog.NewTextHandler(log, nil)),
		Store: store.Options{Disks: disks, Reserve: 1, SlowAfter: 2 * time.Second, Verify: true},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return log
}

// TestASlowDisk has one of a worker's two disks take four seconds for each write once it has some data: it is set aside, what waits for it
// goes to the other one, and what it does take is not lost.
func TestASlowDisk(t *testing.T) {
	testbed.Long(t)
	s := servers(t, testbed.ShuffleServers{Workers: 1})
	slow, quick := t.TempDir(), t.TempDir()
	var writes atomic.Int64
	log := within(t, s, store.Disk{Path: slow, FS: &tier.Faulty{FS: tier.OS{}, Fail: func(op tier.Op, at string) error {
		if op == tier.OpWrite && !strings.HasSuffix(at, "/probe") && writes.Add(1) > 20 {
			<-time.After(4 * time.Second)
		}
		return nil
	}}}, store.Disk{Path: quick, FS: tier.OS{}})
	s.Await(2)
	r := right(t, run(t, s, job(testbed.ShuffleOptions{})))
	require.Contains(t, log.String(), "shuffle disk set aside")
	require.Contains(t, log.String(), path.Base(slow))
	require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
}

// TestABrokenDisk has every write to one of a worker's two disks fail after some.
func TestABrokenDisk(t *testing.T) {
	testbed.Long(t)
	s := servers(t, testbed.ShuffleServers{Workers: 1})
	var writes atomic.Int64
	log := within(t, s, store.Disk{Path: t.TempDir(), FS: &tier.Faulty{FS: tier.OS{}, Fail: func(op tier.Op, _ string) error {
		if op == tier.OpWrite && writes.Add(1) > 20 {
			return syscall.EIO
		}
		return nil
	}}}, store.Disk{Path: t.TempDir(), FS: tier.OS{}})
	s.Await(2)
	r := right(t, run(t, s, job(testbed.ShuffleOptions{})))
	require.Contains(t, log.String(), "shuffle disk set aside")
	require.Equal(t, r.Stages, r.StageAttempts, "no stage is run again")
}
