// Package local is the smallest cluster there is: this machine. An application is a JVM under a small supervisor
// process of ours, in a directory of its own that holds its log, its status and the socket of its supervisor. All
// that a gateway has to know can be read there again, so a gateway that was killed finds its engines.
package local

import (
	"bufio"
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
	"sort"
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
	// Home finds the engine's distribution, fetching it if need be; report tells what takes time.
	Home func(ctx context.Context, report func(string)) (string, error)
	Java func() (string, error) // finds a java command that is new enough
	Log  *slog.Logger
}

// Cluster implements engines.Cluster on this machine.
type Cluster struct {
	opt Options

	mu       sync.Mutex
	apps     map[engines.Tag]*app
	watchers map[chan engines.Event]struct{}
	wait     sync.WaitGroup
	closed   bool
	meta     metastore
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
	return &Cluster{opt: opt, apps: map[engines.Tag]*app{}, watchers: map[chan engines.Event]struct{}{}}
}

// Name implements engines.Cluster.
func (c *Cluster) Name() string { return c.opt.Name }

// Platform implements engines.Cluster. Tables lie in the warehouse directory, and a stock Hive metastore that is
// bound to loopback remembers them, so that they outlive engines and all engines see the same ones.
func (c *Cluster) Platform(ctx context.Context, report func(string)) (engines.Platform, error) {
	java, err := c.opt.Java()
	if err != nil {
		return engines.Platform{}, err
	}
	home, err := c.opt.Home(ctx, report)
	if err != nil {
		return engines.Platform{}, err
	}
	uri, err := c.metastoreURI(ctx, java, home)
	if err != nil {
		return engines.Platform{}, err
	}
	cores := "*"
	if c.opt.Cores > 0 {
		cores = strconv.Itoa(c.opt.Cores)
	}
	return engines.Platform{Home: home, Java: java, Conf: map[string]string{
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

// dial reaches the supervisor of a directory. Socket paths may not be longer than about a hundred bytes, so the
// directory is named by a descriptor of ours.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile))
}

// follow attaches to a running application, once.
func (c *Cluster) follow(ctx context.Context, dir string) (engines.App, error) {
	tag := engines.Tag(filepath.Base(dir))
	c.mu.Lock()
	known := c.apps[tag]
	c.mu.Unlock()
	if known != nil {
		return c.current(known), nil
	}
	conn, err := dial(ctx, dir)
	if err != nil {
		return engines.App{}, err
	}
	lines := bufio.NewReader(conn)
	first, err := readStatus(lines)
	if err != nil {
		_ = conn.Close()
		return engines.App{}, err
	}
	now := c.describe(first)
	a := &app{conn: conn, last: now, ended: make(chan struct{})}
	c.mu.Lock()
	if other := c.apps[tag]; other != nil {
		c.mu.Unlock()
		_ = conn.Close()
		return c.current(other), nil
	}
	c.apps[tag] = a
	c.wait.Add(1)
	c.mu.Unlock()
	c.tell(now)
	go c.listen(a, lines, dir)
	return now, nil
}

func (c *Cluster) current(a *app) engines.App {
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.last
}

func readStatus(r *bufio.Reader) (status, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return status{}, err
	}
	var st status
	return st, json.Unmarshal(line, &st)
}

// listen passes on what the supervisor tells until it is gone.
func (c *Cluster) listen(a *app, lines *bufio.Reader, dir string) {
	defer c.wait.Done()
	for {
		st, err := readStatus(lines)
		if err != nil {
			break
		}
		c.update(a, c.describe(st))
	}
	_ = a.conn.Close()
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed { // it was us who stopped listening
		return
	}
	end, err := c.ended(dir)
	if err != nil || end.State != engines.Ended {
		end = c.current(a)
		end.State, end.Address, end.Reason = engines.Ended, "", "its supervisor was killed"
	}
	c.mu.Lock()
	if c.apps[end.Tag] == a {
		delete(c.apps, end.Tag)
	}
	c.mu.Unlock()
	c.update(a, end)
	close(a.ended)
}

func (c *Cluster) update(a *app, now engines.App) {
	c.mu.Lock()
	same := a.last == now
	a.last = now
	c.mu.Unlock()
	if !same {
		c.tell(now)
	}
}

func (c *Cluster) describe(st status) engines.App {
	return engines.App{Tag: st.Tag, State: st.State, Address: st.Address, Reason: st.Reason,
		Log: filepath.Join(c.appDir(st.Tag), logFile)}
}

// ended reads the last word of an application whose supervisor is gone.
func (c *Cluster) ended(dir string) (engines.App, error) {
	data, err := os.ReadFile(filepath.Join(dir, statusFile))
	if err != nil {
		return engines.App{}, err
	}
	var st status
	if err := json.Unmarshal(data, &st); err != nil {
		return engines.App{}, err
	}
	return c.describe(st), nil
}

func (c *Cluster) tell(a engines.App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.watchers {
		select {
		case ch <- engines.Event{App: a}:
		default: // a watcher that sleeps is woken by its next List; states are told again on change
			c.opt.Log.Warn("a watcher of the local cluster does not keep up", "app", a.Tag)
		}
	}
}

// Watch implements engines.Cluster.
func (c *Cluster) Watch(ctx context.Context) (<-chan engines.Event, error) {
	ch := make(chan engines.Event, 1024)
	c.mu.Lock()
	c.watchers[ch] = struct{}{}
	c.mu.Unlock()
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, ch)
		close(ch)
	})
	return ch, nil
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

// keepEnded is how many directories of ended applications stay, for their logs.
const keepEnded = 20

// prune removes the oldest directories of ended applications.
func (c *Cluster) prune() {
	entries, err := os.ReadDir(filepath.Join(c.opt.Dir, "apps"))
	if err != nil {
		return
	}
	type old struct {
		dir string
		at  time.Time
	}
	var gone []old
	for _, e := range entries {
		dir := c.appDir(engines.Tag(e.Name()))
		info, err := os.Stat(filepath.Join(dir, statusFile))
		if err != nil || e.Name() == metastoreTag {
			continue
		}
		if a, err := c.ended(dir); err == nil && a.State == engines.Ended {
			gone = append(gone, old{dir, info.ModTime()})
		}
	}
	sort.Slice(gone, func(i, j int) bool { return gone[i].at.After(gone[j].at) })
	for i, g := range gone {
		_ = os.RemoveAll(filepath.Join(g.dir, "tmp"))
		if i >= keepEnded {
			_ = os.RemoveAll(g.dir)
		}
	}
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
