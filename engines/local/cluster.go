// Package local is the smallest cluster there is: this machine. An application is a JVM under a small supervisor
// process of ours, in a directory of its own that holds its log, its status and the socket of its supervisor. All
// that a gateway has to know can be read there again, so a gateway that was killed finds its engines.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// Options are what a local cluster has to know.
type Options struct {
	Name      string
	Dir       string        // holds the applications' directories, the warehouse and the catalogue
	Cores     int           // of each engine; 0 means all
	Lease     time.Duration // engines end when they are not renewed for so long
	Supervise []string      // the command that runs Supervise; the directory is appended
	// Runtime finds what engines of that name run from, fetching it if need be; the empty name is the default one. report
	// tells what takes time.
	Runtime func(ctx context.Context, name string, report func(string)) (Runtime, error)
	// Closed says that only this gateway reaches the ports of this machine.
	Closed bool
	// Shuffle is the remote shuffle service for a runtime; nil, or what gives nil, is none.
	Shuffle func(runtime string) *engines.Shuffle
	Log     *slog.Logger
}

// Runtime is the software of an engine on this machine.
type Runtime struct {
	Home    string // the distribution
	Version string
	Java    string // the java command
}

// Cluster implements engines.Cluster on this machine.
type Cluster struct {
	opt Options

	mu       sync.Mutex
	apps     map[engines.Tag]*app
	wait     sync.WaitGroup
	closed   bool
	meta     metastore
	watchers engines.Watchers
}

// app is an application that this gateway follows.
type app struct {
	conn  net.Conn
	write sync.Mutex
	last  engines.App
	ended chan struct{}
}

// New makes a local cluster. It does not touch the disk.
func New(opt Options) *Cluster {
	return &Cluster{opt: opt, apps: map[engines.Tag]*app{}}
}

// Name implements engines.Cluster.
func (c *Cluster) Name() string { return c.opt.Name }

// Platform implements engines.Cluster. Tables lie in the warehouse directory, and a stock Hive metastore that is
// bound to loopback remembers them, so that they outlive engines and all engines see the same ones.
func (c *Cluster) Platform(ctx context.Context, runtime string, report func(string)) (engines.Platform, error) {
	rt, err := c.opt.Runtime(ctx, runtime, report)
	if err != nil {
		return engines.Platform{}, err
	}
	base := rt
	if runtime != "" {
		if base, err = c.opt.Runtime(ctx, "", report); err != nil {
			return engines.Platform{}, fmt.Errorf("the default runtime, which runs the catalogue: %w", err)
		}
	}
	uri, err := c.metastoreURI(ctx, base)
	if err != nil {
		return engines.Platform{}, err
	}
	shuffle, err := c.shuffle(runtime)
	if err != nil {
		return engines.Platform{}, err
	}
	cores := "*"
	if c.opt.Cores > 0 {
		cores = strconv.Itoa(c.opt.Cores)
	}
	return engines.Platform{Home: rt.Home, Java: rt.Java, Version: rt.Version, Closed: c.opt.Closed, Shuffle: shuffle, Conf: map[string]string{
		"spark.master":                       "local[" + cores + "]",
		"spark.driver.host":                  "127.0.0.1",
		"spark.driver.bindAddress":           "127.0.0.1",
		"spark.connect.grpc.binding.address": "127.0.0.1",
		"spark.sql.warehouse.dir":            "file://" + c.warehouse(),
		"spark.sql.catalogImplementation":    "hive",
		// The catalogue starts beside the first engine and may be ready a little later.
		"spark.hadoop.hive.metastore.connect.retries": "20",
		"spark.hadoop.hive.metastore.uris":            uri,
		"spark.hadoop.fs.permissions.umask-mode":      "077",
	}}, nil
}

// shuffle is the service for a runtime, whose client's jar is on this machine: a JVM says nothing of a class path that leads
// nowhere.
func (c *Cluster) shuffle(runtime string) (*engines.Shuffle, error) {
	if c.opt.Shuffle == nil {
		return nil, nil
	}
	s := c.opt.Shuffle(runtime)
	if s == nil {
		return nil, nil
	}
	if info, err := os.Stat(s.Client); err != nil {
		return nil, fmt.Errorf("%s: %w: put the client's jar there, or correct the name", s.Key, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %s is no file: name the client's jar", s.Key, s.Client)
	}
	return s, nil
}

func (c *Cluster) warehouse() string { return filepath.Join(c.opt.Dir, "warehouse") }

func (c *Cluster) appDir(tag engines.Tag) string {
	return filepath.Join(c.opt.Dir, "apps", string(tag))
}

// command renders the argument list of a launch: every setting is a system property, which is all that a stock main
// class needs. It is pure.
func command(l engines.Launch) []string {
	argv := append([]string{l.Java}, l.JVMOptions...)
	for _, k := range slices.Sorted(maps.Keys(l.Conf)) {
		argv = append(argv, "-D"+k+"="+l.Conf[k])
	}
	for i, p := range l.ClassPath {
		if i == 0 {
			argv = append(argv, "-cp", p)
		} else {
			argv[len(argv)-1] += string(os.PathListSeparator) + p
		}
	}
	return append(append(argv, l.MainClass), l.Args...)
}

// Submit implements engines.Cluster.
func (c *Cluster) Submit(ctx context.Context, l engines.Launch) (engines.App, error) {
	if l.Program != nil {
		return engines.App{}, fmt.Errorf("submit %s to cluster %s: this machine runs no batches yet: name a cluster of kind yarn", l.Tag, c.opt.Name)
	}
	if err := c.startMetastore(ctx); err != nil {
		return engines.App{}, err
	}
	return c.submit(ctx, l)
}

func (c *Cluster) submit(ctx context.Context, l engines.Launch) (engines.App, error) {
	dir := c.appDir(l.Tag)
	if a, err := c.follow(ctx, dir); err == nil { // it runs already
		return a, nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return engines.App{}, err
	}
	defer unlock()
	if a, err := c.follow(ctx, dir); err == nil { // another gateway was quicker
		return a, nil
	}
	c.prune()
	if err := c.stage(dir, l); err != nil {
		return engines.App{}, fmt.Errorf("submit %s to cluster %s: %w", l.Tag, c.opt.Name, err)
	}
	argv := append(slices.Clone(c.opt.Supervise), dir)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it must outlive us and whoever started us
	cmd.Env = engineEnv(os.Environ())
	var complaint limited
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return engines.App{}, fmt.Errorf("start the supervisor of %s: %w", l.Tag, err)
	}
	gone := make(chan struct{})
	c.wait.Add(1)
	go func() { defer c.wait.Done(); _ = cmd.Wait(); close(gone) }()
	for {
		a, err := c.follow(ctx, dir)
		if err == nil {
			return a, nil
		}
		select {
		case <-gone:
			if a, err := c.ended(dir); err == nil {
				return a, nil // it was quicker than we
			}
			return engines.App{}, fmt.Errorf("the supervisor of %s ended: %s", l.Tag, complaint.String())
		case <-ctx.Done():
			return engines.App{}, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond): // until its socket is there
		}
	}
}

// engineEnv is our environment without what configures us: whoever runs SQL can read an engine's environment, and our
// master secret may be in ours.
func engineEnv(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool { return strings.HasPrefix(v, "SLUICE_") })
}

// stage writes what the supervisor needs into the application's directory.
func (c *Cluster) stage(dir string, l engines.Launch) error {
	for _, d := range []string{filepath.Join(dir, "tmp"), c.warehouse()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	for name, content := range l.Files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	if l.Conf == nil {
		l.Conf = map[string]string{}
	}
	l.Conf = maps.Clone(l.Conf)
	l.Conf["java.io.tmpdir"] = filepath.Join(dir, "tmp")
	o := order{Tag: l.Tag, Name: l.Name, Argv: command(l), Ready: l.Ready, Lease: c.opt.Lease,
		Env: []string{"SPARK_LOCAL_DIRS=" + filepath.Join(dir, "tmp"), "SPARK_LOCAL_IP=127.0.0.1"}}
	for k, v := range l.Env {
		o.Env = append(o.Env, k+"="+v)
	}
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, orderFile), data, 0o600)
}

// Watch implements engines.Cluster.
func (c *Cluster) Watch(ctx context.Context) (<-chan engines.Event, error) {
	return c.watchers.Watch(ctx), nil
}

// List implements engines.Cluster.
func (c *Cluster) List(ctx context.Context) ([]engines.App, error) {
	entries, err := os.ReadDir(filepath.Join(c.opt.Dir, "apps"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cluster %s: %w", c.opt.Name, err)
	}
	var apps []engines.App
	for _, e := range entries {
		if e.Name() == metastoreTag {
			continue
		}
		a, err := c.follow(ctx, c.appDir(engines.Tag(e.Name())))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && a.State != engines.Ended {
			apps = append(apps, a)
		}
	}
	return apps, nil
}

func (c *Cluster) ask(ctx context.Context, tag engines.Tag, req request) (*app, error) {
	if _, err := c.follow(ctx, c.appDir(tag)); err != nil {
		return nil, nil // nobody there: it is gone
	}
	c.mu.Lock()
	a := c.apps[tag]
	c.mu.Unlock()
	if a == nil {
		return nil, nil
	}
	a.write.Lock()
	defer a.write.Unlock()
	_, err := fmt.Fprintf(a.conn, "%q\n", string(req))
	return a, err
}

// Kill implements engines.Cluster.
func (c *Cluster) Kill(ctx context.Context, tag engines.Tag) error {
	a, err := c.ask(ctx, tag, endNow)
	if a == nil {
		return err
	}
	select {
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end %s: %w", tag, context.Cause(ctx))
	}
}

// Renew implements engines.Cluster. Whatever keeps an engine alive keeps the catalogue alive too.
func (c *Cluster) Renew(ctx context.Context, tag engines.Tag) error {
	if err := c.startMetastore(ctx); err != nil {
		return err
	}
	if _, err := c.ask(ctx, metastoreTag, renewLease); err != nil {
		return err
	}
	_, err := c.ask(ctx, tag, renewLease)
	return err
}

// Log implements engines.Cluster.
func (c *Cluster) Log(_ context.Context, tag engines.Tag, n int) (string, error) {
	f, err := os.Open(filepath.Join(c.appDir(tag), logFile))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > int64(n) {
		if _, err := f.Seek(-int64(n), io.SeekEnd); err != nil {
			return "", err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(n)))
	return string(data), err
}

// Close ends the catalogue if no engine is left that needs it, and waits for our own goroutines.
func (c *Cluster) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*termGrace)
	defer cancel()
	apps, err := c.List(ctx)
	if err == nil && len(apps) == 0 {
		err = c.Kill(ctx, metastoreTag)
	}
	c.mu.Lock()
	c.closed = true
	for _, a := range c.apps {
		_ = a.conn.Close()
	}
	left := len(c.apps)
	c.mu.Unlock()
	if left == 0 { // otherwise supervisors of ours live on, and somebody waits for each
		c.wait.Wait()
	}
	return err
}

// limited keeps the first bytes of what is written to it.
type limited struct {
	mu  sync.Mutex
	buf []byte
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p[:min(len(p), 4096-len(l.buf))]...)
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
