//go:build e2e

package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

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
	for _, clients := range []int{1, 8} {
		var ours, theirs series
		for range 5 {
			visits := func(address string) float64 {
				return rate(clients, span, func() func() { return func() { f.visit(address, nil) } })
			}
			ours, theirs = append(ours, visits(f.gateway.Thrift)), append(theirs, visits(f.spark))
		}
		title := fmt.Sprintf("open and close, %d at a time, ", clients)
		peer := theirs.figure(title+"Spark's Thrift server", "/s")
		out = append(out, peer, ours.figure(title+"gateway", "/s").against(peer))
	}
	var direct, ours series
	for range 100 {
		ours = append(ours, 1000*seconds(func() {
			f.visit(f.gateway.Thrift, func(c *testbed.HS2) { f.thriftRows(c, one, 1000) })
		}))
		direct = append(direct, 1000*seconds(func() {
			s := f.session()
			f.connectRows(s, one)
			_ = s.Close(context.Background())
		}))
	}
	peer := direct.figure("open, query, close, straight Connect", "ms")
	return append(out, peer, ours.figure("open, query, close, gateway", "ms").against(peer))
}

// together is 64 clients at once.
func (f *field) together() []Figure {
	const clients, span = 64, 8 * time.Second
	var direct, ours, theirs series
	for range 3 {
		ours = append(ours, rate(clients, span, func() func() {
			c := f.dial(f.gateway.Thrift)
			return func() { f.thriftRows(c, one, 1000) }
		}))
		direct = append(direct, rate(clients, span, func() func() {
			s := f.session()
			return func() { f.connectRows(s, one) }
		}))
		theirs = append(theirs, rate(clients, span, func() func() {
			c := f.dial(f.spark)
			return func() { f.thriftRows(c, one, 1000) }
		}))
	}
	peer := direct.figure("one row, 64 clients, straight Connect", "/s")
	return []Figure{peer, ours.figure("one row, 64 clients, gateway", "/s").against(peer), theirs.figure("one row, 64 clients, Spark's Thrift server", "/s").against(peer)}
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
		<-time.After(10 * time.Second) // the span in which a collection gives memory back
		out = append(out, Figure{Name: fmt.Sprintf("an idle session of %d, with its connection", n), Unit: "kB", Median: float64(testbed.Memory(pid)-before) / float64(n) / 1000})
	}
	return out
}

// startup is from exec to ready, and what that takes.
func startup(t *testbed.Suite) []Figure {
	var took, memory series
	for range 5 {
		began := time.Now()
		g := testbed.StartGateway(t, "")
		testbed.Until(t, 10*time.Second, "the gateway is ready", func() bool { code, _ := g.Get("/readyz"); return code == http.StatusOK })
		took = append(took, time.Since(began).Seconds())
		memory = append(memory, float64(testbed.Memory(g.Cmd.Process.Pid))/(1<<20))
		g.Stop()
	}
	return []Figure{took.figure("exec to ready", "s"), memory.figure("memory at start", "MiB")}
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
