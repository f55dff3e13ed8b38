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

// straight is a session on the engine that the gateway uses, without the gateway.
func straight(t *testbed.Suite, g *testbed.Gateway) engines.Session {
	s, err := g.DialEngine(t, g.EngineOf(t, "bench")).OpenSession(context.Background(), engines.SessionSpec{ID: uuid.New(), User: "bench"})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

// connectRows runs a query straight on the engine and returns its rows.
func connectRows(t *testbed.Suite, s engines.Session, sql string) (rows int64) {
	ctx := context.Background()
	e, err := s.Start(ctx, uuid.New(), engines.Query{SQL: sql, ReturnRows: true})
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { go func() { _ = e.Release(ctx) }() }() // as the gateway does: nobody waits for it
	for {
		b, at, err := e.Next(ctx)
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
		b.Release()
		rows = at.Rows
	}
}

// gatewayRows runs a query through the gateway as JDBC does, fetching pages of the given size.
func gatewayRows(t *testbed.Suite, c *testbed.HS2, sql string, page int64) (rows int64) {
	op := c.Async(sql)
	if st := c.WaitState(op, 1<<40); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
		t.Fatalf("%s", st.GetErrorMessage())
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
		t.Fatalf("%v", err)
	}
	return rows
}

// hs2 measures a statement through the gateway against the same statement on the same engine without it.
func hs2(t *testbed.Suite) []Figure {
	g := testbed.StartGateway(t, "")
	ready := func() float64 { return 1000 * seconds(func() { testbed.DialHS2(t, g.Thrift, "bench", "x", nil) }) }
	c := testbed.DialHS2(t, g.Thrift, "bench", "x", nil)
	gatewayRows(t, c, one, 1000)
	s := straight(t, g)
	for range 150 { // the engine compiles what it runs often
		gatewayRows(t, c, one, 1000)
		connectRows(t, s, one)
	}
	for range 5 {
		gatewayRows(t, c, million, 10000)
		connectRows(t, s, million)
	}
	var small, smallPeer, big, bigPeer, open, cpu series
	for range 300 {
		small = append(small, 1000*seconds(func() { gatewayRows(t, c, one, 1000) }))
		smallPeer = append(smallPeer, 1000*seconds(func() { connectRows(t, s, one) }))
	}
	for range 11 {
		before := testbed.CPUSeconds(g.Cmd.Process.Pid)
		big = append(big, seconds(func() {
			if n := gatewayRows(t, c, million, 10000); n != 1_000_000 {
				t.Fatalf("%d rows came", n)
			}
		}))
		cpu = append(cpu, testbed.CPUSeconds(g.Cmd.Process.Pid)-before)
		bigPeer = append(bigPeer, seconds(func() {
			if n := connectRows(t, s, million); n != 1_000_000 {
				t.Fatalf("%d rows came", n)
			}
		}))
		open = append(open, ready())
	}
	peer := smallPeer.figure("SELECT of one row, straight Connect", "ms")
	bigP := bigPeer.figure("1 M rows, straight Connect", "s")
	memory := series{float64(testbed.PeakMemory(g.Cmd.Process.Pid)) / (1 << 20)}
	return []Figure{
		peer,
		small.figure("SELECT of one row, gateway", "ms").against(peer),
		bigP,
		big.figure("1 M rows, gateway, Go client", "s").against(bigP),
		cpu.figure("1 M rows, CPU of the gateway", "s"),
		open.figure("connect, log in and open a session", "ms"),
		memory.figure("peak memory of the gateway", "MiB"),
	}
}
