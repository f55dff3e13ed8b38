package master

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// collector makes metrics of a status when it is asked, so that no sum is kept twice. Workers and users are labels, because there
// are as many as there are; applications are not, because there is no end of them: sluice shuffle status shows each.
type collector struct {
	see func() (*pb.StatusResponse, Counts)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_shuffle_"+name, help, labels, nil)
}

var (
	workersDesc      = desc("workers", "Workers by state.", "state")
	slotsDesc        = desc("worker_slots", "Partitions that are on a worker or were placed there.", "worker")
	diskUsableDesc   = desc("worker_disk_usable_bytes", "What a worker's disks can still take.", "worker")
	diskTotalDesc    = desc("worker_disk_total_bytes", "Size of a worker's disks.", "worker")
	memoryDesc       = desc("worker_memory_bytes", "Pushes that a worker holds in memory.", "worker")
	memoryLimitDesc  = desc("worker_memory_limit_bytes", "What a worker may hold in memory.", "worker")
	connectionsDesc  = desc("worker_connections", "Open connections of a worker.", "worker")
	splitsDesc       = desc("worker_splits_total", "Splits of partitions that became too big, or whose disk was full.", "worker")
	pushedDesc       = desc("worker_pushed_bytes_total", "Bytes pushed to a worker since its start.", "worker")
	fetchedDesc      = desc("worker_fetched_bytes_total", "Bytes fetched from a worker since its start.", "worker")
	pushLatencyDesc  = desc("worker_push_seconds", "Mean latency of pushes lately.", "worker")
	fetchLatencyDesc = desc("worker_fetch_seconds", "Mean latency of fetches lately.", "worker")
	heartbeatDesc    = desc("worker_heartbeat_age_seconds", "Time since a worker's last heartbeat.", "worker")
	applicationsDesc = desc("applications", "Living applications; adopted ones are known from workers only.", "adopted")
	shufflesDesc     = desc("shuffles", "Shuffles of living applications.")
	userBytesDesc    = desc("user_bytes", "Bytes that a user's shuffles hold on workers.", "user")
	requestsDesc     = desc("slot_requests_total", "Requests for slots.")
	placedDesc       = desc("slots_placed_total", "Copies of partitions placed.")
	refusedDesc      = desc("slot_refusals_total", "Requests for slots that got none.", "status")
	expiredDesc      = desc("shuffles_expired_total", "Shuffles that workers were told to delete.")
	adoptedDesc      = desc("shuffles_adopted_total", "Shuffles taken over from workers' reports.")
)

// Describe sends nothing: what there is depends on the workers.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect makes the metrics.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	status, counts := c.see()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	states := map[string]int{stateAvailable: 0, stateExcluded: 0, stateDraining: 0, stateSilent: 0, stateLost: 0}
	for _, w := range status.Workers {
		states[w.State]++
		if w.State != stateLost {
			workerMetrics(gauge, counter, w)
		}
	}
	for state, n := range states {
		gauge(workersDesc, float64(n), state)
	}
	adopted, shuffles := map[bool]int{}, 0
	for _, a := range status.Applications {
		adopted[a.Adopted]++
		shuffles += int(a.Shuffles)
	}
	gauge(applicationsDesc, float64(adopted[false]), "false")
	gauge(applicationsDesc, float64(adopted[true]), "true")
	gauge(shufflesDesc, float64(shuffles))
	for _, u := range status.Users {
		gauge(userBytesDesc, float64(u.Bytes), u.User)
	}
	counter(requestsDesc, counts.Requests)
	counter(placedDesc, counts.Slots)
	for reason, n := range counts.Refused {
		counter(refusedDesc, n, reason)
	}
	counter(expiredDesc, counts.Expired)
	counter(adoptedDesc, counts.Adopted)
}

func workerMetrics(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, int64, ...string), w *pb.WorkerStatus) {
	usable, total := disks(w.Last)
	gauge(slotsDesc, float64(w.Slots), w.Id)
	gauge(diskUsableDesc, float64(usable), w.Id)
	gauge(diskTotalDesc, float64(total), w.Id)
	gauge(memoryDesc, float64(w.Last.GetMemoryUsed()), w.Id)
	gauge(memoryLimitDesc, float64(w.Last.GetMemoryLimit()), w.Id)
	gauge(connectionsDesc, float64(w.Last.GetConnections()), w.Id)
	counter(splitsDesc, w.Last.GetSplits(), w.Id)
	counter(pushedDesc, w.Last.GetBytesPushed(), w.Id)
	counter(fetchedDesc, w.Last.GetBytesFetched(), w.Id)
	gauge(pushLatencyDesc, w.Last.GetPushSeconds(), w.Id)
	gauge(fetchLatencyDesc, w.Last.GetFetchSeconds(), w.Id)
	gauge(heartbeatDesc, float64(w.HeartbeatAgeMillis)/1000, w.Id)
}

// disks is what a worker's disks that work have left, and how big all are.
func disks(hb *pb.HeartbeatFromWorker) (usable, total int64) {
	for _, d := range hb.GetDisks() {
		total += d.GetTotalSpace()
		if d.GetStatus() == 0 {
			usable += d.GetUsableSpace()
		}
	}
	return usable, total
}
