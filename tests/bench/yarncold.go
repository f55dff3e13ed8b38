//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// config is a gateway's, with more settings of the YARN cluster.
func (y *yard) config(more string) string {
	return fmt.Sprintf(`
clusters:
  y:
    kind: yarn
    yarn:
      hadoop_conf: %s
      queue: root.etl
      service_user: root
      shared_dir: /apps/sluice
%s      conf:
        spark.executor.instances: "1"
        spark.executor.memory: 512m
        spark.executor.cores: "1"
        spark.connect.grpc.binding.address: 127.0.0.1
        spark.yarn.appMasterEnv.SPARK_LOCAL_IP: 127.0.0.1
        spark.executorEnv.SPARK_LOCAL_IP: 127.0.0.1
`, y.h.ConfDir, more)
}

// start is one cold start, split by what was seen from outside the gateway, in seconds.
type start map[string]float64

// Parts of a start, in order, and sums of them.
const (
	untilRow       = "until the first row"
	untilSubmitted = "until YARN has the application (ours)"
	untilOpen      = "from there until its engine's port is open"
	untilMet       = "from there until the gateway connects (ours, with Spark's log line)"
	untilTold      = "of that, until the port is in the engine's log"
	untilNamed     = "from there until the engine has said who it is"
	untilRead      = "from there until the first row"
	untilOurs      = "ours in all"
)

// cold is from the opening of a session that wants an engine of its own to the first row, on a node that has fetched Spark
// already. Both ends of each part are seen from outside: the ResourceManager says when it got the application; the bench
// knocks at the engine's port, which is a fixed one here, every 5 ms until it is open, reads the engine's log on the node's
// disk until the line is in it from which the gateway learns the port, and then in /proc/net/tcp when somebody holds a
// connection to it, which is the gateway's first question; its log says when that is answered. The steps by the gateway's
// own metric are told besides.
func (y *yard) cold() []Figure {
	const runs = 5
	port := freePort(y.t)
	g := testbed.StartGateway(y.t, y.config("")+`        spark.connect.grpc.binding.port: "`+port+"\"\n", "SLUICE_ENGINE_CLUSTER=y", "SLUICE_ENGINE_START_TIMEOUT=3m")
	f := &field{t: y.t}
	y.coldStart(f, g, port) // Spark is uploaded, and the node fetches it
	seen, steps := map[string]series{}, map[string]series{}
	for range runs {
		before := stepSeconds(g)
		for part, s := range y.coldStart(f, g, port) {
			seen[part] = append(seen[part], s)
		}
		for step, s := range stepSeconds(g) {
			steps[step] = append(steps[step], s-before[step])
		}
	}
	var out []Figure
	for _, part := range []string{untilRow, untilSubmitted, untilOpen, untilMet, untilTold, untilNamed, untilRead, untilOurs} {
		out = append(out, seen[part].figure("cold engine, "+part, "s"))
	}
	for _, step := range []string{"staging", "scheduling", "container", "process", "listening"} {
		if len(steps[step]) > 0 {
			out = append(out, steps[step].figure("cold engine, by the gateway's metric, "+step, "s"))
		}
	}
	return out
}

// coldStart starts one engine, reads a row, and ends it.
func (y *yard) coldStart(f *field, g *testbed.Gateway, port string) start {
	ready, told, address := strings.Count(g.Log(), "engine ready"), y.told(), "127.0.0.1:"+port
	began := time.Now()
	type sight struct{ open, told, met, named time.Time }
	saw := make(chan sight, 1)
	go func() {
		var s sight
		s.open = when(func() bool { return knock(address) })
		s.told = when(func() bool { return y.told() > told })
		s.met = when(func() bool { return connected(address) })
		s.named = when(func() bool { return strings.Count(g.Log(), "engine ready") > ready })
		saw <- s
	}()
	c := testbed.DialHS2(y.t, g.Thrift, "ann", "x", map[string]string{"sluice.engine.share": "connection"})
	f.thriftRows(c, one, 1000)
	took := time.Since(began)
	apps := y.live()
	if len(apps) != 1 {
		y.t.Fatalf("ann has %d applications", len(apps))
	}
	s, accepted := <-saw, time.UnixMilli(apps[0].Started)
	if _, err := c.CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: c.Session}); err != nil {
		y.t.Fatalf("%v", err)
	}
	_ = c.Conn.Close()
	y.none()
	testbed.Until(y.t, time.Minute, "the engine's port is closed", func() bool { return !knock(address) })
	out := start{
		untilRow: took.Seconds(), untilSubmitted: accepted.Sub(began).Seconds(), untilOpen: s.open.Sub(accepted).Seconds(),
		untilMet: s.met.Sub(s.open).Seconds(), untilTold: s.told.Sub(s.open).Seconds(), untilNamed: s.named.Sub(s.met).Seconds(),
		untilRead: (took - s.named.Sub(began)).Seconds(),
	}
	out[untilOurs] = out[untilSubmitted] + out[untilMet]
	return out
}

// when is the time at which something is first so. It looks every 5 ms, and gives up after minutes.
func when(so func() bool) time.Time {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(4 * time.Minute); !so() && time.Now().Before(deadline); {
		<-tick.C
	}
	return time.Now()
}

// told is how many engines so far have written into their logs where they listen.
func (y *yard) told() (n int) {
	logs, _ := filepath.Glob(filepath.Join(y.h.Dir, "log", "nodemanager1", "application_*", "container_*", "stderr"))
	for _, name := range logs {
		if text, err := os.ReadFile(name); err == nil && started.Match(text) {
			n++
		}
	}
	return n
}

// knock says that somebody listens at an address.
func knock(address string) bool {
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// connected says that somebody here holds a connection to an address. Those of knock are closed, and do not count.
func connected(address string) bool {
	const established = "01"
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return true
	}
	ip := to.Addr().As4()
	want := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), to.Port())
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return true
	}
	for line := range bytes.Lines(table) {
		if w := strings.Fields(string(line)); len(w) > 3 && w[3] == established && w[2] == want {
			return true
		}
	}
	return false
}

// freePort is one that the kernel gives to nobody who connects, so that it is still free when an engine wants it.
func freePort(t *testbed.Suite) string {
	var lc net.ListenConfig
	for port := 9500; port < 10_000; port++ {
		l, err := lc.Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = l.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatalf("there is no free port")
	return ""
}

var stepSum = regexp.MustCompile(`(?m)^sluice_engine_start_step_seconds_sum\{cluster="\w+",step="(\w+)"\} (\S+)$`)

// stepSeconds is how long all starts so far have spent in each step, by the gateway's own word.
func stepSeconds(g *testbed.Gateway) map[string]float64 {
	_, body := g.Get("/metrics")
	out := map[string]float64{}
	for _, m := range stepSum.FindAllStringSubmatch(body, -1) {
		out[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	return out
}
