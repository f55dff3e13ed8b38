//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/tests/testbed"
)

const (
	one     = "SELECT id FROM range(1)"
	million = "SELECT id, CAST(id AS STRING) AS s, id / 3.0D AS d FROM range(0, 1000000, 1, 2)"
)

// wide is a million rows of 20 columns: 7 bigints, 7 strings, 6 doubles.
var wide = func() string {
	var cols []string
	for i := range 7 {
		cols = append(cols, fmt.Sprintf("id + %d AS b%d, CAST(id * %d AS STRING) AS s%d", i, i, i+1, i))
	}
	for i := range 6 {
		cols = append(cols, fmt.Sprintf("id / %d.0D AS d%d", i+3, i))
	}
	return "SELECT " + strings.Join(cols, ", ") + " FROM range(0, 1000000, 1, 2)"
}()

// field is everything that is measured, side by side on one machine.
type field struct {
	t       *testbed.Suite
	gateway *testbed.Gateway
	engine  engines.Engine  // the gateway's own, without the gateway
	direct  engines.Session // on it
	jvm     int             // its process
	ui      string          // where it tells of its jobs
	spark   testbed.Server  // Spark's own Thrift server
	store   *store.Store    // the gateway's
}

func newField(t *testbed.Suite) *field {
	ui := testbed.FreeAddress(t)
	_, port, _ := strings.Cut(ui, ":")
	f := &field{t: t, ui: "http://" + ui, gateway: testbed.StartGateway(t, "engine: {memory: 2g, conf: {spark.ui.enabled: true, spark.ui.port: "+port+"}}",
		"SLUICE_HS2_MAX_CONNECTIONS=20000", "SLUICE_LIMITS_OPERATIONS_PER_SESSION=0", "SLUICE_AUTH_ADMIN_USERS=bench",
		"SPARK_LOCAL_IP=127.0.0.1")}
	testbed.DialHS2(t, f.gateway.Thrift, "bench", "x", nil).All(one)
	f.store = f.gateway.Store(t)
	f.engine = f.gateway.DialEngine(t, f.gateway.EngineOf(t, "bench"))
	f.direct = f.session()
	f.jvm = f.gateway.Engines()[0]
	f.spark = testbed.StartThriftServer(t)
	t.Logf("gateway: process %d, http://%s/debug/pprof/ for bench:x", f.gateway.Cmd.Process.Pid, f.gateway.HTTP)
	return f
}

// The processes that serve a client of each side.
func (f *field) ours() map[string]int {
	return map[string]int{"gateway": f.gateway.Cmd.Process.Pid, "engine": f.jvm}
}
func (f *field) straight() map[string]int { return map[string]int{"engine": f.jvm} }
func (f *field) theirs() map[string]int   { return map[string]int{"server": f.spark.PID} }

// jobs is how many jobs the engine has begun, by its own word.
func (f *field) jobs() int {
	var apps []struct{ ID string }
	var jobs []struct{ JobID int }
	f.ask("/api/v1/applications", &apps)
	f.ask("/api/v1/applications/"+apps[0].ID+"/jobs", &jobs)
	n := 0
	for _, j := range jobs { // the oldest are forgotten in time
		n = max(n, j.JobID+1)
	}
	return n
}

func (f *field) ask(path string, into any) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, f.ui+path, nil)
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		err = json.NewDecoder(resp.Body).Decode(into)
	}
	if err != nil {
		f.t.Fatalf("ask the engine: %v", err)
	}
}

// session opens one straight on the engine.
func (f *field) session() engines.Session {
	s, err := f.engine.OpenSession(context.Background(), engines.SessionSpec{ID: uuid.New(), User: "bench"})
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	return s
}

// connectRows runs a query straight on the engine and returns its rows.
func (f *field) connectRows(s engines.Session, sql string) (rows int64) {
	ctx := context.Background()
	e, err := s.Start(ctx, uuid.New(), engines.Query{SQL: sql, ReturnRows: true})
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	defer func() { go func() { _ = e.Release(ctx) }() }() // as the gateway does: nobody waits for it
	for {
		b, at, err := e.Next(ctx)
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			f.t.Fatalf("%v", err)
		}
		b.Release()
		rows = at.Rows
	}
}

// thriftRows runs a query on a HiveServer2 as JDBC does, fetching pages of the given size.
func (f *field) thriftRows(c *testbed.HS2, sql string, page int64) (rows int64) {
	op := f.execute(c, sql)
	for {
		got := c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, page, 0)
		n := len(got.Results.Columns[0].I64Val.Values)
		rows += int64(n)
		if n == 0 {
			break
		}
	}
	f.close(c, op)
	return rows
}

func (f *field) execute(c *testbed.HS2, sql string) *tcli.TOperationHandle {
	op := c.Async(sql)
	if st := c.WaitState(op, 1<<40); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
		f.t.Fatalf("%s", st.GetErrorMessage())
	}
	return op
}

func (f *field) close(c *testbed.HS2, op *tcli.TOperationHandle) {
	if _, err := c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op}); err != nil {
		f.t.Fatalf("%v", err)
	}
}

func (f *field) dial(address string) *testbed.HS2 {
	return testbed.DialHS2(f.t, address, "bench", "x", nil)
}

// hs2 measures the gateway against the same engine without it, against Spark's own Thrift server, and against an answer
// that is in memory already.
func hs2(t *testbed.Suite, wanted func(part string) bool) []Figure {
	var out []Figure
	if wanted("startup") {
		out = startup(t)
	}
	f := newField(t)
	for _, part := range []struct {
		name    string
		measure func() []Figure
	}{{"small", f.small}, {"go", f.goClient}, {"jdbc", f.jdbc}, {"sessions", f.sessions}, {"together", f.together}, {"slow", f.slow}, {"cold", f.cold}, {"idle", f.idle}} {
		if wanted(part.name) {
			out = append(out, part.measure()...)
		}
	}
	for _, p := range []struct {
		name string
		pid  int
	}{{"gateway", f.gateway.Cmd.Process.Pid}, {"engine", f.jvm}, {"Spark's Thrift server", f.spark.PID}} {
		out = append(out, Figure{Name: "most memory held in all of this, " + p.name, Unit: "MiB", Median: mib(testbed.PeakMemory(p.pid))})
	}
	return out
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// small is a statement of one row.
func (f *field) small() []Figure {
	const warm, rounds = 200, 400
	gateway, spark := f.dial(f.gateway.Thrift), f.dial(f.spark.Address)
	memory := f.dial(newCanned(f.t, f.direct, one, 1).serve(f.t))
	// What follows is all that the engine runs.
	before, jobs := f.histogram("sluice_statement_overhead_seconds"), f.jobs()
	out := race("one row", "ms", warm, rounds,
		runner{"straight Connect", f.straight(), timed(1000, func() { f.connectRows(f.direct, one) })},
		runner{"gateway", f.ours(), timed(1000, func() { f.thriftRows(gateway, one, 1000) })},
		runner{"Spark's Thrift server", f.theirs(), timed(1000, func() { f.thriftRows(spark, one, 1000) })},
		runner{"from memory", nil, timed(1000, func() { f.thriftRows(memory, one, 1000) })})
	after := f.histogram("sluice_statement_overhead_seconds")
	if n := f.jobs() - jobs; n != 2*(warm+rounds) {
		f.t.Fatalf("the engine has run %d jobs for %d statements", n, 2*(warm+rounds))
	}
	return append(out,
		Figure{Name: "one row, in the gateway, p50 at most", Unit: "ms", Median: 1000 * after.quantileSince(before, 0.5)},
		Figure{Name: "one row, in the gateway, p99 at most", Unit: "ms", Median: 1000 * after.quantileSince(before, 0.99)})
}

// goClient reads a million rows with generated code, which decodes value by value, and with code that decodes a column at
// a time.
func (f *field) goClient() []Figure {
	const page = 10_000
	var out []Figure
	for _, q := range []struct {
		name, sql    string
		warm, rounds int
	}{{"3 columns", million, 5, 11}, {"20 columns", wide, 3, 7}} {
		canned := newCanned(f.t, f.direct, q.sql, page).serve(f.t)
		gateway, memory := f.dial(f.gateway.Thrift), f.dial(canned)
		quick, quickMemory := f.dialQuick(f.gateway.Thrift), f.dialQuick(canned)
		read := func(rows func() int64) func() float64 {
			return timed(1, func() {
				if n := rows(); n != 1_000_000 {
					f.t.Fatalf("%d rows", n)
				}
			})
		}
		out = append(out, race("1 M rows of "+q.name, "s", q.warm, q.rounds,
			runner{"straight Connect", f.straight(), read(func() int64 { return f.connectRows(f.direct, q.sql) })},
			runner{"gateway, generated Go client", f.ours(), read(func() int64 { return f.thriftRows(gateway, q.sql, page) })},
			runner{"from memory, generated Go client", nil, read(func() int64 { return f.thriftRows(memory, q.sql, page) })},
			runner{"gateway, quick Go client", f.ours(), read(func() int64 { return f.quickRows(quick, q.sql, page) })},
			runner{"from memory, quick Go client", nil, read(func() int64 { return f.quickRows(quickMemory, q.sql, page) })})...)
		made := metric(f.t, f.gateway, "go_memstats_mallocs_total")
		f.quickRows(quick, q.sql, page)
		made = metric(f.t, f.gateway, "go_memstats_mallocs_total") - made
		out = append(out, Figure{Name: "1 M rows of " + q.name + ", what the gateway allocates per 1,000", Median: made / 1000})
	}
	return out
}
