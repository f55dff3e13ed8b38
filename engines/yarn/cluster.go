package yarn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/hadoop"
	"github.com/sluicedata/sluice/engines/kept"
)

// Options are what a YARN cluster has to know.
type Options struct {
	Name          string
	Instance      string // a tag that all applications of this instance of ours carry, and nobody else's
	Hadoop        Hadoop
	User          string        // ours: it lists applications and owns what is shared
	Login         *hadoop.Login // how we prove that; nil on a cluster that believes everybody
	Shared        string        // directory on HDFS for the archives of Spark that every user's containers read
	Queue         string
	DriverLabel   string // node label of drivers; empty sends none
	ExecutorLabel string
	Conf          map[string]string // settings of the place: metastore, warehouse
	Closed        bool              // only gateways reach engines there
	// Shuffle is the remote shuffle service for a runtime; nil, or what gives nil, is none.
	Shuffle  func(runtime string) *engines.Shuffle
	Ready    string            // regular expression of the line in which an engine says where it listens; group 1 is host:port
	Lease    time.Duration     // YARN ends an engine that is not renewed for so long
	Ports    engines.Ports     // where engines listen; none lets each find a free port
	Grace    time.Duration     // for how long a submission may take to arrive, until its files are taken for left over
	Poll     time.Duration     // between two looks at how much room there is; 0 is 3 s
	Logs     kept.Dir          // for the logs of drivers that have ended
	Archives map[string]string // by runtime: hdfs://…, Spark's jars, which are there already
	Runtime  func(ctx context.Context, name string, report func(string)) (Runtime, error)
	Log      *slog.Logger
}

// Runtime is a Spark: a distribution on this machine, whose jars are uploaded, or an archive on HDFS.
type Runtime struct{ Home, Archive, Version string }

// Cluster implements engines.Cluster on YARN.
type Cluster struct {
	opt    Options
	access *hadoop.Access
	rm     *rm
	life   context.Context
	end    context.CancelFunc
	wait   sync.WaitGroup

	upload sync.Mutex // one archive at a time
	sweeps sync.Once
	idle   idleClients

	mu       sync.Mutex
	apps     map[engines.Tag]*app
	libs     map[string]Resource // by the runtime's directory, or the shuffle client's file
	watchers engines.Watchers
}

// rmPatience is for how long a cluster without an active ResourceManager is waited for: a restart with recovery takes less.
const rmPatience = time.Minute

// New makes a client of a YARN cluster. It asks nothing yet. From the first List on it removes what crashes have left.
func New(opt Options) (*Cluster, error) {
	a, err := hadoop.NewAccess(opt.User, opt.Login)
	if err != nil {
		return nil, err
	}
	c := &Cluster{opt: opt, access: a, rm: newRM(opt.Hadoop.ResourceManagers, a, rmPatience), apps: map[engines.Tag]*app{}, libs: map[string]Resource{}}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Name implements engines.Cluster.
func (c *Cluster) Name() string { return c.opt.Name }

// Platform implements engines.Cluster: the runtime's jars are on HDFS then.
func (c *Cluster) Platform(ctx context.Context, runtime string, report func(string)) (engines.Platform, error) {
	rt, err := c.opt.Runtime(ctx, runtime, report)
	if err != nil {
		return engines.Platform{}, err
	}
	archive := rt.Archive
	if archive == "" {
		libs, err := c.shareLibs(ctx, rt, report)
		if err != nil {
			return engines.Platform{}, err
		}
		archive = libs.URI
	}
	conf := maps.Clone(c.opt.Conf)
	if conf == nil {
		conf = map[string]string{}
	}
	conf[archiveKey] = archive
	shuffle, err := c.shuffle(ctx, runtime, conf, report)
	if err != nil {
		return engines.Platform{}, err
	}
	return engines.Platform{Version: rt.Version, Closed: c.opt.Closed, Conf: conf, Shuffle: shuffle}, nil
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
	f, err := c.open(c.opt.User)
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }()
	report(fmt.Sprintf("Spark %s is to be at %s: it is uploaded if it is not", rt.Version, c.opt.Hadoop.FS+path.Join(c.opt.Shared, l.name)))
	r, err = hadoop.Patiently(ctx, rmPatience, func() (Resource, error) { return f.share(ctx, c.opt.Shared, l.name, l.write) })
	if err != nil {
		return r, err
	}
	c.mu.Lock()
	c.libs[rt.Home] = r
	c.mu.Unlock()
	return r, nil
}

// Submit implements engines.Cluster. A submission whose answer was lost is found by its tag.
func (c *Cluster) Submit(ctx context.Context, l engines.Launch) (engines.App, error) {
	began := time.Now()
	find := c.find
	if l.Program != nil {
		find = c.batch // one that has ended is not run again
	}
	var a *app
	var id string
	both, asking := errgroup.WithContext(ctx)
	both.Go(func() (err error) { a, err = find(asking, l.Tag); return err })
	both.Go(func() (err error) { id, err = c.rm.newApplication(asking, l.User); return err }) // one that is not used costs nothing
	err := both.Wait()
	if err == nil && a == nil {
		a, err = c.begin(ctx, l, id, began)
	}
	if err != nil && hadoop.Away(err) && !errors.Is(err, engines.ErrAway) { // HDFS
		err = fmt.Errorf("%w: %w", engines.ErrAway, err)
	}
	if err != nil {
		return engines.App{}, fmt.Errorf("submit %s to cluster %s: %w%s", l.Tag, c.opt.Name, err, advise(err.Error(), c.opt.Name, l.User))
	}
	return a.now(), nil
}

// tagOf is a tag as YARN keeps it.
func tagOf(t engines.Tag) string { return engineTag + strings.ToLower(string(t)) }

// engineTag is in front of an engine's own tag.
const engineTag = "sluice-engine-"

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
	all, err := c.rm.withTag(ctx, c.opt.User, tagOf(tag)+","+batchTag+string(tag), live) // either
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return c.follow(tag, all[0], 0), nil
}

// List implements engines.Cluster.
func (c *Cluster) List(ctx context.Context) ([]engines.App, error) {
	all, err := c.rm.withTag(ctx, c.opt.User, c.opt.Instance, live)
	if err != nil {
		return nil, fmt.Errorf("list cluster %s: %w", c.opt.Name, err)
	}
	c.sweeps.Do(func() { c.wait.Go(func() { c.sweepOften(c.life) }) })
	var out []engines.App
	for _, r := range all {
		for _, t := range strings.Split(r.Tags, ",") {
			if tag, ok := strings.CutPrefix(t, engineTag); ok {
				out = append(out, c.follow(engines.Tag(tag), r, 0).now())
			}
		}
	}
	return out, nil
}

// Watch implements engines.Cluster.
func (c *Cluster) Watch(ctx context.Context) (<-chan engines.Event, error) {
	return c.watchers.Watch(ctx), nil
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
	c.idle.forget(true)
	c.access.Close()
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
	page, err := c.container(ctx, a, fmt.Sprintf("/logs/%s?size=%d", stream, n))
	return content(page, stream), err
}

// container asks the NodeManager of a driver's container.
func (c *Cluster) container(ctx context.Context, a *app, what string) (string, error) {
	r := a.report()
	_, after, ok := strings.Cut(r.Logs, "/containerlogs/")
	if r.Host == "" || !ok {
		return "", errors.New("the driver has no container yet")
	}
	id, _, _ := strings.Cut(after, "/")
	return c.rm.text(ctx, c.opt.Hadoop.scheme()+"://"+r.Host+"/ws/v1/node/containers/"+id+what, a.user)
}
