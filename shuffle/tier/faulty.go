package tier

// Op is an operation that a Faulty file system may fail.
type Op string

// The operations, named as FS and File name them.
const (
	OpMkdir    Op = "mkdir"
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpList     Op = "list"
	OpRemove   Op = "remove"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
)

// Faulty is a file system that asks before each operation whether it fails. The function may also wait (a slow disk), or change
// what lies below (a corrupt one).
type Faulty struct {
	FS
	Fail func(op Op, path string) error
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(path string) error {
	if err := f.Fail(OpMkdir, path); err != nil {
		return err
	}
	return f.FS.MkdirAll(path)
}

// Create implements FS.
func (f *Faulty) Create(path string) (File, error) {
	if err := f.Fail(OpCreate, path); err != nil {
		return nil, err
	}
	return f.wrap(path)(f.FS.Create(path))
}

// Open implements FS.
func (f *Faulty) Open(path string) (File, error) {
	if err := f.Fail(OpOpen, path); err != nil {
		return nil, err
	}
	return f.wrap(path)(f.FS.Open(path))
}

func (f *Faulty) wrap(path string) func(File, error) (File, error) {
	return func(file File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{File: file, fail: f.Fail, path: path}, nil
	}
}

// List implements FS.
func (f *Faulty) List(dir string) ([]string, error) {
	if err := f.Fail(OpList, dir); err != nil {
		return nil, err
	}
	return f.FS.List(dir)
}

// RemoveAll implements FS.
func (f *Faulty) RemoveAll(path string) error {
	if err := f.Fail(OpRemove, path); err != nil {
		return err
	}
	return f.FS.RemoveAll(path)
}

type faultyFile struct {
	File
	fail func(Op, string) error
	path string
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fail(OpRead, f.path); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// WriteV leaves half of what it was to write when it fails, as a disk that fills up does.
func (f *faultyFile) WriteV(bufs [][]byte, off int64) error {
	if err := f.fail(OpWrite, f.path); err != nil {
		var all []byte
		for _, b := range bufs {
			all = append(all, b...)
		}
		_ = f.File.WriteV([][]byte{all[:len(all)/2]}, off)
		return err
	}
	return f.File.WriteV(bufs, off)
}

func (f *faultyFile) Truncate(n int64) error {
	if err := f.fail(OpTruncate, f.path); err != nil {
		return err
	}
	return f.File.Truncate(n)
}

func (f *faultyFile) Sync() error {
	if err := f.fail(OpSync, f.path); err != nil {
		return err
	}
	return f.File.Sync()
}
