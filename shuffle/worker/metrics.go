package worker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluicedata/sluice/shuffle/wire"
)

// metrics are what the worker counts. The data path only adds to atomics.
type metrics struct {
	pushedBytes  [2]atomic.Int64 // by mode
	pushes       atomic.Int64
	fetchedBytes atomic.Int64
	splits       atomic.Int64
	push, fetch  prometheus.Histogram
	pushMean     mean
	fetchMean    mean
}

// mean is a moving average, seconds.
type mean struct {
	mu sync.Mutex
	v  float64
}

func (m *mean) add(v float64) {
	m.mu.Lock()
	m.v += (v - m.v) / 64
	m.mu.Unlock()
}

func (m *mean) get() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.v
}

func (m *metrics) pushed(mode byte, n int) {
	m.pushedBytes[mode].Add(int64(n))
	m.pushes.Add(1)
}

func (m *metrics) pushTook(d time.Duration) {
	m.push.Observe(d.Seconds())
	m.pushMean.add(d.Seconds())
}

func (m *metrics) fetchTook(n int64, d time.Duration) {
	m.fetchedBytes.Add(n)
	m.fetch.Observe(d.Seconds())
	m.fetchMean.add(d.Seconds())
}

func (m *metrics) means() (push, fetch float64) { return m.pushMean.get(), m.fetchMean.get() }

func newMetrics(w *Worker) *metrics {
	buckets := prometheus.ExponentialBuckets(0.0001, 4, 10) // 0.1 ms to 26 s
	m := &metrics{
		push:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_shuffle_push_seconds", Help: "From a push's first byte to its acknowledgement.", Buckets: buckets}),
		fetch: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_shuffle_fetch_seconds", Help: "To find and send a chunk.", Buckets: buckets}),
	}
	counter := func(name, help string, labels prometheus.Labels, v func() int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(v()) })
	}
	gauge := func(name, help string, labels prometheus.Labels, v func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(v()) })
	}
	copyOf := func(mode string) prometheus.Labels { return prometheus.Labels{"copy": mode} }
	port := func(name string) prometheus.Labels { return prometheus.Labels{"port": name} }
	w.registry.MustRegister(m.push, m.fetch, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &held{w: w},
		counter("sluice_shuffle_pushed_bytes_total", "Bytes received, by copy.", copyOf("primary"), m.pushedBytes[wire.Primary].Load),
		counter("sluice_shuffle_pushed_bytes_total", "Bytes received, by copy.", copyOf("replica"), m.pushedBytes[wire.Replica].Load),
		counter("sluice_shuffle_pushes_total", "Pushes received.", nil, m.pushes.Load),
		counter("sluice_shuffle_fetched_bytes_total", "Bytes sent to readers.", nil, m.fetchedBytes.Load),
		counter("sluice_shuffle_written_bytes_total", "Bytes written to disks.", nil, w.store.Written),
		counter("sluice_shuffle_splits_total", "Pushes answered with a split.", nil, m.splits.Load),
		gauge("sluice_shuffle_connections", "Open connections.", port("push"), w.pushes.count),
		gauge("sluice_shuffle_connections", "Open connections.", port("fetch"), w.fetches.count),
		gauge("sluice_shuffle_memory_bytes", "Memory that pushes hold, by copy.", copyOf("primary"), w.store.Memory(wire.Primary).Used),
		gauge("sluice_shuffle_memory_bytes", "Memory that pushes hold, by copy.", copyOf("replica"), w.store.Memory(wire.Replica).Used),
		gauge("sluice_shuffle_memory_limit_bytes", "Memory for pushes, by copy.", copyOf("primary"), w.store.Memory(wire.Primary).Limit),
		gauge("sluice_shuffle_memory_limit_bytes", "Memory for pushes, by copy.", copyOf("replica"), w.store.Memory(wire.Replica).Limit),
	)
	return m
}

// held collects what the worker holds: per application and per disk.
type held struct{ w *Worker }

var (
	appBytes   = prometheus.NewDesc("sluice_shuffle_application_bytes", "Bytes held of an application.", []string{"application"}, nil)
	appParts   = prometheus.NewDesc("sluice_shuffle_application_partitions", "Copies of partitions held of an application.", []string{"application"}, nil)
	diskUsable = prometheus.NewDesc("sluice_shuffle_disk_usable_bytes", "Bytes that a disk can take.", []string{"disk"}, nil)
	diskTotal  = prometheus.NewDesc("sluice_shuffle_disk_total_bytes", "Bytes of a disk.", []string{"disk"}, nil)
	diskSlots  = prometheus.NewDesc("sluice_shuffle_disk_partitions", "Copies of partitions placed on a disk.", []string{"disk"}, nil)
	diskUp     = prometheus.NewDesc("sluice_shuffle_disk_up", "Whether a disk takes data.", []string{"disk"}, nil)
	diskWrite  = prometheus.NewDesc("sluice_shuffle_disk_write_seconds", "Mean time of a write, lately.", []string{"disk"}, nil)
)

// Describe implements prometheus.Collector.
func (h *held) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(h, ch) }

// Collect implements prometheus.Collector.
func (h *held) Collect(ch chan<- prometheus.Metric) {
	bytes, parts := map[string]int64{}, map[string]int64{}
	for _, s := range h.w.store.Held() {
		bytes[s.GetAppId()] += s.GetBytes()
		parts[s.GetAppId()] += int64(s.GetPartitions())
	}
	gauge := func(d *prometheus.Desc, v float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label)
	}
	for app := range bytes {
		gauge(appBytes, float64(bytes[app]), app)
		gauge(appParts, float64(parts[app]), app)
	}
	for _, d := range h.w.store.Disks() {
		up := 0.0
		if d.Problem == "" {
			up = 1
		}
		gauge(diskUsable, float64(d.Usable), d.Path)
		gauge(diskTotal, float64(d.Total), d.Path)
		gauge(diskSlots, float64(d.Partitions), d.Path)
		gauge(diskUp, up, d.Path)
		gauge(diskWrite, d.MeanWrite.Seconds(), d.Path)
	}
}
