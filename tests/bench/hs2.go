//go:build e2e

package main

import (
	"context"
	"errors"
	"io"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

const (
	one     = "SELECT id FROM range(1)"
	million = "SELECT id, CAST(id AS STRING) AS s, id / 3.0D AS d FROM range(0, 1000000, 1, 2)"
)

// field is everything that is measured, side by side on one machine.
type field struct {
	t       *testbed.Suite
	gateway *testbed.Gateway
	engine  engines.Engine  // the gateway's own, without the gateway
	direct  engines.Session // on it
	spark   string          // address of Spark's own Thrift server
}

func newField(t *testbed.Suite) *field {
	f := &field{t: t, gateway: testbed.StartGateway(t, "", "SLUICE_HS2_MAX_CONNECTIONS=20000", "SLUICE_LIMITS_OPERATIONS_PER_SESSION=0")}
	testbed.DialHS2(t, f.gateway.Thrift, "bench", "x", nil).All(one)
	f.engine = f.gateway.DialEngine(t, f.gateway.EngineOf(t, "bench"))
	f.direct = f.session()
	f.spark = testbed.StartThriftServer(t)
	return f
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
	op := c.Async(sql)
	if st := c.WaitState(op, 1<<40); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
		f.t.Fatalf("%s", st.GetErrorMessage())
	}
	for {
		got := c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, page, 0)
		n := len(got.Results.Columns[0].I64Val.Values)
		rows += int64(n)
		if n == 0 {
			break
		}
	}
	if _, err := c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op}); err != nil {
		f.t.Fatalf("%v", err)
	}
	return rows
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
	}{{"small", f.small}, {"go", f.goClient}, {"sessions", f.sessions}, {"together", f.together}, {"idle", f.idle}} {
		if wanted(part.name) {
			out = append(out, part.measure()...)
		}
	}
	return out
}

// small is a statement of one row.
func (f *field) small() []Figure {
	const rounds = 300
	gateway, spark := f.dial(f.gateway.Thrift), f.dial(f.spark)
	for range rounds / 2 { // the engines compile what they run often
		f.thriftRows(gateway, one, 1000)
		f.connectRows(f.direct, one)
		f.thriftRows(spark, one, 1000)
	}
	before := f.histogram("sluice_statement_overhead_seconds")
	var direct, ours, theirs series
	for range rounds {
		ours = append(ours, 1000*seconds(func() { f.thriftRows(gateway, one, 1000) }))
		direct = append(direct, 1000*seconds(func() { f.connectRows(f.direct, one) }))
		theirs = append(theirs, 1000*seconds(func() { f.thriftRows(spark, one, 1000) }))
	}
	after := f.histogram("sluice_statement_overhead_seconds")
	peer := direct.figure("one row, straight Connect", "ms")
	return []Figure{
		peer, ours.figure("one row, gateway", "ms").against(peer), theirs.figure("one row, Spark's Thrift server", "ms").against(peer),
		{Name: "one row, in the gateway, p50", Unit: "ms", Median: 1000 * after.quantileSince(before, 0.5)},
		{Name: "one row, in the gateway, p99", Unit: "ms", Median: 1000 * after.quantileSince(before, 0.99)},
	}
}

// goClient reads a million rows with generated code, which decodes value by value, and with code that decodes a column at
// a time.
func (f *field) goClient() []Figure {
	const page = 10_000
	canned := newCanned(f.t, f.direct, million, page).serve(f.t)
	gateway, memory := f.dial(f.gateway.Thrift), f.dial(canned)
	quick, quickMemory := f.dialQuick(f.gateway.Thrift), f.dialQuick(canned)
	var direct, ours, limit, oursQuick, limitQuick, cpu series
	for round := range 16 {
		read := func(s *series, f func() int64) {
			took := seconds(func() {
				if n := f(); n != 1_000_000 {
					panic("rows are missing")
				}
			})
			if round >= 5 {
				*s = append(*s, took)
			}
		}
		pid := f.gateway.Cmd.Process.Pid
		spent := testbed.CPUSeconds(pid)
		read(&ours, func() int64 { return f.thriftRows(gateway, million, page) })
		if round >= 5 {
			cpu = append(cpu, testbed.CPUSeconds(pid)-spent)
		}
		read(&direct, func() int64 { return f.connectRows(f.direct, million) })
		read(&limit, func() int64 { return f.thriftRows(memory, million, page) })
		read(&oursQuick, func() int64 { return f.quickRows(quick, million, page) })
		read(&limitQuick, func() int64 { return f.quickRows(quickMemory, million, page) })
	}
	peer := direct.figure("1 M rows, straight Connect", "s")
	bytes := limit.figure("1 M rows, from memory, generated Go client", "s")
	quickBytes := limitQuick.figure("1 M rows, from memory, quick Go client", "s")
	return []Figure{
		peer, bytes, ours.figure("1 M rows, gateway, generated Go client", "s").against(peer),
		quickBytes, oursQuick.figure("1 M rows, gateway, quick Go client", "s").against(peer),
		cpu.figure("1 M rows, processor time of the gateway", "s"),
	}
}
