package yarn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines"
	local "github.com/sluicedata/sluice/engines/files"
)

// reserved are names in a container that are YARN's or Spark's.
var reserved = []string{"tmp", "container_tokens", "launch_container.sh", "default_container_executor.sh", "default_container_executor_session.sh"}

// bring makes a batch's files resources: those of this machine are uploaded into dir, those on HDFS are used where they are.
// Nothing is uploaded before all have been looked at.
func (f *files) bring(ctx context.Context, dir, user string, p *engines.Program) ([]Resource, error) {
	if p == nil || len(p.Bring) == 0 {
		return nil, nil
	}
	var out []Resource
	inPlace := map[string]string{} // who has named it, by where it is
	for _, b := range p.Bring {
		if strings.HasPrefix(b.Link, "__") || slices.Contains(reserved, b.Link) {
			return nil, fmt.Errorf("%s: the name %s is taken on YARN: put # and another name behind it", b.Field, b.Link)
		}
		r := Resource{Link: linkOf(p, b.Link), Archive: b.Archive, DriverOnly: driverOnly(p, b)}
		var err error
		if strings.HasPrefix(b.From, "hdfs:") {
			err = f.inPlace(&r, b, user)
		} else {
			err = local.Readable(b)
		}
		if other := inPlace[r.URI]; err == nil && other != "" { // YARN would say nothing, and leave one name out
			err = fmt.Errorf("%s is brought as %s already, and YARN gives a file one name alone: name it once, or a copy of it", b.From, other)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Field, err)
		}
		if r.URI != "" {
			inPlace[r.URI] = b.Field
		}
		out = append(out, r)
	}
	if err := f.private(dir); err != nil {
		return nil, fmt.Errorf("stage files in %s: %w", f.uri+dir, err)
	}
	for i, b := range p.Bring {
		if out[i].URI != "" {
			continue
		}
		u, err := f.upload(ctx, dir, b)
		if err != nil {
			return nil, fmt.Errorf("%s: upload %s: %w", b.Field, b.From, err)
		}
		out[i].URI, out[i].Size, out[i].Timestamp = u.URI, u.Size, u.Timestamp
	}
	return out, nil
}

// driverOnly says that executors have no use for a file.
func driverOnly(p *engines.Program, b engines.File) bool { return p.Python && b.Link == p.Main }

// stagedName is a file's name in its application's staging directory. A NodeManager unpacks an archive by the end of its name.
func stagedName(b engines.File) string {
	if !b.Archive {
		return b.Link
	}
	return "__archives__/" + b.Link + local.Ending(b.From)
}

// private makes a directory in which nobody else can look.
func (f *files) private(dir string) error {
	err := f.MkdirAll(dir, 0o700)
	if err == nil {
		err = f.Chmod(dir, 0o700) // whatever the umask is
	}
	return err
}

// upload copies a file of this machine into a directory.
func (f *files) upload(ctx context.Context, dir string, b engines.File) (Resource, error) {
	at := path.Join(dir, stagedName(b))
	if err := f.MkdirAll(path.Dir(at), 0o700); err != nil {
		return Resource{}, err
	}
	if err := f.Put(ctx, at, func(w io.Writer) error { return copyFile(w, b.From) }); err != nil {
		return Resource{}, err
	}
	return f.resource(b.Link, at)
}

// inPlace describes a file that is on HDFS.
func (f *files) inPlace(r *Resource, b engines.File, user string) error {
	u, err := url.Parse(b.From)
	if err != nil {
		return err
	}
	if u.Host != "" && "hdfs://"+u.Host != f.uri {
		return fmt.Errorf("%s is on another file system than the cluster's own: copy it to %s, or leave the address out: hdfs://%s", b.From, f.uri, u.Path)
	}
	info, err := f.Stat(u.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there: put it there, or correct the name", b.From)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not look at %s: let %[1]s read it, or name another file", user, b.From)
	case err != nil:
		return fmt.Errorf("%s: %w", b.From, err)
	case info.IsDir():
		return fmt.Errorf("%s is a directory: name a file, and a directory as an archive of it", b.From)
	}
	// Spark reads lists of addresses with commas between them.
	r.URI = f.uri + strings.ReplaceAll((&url.URL{Path: u.Path}).EscapedPath(), ",", "%2C")
	r.Size, r.Timestamp = info.Size(), info.ModTime().UnixMilli()
	r.Public = f.public(u.Path, info)
	return nil
}

// public says whether anybody may read a file: a NodeManager then keeps one copy for all, and refuses what only claims it.
func (f *files) public(name string, info fs.FileInfo) bool {
	return info.Mode().Perm()&0o004 != 0 && f.passable(path.Dir(name)) == nil
}
