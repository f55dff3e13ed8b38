package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// SuperviseCommand is the subcommand of our binary that calls Supervise.
const SuperviseCommand = "supervise"

// The files of an application's directory.
const (
	orderFile  = "order.json" // what to run; it holds the token, so the supervisor removes it once read
	statusFile = "status.json"
	logFile    = "engine.log"
	socketFile = "control"
)

// termGrace is how long an engine may take to end when asked; then it is killed.
const termGrace = 5 * time.Second

// lastWords is how long an ended engine's output may still come.
const lastWords = time.Second

// order is what a supervisor is told to run.
type order struct {
	Tag   engines.Tag
	Name  string
	Argv  []string
	Env   []string
	Ready string        // regular expression of the log line that tells the address
	Lease time.Duration // the application ends when it is not renewed for so long
}

// status is what a supervisor tells about its application: over its socket while it lives, in a file afterwards.
type status struct {
	Tag     engines.Tag   `json:"tag"`
	Name    string        `json:"name"`
	State   engines.State `json:"state"`
	Address string        `json:"address,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	PID     int           `json:"pid,omitempty"`
}

// request is what a gateway asks of a supervisor, one JSON object a line.
type request string

const (
	renewLease request = "renew"
	endNow     request = "end"
)

// supervisor is the parent process of one JVM. A stock engine never ends by itself, so somebody has to end it when the
// gateway that wanted it is gone for good; the supervisor is that somebody, and it outlives the gateway.
type supervisor struct {
	dir   string
	order order
	cmd   *exec.Cmd
	lease *time.Timer
	end   chan string // a reason to end the application

	mu       sync.Mutex
	status   status
	watchers map[net.Conn]struct{}
}

// Supervise runs the application that the order in dir describes, in the process group of this process, until it ends,
// is told to end, or is not renewed. At the end it kills whatever is left of the group, itself included.
func Supervise(dir string) error {
	if err := os.Chdir(dir); err != nil { // the socket's path must be short, and the engine's working directory is here
		return fmt.Errorf("supervise: %w", err)
	}
	s := &supervisor{dir: dir, end: make(chan string, 1), watchers: map[net.Conn]struct{}{}}
	if err := s.readOrder(); err != nil {
		return err
	}
	ready, err := regexp.Compile(s.order.Ready)
	if err != nil {
		return fmt.Errorf("supervise %s: ready: %w", s.order.Tag, err)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "unix", socketFile)
	if err != nil {
		return fmt.Errorf("supervise %s: %w", s.order.Tag, err)
	}
	s.lease = time.AfterFunc(s.order.Lease, func() {
		s.ask(fmt.Sprintf("its lease ended: no gateway renewed it for %s", s.order.Lease))
	})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { s.ask("signal: " + (<-signals).String()) }()
	go s.serve(listener)
	s.run(ready)
	_ = listener.Close()
	return syscall.Kill(-syscall.Getpgrp(), syscall.SIGKILL)
}

func (s *supervisor) readOrder() error {
	data, err := os.ReadFile(orderFile)
	if err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	if err := json.Unmarshal(data, &s.order); err != nil {
		return fmt.Errorf("supervise: read %s: %w", filepath.Join(s.dir, orderFile), err)
	}
	s.status = status{Tag: s.order.Tag, Name: s.order.Name, State: engines.Starting}
	return os.Remove(orderFile)
}

// run starts the JVM and stays until it is gone.
func (s *supervisor) run(ready *regexp.Regexp) {
	// The kernel kills the JVM when the thread that started it ends, so this goroutine keeps its thread.
	runtime.LockOSThread()
	out, log, err := s.start()
	if err != nil {
		s.set(func(st *status) { st.State, st.Reason = engines.Ended, err.Error() })
		return
	}
	logged, exited := make(chan struct{}), make(chan string, 1)
	go func() { defer close(logged); s.follow(out, log, ready) }()
	go func() { exited <- exitReason(s.cmd.Wait()) }()
	var reason string
	select {
	case reason = <-exited:
	case reason = <-s.end:
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(termGrace):
			_ = s.cmd.Process.Kill()
			<-exited
		}
	}
	select {
	case <-logged:
	case <-time.After(lastWords): // a process that the engine left behind holds the pipe; it ends with the group
	}
	s.set(func(st *status) { st.State, st.Address, st.Reason = engines.Ended, "", reason })
}

func (s *supervisor) start() (io.Reader, *os.File, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	s.cmd = exec.CommandContext(context.Background(), s.order.Argv[0], s.order.Argv[1:]...)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = append(os.Environ(), s.order.Env...), in, in
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = s.cmd.Start()
	_ = in.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", s.order.Argv[0], err)
	}
	s.set(func(st *status) { st.PID = s.cmd.Process.Pid })
	return out, log, nil
}

// follow copies the engine's output into its log and takes the address out of it.
func (s *supervisor) follow(out io.Reader, log *os.File, ready *regexp.Regexp) {
	r := bufio.NewReaderSize(out, 64<<10)
	found := false
	for {
		line, err := r.ReadSlice('\n')
		_, _ = log.Write(line)
		if !found {
			if m := ready.FindSubmatch(line); m != nil {
				found = true
				s.set(func(st *status) { st.State, st.Address = engines.Running, reachable(string(m[1])) })
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			_ = log.Close()
			return
		}
	}
}

// reachable makes an address for clients on this machine of the one that a server tells: one that listens on every
// interface names none of them, and Java writes it as 0:0:0:0:0:0:0:0%0:21035.
func reachable(told string) string {
	colon := strings.LastIndex(told, ":")
	if colon < 0 {
		return told
	}
	host, _, _ := strings.Cut(strings.Trim(told[:colon], "[]"), "%")
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsUnspecified() {
		return told
	}
	return net.JoinHostPort("127.0.0.1", told[colon+1:])
}

func exitReason(err error) string {
	if err == nil {
		return "its process ended by itself"
	}
	return "its process ended: " + err.Error()
}

func (s *supervisor) ask(reason string) {
	select {
	case s.end <- reason:
	default: // it is ending already
	}
}

// set changes the status, keeps it in its file and tells it to every gateway that listens.
func (s *supervisor) set(change func(*status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
	data, err := json.Marshal(s.status)
	if err != nil {
		return
	}
	_ = os.WriteFile(statusFile+".new", data, 0o600)
	_ = os.Rename(statusFile+".new", statusFile)
	for conn := range s.watchers {
		_, _ = conn.Write(append(data, '\n'))
	}
}

func (s *supervisor) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.gateway(conn)
	}
}

// gateway serves one gateway: the status now and at each change, renewals and the end on request.
func (s *supervisor) gateway(conn net.Conn) {
	s.mu.Lock()
	data, _ := json.Marshal(s.status)
	_, _ = conn.Write(append(data, '\n'))
	s.watchers[conn] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, conn)
		s.mu.Unlock()
		_ = conn.Close()
	}()
	for dec := json.NewDecoder(conn); ; {
		var req request
		if dec.Decode(&req) != nil {
			return
		}
		switch req {
		case renewLease:
			s.lease.Reset(s.order.Lease)
		case endNow:
			s.ask("it was told to end")
		}
	}
}
