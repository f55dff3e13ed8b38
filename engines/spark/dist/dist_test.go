package dist

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// script makes an executable shell script.
func script(t *testing.T, path, body string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
}

// sparkHome makes what counts as a Spark with a Connect server.
func sparkHome(t *testing.T, jar string) string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "jars"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, "jars", jar), nil, 0o644))
	return home
}

func TestVersionIn(t *testing.T) {
	for jar, want := range map[string]string{
		"spark-connect_2.13-4.3.0.jar":             "4.3.0",
		"spark-connect_2.12-3.5.7.jar":             "3.5.7",
		"spark-connect_2.12-3.5.2-vendor-1.jar":    "3.5.2-vendor-1",
		"spark-connect_2.13-4.4.0-SNAPSHOT.jar":    "4.4.0-SNAPSHOT",
		"spark-connect-client-jvm_2.13-4.3.0.jar":  "",
		"spark-core_2.12-3.5.0.jar":                "",
		"spark-connect_2.13-4.3.0.jar.lastUpdated": "",
	} {
		got, ok := versionIn(sparkHome(t, jar))
		require.Equal(t, want, got, jar)
		require.Equal(t, want != "", ok, jar)
	}
	_, ok := versionIn(filepath.Join(t.TempDir(), "none"))
	require.False(t, ok)
}

// silent is a report that must not be needed.
func silent(t *testing.T) func(string) { return func(s string) { t.Error(s) } }

func TestSpark(t *testing.T) {
	const jar = "spark-connect_2.13-4.3.0.jar"
	given, env := sparkHome(t, jar), sparkHome(t, "spark-connect_2.12-3.5.7.jar")
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("SPARK_HOME", env)
	for home, want := range map[string]string{given: "4.3.0", "": "3.5.7"} {
		got, version, err := Default(home, "4.3.0", "").Spark(t.Context(), silent(t))
		require.NoError(t, err)
		require.Equal(t, cmp.Or(home, env), got)
		require.Equal(t, want, version, "what lies there counts, not what is said")
	}
	_, _, err := Wanted{Key: "runtimes.old", Home: cache}.Spark(t.Context(), silent(t))
	require.EqualError(t, err, cache+" is no Spark with a Connect server: there is no jars/spark-connect_*.jar; use Spark 4, or for Spark 3.5 put org.apache.spark:spark-connect_2.12 of its version there, or leave runtimes.old.home empty to have one fetched",
		"a wrong home is told of, not passed over")

	there := filepath.Join(cache, "sluice", "spark-4.3.0")
	require.NoError(t, os.MkdirAll(filepath.Dir(there), 0o755))
	require.NoError(t, os.Rename(given, there))
	home, ok := Installed("4.3.0")
	require.Equal(t, there, home)
	require.False(t, ok, "one that was not unpacked to the end does not count")
	require.NoError(t, os.WriteFile(filepath.Join(there, complete), nil, 0o644))
	got, version, err := Wanted{Key: "runtimes.new", Version: "4.3.0"}.Spark(t.Context(), silent(t))
	require.NoError(t, err)
	require.Equal(t, there, got, "SPARK_HOME is the default's alone")
	require.Equal(t, "4.3.0", version)

	_, _, err = Wanted{Version: "1.0"}.Spark(t.Context(), silent(t))
	require.EqualError(t, err, "there is no Spark 1.0 to install: known versions are 3.5.7, 4.3.0; set spark.home or runtimes.NAME.home to a distribution of your own")
}

// entry is a file of an archive.
type entry struct {
	name, text string
	mode       int64
	kind       byte
}

// archive packs files as pip would fetch them.
func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text)), Typeflag: e.kind}
		if e.kind == tar.TypeSymlink {
			h.Linkname = "/etc/passwd"
		}
		require.NoError(t, tw.WriteHeader(h))
		_, err := tw.Write([]byte(e.text))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	require.NoError(t, gz.Close())
	return out.Bytes()
}

func save(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.tar.gz")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

// files lists what is below a directory, with its text.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(text)
		return err
	}))
	return out
}

var spark = []entry{
	{"pyspark-9.9.9/", "", 0o755, tar.TypeDir},
	{"pyspark-9.9.9/PKG-INFO", "about", 0o644, tar.TypeReg},
	{"pyspark-9.9.9/pyspark/sql.py", "python", 0o444, tar.TypeReg},
	{"pyspark-9.9.9/deps/bin/spark-submit", "run", 0o755, tar.TypeReg},
	{"pyspark-9.9.9/deps/jars/spark-connect_2.13-9.9.9.jar", "jar", 0o644, tar.TypeReg},
	{"pyspark-9.9.9/deps/jars/connect-repl/client.jar", "client", 0o644, tar.TypeReg},
}

var sparkFiles = map[string]string{
	"PKG-INFO": "about", "pyspark/sql.py": "python", "bin/spark-submit": "run", "jars/spark-connect_2.13-9.9.9.jar": "jar",
}

func TestUnpack(t *testing.T) {
	root := t.TempDir()
	home := filepath.Join(root, "a", "b", "home")
	evil := []entry{
		{"pyspark-9.9.9/../../outside", "evil", 0o644, tar.TypeReg},
		{"pyspark-9.9.9/deps/../../../outside", "evil", 0o644, tar.TypeReg},
		{"pyspark-9.9.9//outside", "evil", 0o644, tar.TypeReg},
		{"pyspark-9.9.9/deps//outside", "evil", 0o644, tar.TypeReg},
		{"pyspark-9.9.9/..", "evil", 0o644, tar.TypeReg},
		{"outside", "evil", 0o644, tar.TypeReg}, // beside the one directory of the archive
		{"pyspark-9.9.9/link", "", 0o777, tar.TypeSymlink},
	}
	require.NoError(t, unpack(save(t, archive(t, append(evil, spark...)...)), home))
	require.Equal(t, sparkFiles, files(t, home))
	inRoot := map[string]string{}
	for name, text := range sparkFiles {
		inRoot[filepath.Join("a", "b", "home", name)] = text
	}
	require.Equal(t, inRoot, files(t, root), "nothing is written beside the home")
	for name, want := range map[string]fs.FileMode{"bin/spark-submit": 0o100, "PKG-INFO": 0} {
		info, err := os.Stat(filepath.Join(home, name))
		require.NoError(t, err)
		require.Equal(t, want, info.Mode()&0o100, name)
	}
	info, err := os.Stat(filepath.Join(home, "pyspark/sql.py"))
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&0o200, "what cannot be written is hard to take away")
}

func TestUnpackFails(t *testing.T) {
	whole := archive(t, spark...)
	for name, data := range map[string][]byte{"no gzip": []byte("rubbish, not gzip"), "cut off": whole[:len(whole)/2], "empty": nil} {
		t.Run(name, func(t *testing.T) { require.Error(t, unpack(save(t, data), t.TempDir())) })
	}
	require.ErrorIs(t, unpack(filepath.Join(t.TempDir(), "none"), t.TempDir()), fs.ErrNotExist)
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestVerify(t *testing.T) {
	path := save(t, []byte("data"))
	require.NoError(t, verify(path, hashOf([]byte("data"))))
	require.EqualError(t, verify(path, "0123"), "archive.tar.gz has the hash "+hashOf([]byte("data"))+", expected 0123")
	require.ErrorIs(t, verify(filepath.Join(t.TempDir(), "none"), ""), fs.ErrNotExist)
}

// fakePip puts a python3 on the PATH whose pip gives the archive, and writes down what it was asked for. What a real pip
// does the end-to-end tests show; here it is about what is done with its archive.
func fakePip(t *testing.T, data []byte) (asked string) {
	t.Helper()
	dir := t.TempDir()
	asked = filepath.Join(dir, "asked")
	script(t, filepath.Join(dir, "python3"), `
[ "$3" = --version ] && exit 0
echo "$@" >> `+asked+`
while [ $# -gt 1 ]; do
  [ "$1" = -r ] && cat "$2" >> `+asked+`
  [ "$1" = -d ] && cp `+save(t, data)+` "$2/pyspark-9.9.9.tar.gz"
  shift
done
exit 0`)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return asked
}

// known makes 9.9.9 a version that can be installed, with the hash of the given data.
func known(t *testing.T, data []byte) (cache string) {
	t.Helper()
	sources["9.9.9"] = source{sha256: hashOf(data), bytes: 1 << 20}
	t.Cleanup(func() { delete(sources, "9.9.9") })
	cache = t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("SPARK_HOME", "")
	return filepath.Join(cache, "sluice")
}

func TestInstall(t *testing.T) {
	data := archive(t, spark...)
	cache, asked := known(t, data), fakePip(t, data)
	half := filepath.Join(cache, "spark-9.9.9", "half")
	require.NoError(t, os.MkdirAll(filepath.Dir(half), 0o755))
	require.NoError(t, os.WriteFile(half, nil, 0o644))

	var said []string
	for range 2 { // the second time it is there
		home, err := Install(t.Context(), "9.9.9", func(s string) { said = append(said, s) })
		require.NoError(t, err)
		require.Equal(t, filepath.Join(cache, "spark-9.9.9"), home)
		want := map[string]string{complete: ""}
		for name, text := range sparkFiles {
			want[name] = text
		}
		require.Equal(t, want, files(t, home), "and nothing is left of a half of one")
	}
	require.Equal(t, []string{
		"Fetching Spark 9.9.9 with pip (1 MB, once)", "Unpacking Spark 9.9.9", "Spark 9.9.9 is in " + filepath.Join(cache, "spark-9.9.9"),
	}, said)
	text, err := os.ReadFile(asked)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), " download "))
	require.Contains(t, string(text), "--require-hashes")
	require.Contains(t, string(text), "\npyspark==9.9.9 --hash=sha256:"+hashOf(data)+"\n")
	left, err := filepath.Glob(filepath.Join(cache, "download-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestInstallFails(t *testing.T) {
	data, noConnect := archive(t, spark...), archive(t, spark[:4]...)
	for name, tc := range map[string]struct {
		known, fetched []byte
		err            string
	}{
		"wrong hash":     {data, noConnect, "fetch Spark 9.9.9: pyspark-9.9.9.tar.gz has the hash "},
		"not a Spark":    {noConnect, noConnect, "the archive holds no Spark 9.9.9 with a Connect server"},
		"not an archive": {[]byte("x"), []byte("x"), "unpack Spark 9.9.9: "},
	} {
		t.Run(name, func(t *testing.T) {
			cache := known(t, tc.known)
			fakePip(t, tc.fetched)
			_, err := Install(t.Context(), "9.9.9", func(string) {})
			require.ErrorContains(t, err, tc.err)
			_, ok := Installed("9.9.9")
			require.False(t, ok)
			left, err := filepath.Glob(filepath.Join(cache, "*"))
			require.NoError(t, err)
			require.Equal(t, []string{filepath.Join(cache, ".spark-9.9.9.lock")}, left, "a failure leaves nothing behind but the lock")
		})
	}
}

func TestInstallWithoutPip(t *testing.T) {
	known(t, nil)
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	_, err := Install(t.Context(), "9.9.9", silent(t))
	require.EqualError(t, err, "fetch Spark 9.9.9: python3 is not on the PATH: install Python 3 with pip, or set spark.home or runtimes.NAME.home to a distribution of your own")

	python := filepath.Join(dir, "python3")
	script(t, python, `echo "No module named pip"; exit 1`)
	_, err = Install(t.Context(), "9.9.9", silent(t))
	require.EqualError(t, err, "fetch Spark 9.9.9: "+python+" has no pip (No module named pip): install it (Debian: apt-get install python3-pip), or set spark.home or runtimes.NAME.home to a distribution of your own")

	script(t, python, `[ "$3" = --version ] && exit 0; echo "Collecting"; echo "ERROR: no route to host"; exit 1`)
	_, err = Install(t.Context(), "9.9.9", func(string) {})
	require.EqualError(t, err, "fetch Spark 9.9.9: pip download: exit status 1: ERROR: no route to host")
}

// While one process downloads, another waits, and goes when it is told to.
func TestInstallWaitsForAnother(t *testing.T) {
	cache := known(t, nil)
	require.NoError(t, os.MkdirAll(cache, 0o755))
	unlock, err := lock(t.Context(), filepath.Join(cache, ".spark-9.9.9.lock"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Install(ctx, "9.9.9", silent(t))
	require.ErrorIs(t, err, context.Canceled)

	unlock()
	again, err := lock(t.Context(), filepath.Join(cache, ".spark-9.9.9.lock"))
	require.NoError(t, err)
	again()
}
