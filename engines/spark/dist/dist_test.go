package dist

import (
	"archive/tar"
	"bytes"
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

// javaHome makes a JDK whose java says something, on standard error as the real one.
func javaHome(t *testing.T, says string) string {
	t.Helper()
	home := t.TempDir()
	script(t, filepath.Join(home, "bin", "java"), "[ \"$1\" = -version ] || exit 3\ncat >&2 <<'EOF'\n"+says+"\nEOF")
	return home
}

func TestJava(t *testing.T) {
	for name, tc := range map[string]struct {
		says string
		err  string // JAVA stands for the command; empty: it is good
	}{
		"17":                {`openjdk version "17.0.9" 2023-10-17`, ""},
		"21, early access":  {`openjdk version "21-ea" 2023-09-19`, ""},
		"25":                {`java version "25" 2025-09-16 LTS`, ""},
		"options picked up": {"Picked up JAVA_TOOL_OPTIONS: -Xmx1g\n" + `openjdk version "17.0.9"`, ""},
		"11":                {`openjdk version "11.0.21" 2023-10-17`, "JAVA is Java 11: Spark 4 needs a JDK 17 or newer; install one, or set spark.java_home"},
		"8":                 {`java version "1.8.0_392"`, "JAVA is Java 8: Spark 4 needs a JDK 17 or newer; install one, or set spark.java_home"},
		"no version":        {"hello\nworld", "JAVA does not tell its version (hello): set spark.java_home to a JDK 17 or newer"},
		"nothing":           {"", "JAVA does not tell its version (): set spark.java_home to a JDK 17 or newer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("JAVA_HOME", "")
			home := javaHome(t, tc.says)
			want := filepath.Join(home, "bin", "java")
			got, err := Java(home)
			if tc.err != "" {
				require.EqualError(t, err, strings.ReplaceAll(tc.err, "JAVA", want))
				return
			}
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// A home of ours comes before JAVA_HOME, and that before the PATH; a wrong one is told of, not passed over.
func TestJavaIsFound(t *testing.T) {
	given, env, path := javaHome(t, `version "17"`), javaHome(t, `version "18"`), javaHome(t, `version "19"`)
	t.Setenv("PATH", filepath.Join(path, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("JAVA_HOME", env)
	for home, want := range map[string]string{given: given, "": env} {
		got, err := Java(home)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(want, "bin", "java"), got)
	}
	missing := t.TempDir()
	_, err := Java(missing)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, filepath.Join(missing, "bin", "java")+" does not run (")
	require.ErrorContains(t, err, "): install a JDK 17 or newer, or set spark.java_home")

	t.Setenv("JAVA_HOME", "")
	got, err := Java("")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(path, "bin", "java"), got)

	t.Setenv("PATH", t.TempDir())
	_, err = Java("")
	require.EqualError(t, err, "there is no java on the PATH: install a JDK 17 or newer (Debian: apt-get install openjdk-17-jdk-headless), or set spark.java_home")
}

func TestJavaThatFails(t *testing.T) {
	home := t.TempDir()
	script(t, filepath.Join(home, "bin", "java"), `echo 'version "21"' >&2; exit 1`)
	_, err := Java(home)
	require.ErrorContains(t, err, "does not run (exit status 1)")
}

// sparkHome makes what Check takes for a Spark.
func sparkHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "jars"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, "jars", "spark-connect_2.13-4.3.0.jar"), nil, 0o644))
	return home
}

func TestCheck(t *testing.T) {
	require.NoError(t, Check(sparkHome(t)))

	old := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(old, "jars"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(old, "jars", "spark-core_2.12-3.5.0.jar"), nil, 0o644))
	for name, home := range map[string]string{"Spark 3": old, "no such directory": filepath.Join(old, "none")} {
		t.Run(name, func(t *testing.T) {
			require.EqualError(t, Check(home), home+" is no Spark with a Connect server: there is no jars/spark-connect_*.jar; use Spark 4, or leave spark.home and SPARK_HOME empty to have one fetched")
		})
	}
}

// silent is a report that must not be needed.
func silent(t *testing.T) func(string) { return func(s string) { t.Error(s) } }

func TestHome(t *testing.T) {
	given, env := sparkHome(t), sparkHome(t)
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("SPARK_HOME", env)
	for home, want := range map[string]string{given: given, "": env} {
		got, err := Home(t.Context(), home, "4.3.0", silent(t))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := Home(t.Context(), cache, "4.3.0", silent(t))
	require.ErrorContains(t, err, "is no Spark with a Connect server", "a wrong home is told of, not passed over")

	t.Setenv("SPARK_HOME", "")
	there := filepath.Join(cache, "sluice", "spark-4.3.0")
	require.NoError(t, os.MkdirAll(there, 0o755))
	home, ok := Installed("4.3.0")
	require.Equal(t, there, home)
	require.False(t, ok, "one that was not unpacked to the end does not count")
	require.NoError(t, os.WriteFile(filepath.Join(there, complete), nil, 0o644))
	got, err := Home(t.Context(), "", "4.3.0", silent(t))
	require.NoError(t, err)
	require.Equal(t, there, got)

	_, err = Home(t.Context(), "", "1.0", silent(t))
	require.EqualError(t, err, "there is no Spark 1.0 to install: known versions are 4.3.0; set spark.home to a distribution of your own")
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
	sources["9.9.9"] = source{hashOf(data), 1 << 20}
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
		home, err := Home(t.Context(), "", "9.9.9", func(s string) { said = append(said, s) })
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
		"not a Spark":    {noConnect, noConnect, "is no Spark with a Connect server"},
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
	require.EqualError(t, err, "fetch Spark 9.9.9: python3 is not on the PATH: install Python 3 with pip, or set spark.home to a Spark 4 distribution")

	python := filepath.Join(dir, "python3")
	script(t, python, `echo "No module named pip"; exit 1`)
	_, err = Install(t.Context(), "9.9.9", silent(t))
	require.EqualError(t, err, "fetch Spark 9.9.9: "+python+" has no pip (No module named pip): install it (Debian: apt-get install python3-pip), or set spark.home to a Spark 4 distribution")

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
