package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/admission"
	"github.com/sluicedata/sluice/gateway/event"
	"github.com/sluicedata/sluice/gateway/hs2"
	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/gateway/session"
	"github.com/sluicedata/sluice/router/rules"
)

// metrics are the gateway's figures, with Prometheus' units and endings.
type metrics struct {
	registry    *prometheus.Registry
	connections prometheus.Gauge
	calls       *prometheus.HistogramVec
	operations  *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	overhead    prometheus.Histogram
	rows, bytes prometheus.Counter
	starts      *prometheus.HistogramVec
	steps       *prometheus.HistogramVec
	ends        prometheus.Counter

	auditDropped *prometheus.CounterVec
	routes       *prometheus.CounterVec
	rulesFailed  prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_hs2_connections",
			Help: "Open connections of HiveServer2 clients."}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_hs2_call_duration_seconds",
			Help: "Time from the last byte of a call to the last byte of its answer.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10)}, []string{"method", "result"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_operations_total",
			Help: "Operations that ended, by kind and state."}, []string{"kind", "state"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_operation_duration_seconds",
			Help: "Time from accepting an operation to its end.", Buckets: prometheus.ExponentialBuckets(0.005, 3, 12)}, []string{"kind"}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_statement_overhead_seconds",
			Help:    "Time of a statement in the gateway: until its engine was asked, and from the first rows until they could be fetched.",
			Buckets: []float64{.0001, .0002, .0003, .0005, .0007, .001, .0015, .002, .003, .005, .01, .03, .1, 1}}),
		rows: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_hs2_rows_sent_total",
			Help: "Rows sent to HiveServer2 clients."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_hs2_row_bytes_sent_total",
			Help: "Bytes of row sets sent to HiveServer2 clients."}),
		starts: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_engine_start_duration_seconds",
			Help: "Time from wanting an engine to having it, or to the failure.", Buckets: prometheus.ExponentialBuckets(1, 2, 9)}, []string{"cluster", "result"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_engine_start_step_seconds",
			Help:    "Time of the steps of a start, as far as the cluster can tell: staging, scheduling, container, process, listening.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 12)}, []string{"cluster", "step"}),
		ends: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_engines_ended_total",
			Help: "Engines that ended, for whatever reason."}),
		auditDropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_audit_dropped_total",
			Help: "Audit records that could not be written, by where."}, []string{"to"}),
	}
	m.routes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_routes_total",
		Help: "Decisions of the router, by cluster (empty if it was refused) and rule."}, []string{"cluster", "rule", "result"})
	m.rulesFailed = prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_rules_broken",
		Help: "1 while the file of rules on disk is not in force, because it is not valid."})
	for _, to := range []string{"lines", "store"} { // so that there is something to watch before the first one
		m.auditDropped.WithLabelValues(to)
	}
	m.registry.MustRegister(m.connections, m.calls, m.operations, m.durations, m.overhead, m.rows, m.bytes, m.starts, m.steps, m.ends, m.auditDropped, m.routes, m.rulesFailed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds the figures that are counted when somebody looks.
func (m *metrics) watch(sessions *session.Manager, launcher *launch.Launcher, trail *event.Trail, gate *admission.Gate) {
	gauge := func(name, help string, labels prometheus.Labels, f func() int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(f()) }))
	}
	gauge("sluice_sessions", "Open sessions.", nil, func() int { n, _ := sessions.Counts(); return n })
	gauge("sluice_operations", "Operations whose handles are open.", nil, func() int { _, n := sessions.Counts(); return n })
	gauge("sluice_audit_waiting", "Audit records that are not written yet.", nil, trail.Waiting)
	gauge("sluice_spool_memory_bytes", "Bytes of results in memory.", nil, func() int { n, _ := sessions.Spooled(); return int(n) })
	gauge("sluice_spool_disk_bytes", "Bytes of results on disk.", nil, func() int { _, n := sessions.Spooled(); return int(n) })
	gauge("sluice_store_unwritten_records", "Records of open sessions that wait for the store to come back.", nil, sessions.Unwritten)
	gauge("sluice_statements_waiting", "Statements that wait for an engine.", nil, sessions.Waiting)
	gauge("sluice_admission_waiting", "Statements that wait because of a limit of the rules.", nil, gate.Waiting)
	const name, help = "sluice_engines", "Engines, by what they do."
	gauge(name, help, prometheus.Labels{"state": "starting"}, func() int { n, _, _ := launcher.Counts(); return n })
	gauge(name, help, prometheus.Labels{"state": "used"}, func() int { _, _, n := launcher.Counts(); return n })
	gauge(name, help, prometheus.Labels{"state": "idle"}, func() int { _, ready, used := launcher.Counts(); return ready - used })
}

// recorder adds how many decisions of the router were not recorded.
func (m *metrics) recorder(r *route.Recorder) {
	if r != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sluice_routes_unrecorded_total",
			Help: "Decisions of the router that could not be recorded, because the disk is too slow or full."}, func() float64 { return float64(r.Dropped()) }))
	}
}

// decided counts a decision of the router.
func (m *metrics) decided(d rules.Decision, err error) {
	what := "routed"
	switch {
	case err != nil:
		what, d.Cluster = "refused", ""
	case d.Waits:
		what = "waits"
	}
	m.routes.WithLabelValues(d.Cluster, d.Rule, what).Inc()
}

// rules tells whether the rules on disk are in force.
func (m *metrics) rules(_ string, err error) {
	m.rulesFailed.Set(0)
	if err != nil {
		m.rulesFailed.Set(1)
	}
}

func result(failed bool) string {
	if failed {
		return "error"
	}
	return "ok"
}

func (m *metrics) hs2() hs2.Hooks {
	return hs2.Hooks{
		Connected: func(delta int) { m.connections.Add(float64(delta)) },
		Call: func(method string, took time.Duration, failed bool) {
			m.calls.WithLabelValues(method, result(failed)).Observe(took.Seconds())
		},
		Fetched: func(rows, bytes int) { m.rows.Add(float64(rows)); m.bytes.Add(float64(bytes)) },
	}
}

func (m *metrics) sessions() session.Hooks {
	return session.Hooks{OperationEnded: func(kind session.Kind, state session.State, took time.Duration) {
		m.operations.WithLabelValues(string(kind), string(state)).Inc()
		m.durations.WithLabelValues(string(kind)).Observe(took.Seconds())
	}, Overhead: func(took time.Duration) { m.overhead.Observe(took.Seconds()) }}
}

func (m *metrics) launch() launch.Hooks {
	return launch.Hooks{
		Started: func(key launch.Key, took time.Duration, steps engines.Steps, err error) {
			m.starts.WithLabelValues(key.Cluster, result(err != nil)).Observe(took.Seconds())
			steps.Each(func(name string, took time.Duration) {
				m.steps.WithLabelValues(key.Cluster, name).Observe(took.Seconds())
			})
		},
		Ended: func(launch.Key, string) { m.ends.Inc() },
	}
}
