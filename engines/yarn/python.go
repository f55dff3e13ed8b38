package yarn

import (
	"archive/zip"
	"bytes"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// What Python needs lies in the archive of Spark's jars, under names that no version is in: it comes and goes with them, and
// programs in Java do not see it.
const (
	pysparkZip = "pyspark.zip"
	py4jZip    = "py4j.zip"
)

// readPython finds Spark's own modules for Python: in archives, as most distributions have them, or as their source. One
// without them runs no Python.
func readPython(home string) ([]jar, error) {
	lib := filepath.Join(home, "python", "lib")
	source := ""
	if _, err := os.Stat(filepath.Join(home, "pyspark", "__init__.py")); err == nil {
		lib, source = filepath.Join(home, "lib"), filepath.Join(home, "pyspark")
	}
	py4j, err := filepath.Glob(filepath.Join(lib, "py4j-*-src.zip"))
	if err != nil || len(py4j) == 0 {
		return nil, err
	}
	second, err := readJar(py4j[0])
	if err != nil {
		return nil, err
	}
	second.name = py4jZip
	var first jar
	if source == "" {
		if first, err = readJar(filepath.Join(lib, pysparkZip)); err != nil {
			return nil, err
		}
	} else if first.data, err = zipModules(source); err != nil {
		return nil, err
	}
	if first.data != nil {
		first.size, first.sum = int64(len(first.data)), crc32.ChecksumIEEE(first.data)
	}
	first.name = pysparkZip
	return []jar{first, second}, nil
}

// zipModules packs a package of Python, always to the same bytes.
func zipModules(dir string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "tests" || d.Name() == "__pycache__"):
			return filepath.SkipDir
		case d.IsDir() || strings.HasSuffix(name, ".pyc"):
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		e, err := z.Create(path.Join(filepath.Base(dir), filepath.ToSlash(rel)))
		if err != nil {
			return err
		}
		return copyFile(e, name)
	})
	if err := closeZip(z, err); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func closeZip(z io.Closer, err error) error {
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return err
}
