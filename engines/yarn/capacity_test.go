package yarn

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

var _ engines.Measurer = (*Cluster)(nil)

// recorded is what a real ResourceManager has answered.
func recorded(t *testing.T, name string) (scheduler, metric []byte) {
	t.Helper()
	scheduler, err := os.ReadFile(filepath.Join("testdata", "scheduler", name+"-scheduler.json"))
	require.NoError(t, err)
	metric, err = os.ReadFile(filepath.Join("testdata", "scheduler", name+"-metrics.json"))
	require.NoError(t, err)
	return scheduler, metric
}

func room(memory, cores int64) engines.Room {
	return engines.Room{Memory: memory, MilliCores: 1000 * cores}
}

func TestCapacityOfRealSchedulers(t *testing.T) {
	bi := engines.Queue{Path: "root.bi", Accepts: true, Free: room(8064, 15), Guaranteed: room(3276, 6), Drivers: room(8064, 15)}
	byDefault := engines.Queue{Path: "root.default", Accepts: true, Free: room(8064, 15), Guaranteed: room(1638, 3), Drivers: room(8064, 15)}
	etl := engines.Queue{Path: "root.etl", Accepts: true, Free: room(8064, 15), Guaranteed: room(3148, 5), Drivers: room(6528, 12)}
	for name, tc := range map[string]struct {
		file, driver, executor string
		want                   engines.Capacity
	}{
		"nobody is there": {file: "idle", want: engines.Capacity{Nodes: 1, Total: room(8192, 16), Free: room(8192, 16), Queues: map[string]engines.Queue{
			"root.bi":      {Path: "root.bi", Accepts: true, Free: room(8192, 16), Guaranteed: room(3276, 6), Drivers: room(8192, 16)},
			"root.default": {Path: "root.default", Accepts: true, Free: room(8192, 16), Guaranteed: room(1638, 3), Drivers: room(8192, 16)},
			"root.etl":     {Path: "root.etl", Accepts: true, Free: room(8192, 16), Guaranteed: room(3276, 6), Drivers: room(8192, 16)}}}},
		"the nodes without a label": {file: "labelled", want: engines.Capacity{Nodes: 2, Total: room(8192, 16), Free: room(8064, 15),
			Queues: map[string]engines.Queue{"root.bi": bi, "root.default": byDefault, "root.etl": etl}}},
		"executors on others": {file: "labelled", executor: "spot", want: engines.Capacity{Nodes: 2, Total: room(8192, 16), Free: room(8192, 16),
			Queues: map[string]engines.Queue{ // one may use them, one has no share, and one may not
				"root.bi":      {Path: "root.bi", Accepts: true, Drivers: room(8064, 15)},
				"root.default": {Path: "root.default", Accepts: true, Drivers: room(8064, 15)},
				"root.etl":     {Path: "root.etl", Accepts: true, Free: room(8192, 16), Guaranteed: room(8192, 16), Drivers: room(6528, 12)}}}},
		"drivers on others": {file: "labelled", driver: "spot", want: engines.Capacity{Nodes: 2, Total: room(8192, 16), Free: room(8064, 15),
			Queues: map[string]engines.Queue{
				"root.bi":      {Path: "root.bi", Accepts: true, Free: room(8064, 15), Guaranteed: room(3276, 6)},
				"root.default": {Path: "root.default", Accepts: true, Free: room(8064, 15), Guaranteed: room(1638, 3)},
				"root.etl":     {Path: "root.etl", Accepts: true, Free: room(8064, 15), Guaranteed: room(3148, 5), Drivers: room(8192, 16)}}}},
		"fair": {file: "fair", want: engines.Capacity{Nodes: 1, Total: room(8192, 16), Free: room(7168, 15), Queues: map[string]engines.Queue{
			"root.bi":      {Path: "root.bi", Accepts: true, Free: room(7168, 15), Drivers: room(7168, 15)},
			"root.default": {Path: "root.default", Accepts: true, Free: room(7168, 15), Drivers: room(7168, 15)},
			"root.etl":     {Path: "root.etl", Accepts: true, Free: room(7168, 15), Drivers: room(3072, 7)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			scheduler, metric := recorded(t, tc.file)
			var q tree
			var m metrics
			require.NoError(t, json.Unmarshal(scheduler, &q))
			require.NoError(t, json.Unmarshal(metric, &m))
			tc.want.Known = true
			require.Equal(t, tc.want, capacityOf(q.root(), m, tc.driver, tc.executor))
		})
	}
}

// The recordings are of an idle cluster of one level. The words of these queues are the scheduler's all the same.
func TestCapacityOfQueues(t *testing.T) {
	leaf := func(state string, used, least, most, driversUsed, driversMost, apps int) string {
		text, err := json.Marshal(map[string]any{
			"queueName": "leaf", "queuePath": "root.a.leaf", "state": state, "numApplications": apps, "maxApplications": 10, "numPendingApplications": 3,
			"resources": map[string]any{"resourceUsagesByPartition": []any{map[string]any{"partitionName": "", "used": map[string]int{"memory": used, "vCores": 1},
				"amUsed": map[string]int{"memory": driversUsed, "vCores": 1}, "amLimit": map[string]int{"memory": driversMost, "vCores": 10}, "userAmLimit": map[string]int{"memory": 150, "vCores": 10}}}},
			"capacities": map[string]any{"queueCapacitiesByPartition": []any{map[string]any{"partitionName": "",
				"effectiveMinResource": map[string]int{"memory": least, "vCores": 1}, "effectiveMaxResource": map[string]int{"memory": most, "vCores": 10}}}},
		})
		require.NoError(t, err)
		return string(text)
	}
	for name, tc := range map[string]struct {
		above     string // of the parent
		available int
		leaf      string
		want      engines.Queue
	}{
		"its own limit":                    {"RUNNING", 9000, leaf("RUNNING", 100, 50, 400, 100, 200, 1), engines.Queue{Accepts: true, Free: room(300, 9), Drivers: room(100, 9)}},
		"the parent's limit":               {"RUNNING", 9000, leaf("RUNNING", 100, 50, 4000, 100, 200, 1), engines.Queue{Accepts: true, Free: room(1500, 9), Drivers: room(100, 9)}},
		"what is free":                     {"RUNNING", 70, leaf("RUNNING", 100, 500, 4000, 100, 2000, 1), engines.Queue{Accepts: true, Free: room(70, 9), Guaranteed: room(70, 0), Drivers: room(70, 9)}},
		"one user's drivers":               {"RUNNING", 9000, leaf("RUNNING", 100, 50, 400, 100, 2000, 1), engines.Queue{Accepts: true, Free: room(300, 9), Drivers: room(150, 9)}},
		"full of drivers":                  {"RUNNING", 9000, leaf("RUNNING", 100, 50, 400, 100, 100, 1), engines.Queue{Accepts: true, Free: room(300, 9), Drivers: room(0, 9)}},
		"more is used than it may":         {"RUNNING", -5, leaf("RUNNING", 500, 50, 400, 100, 100, 1), engines.Queue{Accepts: true, Free: room(0, 9), Drivers: room(0, 9)}},
		"stopped":                          {"RUNNING", 9000, leaf("STOPPED", 100, 50, 400, 100, 200, 1), engines.Queue{Free: room(300, 9), Drivers: room(100, 9)}},
		"below one that drains":            {"DRAINING", 9000, leaf("RUNNING", 100, 50, 400, 100, 200, 1), engines.Queue{Free: room(300, 9), Drivers: room(100, 9)}},
		"as many applications as it takes": {"RUNNING", 9000, leaf("RUNNING", 100, 50, 400, 100, 200, 10), engines.Queue{Free: room(300, 9), Drivers: room(100, 9)}},
	} {
		t.Run(name, func(t *testing.T) {
			var q tree
			text := `{"scheduler":{"schedulerInfo":{"queueName":"root","queuePath":"root","capacities":{"queueCapacitiesByPartition":[{"partitionName":"","effectiveMaxResource":{"memory":9000,"vCores":100}}]},
				"queues":{"queue":[{"queueName":"a","queuePath":"root.a","state":"` + tc.above + `","capacities":{"queueCapacitiesByPartition":[{"partitionName":"","effectiveMaxResource":{"memory":2000,"vCores":100}}]},
				"resources":{"resourceUsagesByPartition":[{"partitionName":"","used":{"memory":500,"vCores":1}}]},"queues":{"queue":[` + tc.leaf + `]}}]}}}}`
			require.NoError(t, json.Unmarshal([]byte(text), &q))
			var m metrics
			m.Cluster.TotalMB, m.Cluster.TotalVirtualCores, m.Cluster.AvailableMB, m.Cluster.AvailableVirtualCores = 9000, 100, tc.available, 100
			tc.want.Path, tc.want.Waiting = "root.a.leaf", 3
			require.Equal(t, map[string]engines.Queue{"root.a.leaf": tc.want}, capacityOf(q.root(), m, "", "").Queues)
		})
	}
}

// heard is what a watch has told.
type heard struct {
	mu  sync.Mutex
	all []string
}

func (h *heard) add(c engines.Capacity, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.all = append(h.all, "error")
		return
	}
	h.all = append(h.all, fmt.Sprintf("%d MiB and %d cores", c.Free.Memory, c.Free.MilliCores/1000))
}

func (h *heard) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.all...)
}

// What stays as it is is told once, an outage once, and its end always; of two ResourceManagers the other one is found.
func TestWatchCapacity(t *testing.T) {
	scheduler, metric := recorded(t, "idle")
	var free atomic.Int64
	free.Store(8192)
	var away atomic.Bool
	asked := make(chan struct{}, 1000)
	good := answering(t, active, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		switch {
		case away.Load():
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/ws/v1/cluster/scheduler":
			_, _ = w.Write(scheduler)
		default:
			var m map[string]map[string]any
			_ = json.Unmarshal(metric, &m)
			m["clusterMetrics"]["availableMB"] = free.Load()
			_ = json.NewEncoder(w).Encode(m)
		}
	})
	standby := answering(t, func() string { return "STANDBY" }, say(http.StatusTemporaryRedirect, "there is no active one"))
	c, err := New(Options{Name: "y", Hadoop: Hadoop{ResourceManagers: []string{standby, good}}, User: "sluice", Poll: time.Millisecond})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	var h heard
	ended := make(chan error, 1)
	go func() { ended <- c.WatchCapacity(ctx, h.add) }()
	reach := func(want ...string) {
		t.Helper()
		require.Eventually(t, func() bool { return len(h.list()) >= len(want) }, 10*time.Second, time.Millisecond)
		for range 2 * 10 { // and again, without a word
			<-asked
		}
		require.Equal(t, want, h.list())
	}
	const all, less = "8192 MiB and 16 cores", "4096 MiB and 16 cores"
	reach(all)
	free.Store(4096)
	reach(all, less)
	away.Store(true)
	reach(all, less, "error")
	away.Store(false)
	reach(all, less, "error", less)
	cancel()
	require.NoError(t, <-ended)
}

// A ResourceManager that takes a request and never answers is told of in time, and Close ends the watch.
func TestASilentResourceManager(t *testing.T) {
	t.Parallel()
	silent := answering(t, active, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c, err := New(Options{Name: "y", Hadoop: Hadoop{ResourceManagers: []string{silent, silent}}, User: "sluice"})
	require.NoError(t, err)
	told, ended := make(chan error, 1), make(chan error, 1)
	began := time.Now()
	go func() { ended <- c.WatchCapacity(t.Context(), func(_ engines.Capacity, err error) { told <- err }) }()
	require.ErrorContains(t, <-told, "the capacity of cluster y: ResourceManager "+silent)
	require.Less(t, time.Since(began), 9*time.Second)
	require.NoError(t, c.Close())
	require.NoError(t, <-ended)
}
