package yarn

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func lay(t *testing.T, home string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(home, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
}

// read writes an archive and says what is in it.
func read(t *testing.T, l library) map[string]string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, l.write(&b))
	return unzip(t, b.Bytes())
}

func unzip(t *testing.T, data []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(r)
		require.NoError(t, err)
		out[f.Name] = b.String()
	}
	return out
}

// The archive of Spark's jars has Python's modules, too, under names without a version, whatever a distribution looks like.
func TestPythonLiesBesideTheJars(t *testing.T) {
	packed := t.TempDir()
	lay(t, packed, map[string]string{"jars/a.jar": "A", "python/lib/pyspark.zip": "P", "python/lib/py4j-0.10.9.7-src.zip": "4"})
	l, err := readLibrary(packed, "3.5.7")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a.jar": "A", "pyspark.zip": "P", "py4j.zip": "4"}, read(t, l))

	source := t.TempDir()
	lay(t, source, map[string]string{"jars/a.jar": "A", "lib/py4j-0.10.9.9-src.zip": "4", "pyspark/__init__.py": "x = 1", "pyspark/sql/types.py": "y = 2",
		"pyspark/sql/tests/test_types.py": "z", "pyspark/__pycache__/x.pyc": "c"})
	l, err = readLibrary(source, "4.3.0")
	require.NoError(t, err)
	got := read(t, l)
	require.Equal(t, map[string]string{"pyspark/__init__.py": "x = 1", "pyspark/sql/types.py": "y = 2"}, unzip(t, []byte(got["pyspark.zip"])))
	again, err := readLibrary(source, "4.3.0")
	require.NoError(t, err)
	require.Equal(t, l.name, again.name)
	lay(t, source, map[string]string{"pyspark/sql/types.py": "y = 3"})
	other, err := readLibrary(source, "4.3.0")
	require.NoError(t, err)
	require.NotEqual(t, l.name, other.name, "other modules are another archive")

	bare := t.TempDir()
	lay(t, bare, map[string]string{"jars/a.jar": "A"})
	l, err = readLibrary(bare, "4.3.0")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a.jar": "A"}, read(t, l))
}
