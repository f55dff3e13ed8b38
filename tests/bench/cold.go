//go:build e2e

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/tests/testbed"
)

// cold is from the start of an engine to the first row: asked for by a session that wants one of its own, and by hand,
// with the same command.
func (f *field) cold() []Figure {
	h := f.recipe()
	return race("cold engine to first row", "s", 1, 5,
		runner{"by hand", nil, func() float64 { return h.run(f) }},
		runner{"gateway", nil, func() float64 {
			before := f.gateway.Engines()
			began := time.Now()
			c := testbed.DialHS2(f.t, f.gateway.Thrift, "bench", "x", map[string]string{"sluice.engine.share": "connection"})
			f.thriftRows(c, one, 1000)
			took := time.Since(began).Seconds()
			_ = c.Conn.Close()
			testbed.Until(f.t, time.Minute, "the engine has ended", func() bool { return len(f.gateway.Engines()) == len(before) })
			return took
		}})
}

// hand is all that is needed to start an engine like the one that runs.
type hand struct {
	argv, env []string
	files     string // its directory
}

func (f *field) recipe() hand {
	read := func(name string) []string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", f.jvm, name))
		if err != nil {
			f.t.Fatalf("%v", err)
		}
		return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", f.jvm))
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	return hand{argv: read("cmdline"), env: read("environ"), files: dir}
}

var started = regexp.MustCompile(`Spark Connect server started at: (\S+:\d+)`)

func (h hand) run(f *field) float64 {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	log, err := os.ReadFile(filepath.Join(h.files, "log4j2.properties"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "log4j2.properties"), log, 0o600)
	}
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	cmd := exec.CommandContext(context.Background(), h.argv[0], h.argv[1:]...)
	cmd.Dir, cmd.Env = dir, h.env
	said, err := cmd.StderrPipe()
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		f.t.Fatalf("%v", err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	var address string
	lines := bufio.NewScanner(said)
	for address == "" && lines.Scan() {
		if m := started.FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	go func() { // whatever else it says
		for lines.Scan() {
		}
	}()
	const token = "SPARK_CONNECT_AUTHENTICATE_TOKEN="
	i := slices.IndexFunc(h.env, func(v string) bool { return strings.HasPrefix(v, token) })
	e, err := spark.Driver{}.Dial(context.Background(), engines.Endpoint{Address: address, Token: strings.TrimPrefix(h.env[i], token)})
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	defer func() { _ = e.Close() }()
	s, err := e.OpenSession(context.Background(), engines.SessionSpec{ID: uuid.New(), User: "bench"})
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	f.connectRows(s, one)
	return time.Since(began).Seconds()
}
