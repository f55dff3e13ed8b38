//go:build e2e

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/policy"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/sql"
	"github.com/sluicedata/sluice/router/watch"
	"github.com/sluicedata/sluice/tests/testbed"
)

// onRouter measures decisions over the state of 50 clusters with 200 queues, while readings of 12,000 nodes change it 200
// times a second.
func onRouter(_ *testbed.Suite, wanted func(string) bool) []Figure {
	w := newCity()
	defer w.Close()
	stop := w.stir(200)
	defer stop()
	var out []Figure
	if wanted("pick") {
		out = append(out, picks(w)...)
	}
	if wanted("decide") {
		out = append(out, decisions(w)...)
	}
	return out
}

// city is the state that decisions are made over.
type city struct {
	*watch.Watch
	names  []string
	queues int
}

const cityClusters, cityQueues, cityNodes, cityRules = 50, 200, 12_000, 200

func newCity() *city {
	c := &city{queues: cityQueues / (cityClusters / 2)}
	var known []watch.Cluster
	for i := range cityClusters {
		one := watch.Cluster{Name: fmt.Sprintf("k8s%02d", i), Kind: "kubernetes"}
		if i%2 == 0 {
			one = watch.Cluster{Name: fmt.Sprintf("yarn%02d", i), Kind: "yarn", Queue: "root.q0"}
		}
		known = append(known, one)
		c.names = append(c.names, one.Name)
	}
	c.Watch = watch.New(known)
	for i := range c.names {
		c.read(i, rand.New(rand.NewPCG(1, uint64(i))))
	}
	return c
}

// read tells a new reading of a cluster.
func (c *city) read(i int, rnd *rand.Rand) {
	const node = 64 << 10
	total := router.Room{Memory: cityNodes / cityClusters * node, MilliCores: cityNodes / cityClusters * 16_000}
	s := router.State{Known: true, Total: total, Free: router.Room{Memory: rnd.Int64N(total.Memory), MilliCores: rnd.Int64N(total.MilliCores)}}
	if i%2 == 0 {
		s.Queues = map[string]*router.Queue{}
		for q := range c.queues {
			s.Queues[fmt.Sprintf("root.q%d", q)] = &router.Queue{Accepts: true, Free: s.Free, Drivers: router.Room{Memory: 100_000, MilliCores: 100_000}}
		}
	}
	c.Read(c.names[i], s)
}

// stir changes the state so many times a second.
func (c *city) stir(perSecond int) (stop func()) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		rnd := rand.New(rand.NewPCG(2, 2))
		for {
			select {
			case <-tick.C:
				c.read(rnd.IntN(len(c.names)), rnd)
			case <-done:
				return
			}
		}
	})
	return func() { close(done); tick.Stop(); wait.Wait() }
}

const routerRuns, routerSpan = 6, time.Second

// throughput runs f on all cores for a while, and returns calls a second and allocations a call.
func throughput(cores int, f func(worker, i int)) (perSecond, allocs float64) {
	var calls atomic.Int64
	var wait sync.WaitGroup
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for worker := range cores {
		wait.Go(func() {
			n := 0
			for ; n%64 != 0 || time.Since(began) < routerSpan; n++ {
				f(worker, n)
			}
			calls.Add(int64(n))
		})
	}
	wait.Wait()
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return float64(calls.Load()) / took.Seconds(), float64(after.Mallocs-before.Mallocs) / float64(calls.Load())
}

// rates are figures of repeated runs.
func rates(name string, cores int, limit float64, f func(worker, i int)) []Figure {
	var calls, allocs series
	for range routerRuns {
		c, a := throughput(cores, f)
		calls, allocs = append(calls, c), append(allocs, a)
	}
	fig := calls.figure(fmt.Sprintf("%s, a second on %d cores", name, cores), "/s")
	return []Figure{fig.against(Figure{Name: "the limit", Median: limit}), allocs.figure(name+", allocations", "")}
}

// picks are policies alone, over all clusters: they judge each, and pick.
func picks(c *city) (out []Figure) {
	cores := runtime.NumCPU()
	for _, p := range []struct {
		name string
		router.Policy
	}{{"most_free", policy.MostFree{}}, {"weighted", policy.Weighted{}}, {"chain", policy.First{}}} {
		all := make([][]router.Candidate, cores)
		requests := make([]router.Request, cores)
		for w := range all {
			all[w] = make([]router.Candidate, cityClusters)
			requests[w] = router.Request{Driver: router.Room{Memory: 1400, MilliCores: 1000}}
		}
		out = append(out, rates(fmt.Sprintf("pick among %d, %s", cityClusters, p.name), cores, 1e6, func(w, i int) {
			now := c.Snapshot()
			for j := range all[w] {
				all[w][j].State, all[w][j].Share = &now.Clusters[j], policy.Whole/cityClusters
				all[w][j].Judge(&requests[w])
			}
			if p.Pick(&requests[w], uint64(i)*0x9e3779b97f4a7c15, all[w]) < 0 {
				panic("nothing was picked")
			}
		})...)
	}
	return out
}

// cityRuleFile is what a large company might have: teams, users, jobs, databases, nights.
func cityRuleFile(names []string) string {
	text := "zone: UTC\nrules:\n"
	pool := func(i int) string { return fmt.Sprintf("[%s, %s, %s]", names[i%50], names[(i+7)%50], names[(i+19)%50]) }
	for i := range cityRules - 1 {
		when, to := "", fmt.Sprintf("{pool: %s}", pool(i))
		switch i % 10 {
		case 0, 1, 2:
			when = fmt.Sprintf(`"team%d" in groups and work == "etl"`, i)
			to = fmt.Sprintf("{weighted: {%s: 70, %s: 30}, sticky: user}", names[i%50], names[(i+1)%50])
		case 3, 4:
			when = fmt.Sprintf(`user in ["user%d", "other%d"]`, i, i)
		case 5:
			when = fmt.Sprintf(`conf["etl.job"] == "job%d"`, i)
		case 6, 7:
			when = fmt.Sprintf(`touches("db%d.*") and work == "interactive"`, i)
		case 8:
			when = fmt.Sprintf(`"tag%d" in tags and sql.kind in ["insert", "ctas"]`, i)
			to = fmt.Sprintf("{chain: %s}", pool(i))
		case 9:
			when = fmt.Sprintf(`"team%d" in groups and from("10.%d.0.0/16") and hour >= 20`, i, i)
		}
		text += fmt.Sprintf("- {when: '%s', to: %s}\n", when, to)
	}
	return text + fmt.Sprintf("- {name: all others, to: {pool: %s, policy: most_free}}\n", pool(3))
}

// cityRequest is one of those that such a company has; each rule gets some.
func cityRequest(rnd *rand.Rand) *router.Request {
	n := rnd.IntN(cityRules)
	return &router.Request{
		At: time.Date(2026, 12, 1, rnd.IntN(24), 0, 0, 0, time.UTC), Session: fmt.Sprint(rnd.Uint64()), User: fmt.Sprintf("user%d", rnd.IntN(500)),
		Groups: []string{"all", fmt.Sprintf("team%d", n)}, Work: router.Works[rnd.IntN(2)], Tags: []string{fmt.Sprintf("tag%d", rnd.IntN(400))},
		Address: netip.AddrFrom4([4]byte{10, byte(n), 1, 1}), Conf: map[string]string{"etl.job": fmt.Sprintf("job%d", rnd.IntN(400)), "spark.app.name": "x"},
		Driver: router.Room{Memory: 1400, MilliCores: 1000},
		SQL: sql.Facts{Kind: []string{"select", "insert", "ctas"}[rnd.IntN(3)], Complete: true,
			Reads: []string{fmt.Sprintf("spark_catalog.db%d.t", rnd.IntN(400)), "spark_catalog.common.days"}},
	}
}

func decisions(c *city) (out []Figure) {
	set, err := rules.Load([]byte(cityRuleFile(c.names)), c.names)
	if err != nil {
		panic(err)
	}
	rnd := rand.New(rand.NewPCG(3, 3))
	mix := make([]*router.Request, 4096)
	byRule := map[string]int{}
	for i := range mix {
		mix[i] = cityRequest(rnd)
		d, err := set.Decide(mix[i], c.Snapshot())
		if err != nil {
			panic(err)
		}
		byRule[d.Rule]++
	}
	last := cityRequest(rnd)
	last.User, last.Groups, last.Tags, last.Conf, last.SQL.Reads = "nobody", []string{"all"}, nil, nil, []string{"spark_catalog.none.t"}
	if d, err := set.Decide(last, c.Snapshot()); err != nil || d.Rule != "all others" {
		panic(fmt.Sprint("the last rule does not match: ", d, err))
	}
	cores := runtime.NumCPU()
	out = append(out, Figure{Name: fmt.Sprintf("rules that the mix of %d requests matches, of %d", len(mix), cityRules), Median: float64(len(byRule))})
	// Each worker has requests of its own, as sessions have.
	own := make([][]router.Request, cores)
	for w := range own {
		own[w] = make([]router.Request, len(mix))
		for i := range mix {
			own[w][i] = *mix[i]
		}
	}
	out = append(out, rates("decision, the usual mix", cores, 1e6, func(w, i int) {
		if _, err := set.Decide(&own[w][i%len(mix)], c.Snapshot()); err != nil {
			panic(err)
		}
	})...)
	out = append(out, rates("decision, the last rule matches", 1, 200_000, func(int, int) {
		if _, err := set.Decide(last, c.Snapshot()); err != nil {
			panic(err)
		}
	})...)
	return append(out, tail("decision, the usual mix", func(i int) {
		if _, err := set.Decide(mix[i%len(mix)], c.Snapshot()); err != nil {
			panic(err)
		}
	})...)
}

// tail is how long single calls take.
func tail(name string, f func(i int)) []Figure {
	var p99s series
	for range routerRuns {
		took := make(series, 200_000)
		for i := range took {
			began := time.Now()
			f(i)
			took[i] = float64(time.Since(began).Nanoseconds()) / 1000
		}
		p99s = append(p99s, took.quantile(0.99))
	}
	return []Figure{p99s.figure(name+", p99", "µs").against(Figure{Name: "the limit", Median: 10})}
}
