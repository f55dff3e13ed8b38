package yarn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/colinmarc/hdfs/v2"
	"github.com/colinmarc/hdfs/v2/hadoopconf"

	"github.com/sluicedata/sluice/engines/hadoop"
)

// fileSystem is HDFS as one user sees it. Names are absolute paths. What is not there is fs.ErrNotExist, what the user may
// not do is fs.ErrPermission.
type fileSystem interface {
	MkdirAll(dir string, mode os.FileMode) error
	Chmod(name string, mode os.FileMode) error
	// Put writes a file that everybody may read who reaches its directory, in place of one that is there.
	Put(ctx context.Context, name string, fill func(io.Writer) error) error
	Stat(name string) (os.FileInfo, error)
	ReadDir(dir string) ([]os.FileInfo, error)
	Rename(from, to string) error
	RemoveAll(name string) error
	Close() error
}

// files is a cluster's HDFS as one user sees it.
type files struct {
	fileSystem
	uri string // hdfs://host:port, as containers reach it
}

// open reaches HDFS as a user. Its own protocol knows no acting for others under Kerberos, WebHDFS does.
func (c *Cluster) open(user string) (*files, error) {
	h := c.opt.Hadoop
	if c.access.Secure() && user != c.access.User {
		return &files{&hadoop.WebHDFS{Access: c.access, Pages: h.NameNodePages, User: user}, h.FS}, nil
	}
	if client := c.idle.take(user); client != nil {
		return &files{rpcHDFS{client, user, &c.idle}, h.FS}, nil
	}
	if err := c.access.Affirm(); err != nil {
		return nil, err
	}
	opt := hdfs.ClientOptionsFromConf(hadoopconf.HadoopConf(h.Values))
	opt.Addresses, opt.User, opt.KerberosClient = h.NameNodes, user, c.access.Krb
	if len(h.NameNodes) > 0 { // Hadoop's own mark for the host of whichever service it is
		host, _, _ := strings.Cut(h.NameNodes[0], ":")
		opt.KerberosServicePrincipleName = strings.ReplaceAll(opt.KerberosServicePrincipleName, "_HOST", host)
	}
	client, err := hdfs.NewClient(opt)
	if err != nil {
		return nil, fmt.Errorf("HDFS at %s: %w", strings.Join(h.NameNodes, ", "), err)
	}
	return &files{rpcHDFS{client, user, &c.idle}, h.FS}, nil
}

// rpcHDFS speaks HDFS's own protocol. A client has one connection, and renews its leases until it is closed.
type rpcHDFS struct {
	*hdfs.Client
	user string
	idle *idleClients
}

// Close implements fileSystem.
func (f rpcHDFS) Close() error { return f.idle.give(f.user, f.Client) }

// Put implements fileSystem.
func (f rpcHDFS) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	w, err := f.Create(name)
	if errors.Is(err, fs.ErrExist) { // an attempt that was cut
		if err = f.Remove(name); err == nil {
			w, err = f.Create(name)
		}
	}
	if err != nil {
		return err
	}
	err = fill(w)
	soon := backoff.NewExponentialBackOff()
	soon.InitialInterval, soon.MaxInterval = 2*time.Millisecond, time.Second // mostly it is a matter of a millisecond
	_, cerr := backoff.Retry(ctx, func() (struct{}, error) {
		err := w.Close()
		if err != nil && !hdfs.IsErrReplicating(err) { // the last block is on its way to its copies
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(soon), backoff.WithMaxElapsedTime(time.Minute))
	return errors.Join(err, cerr)
}

// resource describes a file that is there, as YARN wants to find it.
func (f *files) resource(link, name string) (Resource, error) {
	info, err := f.Stat(name)
	if err != nil {
		return Resource{}, err
	}
	return Resource{Link: link, URI: f.uri + name, Size: info.Size(), Timestamp: info.ModTime().UnixMilli()}, nil
}
