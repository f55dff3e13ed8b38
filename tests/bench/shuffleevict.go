//go:build e2e

package main

import (
	"slices"
	"time"

	"github.com/sluicedata/sluice/tests/testbed"
)

// shuffleEvict is what it costs when all executors of a query are evicted in its reduce stage, through the shuffle service and
// with Spark's own shuffle files. It needs a Kubernetes of its own, beside which nothing else is measured.
func shuffleEvict(t *testbed.Suite) []Figure {
	k := testbed.InKubernetes("tests/bench", testbed.KubernetesOptions{Evictable: []string{"node2", "node3"}, Images: func() []testbed.Image {
		return []testbed.Image{testbed.SparkImage(t, testbed.CelebornClient(t).Spark), testbed.ShuffleClientImage(t), testbed.GatewayImage(t)}
	}}, func() {})
	client := testbed.CelebornClient(t).Spark
	s := k.StartShuffle(t)
	engines := []*evicted{
		newEvicted(newPlace(t, k, "evict"), client, s),
		newEvicted(newPlace(t, k, "evict-files"), client, nil),
	}
	const rounds = 3
	took := map[string]series{}
	for range rounds {
		for _, e := range engines {
			for _, fault := range []bool{false, true} {
				name, seconds := e.run(fault)
				took[name] = append(took[name], seconds)
			}
		}
	}
	var out []Figure
	for _, e := range engines {
		calm, faulty := took[e.name(false)].figure(e.name(false), "s"), took[e.name(true)].figure(e.name(true), "s")
		faulty = faulty.against(calm)
		faulty.Peer = "no fault"
		out = append(out, calm, faulty)
	}
	return out
}

// evicted is an engine whose executors are.
type evicted struct {
	*place
	query testbed.BigShuffle
	want  []string
	how   string
}

func newEvicted(p *place, spark string, s *testbed.KubeShuffle) *evicted {
	e := &evicted{place: p, how: "Spark's own shuffle"}
	keys, more := []string{"driver_cpu: 200m", "min_executors: 2", "max_executors: 2"}, "    closed_network: true\n"
	if s != nil {
		e.how = "the service"
		template := testbed.ShuffleClientTemplate(p.t)
		keys = append(keys, "driver_template: "+template, "executor_template: "+template)
		more += "    shuffle: {masters: \"" + s.Masters + "\", client: \"local://" + testbed.ShuffleClient + "\", replicate: false}\n"
	}
	p.image = "sluice.test/spark:" + spark
	g, _, _ := p.gateway(keys, []string{`spark.executor.cores: "2"`, "spark.sql.adaptive.enabled: false", `spark.ui.enabled: "true"`}, more)
	c := testbed.DialHS2(p.t, g.Thrift, "ann", "x", nil)
	c.All(one)
	e.query = testbed.BigShuffle{C: c, UI: testbed.SparkUIOf(p.t, p.list("spark-role=driver")[0]), Rows: 819_200, Maps: 32, Reduces: 12, MapNap: 2 * time.Second, Naps: 200}
	e.want = e.query.Want()
	return e
}

func (e *evicted) name(fault bool) string {
	if fault {
		return e.how + ", all executors evicted in the reduce stage"
	}
	return e.how + ", no fault"
}

func (e *evicted) run(fault bool) (name string, seconds float64) {
	e.query.Executors(e.t, 2)
	evict := func() {}
	if fault {
		evict = func() { e.k.EvictExecutors(e.t, e.namespace) }
	}
	r := e.query.Run(e.t, evict)
	e.t.Logf("%s: %.1f s, %d map tasks and %d reduce tasks were run again", e.name(fault), r.Seconds, r.MapsAgain, r.ReducesAgain)
	if !slices.Equal(r.Row, e.want) {
		e.t.Fatalf("%v, and not %v", r.Row, e.want)
	}
	return e.name(fault), r.Seconds
}
