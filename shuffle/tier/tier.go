// Package tier is where shuffle data lies: the smallest file system that the store needs, on a local disk and in memory, and one
// that fails on purpose. Every kind passes the same conformance suite.
package tier

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// FS is a place for files. Paths use '/'. All methods may be called at once from anywhere.
type FS interface {
	// MkdirAll makes a directory and its parents; one that is there is fine.
	MkdirAll(path string) error
	// Create makes a new file; fs.ErrExist if there is one.
	Create(path string) (File, error)
	// Open opens a file to read it and to write on; fs.ErrNotExist if there is none.
	Open(path string) (File, error)
	// List names what is in a directory, sorted; fs.ErrNotExist if there is none.
	List(dir string) ([]string, error)
	// RemoveAll removes a file or a directory with all that is in it; nothing there is fine. Open files stay readable.
	RemoveAll(path string) error
	// Space is how many bytes a directory's file system can still take, and how many it has in all.
	Space(dir string) (usable, total int64, err error)
}

// Locker is a file system whose directories can be kept from other processes.
type Locker interface {
	Lock(dir string) (io.Closer, error)
}

// File is an open file. One goroutine may write while others read what was written before.
type File interface {
	io.ReaderAt
	// WriteV writes all of these one after another from an offset on. After an error any part of them may be there.
	WriteV(bufs [][]byte, off int64) error
	Truncate(size int64) error
	Size() (int64, error)
	// Sync returns when what was written survives the machine.
	Sync() error
	Close() error
}

// Witness is a file that knows whether bytes can be anything but what was written, without reading them.
type Witness interface {
	// Stamp changes whenever anybody writes the file.
	Stamp() (int64, error)
	// Cached reports whether all of a range lies in the page cache: it does not come from a device.
	Cached(off, n int64) bool
}

// IsFull reports whether an error says that there is no room, rather than that the place is broken.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsTransient reports whether an error says nothing about the place itself.
func IsTransient(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, fs.ErrClosed)
}
