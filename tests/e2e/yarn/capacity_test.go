//go:build e2e

package yarn

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// told is what a cluster has told of its capacity last.
type told struct {
	mu   sync.Mutex
	c    engines.Capacity
	err  error
	errs int
}

func (w *told) last() (engines.Capacity, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.c, w.err
}

// measure watches the capacity until the test ends.
func measure(t *testing.T, h *testbed.Hadoop) *told {
	t.Helper()
	conf, err := yarn.ReadHadoop(h.ConfDir)
	require.NoError(t, err)
	c, err := yarn.New(yarn.Options{Name: "y", Instance: "sluice-capacity", Hadoop: conf, User: "sluice", Poll: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	w, ended := &told{}, make(chan error, 1)
	go func() {
		ended <- c.WatchCapacity(context.Background(), func(c engines.Capacity, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.c, w.err = c, err
			if err != nil {
				w.errs++
			}
		})
	}()
	t.Cleanup(func() { require.NoError(t, c.Close()); require.NoError(t, <-ended) })
	return w
}

// until waits until etl is as wanted.
func (w *told) until(t *testing.T, what string, wanted func(c engines.Capacity, etl engines.Queue) bool) (engines.Capacity, engines.Queue) {
	t.Helper()
	var c engines.Capacity
	testbed.Until(t, 30*time.Second, what, func() bool {
		var err error
		c, err = w.last()
		return err == nil && c.Known && wanted(c, c.Queues["root.etl"])
	})
	return c, c.Queues["root.etl"]
}

// Room that an application takes is missing, and is back with its end; a queue that takes no more drivers is known while the
// cluster has room; and so is a ResourceManager that goes away and comes back.
func TestCapacity(t *testing.T) {
	w := measure(t, shared)
	all := engines.Room{Memory: 8192, MilliCores: 16000}
	c, etl := w.until(t, "all is free", func(c engines.Capacity, etl engines.Queue) bool { return c.Free == all && etl.Free == all })
	t.Logf("%+v", c)
	require.Equal(t, 1, c.Nodes)
	require.Equal(t, all, c.Total)
	require.Equal(t, engines.Room{Memory: 3276, MilliCores: 6000}, etl.Guaranteed)
	require.True(t, etl.Accepts)

	first := shared.Sleep("ann", "etl", 6144)
	left := all.Minus(engines.Room{Memory: 6144, MilliCores: 1000})
	c, etl = w.until(t, "an application takes room", func(c engines.Capacity, _ engines.Queue) bool { return c.Free == left })
	require.Equal(t, left, etl.Free)
	require.Equal(t, left, c.Queues["root.bi"].Free, "it is missing everywhere")
	require.Equal(t, int64(512), etl.Drivers.Memory, "drivers may have 0.8 of the queue, 6656 MiB")
	require.Zero(t, etl.Guaranteed.Memory)

	second := shared.Sleep("ann", "etl", 1024)
	_, etl = w.until(t, "another one waits", func(_ engines.Capacity, etl engines.Queue) bool { return etl.Waiting == 1 })
	require.Less(t, etl.Drivers.Memory, int64(1024), "its driver does not fit in")
	require.GreaterOrEqual(t, etl.Free.Memory, int64(1024), "and there is room for it")
	shared.EndApp("ann", first)
	w.until(t, "the other one's turn", func(c engines.Capacity, etl engines.Queue) bool {
		return etl.Waiting == 0 && c.Free.Memory == 8192-1024
	})
	shared.EndApp("ann", second)
	w.until(t, "all is free again", func(c engines.Capacity, etl engines.Queue) bool { return c.Free == all && etl.Free == all })

	shared.Kill("nodemanager1")
	began := time.Now()
	shared.Kill("resourcemanager")
	testbed.Until(t, 20*time.Second, "it is told that the ResourceManager is away", func() bool { _, err := w.last(); return err != nil })
	require.Less(t, time.Since(began), 10*time.Second)
	shared.Start("resourcemanager")
	none, etl := w.until(t, "it is back, without a node", func(c engines.Capacity, _ engines.Queue) bool { return c.Nodes == 0 })
	require.Equal(t, engines.Capacity{Known: true, Queues: none.Queues}, none, "nothing is free, and that is known")
	require.Equal(t, engines.Queue{Path: "root.etl", Accepts: true}, etl)
	shared.Start("nodemanager1")
	w.until(t, "the node is back", func(c engines.Capacity, _ engines.Queue) bool { return c.Free == all && c.Nodes == 1 })
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Equal(t, 1, w.errs, "an outage is told once")
}

// Of two ResourceManagers the active one is found.
func TestCapacityThroughAFailover(t *testing.T) {
	hdfsAlone(t)
	h := testbed.StartHadoop(t, testbed.HadoopOptions{FS: shared.NameNode, HA: true, Scheduler: "fair"})
	w := measure(t, h)
	all := engines.Room{Memory: 8192, MilliCores: 16000}
	w.until(t, "all is free", func(c engines.Capacity, etl engines.Queue) bool { return c.Free == all && etl.Free == all })
	id := h.Sleep("ann", "etl", 2048)
	w.until(t, "an application takes room", func(c engines.Capacity, etl engines.Queue) bool {
		return c.Free.Memory == 6144 && etl.Free.Memory == 6144 && etl.Drivers.Memory == 2048 && c.Queues["root.bi"].Drivers.Memory == 6144
	})
	h.Kill("resourcemanager")
	testbed.Until(t, 20*time.Second, "no active one is left", func() bool { _, err := w.last(); return err != nil })
	h.Activate("resourcemanager2")
	h.WaitNodes()
	w.until(t, "the other one tells the same", func(c engines.Capacity, _ engines.Queue) bool { return c.Nodes == 1 && c.Free.Memory == 6144 })
	code, said := call(t, http.MethodPut, h.RMs[1], "/"+id+"/state?user.name=ann", `{"state":"KILLED"}`)
	require.Less(t, code, 300, said)
	w.until(t, "all is free again", func(c engines.Capacity, _ engines.Queue) bool { return c.Free == all })
}
