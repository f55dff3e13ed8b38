// Package testbed starts the real things that the tests drive: gateways of ours as processes, stock Spark and stock
// clients fetched from their registries, and a raw HiveServer2 client for what no stock client does.
package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// T is what the testbed needs of a test, or of a TestMain that has none.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Root is the top of the checkout.
func Root() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	panic("the tests do not run inside the checkout")
}

// Binary is the gateway under test; `make build` makes it.
func Binary(t T) string {
	path := filepath.Join(Root(), "bin", "sluice")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run make build", path)
	}
	return path
}

// raceBinary builds the gateway with the race detector.
func raceBinary(t T) string {
	t.Helper()
	path := filepath.Join(Root(), "build", "sluice-race")
	if err := run("go", "build", "-C", Root(), "-race", "-o", path, "./cmd/sluice"); err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

// Gateway is a running gateway process.
type Gateway struct {
	DataDir  string
	StoreURL string // empty for the file in DataDir
	Thrift   string // host:port
	HTTP     string
	Cmd      *exec.Cmd
	log      *Log
	ended    chan struct{}
	t        T
	mark     string // what the command lines of its processes hold
}

// Log is what a process, or a part of this one, has written. It may be read meanwhile.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *Log) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is all that was written so far.
func (b *Log) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// StartGateway starts a gateway with a data directory of its own and any free ports, unless env says otherwise.
// The environment is SLUICE_X=y; the configuration file may be empty. It is stopped when the test ends.
func StartGateway(t T, configYAML string, env ...string) *Gateway {
	t.Helper()
	return startAlone(t, Binary(t), configYAML, env)
}

// StartRaceGateway starts one that was built with the race detector; what that finds is in its log.
func StartRaceGateway(t T, env ...string) *Gateway {
	t.Helper()
	return startAlone(t, raceBinary(t), "", env)
}

func startAlone(t T, binary, configYAML string, env []string) *Gateway {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-test-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	g := startIn(t, binary, filepath.Join(dir, "data"), configYAML, env)
	t.Cleanup(func() {
		g.Stop()
		g.WaitNoProcess(30 * time.Second)
		_ = os.RemoveAll(dir)
	})
	return g
}

// Restart starts a gateway on the data directory of one that has ended.
func (g *Gateway) Restart(configYAML string, env ...string) *Gateway {
	g.t.Helper()
	n := startIn(g.t, Binary(g.t), g.DataDir, configYAML, env)
	n.StoreURL = g.StoreURL
	g.t.Cleanup(n.Stop)
	return n
}

// StartReplicas starts gateways that share a store and a local cluster, each with a data directory of its own.
func StartReplicas(t T, n int, storeURL string, env ...string) []*Gateway {
	t.Helper()
	return StartReplicasWith(t, n, storeURL, "", env...)
}

// StartReplicasWith starts gateways with a configuration that share a store.
func StartReplicasWith(t T, n int, storeURL, configYAML string, env ...string) []*Gateway {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-replicas-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	env = append([]string{"SLUICE_STORE_URL=" + storeURL, "SLUICE_SECRET=" + strings.Repeat("replicas", 4),
		"SLUICE_CLUSTERS_LOCAL_DIR=" + filepath.Join(dir, "cluster")}, env...)
	t.Cleanup(func() {
		Until(t, 30*time.Second, "no process of the gateways is left", func() bool { return len(processes(dir)) == 0 })
		_ = os.RemoveAll(dir)
	})
	out := make([]*Gateway, n)
	for i := range out {
		out[i] = startIn(t, Binary(t), filepath.Join(dir, fmt.Sprintf("replica%d", i)), configYAML, env)
		out[i].StoreURL, out[i].mark = storeURL, dir
		t.Cleanup(out[i].Stop)
	}
	return out
}

func startIn(t T, binary, dataDir, configYAML string, env []string) *Gateway {
	t.Helper()
	args := []string{"gateway"}
	if configYAML != "" {
		file := dataDir + ".yaml"
		if err := os.WriteFile(file, []byte(configYAML), 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		args = append(args, "--config", file)
	}
	g := &Gateway{DataDir: dataDir, mark: dataDir, log: &Log{}, ended: make(chan struct{}), t: t}
	g.Cmd = exec.CommandContext(context.Background(), binary, args...)
	g.Cmd.Env = append(append(os.Environ(), "SLUICE_DATA_DIR="+dataDir, "SLUICE_LISTEN_THRIFT=127.0.0.1:0", "SLUICE_LISTEN_HTTP=127.0.0.1:0"), env...)
	g.Cmd.Stdout, g.Cmd.Stderr = g.log, g.log
	_ = os.Remove(filepath.Join(dataDir, "endpoints.json")) // of one that was killed
	if err := g.Cmd.Start(); err != nil {
		t.Fatalf("start the gateway: %v", err)
	}
	go func() { _ = g.Cmd.Wait(); close(g.ended) }()
	Until(t, 20*time.Second, "the gateway says where it listens", func() bool {
		select {
		case <-g.ended:
			t.Fatalf("the gateway ended: %s", g.Log())
		default:
		}
		var e struct{ Thrift, HTTP string }
		data, err := os.ReadFile(filepath.Join(dataDir, "endpoints.json"))
		if err != nil || json.Unmarshal(data, &e) != nil {
			return false
		}
		g.Thrift, g.HTTP = e.Thrift, e.HTTP
		return true
	})
	return g
}

// Until looks again and again until what it waits for is there.
func Until(t T, limit time.Duration, what string, there func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !there() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", limit, what)
		}
		<-tick.C
	}
}

// Log is what the gateway has logged so far.
func (g *Gateway) Log() string { return g.log.String() }

// Stop asks the gateway to stop and waits until it has.
func (g *Gateway) Stop() {
	g.t.Helper()
	_ = g.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.ended:
	case <-time.After(40 * time.Second):
		_ = g.Cmd.Process.Kill()
		<-g.ended
		g.t.Fatalf("the gateway did not stop: %s", g.Log())
	}
}

// ExitCode is the process's exit code once it has ended.
func (g *Gateway) ExitCode() int { <-g.ended; return g.Cmd.ProcessState.ExitCode() }

// Pause stops the process until Resume: it neither beats nor answers.
func (g *Gateway) Pause() { _ = g.Cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (g *Gateway) Resume() { _ = g.Cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the gateway without a chance to tidy up.
func (g *Gateway) Kill() {
	_ = g.Cmd.Process.Kill()
	<-g.ended
}

// Processes lists the processes that belong to the gateway's data directory: supervisors, engines, the catalogue.
func (g *Gateway) Processes() []int { return processes(g.mark) }

// Engines lists the JVMs of its engines.
func (g *Gateway) Engines() []int {
	return g.enginesWith("")
}

// EnginesOf lists the JVMs of its engines that run a version of Spark, of those that were fetched.
func (g *Gateway) EnginesOf(version string) []int { return g.enginesWith("/spark-" + version + "/") }

func (g *Gateway) enginesWith(mark string) []int {
	var out []int
	for _, pid := range g.Processes() {
		if line := commandLine(pid); strings.HasSuffix(line, "SparkConnectServer") && strings.Contains(line, mark) {
			out = append(out, pid)
		}
	}
	return out
}

func processes(mark string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && strings.Contains(commandLine(pid), mark) {
			out = append(out, pid)
		}
	}
	return out
}

func commandLine(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " "))
}

// WaitNoProcess fails the test if a process of the gateway is left after the limit.
func (g *Gateway) WaitNoProcess(limit time.Duration) {
	g.t.Helper()
	Until(g.t, limit, "no process of the gateway is left", func() bool { return len(g.Processes()) == 0 })
}

// CPUSeconds is the processor time that a process has used.
func CPUSeconds(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100 // USER_HZ, which is 100 on every Linux that Go runs on
}

// Busy says how many cores a process uses at the moment.
func Busy(pid int) float64 {
	before, began := CPUSeconds(pid), time.Now()
	<-time.After(time.Second) // the span of the measurement
	return (CPUSeconds(pid) - before) / time.Since(began).Seconds()
}

// PeakMemory is the most memory that a process has held, in bytes.
func PeakMemory(pid int) int64 { return memory(pid, "VmHWM:") }

// Memory is how much memory a process holds, in bytes.
func Memory(pid int) int64 { return memory(pid, "VmRSS:") }

func memory(pid int, key string) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if kb, ok := strings.CutPrefix(line, key); ok {
			n, _ := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// Get fetches a page of the gateway's HTTP port.
func (g *Gateway) Get(path string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+g.HTTP+path, nil)
	if err != nil {
		g.t.Fatalf("%v", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatalf("GET %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String()
}

// Connect opens a TCP connection to the Thrift port.
func (g *Gateway) Connect() net.Conn {
	g.t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "tcp", g.Thrift)
	if err != nil {
		g.t.Fatalf("connect: %v", err)
	}
	return conn
}
