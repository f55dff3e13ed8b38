package yarn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/hadoop"
)

// begin submits what is not there yet, under an id that YARN has given.
func (c *Cluster) begin(ctx context.Context, l engines.Launch, id string, began time.Time) (*app, error) {
	r, failed, err := c.submit(ctx, l, id)
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
	return c.follow(l.Tag, r, time.Since(began)), nil
}

// submit submits an application and asks for it: 202 proves nothing, another user may have had the id, or nobody; and no answer
// proves nothing either. failed is what the submission met, err what the question did.
func (c *Cluster) submit(ctx context.Context, l engines.Launch, id string) (r report, failed, err error) {
	body, failed := hadoop.Patiently(ctx, rmPatience, func() (application, error) {
		body, err := c.stage(ctx, l, id)
		if hadoop.Away(err) {
			c.idle.forget(false)
		}
		return body, err
	})
	began := time.Now()
	for {
		if failed == nil {
			failed = c.rm.submit(ctx, l.User, body)
		}
		r, err = c.rm.app(context.WithoutCancel(ctx), l.User, id)
		var refused *refusal
		again := failed != nil && body.ID != "" && !errors.As(failed, &refused) && errors.Is(err, errNoApp)
		if !again || ctx.Err() != nil || time.Since(began) > rmPatience {
			return r, failed, err
		}
		failed = nil // the ResourceManager is there, and has not heard of it
		select {
		case <-time.After(lookPending):
		case <-ctx.Done():
		}
	}
}

// stage writes what an application needs on HDFS, and renders its submission.
func (c *Cluster) stage(ctx context.Context, l engines.Launch, id string) (application, error) {
	var marked errgroup.Group // it has to be there before the first file
	marked.Go(func() error { return c.mark(l.User, id) })
	f, err := c.open(l.User)
	if err != nil {
		return application{}, errors.Join(err, marked.Wait())
	}
	defer func() { _ = f.Close() }()
	libs, err := f.resource(libsLink, strings.TrimPrefix(l.Conf[archiveKey], c.opt.Hadoop.FS))
	if errors.Is(err, fs.ErrNotExist) {
		c.forgetLibs()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", archiveKey, err)
	}
	if err = errors.Join(err, marked.Wait()); err != nil {
		return application{}, err
	}
	libs.Archive, libs.Public = true, true
	shared := []Resource{libs}
	if l.Conf[clientKey] != "" {
		client, err := f.shuffleClient(l.Conf[clientKey], l.User)
		if err != nil {
			c.forgetLibs()
			return application{}, err
		}
		shared = append(shared, client)
	}
	home := path.Join("/user", l.User)
	dir := path.Join(home, ".sparkStaging", id)
	brought, err := f.bring(ctx, dir, l.User, l.Program)
	if err != nil {
		return application{}, err
	}
	site := Site{Queue: cmp.Or(l.Conf["spark.yarn.queue"], c.opt.Queue), DriverLabel: c.opt.DriverLabel, ExecutorLabel: c.opt.ExecutorLabel, Viewer: c.opt.User,
		Tags: []string{c.opt.Instance, markOf(l)}, Resources: append(shared, brought...), HadoopConf: c.opt.Hadoop.Files}
	if l.Program == nil {
		site.Port = c.port(l.Tag)
	}
	if c.access.Secure() {
		if site.Tokens, err = c.tokens(ctx, l.User); err != nil {
			return application{}, err
		}
	}
	staging, conf, err := f.stageConf(ctx, home, id, confFiles(l, site, c.opt.Hadoop.FS+dir))
	if err != nil {
		return application{}, err
	}
	return submission(l, site, id, staging, conf)
}

// tokens are what lets an application into HDFS as its user. The ResourceManager renews them, and cancels them when it ends;
// so every application has its own.
func (c *Cluster) tokens(ctx context.Context, user string) (map[string]string, error) {
	service, token, err := hadoop.DelegationToken(ctx, c.access, c.opt.Hadoop.Conf, user, c.opt.Hadoop.renewer())
	if err != nil {
		return nil, err
	}
	return map[string]string{service: string(token)}, nil
}

// marks is where a note of each submission lies until its files are gone, so that what a crash leaves is found again. It is of
// this cluster alone: another one on the same HDFS knows other applications.
func (c *Cluster) marks() string {
	return path.Join(c.opt.Shared, "staging", c.opt.Instance+"-"+c.opt.Name)
}

// mark notes that an application's files are about to be written.
func (c *Cluster) mark(user, id string) error {
	f, err := c.open(c.opt.User)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.MkdirAll(path.Join(c.marks(), id+"@"+user), 0o755); err != nil {
		return fmt.Errorf("note the submission in %s: %w", c.marks(), err)
	}
	return nil
}

// tidy removes what an application has left on HDFS, if it has not done so itself, and then its mark.
func (c *Cluster) tidy(user, id string) {
	remove := func(as, name string) error {
		f, err := c.open(as)
		if err == nil {
			defer func() { _ = f.Close() }()
			err = f.RemoveAll(name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	err := remove(user, path.Join("/user", user, ".sparkStaging", id))
	if errors.Is(err, fs.ErrPermission) { // he has no home any more: there is nothing of his
		err = nil
	}
	if err == nil {
		err = remove(c.opt.User, path.Join(c.marks(), id+"@"+user))
	}
	if err != nil { // the next sweep tries again
		c.opt.Log.Warn("cannot remove an application's staging directory", "cluster", c.opt.Name, "application", id, "error", err)
	}
}

// sweepPause is between two looks for what crashes have left.
const sweepPause = 10 * time.Minute

// defaultGrace is for how long a submission may be under way.
const defaultGrace = time.Hour

func (c *Cluster) sweepOften(ctx context.Context) {
	for {
		if err := c.sweep(ctx); err != nil && ctx.Err() == nil {
			c.opt.Log.Warn("cannot look for what crashes have left on HDFS", "cluster", c.opt.Name, "error", err)
		}
		if err := c.opt.Logs.DropOld(time.Now()); err != nil {
			c.opt.Log.Warn("cannot delete old logs", "cluster", c.opt.Name, "error", err)
		}
		select {
		case <-time.After(sweepPause):
		case <-ctx.Done():
			return
		}
	}
}

// sweep removes the files of our applications that have ended, or never began, while nobody followed them. Only what carries
// our mark is looked at, and what the ResourceManager does not say is over stays.
func (c *Cluster) sweep(ctx context.Context) error {
	f, err := c.open(c.opt.User)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	infos, err := f.ReadDir(c.marks())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, i := range infos {
		id, user, ok := strings.Cut(i.Name(), "@")
		if !ok || c.follows(id) {
			continue
		}
		r, err := c.rm.app(ctx, user, id)
		switch {
		case errors.Is(err, errNoApp):
			if time.Since(i.ModTime()) > cmp.Or(c.opt.Grace, defaultGrace) {
				c.tidy(user, id)
			}
		case err != nil:
			return err
		case r.ended():
			c.tidy(user, id)
		}
	}
	return nil
}

// follows says that an application is followed, which includes the end of its files.
func (c *Cluster) follows(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.apps {
		if a.id == id {
			return true
		}
	}
	return false
}

// forgetLibs lets the archives of Spark be uploaded again: somebody has removed one.
func (c *Cluster) forgetLibs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.libs)
}
