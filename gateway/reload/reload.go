// Package reload tells when files that a gateway has read have changed.
package reload

import (
	"io/fs"
	"os"
	"slices"
	"time"
)

// every is how often files are looked at, at most.
const every = time.Second

// Files are looked at when somebody asks. They are not safe for concurrent use: what is read from them needs a lock anyway.
type Files struct {
	Looked time.Time // when they were looked at last
	paths  []string
	seen   []fs.FileInfo
}

// Watch takes in how the files are now. It is called before they are read, so that no change is missed.
func Watch(paths ...string) (*Files, error) {
	seen, err := look(paths)
	return &Files{Looked: time.Now(), paths: paths, seen: seen}, err
}

// Changed says whether a file is another one than before. A file that is not there is an error and no change.
func (f *Files) Changed() (bool, error) {
	if time.Since(f.Looked) < every {
		return false, nil
	}
	f.Looked = time.Now()
	now, err := look(f.paths)
	if err != nil || slices.EqualFunc(now, f.seen, same) {
		return false, err
	}
	f.seen = now
	return true, nil
}

func look(paths []string) ([]fs.FileInfo, error) {
	out := make([]fs.FileInfo, len(paths))
	for i, path := range paths {
		var err error
		if out[i], err = os.Stat(path); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
