package testbed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// Shuffle is a shuffle master and its workers, as processes of their own.
type Shuffle struct {
	Master  *Process
	Address string // of the master, for clients
	Workers []*ShuffleWorker
	t       T
	dir     string
	options ShuffleServers
}

// ShuffleWorker is one worker. Started again it has the ports and directories it had.
type ShuffleWorker struct {
	*Process
	ID   wire.WorkerID
	HTTP string
	Dirs []string
	args []string
}

// ShuffleServers say what is started.
type ShuffleServers struct {
	Workers    int
	Disks      int      // per worker; 1 if 0
	Hosts      []string // of the workers; 127.0.0.1 for those that have none
	Dir        string   // for the data; a temporary directory if empty
	MasterArgs []string
	WorkerArgs []string
	Idle       bool      // do not wait until the workers are known
	Islands    []*Island // that the workers run on, rather than here
}

// Process is a process of the binary under test that is started, killed and started again.
type Process struct {
	t      T
	name   string
	island string // network namespace, or empty
	args   []string
	cmd    *exec.Cmd
	log    *Log
	ended  chan struct{}
}

func startProcess(t T, name, island string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, island: island, args: args, log: &Log{}}
	p.Start()
	t.Cleanup(func() { p.End(syscall.SIGKILL) })
	return p
}

// Start starts it, or starts it again.
func (p *Process) Start() {
	p.t.Helper()
	name, args := Binary(p.t), p.args
	if p.island != "" { // the command takes this process's place
		name, args = "ip", append([]string{"netns", "exec", p.island, name}, args...)
	}
	p.cmd = exec.CommandContext(context.Background(), name, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	ended := make(chan struct{})
	p.ended = ended
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(ended) }(p.cmd)
}

// PID is its process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// End sends a signal and waits for the end.
func (p *Process) End(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// Kill ends it without a chance to tidy up.
func (p *Process) Kill() { p.End(syscall.SIGKILL) }

// Pause stops it until Resume: its connections stay, and nothing moves on them.
func (p *Process) Pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (p *Process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// Log is what it has logged so far.
func (p *Process) Log() string { return p.log.String() }

// FreePorts are ports that nobody listens on at that moment.
func FreePorts(t T, host string, n int) []int {
	t.Helper()
	out := make([]int, n)
	for i := range out {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatalf("find a free port: %v", err)
		}
		defer func() { _ = ln.Close() }()
		out[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return out
}

// StartShuffle starts a master and its workers, and waits until it knows them all.
func StartShuffle(t T, o ShuffleServers) *Shuffle {
	t.Helper()
	s := &Shuffle{t: t, dir: o.Dir, options: o}
	if s.dir == "" {
		s.dir = tempDir(t)
	}
	ports := FreePorts(t, "127.0.0.1", 2)
	s.Address = "127.0.0.1:" + strconv.Itoa(ports[0])
	listen := s.Address
	if len(o.Islands) > 0 {
		listen = fmt.Sprintf("0.0.0.0:%d", ports[0])
	}
	s.Master = startProcess(t, "the shuffle master", "", append([]string{"shuffle", "master", "--listen", listen, "--http", fmt.Sprintf("127.0.0.1:%d", ports[1])}, o.MasterArgs...)...)
	for range o.Workers {
		s.AddWorker()
	}
	if !o.Idle {
		s.Await(o.Workers)
	}
	return s
}

// AddWorker starts one more worker.
func (s *Shuffle) AddWorker(args ...string) *ShuffleWorker {
	s.t.Helper()
	n := len(s.Workers)
	host := "127.0.0.1"
	if n < len(s.options.Hosts) {
		host = s.options.Hosts[n]
	}
	island, master := "", s.Address
	ports := []int{9101, 9102, 9103, 9104, 9105}
	if n < len(s.options.Islands) {
		on := s.options.Islands[n]
		island, host = on.Name, on.Inner
		_, port, _ := net.SplitHostPort(s.Address)
		master = net.JoinHostPort(on.Outer, port)
	} else {
		ports = FreePorts(s.t, host, 5)
	}
	w := &ShuffleWorker{ID: wire.WorkerID{Host: host, RPC: int32(ports[0]), Push: int32(ports[1]), Fetch: int32(ports[2]), Replicate: int32(ports[3])}, HTTP: fmt.Sprintf("%s:%d", host, ports[4])}
	w.args = []string{"shuffle", "worker", "--master", master, "--host", host, "--http", w.HTTP, "--reserve", "0",
		"--rpc-port", strconv.Itoa(ports[0]), "--push-port", strconv.Itoa(ports[1]), "--fetch-port", strconv.Itoa(ports[2]), "--replicate-port", strconv.Itoa(ports[3])}
	for d := range max(s.options.Disks, 1) {
		dir := filepath.Join(s.dir, fmt.Sprintf("worker-%d", n), fmt.Sprintf("disk-%d", d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			s.t.Fatalf("%v", err)
		}
		w.Dirs = append(w.Dirs, dir)
		w.args = append(w.args, "--dir", dir)
	}
	w.args = append(append(w.args, s.options.WorkerArgs...), args...)
	w.Process = startProcess(s.t, "a shuffle worker", island, w.args...)
	s.Workers = append(s.Workers, w)
	return w
}

// Status is what the master says.
func (s *Shuffle) Status() (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := rpc.Dial(ctx, s.Address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	out := &pb.StatusResponse{}
	return out, c.Call(ctx, wire.MasterEndpoint, wire.StatusRequest, &pb.StatusRequest{}, wire.StatusResponse, out)
}

// Await waits until the master offers that many workers.
func (s *Shuffle) Await(n int) {
	s.t.Helper()
	Until(s.t, 20*time.Second, fmt.Sprintf("the shuffle master has %d workers", n), func() bool {
		st, err := s.Status()
		if err != nil {
			select {
			case <-s.Master.ended:
				s.t.Fatalf("the shuffle master ended: %s", s.Master.Log())
			default:
			}
			return false
		}
		have := 0
		for _, w := range st.GetWorkers() {
			if w.GetState() == "available" {
				have++
			}
		}
		return have == n
	})
}

// Logs are the last lines of all processes, for a failure's text.
func (s *Shuffle) Logs() string {
	out := "master: " + lastLines(s.Master.Log(), 30)
	for _, w := range s.Workers {
		out += "\n" + w.ID.String() + ": " + lastLines(w.Log(), 30)
	}
	return out
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Files are what a worker has on its disks.
func (w *ShuffleWorker) Files(t T) (out []string) {
	t.Helper()
	for _, dir := range w.Dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				out = append(out, path)
			}
			if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
				return nil
			}
			return err
		})
		if err != nil {
			t.Fatalf("%v", err)
		}
	}
	return out
}

// Metric is the sum of a metric's values over its labels; 0 if the worker does not answer.
func (w *ShuffleWorker) Metric(name string) (sum float64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.HTTP+"/metrics", nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, _ := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			sum += v
		}
	}
	return sum
}
