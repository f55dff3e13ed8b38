package yarn

import (
	"archive/zip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/google/uuid"
)

// stageConf writes an application's settings into a directory of its own, in which nobody else can look.
func (f *files) stageConf(ctx context.Context, base, id string, conf map[string]string) (staging string, _ Resource, err error) {
	dir := path.Join(base, ".sparkStaging", id)
	name := path.Join(dir, confArchive)
	if err = f.private(dir); err == nil {
		err = f.Put(ctx, name, func(w io.Writer) error { return zipTexts(w, conf) })
	}
	var r Resource
	if err == nil {
		r, err = f.resource(confLink, name)
	}
	if err != nil {
		return "", r, fmt.Errorf("stage the settings in %s: %w", f.uri+dir, err)
	}
	r.Archive, r.DriverOnly = true, true
	return f.uri + dir, r, nil
}

func zipTexts(w io.Writer, texts map[string]string) error {
	z := zip.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		e, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(e, texts[name])
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}

// library is a directory of jars that are to be one archive on HDFS.
type library struct {
	jars []jar
	name string // by content, so that the same is uploaded once
}

type jar struct {
	name string
	path string
	data []byte // in place of path
	size int64
	sum  uint32
}

// readLibrary looks at every jar of a distribution.
func readLibrary(home, version string) (library, error) {
	names, err := filepath.Glob(filepath.Join(home, "jars", "*.jar"))
	if err != nil || len(names) == 0 {
		return library{}, fmt.Errorf("%s/jars: there is no jar", home)
	}
	slices.Sort(names)
	var l library
	for _, n := range names {
		j, err := readJar(n)
		if err != nil {
			return library{}, err
		}
		l.jars = append(l.jars, j)
	}
	python, err := readPython(home)
	if err != nil {
		return library{}, err
	}
	l.jars = append(l.jars, python...)
	all := crc32.NewIEEE()
	for _, j := range l.jars {
		_, _ = fmt.Fprintf(all, "%s %d %08x\n", j.name, j.size, j.sum)
	}
	l.name = fmt.Sprintf("spark-%s-%s.zip", version, hex.EncodeToString(all.Sum(nil)))
	return l, nil
}

func readJar(name string) (jar, error) {
	f, err := os.Open(name)
	if err != nil {
		return jar{}, err
	}
	defer func() { _ = f.Close() }()
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, f)
	return jar{name: filepath.Base(name), path: name, size: n, sum: sum.Sum32()}, err
}

// write writes the archive without compression: jars are compressed. Sizes and sums stand before the data, because a
// NodeManager unpacks what it has not read to the end yet, and Java takes a sum behind the data of compressed entries only.
func (l library) write(w io.Writer) error {
	z := zip.NewWriter(w)
	for _, j := range l.jars {
		e, err := z.CreateRaw(&zip.FileHeader{Name: j.name, Method: zip.Store, CRC32: j.sum,
			CompressedSize64: uint64(j.size), UncompressedSize64: uint64(j.size)})
		if err != nil {
			return err
		}
		if j.data != nil {
			_, err = e.Write(j.data)
		} else {
			err = copyFile(e, j.path)
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(w, f)
	return err
}

// share puts a file into a directory once, where everybody may read it: others see it when it is whole.
func (f *files) share(ctx context.Context, dir, name string, fill func(io.Writer) error) (Resource, error) {
	at := path.Join(dir, name)
	if _, err := f.Stat(at); errors.Is(err, fs.ErrNotExist) {
		err := f.MkdirAll(dir, 0o755)
		part := at + "." + uuid.NewString()
		if err == nil {
			err = f.Put(ctx, part, fill)
		}
		if err == nil {
			err = f.Rename(part, at)
		}
		if err != nil {
			_ = f.RemoveAll(part)
			if _, there := f.Stat(at); there != nil { // nobody was quicker
				return Resource{}, fmt.Errorf("upload %s: %w", f.uri+at, err)
			}
		}
	} else if err != nil {
		return Resource{}, err
	}
	return f.resource("", at)
}
