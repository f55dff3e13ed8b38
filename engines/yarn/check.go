package yarn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// checkPatience is for how long a check waits for a service.
const checkPatience = 5 * time.Second

// Check tries everything that engines there will need, and tells what it tried, with what is wrong and the next step. It
// submits nothing.
func (c *Cluster) Check(ctx context.Context, tell func(what string, err error)) {
	key := func(name string) string { return "clusters." + c.opt.Name + ".yarn." + name }
	if c.access.Secure() {
		tell("Kerberos: log in as "+c.opt.Login.Principal, c.access.Affirm())
	}
	active := false
	for _, at := range c.opt.Hadoop.ResourceManagers {
		soon, cancel := context.WithTimeout(ctx, checkPatience)
		state, err := c.rm.haState(soon, at)
		cancel()
		active = active || state == "ACTIVE"
		tell(strings.TrimSpace("ResourceManager "+at+" "+strings.ToLower(state)), err)
	}
	if active {
		c.checkQueue(ctx, key, tell)
	} else {
		tell("an active ResourceManager", errors.New("there is none: the queue and the labels are not checked"))
	}
	c.checkFiles(key, tell)
	for _, uri := range strings.Split(c.opt.Conf["spark.hadoop.hive.metastore.uris"], ",") {
		if u, err := url.Parse(strings.TrimSpace(uri)); err == nil && u.Host != "" {
			tell("Hive metastore "+u.Host, reach(ctx, u.Host))
		}
	}
}

func reach(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: checkPatience}).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func (c *Cluster) checkQueue(ctx context.Context, key func(string) string, tell func(string, error)) {
	root, err := c.rm.queues(ctx, c.opt.User)
	if err != nil {
		tell("queue "+c.opt.Queue, err)
		return
	}
	q, ok := root.find(c.opt.Queue)
	switch {
	case !ok:
		tell("queue "+c.opt.Queue, fmt.Errorf("%s: the cluster has no such queue, but %s", key("queue"), strings.Join(root.leaves(), ", ")))
	case len(q.children()) > 0:
		tell("queue "+c.opt.Queue, fmt.Errorf("%s: it takes no applications itself, but %s below it do", key("queue"), strings.Join(q.leaves(), ", ")))
	case q.State != "" && q.State != "RUNNING":
		tell("queue "+c.opt.Queue, fmt.Errorf("%s: it is %s and takes no applications", key("queue"), q.State))
	default:
		tell(q.describe(), nil)
	}
	known, err := c.rm.labels(ctx, c.opt.User)
	for _, l := range []struct{ key, name string }{{"driver_label", c.opt.DriverLabel}, {"executor_label", c.opt.ExecutorLabel}} {
		if l.name == "" {
			continue
		}
		wrong := err
		if err == nil && !slices.Contains(known, l.name) {
			wrong = fmt.Errorf("%s: the cluster has no such node label, but %q", key(l.key), known)
		}
		tell("node label "+l.name, wrong)
	}
	_, err = c.rm.newApplication(ctx, c.opt.User) // an id that nobody uses
	tell("submit applications as "+c.opt.User, err)
}

func (c *Cluster) checkFiles(key func(string) string, tell func(string, error)) {
	at := c.opt.Hadoop.FS + " as " + c.opt.User
	f, err := c.open(c.opt.User)
	if err == nil {
		defer func() { _ = f.Close() }()
		_, err = f.Stat("/")
	}
	tell(at, err)
	if err != nil {
		return
	}
	tell("write to "+c.opt.Shared, f.tryWriting(c.opt.Shared, c.opt.User, key("shared_dir")))
	for _, name := range slices.Sorted(maps.Keys(c.opt.Archives)) {
		uri := c.opt.Archives[name]
		err := f.readable(strings.TrimPrefix(uri, c.opt.Hadoop.FS))
		if err != nil {
			err = fmt.Errorf("%s: %w", key("archives."+name), err)
		}
		tell("archive "+uri, err)
	}
}

// tryWriting makes a directory and removes it. Everybody's containers have to read what will be there.
func (f *files) tryWriting(dir, user, key string) error {
	probe := path.Join(dir, uuid.NewString())
	err := f.MkdirAll(probe, 0o755)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w: make a directory there that belongs to %s, or name another one", key, err, user)
	}
	if err == nil {
		err = f.RemoveAll(probe)
	}
	if err == nil {
		err = f.passable(dir)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// readable says why containers of every user could not read a file.
func (f *files) readable(name string) error {
	info, err := f.Stat(name)
	if err != nil {
		return err
	}
	if info.Mode()&0o004 == 0 {
		return fmt.Errorf("%s is not readable for everybody: change its mode to 644", name)
	}
	return f.passable(path.Dir(name))
}

// passable says which directory on the way keeps others out.
func (f *files) passable(dir string) error {
	for ; ; dir = path.Dir(dir) {
		info, err := f.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s keeps others out: change its mode to 755", dir)
		}
		if dir == "/" {
			return nil
		}
	}
}
