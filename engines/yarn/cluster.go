package yarn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// Options are what a YARN cluster has to know.
type Options struct {
	Name             string
	Instance         string   // a tag that all applications of this instance of ours carry, and nobody else's
	ResourceManagers []string // http://host:port; one of them is active
	NameNodes        []string // host:port
	FS               string   // hdfs://host:port, as containers reach it
	// HadoopConf are the cluster's client configuration files by name; drivers and executors get them.
	HadoopConf    map[string]string
	User          string // ours: it lists applications and owns what is shared
	Shared        string // directory on HDFS for the archives of Spark that every user's containers read
	Queue         string
	DriverLabel   string // node label of drivers; empty sends none
	ExecutorLabel string
	Conf          map[string]string // settings of the place: metastore, warehouse
	Closed        bool              // only gateways reach engines there
	Ready         string            // regular expression of the line in which an engine says where it listens; group 1 is host:port
	Lease         time.Duration     // YARN ends an engine that is not renewed for so long
	Runtime       func(ctx context.Context, name string, report func(string)) (Runtime, error)
	Log           *slog.Logger
}

// Runtime is a distribution of Spark on this machine, whose jars are uploaded.
type Runtime struct{ Home, Version string }

// Cluster implements engines.Cluster on YARN.
type Cluster struct {
	opt  Options
	rm   *rm
	life context.Context
	end  context.CancelFunc
	wait sync.WaitGroup

	upload sync.Mutex // one archive at a time

	mu       sync.Mutex
	apps     map[engines.Tag]*app
	libs     map[string]Resource // by the runtime's directory
	watchers map[chan engines.Event]struct{}
}

// rmPatience is for how long a cluster without an active ResourceManager is waited for: a restart with recovery takes less.
const rmPatience = time.Minute

// New makes a client of a YARN cluster. It asks nothing yet.
func New(opt Options) *Cluster {
	c := &Cluster{opt: opt, rm: newRM(opt.ResourceManagers, rmPatience), apps: map[engines.Tag]*app{}, libs: map[string]Resource{},
		watchers: map[chan engines.Event]struct{}{}}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// Name implements engines.Cluster.
func (c *Cluster) Name() string { return c.opt.Name }

// Platform implements engines.Cluster: the runtime's jars are on HDFS then.
func (c *Cluster) Platform(ctx context.Context, runtime string, report func(string)) (engines.Platform, error) {
	rt, err := c.opt.Runtime(ctx, runtime, report)
	if err != nil {
		return engines.Platform{}, err
	}
	libs, err := c.shareLibs(ctx, rt, report)
	if err != nil {
		return engines.Platform{}, err
	}
	conf := maps.Clone(c.opt.Conf)
	if conf == nil {
		conf = map[string]string{}
	}
	conf[archiveKey] = libs.URI
	return engines.Platform{Version: rt.Version, Closed: c.opt.Closed, Conf: conf}, nil
}

// archiveKey is Spark's own setting for its jars.
const archiveKey = "spark.yarn.archive"

func (c *Cluster) shareLibs(ctx context.Context, rt Runtime, report func(string)) (Resource, error) {
	c.upload.Lock()
	defer c.upload.Unlock()
	c.mu.Lock()
	r, known := c.libs[rt.Home]
	c.mu.Unlock()
	if known {
		return r, nil
	}
	l, err := readLibrary(rt.Home, rt.Version)
	if err != nil {
		return r, err
	}
	f, err := openFiles(c.opt.NameNodes, c.opt.FS, c.opt.User)
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }()
	report(fmt.Sprintf("Spark %s is to be at %s: it is uploaded if it is not", rt.Version, c.opt.FS+path.Join(c.opt.Shared, l.name)))
	if r, err = f.share(ctx, c.opt.Shared, l.name, l.write); err != nil {
		return r, err
	}
	c.mu.Lock()
	c.libs[rt.Home] = r
	c.mu.Unlock()
	return r, nil
}

// Submit implements engines.Cluster. A submission whose answer was lost is found by its tag.
func (c *Cluster) Submit(ctx context.Context, l engines.Launch) (engines.App, error) {
	find := c.find
	if l.Program != nil {
		find = c.batch // one that has ended is not run again
	}
	a, err := find(ctx, l.Tag)
	if err == nil && a == nil {
		a, err = c.begin(ctx, l)
	}
	if err != nil {
		return engines.App{}, fmt.Errorf("submit %s to cluster %s: %w%s", l.Tag, c.opt.Name, err, advise(err.Error(), c.opt.Name, l.User))
	}
	return a.now(), nil
}

// begin submits what is not there yet.
func (c *Cluster) begin(ctx context.Context, l engines.Launch) (*app, error) {
	id, err := c.rm.newApplication(ctx, l.User)
	if err != nil {
		return nil, err
	}
	failed := c.submit(ctx, l, id)
	// 202 proves nothing: another user may have had the id, or nobody. No answer proves nothing either.
	r, err := c.rm.app(context.WithoutCancel(ctx), l.User, id)
	if failed != nil && err != nil {
		if errors.Is(err, errNoApp) {
			c.tidy(l.User, id)
		}
		return nil, failed
	}
	if err == nil && (r.User != l.User || !slices.Contains(strings.Split(r.Tags, ","), markOf(l))) {
		err = fmt.Errorf("%s is another application of %s", id, r.User)
	}
	if err != nil {
		return nil, err
	}
	return c.follow(l.Tag, r), nil
}

func (c *Cluster) submit(ctx context.Context, l engines.Launch, id string) error {
	f, err := openFiles(c.opt.NameNodes, c.opt.FS, l.User)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	libs, err := f.resource(libsLink, strings.TrimPrefix(l.Conf[archiveKey], c.opt.FS))
	if err != nil {
		return fmt.Errorf("%s: %w", archiveKey, err)
	}
	libs.Archive, libs.Public = true, true
	home := path.Join("/user", l.User)
	dir := path.Join(home, ".sparkStaging", id)
	brought, err := f.bring(ctx, dir, l.User, l.Program)
	if err != nil {
		return err
	}
	site := Site{Queue: c.opt.Queue, DriverLabel: c.opt.DriverLabel, ExecutorLabel: c.opt.ExecutorLabel,
		Tags: []string{c.opt.Instance, markOf(l)}, Resources: append([]Resource{libs}, brought...), HadoopConf: c.opt.HadoopConf}
	staging, conf, err := f.stageConf(ctx, home, id, confFiles(l, site, c.opt.FS+dir))
	if err != nil {
		return err
	}
	body, err := submission(l, site, id, staging, conf)
	if err != nil {
		return err
	}
	return c.rm.submit(ctx, l.User, body)
}

// tagOf is a tag as YARN keeps it.
func tagOf(t engines.Tag) string { return engineTag + strings.ToLower(string(t)) }

// engineTag is in front of an engine's own tag.
const engineTag = "sluice-engine-"

// tidy removes what an application that never ran has left on HDFS; one that ran has done so itself.
func (c *Cluster) tidy(user, id string) {
	f, err := openFiles(c.opt.NameNodes, c.opt.FS, user)
	if err == nil {
		defer func() { _ = f.Close() }()
		err = f.RemoveAll(path.Join("/user", user, ".sparkStaging", id))
	}
	if err != nil {
		c.opt.Log.Warn("cannot remove an application's staging directory", "cluster", c.opt.Name, "application", id, "error", err)
	}
}

// find returns the application of a tag, if it has not ended.
func (c *Cluster) find(ctx context.Context, tag engines.Tag) (*app, error) {
	c.mu.Lock()
	a := c.apps[tag]
	c.mu.Unlock()
	if a != nil {
		if a.now().State == engines.Ended {
			a = nil
		}
		return a, nil
	}
	all, err := c.rm.withTag(ctx, c.opt.User, tagOf(tag)+","+batchTag+string(tag)) // either
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return c.follow(tag, all[0]), nil
}

// List implements engines.Cluster.
func (c *Cluster) List(ctx context.Context) ([]engines.App, error) {
	all, err := c.rm.withTag(ctx, c.opt.User, c.opt.Instance)
	if err != nil {
		return nil, fmt.Errorf("list cluster %s: %w", c.opt.Name, err)
	}
	var out []engines.App
	for _, r := range all {
		for _, t := range strings.Split(r.Tags, ",") {
			if tag, ok := strings.CutPrefix(t, engineTag); ok {
				out = append(out, c.follow(engines.Tag(tag), r).now())
			}
		}
	}
	return out, nil
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

func (c *Cluster) tell(a engines.App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.watchers {
		select {
		case ch <- engines.Event{App: a}:
		default: // it is told the next change, and asks for the list from time to time
		}
	}
}

// Kill implements engines.Cluster.
func (c *Cluster) Kill(ctx context.Context, tag engines.Tag) error {
	a, err := c.find(ctx, tag)
	if err != nil || a == nil {
		return err
	}
	tick := time.NewTicker(killPause)
	defer tick.Stop()
	for {
		ended, err := c.rm.kill(ctx, a.user, a.id)
		if err != nil {
			return fmt.Errorf("end %s: %w", a.id, err)
		}
		if ended {
			break
		}
		select {
		case <-tick.C:
		case <-a.ended:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("end %s: %w", a.id, context.Cause(ctx))
		}
	}
	select {
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end %s: %w", a.id, context.Cause(ctx))
	}
}

// killPause is between two looks whether an application that was killed has ended.
const killPause = 300 * time.Millisecond

// Renew implements engines.Cluster.
func (c *Cluster) Renew(ctx context.Context, tag engines.Tag) error {
	a, err := c.find(ctx, tag)
	if err != nil || a == nil {
		return err
	}
	return c.rm.until(ctx, a.user, a.id, time.Now().Add(c.opt.Lease))
}

// Log implements engines.Cluster.
func (c *Cluster) Log(ctx context.Context, tag engines.Tag, n int) (string, error) {
	c.mu.Lock()
	a := c.apps[tag]
	c.mu.Unlock()
	if a == nil {
		return "", fmt.Errorf("cluster %s does not know %s", c.opt.Name, tag)
	}
	if text, err := c.tail(ctx, a, n); err == nil {
		return text, nil
	}
	a.mu.Lock() // the container is gone, and its log with it
	defer a.mu.Unlock()
	return a.kept[max(0, len(a.kept)-n):], nil
}

// Close implements engines.Cluster.
func (c *Cluster) Close() error {
	c.end()
	c.wait.Wait()
	return nil
}

// readyAt finds the port in the line with which an engine says that it listens.
func readyAt(ready, log string) (port string, ok bool) {
	re, err := regexp.Compile(ready)
	if err != nil {
		return "", false
	}
	m := re.FindStringSubmatch(log)
	if m == nil {
		return "", false
	}
	_, port, err = net.SplitHostPort(m[1])
	if err != nil { // an IPv6 address without brackets
		port = m[1][strings.LastIndex(m[1], ":")+1:]
	}
	return port, true
}

// tail reads the end of a driver's log from its NodeManager, which has it as long as the application runs.
func (c *Cluster) tail(ctx context.Context, a *app, n int) (string, error) {
	return c.readLog(ctx, a, "stderr", -n)
}

// readLog reads n bytes of what a driver has written to stderr or stdout from its beginning, or, if n is negative, from its end.
func (c *Cluster) readLog(ctx context.Context, a *app, stream string, n int) (string, error) {
	a.mu.Lock()
	r := a.seen
	a.mu.Unlock()
	_, after, ok := strings.Cut(r.Logs, "/containerlogs/")
	if r.Host == "" || !ok {
		return "", errors.New("the driver has no container yet")
	}
	container, _, _ := strings.Cut(after, "/")
	u := fmt.Sprintf("http://%s/ws/v1/node/containers/%s/logs/%s?size=%d&user.name=%s", r.Host, container, stream, n, url.QueryEscape(a.user))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", err
	}
	page, err := c.rm.text(req)
	return content(page, stream), err
}
