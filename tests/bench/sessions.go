//go:build e2e

package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// rate is how many times a second clients together do something.
func rate(clients int, span time.Duration, each func() func()) float64 {
	var all sync.WaitGroup
	counts := make([]int, clients)
	dos := make([]func(), clients)
	for i := range clients {
		dos[i] = each()
	}
	began := time.Now()
	for i := range clients {
		all.Go(func() {
			for time.Since(began) < span {
				dos[i]()
				counts[i]++
			}
		})
	}
	all.Wait()
	took := time.Since(began).Seconds()
	n := 0
	for _, c := range counts {
		n += c
	}
	return float64(n) / took
}

// visit connects, logs in, opens a session, perhaps does something, closes the session and disconnects.
func (f *field) visit(address string, do func(*testbed.HS2)) {
	c, err := testbed.TryDialHS2(f.t, address, "bench", "x")
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	c.Session = c.Open(nil)
	if do != nil {
		do(c)
	}
	if _, err := c.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: c.Session}); err != nil {
		f.t.Fatalf("%v", err)
	}
	_ = c.Conn.Close()
}

// sessions come and go.
func (f *field) sessions() []Figure {
	const span = 3 * time.Second
	var out []Figure
	memory := newCanned(f.t, f.direct, one, 1).serve(f.t)
	for _, clients := range []int{1, 8} {
		visits := func(address string) func() float64 {
			return func() float64 {
				return rate(clients, span, func() func() { return func() { f.visit(address, nil) } })
			}
		}
		out = append(out, race(fmt.Sprintf("open and close a session with its connection, %d at a time", clients), "/s", 2, 5,
			runner{"Spark's Thrift server", f.theirs(), visits(f.spark.Address)},
			runner{"gateway", f.ours(), visits(f.gateway.Thrift)},
			runner{"a server that does nothing", nil, visits(memory)})...)
	}
	return append(out, race("open, query, close", "ms", 50, 150,
		runner{"straight Connect", f.straight(), timed(1000, func() {
			s := f.session()
			f.connectRows(s, one)
			_ = s.Close(context.Background())
		})},
		runner{"gateway", f.ours(), timed(1000, func() {
			f.visit(f.gateway.Thrift, func(c *testbed.HS2) { f.thriftRows(c, one, 1000) })
		})},
		runner{"Spark's Thrift server", f.theirs(), timed(1000, func() {
			f.visit(f.spark.Address, func(c *testbed.HS2) { f.thriftRows(c, one, 1000) })
		})})...)
}

// together is 64 clients at once.
func (f *field) together() []Figure {
	const clients, span = 64, 6 * time.Second
	over := func(address string) func() float64 {
		return func() float64 {
			return rate(clients, span, func() func() {
				c := f.dial(address)
				return func() { f.thriftRows(c, one, 1000) }
			})
		}
	}
	return race("one row, 64 clients", "/s", 1, 5,
		runner{"straight Connect", f.straight(), func() float64 {
			return rate(clients, span, func() func() {
				s := f.session()
				return func() { f.connectRows(s, one) }
			})
		}},
		runner{"gateway", f.ours(), over(f.gateway.Thrift)},
		runner{"Spark's Thrift server", f.theirs(), over(f.spark.Address)})
}

// idle is what a session costs that nobody uses, with its connection.
func (f *field) idle() []Figure {
	g := testbed.StartGateway(f.t, "", "SLUICE_HS2_MAX_CONNECTIONS=20000")
	pid := g.Cmd.Process.Pid
	before := testbed.Memory(pid)
	var out []Figure
	open := 0
	for _, n := range []int{1000, 10_000} {
		for ; open < n; open++ {
			f.dial(g.Thrift)
		}
		out = append(out, Figure{Name: fmt.Sprintf("an idle session of %d, with its connection", n), Unit: "kB", Median: float64(testbed.Memory(pid)-before) / float64(n) / 1000})
	}
	return out
}

// slow reads ten million rows, a thousand each 20 ms for half a minute and then as fast as it can.
func (f *field) slow() []Figure {
	const rows, page, pause, span = 10_000_000, 1000, 20 * time.Millisecond, 30 * time.Second
	pid := f.gateway.Cmd.Process.Pid
	c := f.dialQuick(f.gateway.Thrift)
	heap := testbed.LiveHeap(f.t, f.jvm)
	began := time.Now()
	op := f.execute(c.HS2, strings.Replace(million, "1000000", fmt.Sprint(rows), 1))
	var got int64
	var most, engineHeap int64
	var delivered float64
	read := func(n int64) bool {
		more, err := c.fetch(op, n)
		if err != nil {
			f.t.Fatalf("%v", err)
		}
		got += more
		most = max(most, testbed.Memory(pid))
		return more > 0
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for time.Since(began) < span {
		<-tick.C
		read(page)
		if delivered == 0 && f.ended(op) {
			delivered = time.Since(began).Seconds()
			engineHeap = testbed.LiveHeap(f.t, f.jvm) - heap
		}
	}
	slow := got
	rest := timed(1, func() {
		for read(10_000) {
		}
	})()
	f.close(c.HS2, op)
	if got != rows || delivered == 0 {
		f.t.Fatalf("%d rows, delivered after %.1f s", got, delivered)
	}
	name := "10 M rows, slow client, "
	return []Figure{
		{Name: name + "until the engine has given all of them", Unit: "s", Median: delivered},
		{Name: name + "what the engine's live heap has grown by then", Unit: "MiB", Median: mib(engineHeap)},
		{Name: name + "most memory of the gateway", Unit: "MiB", Median: mib(most)},
		{Name: fmt.Sprintf("%sthe last %.1f M, as fast as it can", name, float64(rows-slow)/1e6), Unit: "s", Median: rest},
	}
}

// ended says whether all rows of an operation are in the gateway: its record is closed by then.
func (f *field) ended(op *tcli.TOperationHandle) bool {
	id, err := uuid.FromBytes(op.OperationId.GUID)
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	rec, err := f.store.Operation(context.Background(), id)
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	return rec.EndedAt != nil
}

// startup is from exec to ready.
func startup(t *testbed.Suite) []Figure {
	var memory series
	out := race("exec to ready", "s", 0, 3,
		runner{"Spark's Thrift server", nil, timed(1, func() { testbed.StartThriftServer(t).Stop() })},
		runner{"gateway", nil, func() float64 {
			began := time.Now()
			g := testbed.StartGateway(t, "")
			testbed.Until(t, 10*time.Second, "the gateway is ready", func() bool { code, _ := g.Get("/readyz"); return code == http.StatusOK })
			took := time.Since(began).Seconds()
			memory = append(memory, mib(testbed.Memory(g.Cmd.Process.Pid)))
			g.Stop()
			return took
		}})
	return append(out, memory.figure("memory at start, gateway", "MiB"))
}

// histogram is Prometheus' buckets: upper bounds and how many were at most so large.
type histogram struct {
	bounds []float64
	counts []float64
}

var bucket = regexp.MustCompile(`(?m)^(\w+)_bucket\{le="([^"]+)"\} (\S+)$`)

func (f *field) histogram(name string) (h histogram) {
	_, body := f.gateway.Get("/metrics")
	for _, m := range bucket.FindAllStringSubmatch(body, -1) {
		if m[1] != name {
			continue
		}
		bound, _ := strconv.ParseFloat(m[2], 64)
		count, _ := strconv.ParseFloat(m[3], 64)
		h.bounds, h.counts = append(h.bounds, bound), append(h.counts, count)
	}
	return h
}

// metric reads one of a gateway's.
func metric(t *testbed.Suite, g *testbed.Gateway, name string) float64 {
	_, body := g.Get("/metrics")
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("the gateway has no metric %s", name)
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}

// quantileSince is the upper bound of the bucket in which the quantile lies of what came after an earlier look.
func (h histogram) quantileSince(before histogram, q float64) float64 {
	last := len(h.counts) - 1
	want := q * (h.counts[last] - before.counts[last])
	for i := range h.counts {
		if h.counts[i]-before.counts[i] >= want {
			return h.bounds[i]
		}
	}
	return 0
}
