package tier

import (
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Mem is a file system in memory. What it holds outlives the store that used it, as a disk's files outlive a process.
type Mem struct {
	// Capacity is how many bytes fit, or 0 for any number.
	Capacity int64

	mu    sync.Mutex
	used  int64
	dirs  map[string]bool
	files map[string]*memData
}

type memData struct {
	mu    sync.RWMutex
	bytes []byte
	gone  bool // removed: it takes no room any more
}

// NewMem is an empty file system.
func NewMem() *Mem { return &Mem{dirs: map[string]bool{"/": true}, files: map[string]*memData{}} }

func pathError(op, p string, err error) error { return &fs.PathError{Op: op, Path: p, Err: err} }

// MkdirAll implements FS.
func (m *Mem) MkdirAll(p string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p = path.Clean(p); ; p = path.Dir(p) {
		if m.files[p] != nil {
			return pathError("mkdir", p, syscall.ENOTDIR)
		}
		m.dirs[p] = true
		if p == "/" || p == "." {
			return nil
		}
	}
}

// Create implements FS.
func (m *Mem) Create(p string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p = path.Clean(p)
	if m.files[p] != nil || m.dirs[p] {
		return nil, pathError("create", p, fs.ErrExist)
	}
	if !m.dirs[path.Dir(p)] {
		return nil, pathError("create", p, fs.ErrNotExist)
	}
	d := &memData{}
	m.files[p] = d
	return &memFile{fs: m, path: p, data: d}, nil
}

// Open implements FS.
func (m *Mem) Open(p string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p = path.Clean(p)
	if d := m.files[p]; d != nil {
		return &memFile{fs: m, path: p, data: d}, nil
	}
	return nil, pathError("open", p, fs.ErrNotExist)
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = path.Clean(dir)
	if !m.dirs[dir] {
		return nil, pathError("open", dir, fs.ErrNotExist)
	}
	var out []string
	for p := range m.files {
		if path.Dir(p) == dir {
			out = append(out, path.Base(p))
		}
	}
	for p := range m.dirs {
		if p != dir && path.Dir(p) == dir {
			out = append(out, path.Base(p))
		}
	}
	slices.Sort(out)
	return out, nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(p string) error {
	m.mu.Lock()
	p = path.Clean(p)
	var gone []*memData
	for f, d := range m.files {
		if f == p || strings.HasPrefix(f, p+"/") {
			gone = append(gone, d)
			delete(m.files, f)
		}
	}
	for d := range m.dirs {
		if d == p || strings.HasPrefix(d, p+"/") {
			delete(m.dirs, d)
		}
	}
	m.mu.Unlock()
	for _, d := range gone { // a writer locks a file first, and the file system then
		d.mu.Lock()
		if !d.gone {
			d.gone = true
			m.grow(-int64(len(d.bytes)))
		}
		d.mu.Unlock()
	}
	return nil
}

// Space implements FS.
func (m *Mem) Space(string) (usable, total int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Capacity == 0 {
		return math.MaxInt64 / 2, math.MaxInt64 / 2, nil
	}
	return m.Capacity - m.used, m.Capacity, nil
}

// grow takes n more bytes if they fit.
func (m *Mem) grow(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Capacity > 0 && n > 0 && m.used+n > m.Capacity {
		return false
	}
	m.used += n
	return true
}

type memFile struct {
	fs     *Mem
	path   string
	data   *memData
	mu     sync.Mutex
	closed bool
}

func (f *memFile) open(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return pathError(op, f.path, fs.ErrClosed)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.open("read"); err != nil {
		return 0, err
	}
	f.data.mu.RLock()
	defer f.data.mu.RUnlock()
	if off >= int64(len(f.data.bytes)) {
		return 0, io.EOF
	}
	n := copy(p, f.data.bytes[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteV(bufs [][]byte, off int64) error {
	if err := f.open("write"); err != nil {
		return err
	}
	f.data.mu.Lock()
	defer f.data.mu.Unlock()
	end := off + int64(size(bufs))
	if more := end - int64(len(f.data.bytes)); more > 0 {
		if !f.data.gone && !f.fs.grow(more) {
			return pathError("write", f.path, syscall.ENOSPC)
		}
		f.data.bytes = append(f.data.bytes, make([]byte, more)...)
	}
	for _, b := range bufs {
		off += int64(copy(f.data.bytes[off:], b))
	}
	return nil
}

func (f *memFile) Truncate(n int64) error {
	if err := f.open("truncate"); err != nil {
		return err
	}
	f.data.mu.Lock()
	defer f.data.mu.Unlock()
	more := n - int64(len(f.data.bytes))
	if !f.data.gone && !f.fs.grow(more) {
		return pathError("truncate", f.path, syscall.ENOSPC)
	}
	if more > 0 {
		f.data.bytes = append(f.data.bytes, make([]byte, more)...)
	}
	f.data.bytes = f.data.bytes[:n]
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.open("stat"); err != nil {
		return 0, err
	}
	f.data.mu.RLock()
	defer f.data.mu.RUnlock()
	return int64(len(f.data.bytes)), nil
}

func (f *memFile) Sync() error { return f.open("sync") }

func (f *memFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return pathError("close", f.path, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
