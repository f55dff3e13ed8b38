// Package dist finds what an engine on this machine needs: a Java, and a stock Spark distribution, which it fetches
// once, by the machine's own pip, into the user's cache. The source distribution of pyspark is a whole Spark.
package dist

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// source is a distribution that we know by its hash.
type source struct {
	sha256  string // of pyspark's source archive
	bytes   int64
	connect jar // the Connect server, where the distribution lacks it
}

// sources are the versions that can be installed.
var sources = map[string]source{
	"3.5.7": {"80e36514e0c5c126d35a26adf4f405cd4a69de96a8ea8a3c1e9a65fce2fb4eaa", 302 << 20,
		jar{"org.apache.spark:spark-connect_2.12:3.5.7", "15366e21273a874c760b51fa00743a2acb8fa78642cc35d7a076a3ade0c5eef6"}},
	"4.3.0": {sha256: "e8c517948eff7088a7aa07449aa8eafa4a15a8d50319de2525a6fd26622476c6", bytes: 456 << 20},
}

// Wanted is a Spark, and the Java that it runs on, as a section of the configuration asks for them.
type Wanted struct {
	Key      string // the section, such as "spark": an error names what can be changed there
	Home     string // a distribution; empty: the version is fetched
	Version  string
	JavaHome string // empty: JAVA_HOME, or java on the PATH
}

// Default is the Spark of those who name none: that of the section "spark", for which SPARK_HOME counts as a home.
func Default(home, version, javaHome string) Wanted {
	return Wanted{Key: "spark", Home: cmp.Or(home, os.Getenv("SPARK_HOME")), Version: version, JavaHome: javaHome}
}

// Versions lists what can be installed.
func Versions() []string { return slices.Sorted(maps.Keys(sources)) }

// Cache is where downloads are kept between runs, ${XDG_CACHE_HOME:-~/.cache}/sluice.
func Cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "sluice"), nil
}

// complete marks a distribution that was unpacked to the end.
const complete = ".complete"

// Installed returns the home of a version in the cache, and whether it is there.
func Installed(version string) (string, bool) {
	cache, err := Cache()
	if err != nil {
		return "", false
	}
	home := filepath.Join(cache, "spark-"+version)
	_, err = os.Stat(filepath.Join(home, complete))
	return home, err == nil
}

// connectJar matches the jar of a Connect server; group 1 is the version of its Spark.
var connectJar = regexp.MustCompile(`^spark-connect_[0-9.]+-(.+)\.jar$`)

// versionIn says which Spark lies in home; none unless it has a Connect server.
func versionIn(home string) (string, bool) {
	found, _ := filepath.Glob(filepath.Join(home, "jars", "spark-connect_*.jar")) // fails on a bad pattern only
	for _, f := range found {
		if m := connectJar.FindStringSubmatch(filepath.Base(f)); m != nil {
			return m[1], true
		}
	}
	return "", false
}

// Spark finds the distribution, and its version: the wanted home, or the wanted version in the cache, which is fetched
// if it is not there.
func (w Wanted) Spark(ctx context.Context, report func(string)) (home, version string, err error) {
	home = w.Home
	if home == "" {
		if home, err = Install(ctx, w.Version, report); err != nil {
			return "", "", err
		}
	}
	version, ok := versionIn(home)
	if !ok {
		return "", "", fmt.Errorf("%s is no Spark with a Connect server: there is no jars/spark-connect_*.jar; use Spark 4, or for Spark 3.5 put org.apache.spark:spark-connect_2.12 of its version there, or leave %s.home empty to have one fetched", home, w.Key)
	}
	return home, version, nil
}

// Install fetches a version into the cache and unpacks it. Several processes may ask at once: one works, the others wait.
func Install(ctx context.Context, version string, report func(string)) (string, error) {
	if home, ok := Installed(version); ok {
		return home, nil
	}
	src, ok := sources[version]
	if !ok {
		return "", fmt.Errorf("there is no Spark %s to install: known versions are %s; set spark.home or runtimes.NAME.home to a distribution of your own", version, strings.Join(Versions(), ", "))
	}
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(cache, ".spark-"+version+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if home, ok := Installed(version); ok {
		return home, nil
	}
	work, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	fresh := filepath.Join(work, "spark")
	if err := src.connect.fetch(ctx, cache, filepath.Join(fresh, "jars"), report); err != nil {
		return "", fmt.Errorf("fetch the Connect server of Spark %s: %w", version, err)
	}
	archive, err := download(ctx, work, version, src, report)
	if err != nil {
		return "", fmt.Errorf("fetch Spark %s: %w", version, err)
	}
	report("Unpacking Spark " + version)
	if err := unpack(archive, fresh); err != nil {
		return "", fmt.Errorf("unpack Spark %s: %w", version, err)
	}
	if v, _ := versionIn(fresh); v != version {
		return "", fmt.Errorf("the archive holds no Spark %s with a Connect server", version)
	}
	if err := os.WriteFile(filepath.Join(fresh, complete), nil, 0o644); err != nil {
		return "", err
	}
	home, _ := Installed(version)
	_ = os.RemoveAll(home) // a half of one
	if err := os.Rename(fresh, home); err != nil {
		return "", err
	}
	report("Spark " + version + " is in " + home)
	return home, nil
}

func lock(ctx context.Context, file string) (func(), error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond): // somebody else is downloading
		}
	}
}

// download lets pip fetch the source archive: pip knows the user's index, proxy and certificates.
func download(ctx context.Context, work, version string, src source, report func(string)) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return "", errors.New("python3 is not on the PATH: install Python 3 with pip, or set spark.home or runtimes.NAME.home to a distribution of your own")
	}
	if out, err := exec.CommandContext(ctx, python, "-m", "pip", "--version").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s has no pip (%s): install it (Debian: apt-get install python3-pip), or set spark.home or runtimes.NAME.home to a distribution of your own", python, firstLine(out))
	}
	wanted := filepath.Join(work, "requirements.txt")
	if err := os.WriteFile(wanted, fmt.Appendf(nil, "pyspark==%s --hash=sha256:%s\n", version, src.sha256), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps", "--no-binary", ":all:", "--require-hashes",
		"--disable-pip-version-check", "-r", wanted, "-d", work)
	cmd.Env = append(os.Environ(), "TMPDIR="+work) // so that the progress can be seen
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	report(fmt.Sprintf("Fetching Spark %s with pip (%d MB, once)", version, src.bytes>>20))
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go progress(watch, work, src.bytes, report)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("pip download: %w: %s", err, lastLine(out.Bytes()))
	}
	stop()
	archive := filepath.Join(work, "pyspark-"+version+".tar.gz")
	return archive, verify(archive, src.sha256)
}

// progress tells every few seconds how much lies in the directory.
func progress(ctx context.Context, dir string, total int64, report func(string)) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	said := int64(-1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var have int64
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(d.Name(), ".tar.gz") {
				if info, err := d.Info(); err == nil {
					have += info.Size()
				}
			}
			return nil
		})
		if mb := have >> 20; mb != said {
			said = mb
			report(fmt.Sprintf("Fetched %d of about %d MB", mb, total>>20))
		}
	}
}

func verify(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has the hash %s, expected %s", filepath.Base(file), got, want)
	}
	return nil
}

// unpack lays the archive out as a Spark home: what pyspark keeps under deps/ goes to the top. The jars of Spark's own
// interactive client are left out; an engine must not see them.
func unpack(archive, home string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(gz); ; {
		head, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(head.Name, "/")
		name = strings.TrimPrefix(name, "deps/")
		if head.Typeflag != tar.TypeReg || strings.HasPrefix(name, "jars/connect-repl/") || !filepath.IsLocal(name) {
			continue
		}
		if err := writeFile(filepath.Join(home, name), tr, head.FileInfo().Mode().Perm()); err != nil {
			return err
		}
	}
}

func writeFile(path string, r io.Reader, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
