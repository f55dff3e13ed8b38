//go:build e2e

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
	"github.com/sluicedata/sluice/tests/testbed"
)

// adopt is how soon a gateway that was killed has its engines again. So many JVMs have no room on one machine. So in YARN's
// containers, where java would run, a small process listens, says so in its log as an engine does, and answers who it is;
// all else is real: the applications, the gateway, its store. What an engine itself needs to answer is measured besides,
// with a stock one that is asked as often: it would come on top if all engines shared this machine's cores.
func (y *yard) adopt() []Figure {
	const many, runs = 50, 5
	config := y.config("      archives: {default: "+y.archive+"}\n") + fmt.Sprintf(`        spark.yarn.appMasterEnv.JAVA_HOME: %s
profiles:
  many: {share_level: user, warm: true, warm_for: ann, engines: %d}
`, y.standIn(), many)
	env := []string{"SLUICE_ENGINE_CLUSTER=y", "SLUICE_ENGINE_MEMORY=512m", "SLUICE_ENGINE_START_TIMEOUT=3m", "SLUICE_ENGINE_LEASE=10m"}
	g := testbed.StartGateway(y.t, config, env...)
	testbed.Until(y.t, 3*time.Minute, "all engines are ready", func() bool { return strings.Count(g.Log(), "engine ready") == many })
	var took, cpu series
	for range runs {
		g.Kill()
		began := time.Now()
		g = g.Restart(config, env...)
		testbed.Until(y.t, time.Minute, "all engines are taken over", func() bool { return strings.Count(g.Log(), "engine taken over") == many })
		took = append(took, time.Since(began).Seconds())
		cpu = append(cpu, testbed.CPUSeconds(g.Cmd.Process.Pid))
	}
	if n := len(y.live()); n != many {
		y.t.Fatalf("there are %d applications", n)
	}
	g.Stop() // and its engines with it
	y.none()
	adopted := took.figure(fmt.Sprintf("exec of a gateway until it has its %d engines again, stand-ins", many), "s")
	adopted.CPU = map[string]float64{"gateway": cpu.quantile(0.5)}
	return []Figure{adopted, identify(y.t, many)}
}

// identify is how long a stock engine takes to say so often who it is, over a new connection each time.
func identify(t *testbed.Suite, times int) Figure {
	const runs = 5
	g := testbed.StartGateway(t, "")
	testbed.DialHS2(t, g.Thrift, "bench", "x", nil).All(one)
	rec := g.EngineOf(t, "bench")
	var took series
	for range runs {
		var clients []engines.Engine // they do not connect before they ask
		for range times {
			clients = append(clients, g.DialEngine(t, rec))
		}
		took = append(took, timed(1, func() {
			together(8, times, func(i int) {
				if _, err := clients[i].Identify(context.Background()); err != nil {
					t.Fatalf("%v", err)
				}
			})
		})())
	}
	g.Stop()
	return took.figure(fmt.Sprintf("a stock engine is asked %d times who it is, 8 at a time", times), "s")
}

// standIn makes a JAVA_HOME whose java is this program.
func (y *yard) standIn() string {
	self, err := os.Executable()
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	home, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	y.t.Cleanup(func() { _ = os.RemoveAll(home) })
	err = os.MkdirAll(filepath.Join(home, "bin"), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "bin", "java"), []byte("#!/bin/sh\nexec "+self+" -engine\n"), 0o755)
	}
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	return home
}

// someEngine answers who it is, and nothing else.
type someEngine struct {
	connectpb.UnimplementedSparkConnectServiceServer
	tag string
}

// standInEngine is the process in a container. Its settings tell which engine it is.
func standInEngine() error {
	settings, err := os.Open("__spark_conf__/__spark_conf__.properties")
	if errors.Is(err, fs.ErrNotExist) {
		settings, err = os.Open("/etc/sluice/spark.properties") // in a pod
	}
	if err != nil {
		return err
	}
	e, port := &someEngine{}, "0"
	for lines := bufio.NewScanner(settings); lines.Scan(); {
		if tag, ok := strings.CutPrefix(lines.Text(), "spark.sluice.engine="); ok {
			e.tag = tag
		}
		if p, ok := strings.CutPrefix(lines.Text(), "spark.connect.grpc.binding.port="); ok {
			port = p
		}
	}
	_ = settings.Close()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(cmp.Or(os.Getenv("SPARK_DRIVER_BIND_ADDRESS"), "127.0.0.1"), port))
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	connectpb.RegisterSparkConnectServiceServer(srv, e)
	fmt.Fprintln(os.Stderr, "Spark Connect server started at:", l.Addr())
	return srv.Serve(l)
}

// Config implements connectpb.SparkConnectServiceServer.
func (e *someEngine) Config(_ context.Context, req *connectpb.ConfigRequest) (*connectpb.ConfigResponse, error) {
	out := &connectpb.ConfigResponse{SessionId: req.SessionId, ServerSideSessionId: "stand-in"}
	for _, k := range req.GetOperation().GetGetOption().GetKeys() {
		pair := &connectpb.KeyValue{Key: k}
		if strings.HasPrefix(k, "spark.sluice.") {
			pair.Value = &e.tag
		}
		out.Pairs = append(out.Pairs, pair)
	}
	return out, nil
}

// AnalyzePlan implements connectpb.SparkConnectServiceServer.
func (*someEngine) AnalyzePlan(_ context.Context, req *connectpb.AnalyzePlanRequest) (*connectpb.AnalyzePlanResponse, error) {
	return &connectpb.AnalyzePlanResponse{SessionId: req.SessionId, ServerSideSessionId: "stand-in",
		Result: &connectpb.AnalyzePlanResponse_SparkVersion_{SparkVersion: &connectpb.AnalyzePlanResponse_SparkVersion{Version: testbed.SparkVersion}}}, nil
}

// ReleaseSession implements connectpb.SparkConnectServiceServer.
func (*someEngine) ReleaseSession(_ context.Context, req *connectpb.ReleaseSessionRequest) (*connectpb.ReleaseSessionResponse, error) {
	return &connectpb.ReleaseSessionResponse{SessionId: req.SessionId}, nil
}
