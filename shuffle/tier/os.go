package tier

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
type OS struct{}

// MkdirAll implements FS.
func (OS) MkdirAll(path string) error { return os.MkdirAll(path, 0o750) }

// Create implements FS.
func (OS) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

// Open implements FS.
func (OS) Open(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// RemoveAll implements FS.
func (OS) RemoveAll(path string) error { return os.RemoveAll(path) }

// Space implements FS.
func (OS) Space(dir string) (usable, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize, nil
}

// Lock keeps other processes from using a directory until it is closed, or this process ends.
func (OS) Lock(dir string) (io.Closer, error) {
	f, err := os.OpenFile(dir+"/lock", os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another process uses %s", dir)
	}
	return f, nil
}

type osFile struct{ *os.File }

// maxVec is how many buffers one system call takes (IOV_MAX).
const maxVec = 1024

func (f *osFile) WriteV(bufs [][]byte, off int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	bufs = slices.Clone(bufs) // consumed below
	for len(bufs) > 0 {
		var n int
		var werr error
		if err := conn.Control(func(fd uintptr) { // the descriptor cannot be closed and used again by others meanwhile
			for {
				n, werr = unix.Pwritev(int(fd), bufs[:min(len(bufs), maxVec)], off)
				if !errors.Is(werr, syscall.EINTR) {
					return
				}
			}
		}); err != nil {
			return err
		}
		if werr != nil {
			return &os.PathError{Op: "write", Path: f.Name(), Err: werr}
		}
		if n == 0 && size(bufs) > 0 {
			return &os.PathError{Op: "write", Path: f.Name(), Err: io.ErrShortWrite}
		}
		off += int64(n)
		bufs = consume(bufs, n)
	}
	return nil
}

func size(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// consume drops the first n bytes of bufs.
func consume(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

func (f *osFile) Size() (int64, error) {
	s, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return s.Size(), nil
}

// Stamp is the time of the last change, which nobody can set.
func (f *osFile) Stamp() (int64, error) {
	s, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if sys, ok := s.Sys().(*syscall.Stat_t); ok {
		return sys.Ctim.Nano(), nil
	}
	return 0, errors.ErrUnsupported
}

// Cached asks the kernel (cachestat, since Linux 6.5); one that does not answer says no.
func (f *osFile) Cached(off, n int64) (all bool) {
	conn, err := f.SyscallConn()
	if err != nil || n <= 0 {
		return false
	}
	_ = conn.Control(func(fd uintptr) {
		asked := struct{ off, length uint64 }{uint64(off), uint64(n)}
		var got struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }
		_, _, errno := unix.Syscall6(unix.SYS_CACHESTAT, fd, uintptr(unsafe.Pointer(&asked)), uintptr(unsafe.Pointer(&got)), 0, 0, 0)
		page := int64(os.Getpagesize())
		all = errno == 0 && int64(got.cached) >= (off+n-1)/page-off/page+1
	})
	return all
}

// SendTo sends bytes of the file to a socket without copying them through this process.
func (f *osFile) SendTo(socket syscall.RawConn, off, n int64) error {
	file, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = file.Control(func(in uintptr) {
		werr := socket.Write(func(out uintptr) bool {
			for n > 0 {
				k, err := unix.Sendfile(int(out), int(in), &off, int(min(n, 1<<30)))
				switch {
				case errors.Is(err, syscall.EINTR):
				case errors.Is(err, syscall.EAGAIN):
					return false
				case err != nil:
					serr = os.NewSyscallError("sendfile", err)
					return true
				case k == 0:
					serr = io.ErrUnexpectedEOF
					return true
				}
				n -= int64(max(k, 0))
			}
			return true
		})
		serr = errors.Join(serr, werr)
	})
	return errors.Join(err, serr)
}
