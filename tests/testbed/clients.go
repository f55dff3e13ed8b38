package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluicedata/sluice/engines/spark/dist"
)

// SparkVersion is the Spark that the tests run on.
const SparkVersion = "4.3.0"

// OldSpark is the Spark before 4.0 that the tests run beside it.
const OldSpark = "3.5.7"

// FetchSpark fetches a stock Spark of another version into the cache, once.
func FetchSpark(t T, version string) {
	t.Helper()
	if _, err := dist.Install(context.Background(), version, func(text string) { t.Logf("%s", text) }); err != nil {
		t.Fatalf("%v", err)
	}
}

// SparkHome returns a stock Spark, fetched into the cache once.
func SparkHome(t T) string {
	t.Helper()
	home, _, err := dist.Default("", SparkVersion, "").Spark(context.Background(), func(text string) { t.Logf("%s", text) })
	if err != nil {
		t.Fatalf("%v", err)
	}
	return home
}

// Java returns the java command.
func Java(t T) string {
	t.Helper()
	java, err := dist.Default("", SparkVersion, "").Java(SparkVersion)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return java
}

// cached makes a directory in the cache once, whatever process asks first. The key names its whole content.
func cached(t T, name string, fill func(dir string) error) string {
	t.Helper()
	cache, err := dist.Cache()
	if err != nil {
		t.Fatalf("%v", err)
	}
	dir := filepath.Join(cache, name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err == nil {
		return dir
	}
	_ = os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	if err := fill(dir); err != nil {
		t.Fatalf("prepare %s: %v", name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".complete"), nil, 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	return dir
}

func run(name string, args ...string) error {
	out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Python returns the python of a virtual environment that holds the given requirements, made once.
func Python(t T, requirements ...string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(strings.Join(requirements, "\n")))
	dir := cached(t, "venv-"+hex.EncodeToString(sum[:6]), func(dir string) error {
		if err := run("python3", "-m", "venv", dir); err != nil {
			return err
		}
		return run(filepath.Join(dir, "bin", "pip"), append([]string{"install", "-q", "--disable-pip-version-check"}, requirements...)...)
	})
	return filepath.Join(dir, "bin", "python")
}

// NodeModules returns the node_modules directory that holds an npm package, NAME@VERSION, fetched once.
func NodeModules(t T, pkg string) string {
	t.Helper()
	dir := cached(t, "npm-"+strings.NewReplacer("/", "_", "@", "_").Replace(pkg), func(dir string) error {
		return run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", dir, pkg)
	})
	return filepath.Join(dir, "node_modules")
}

// Jar returns a jar from Maven's registry, by its coordinates group:artifact:version:jar[:classifier], fetched once.
func Jar(t T, coordinates string) string {
	t.Helper()
	dir := cached(t, "jar-"+strings.NewReplacer(":", "_", "/", "_").Replace(coordinates), func(dir string) error {
		return run("mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy", "-Dartifact="+coordinates, "-DoutputDirectory="+dir)
	})
	jars, err := filepath.Glob(filepath.Join(dir, "*.jar"))
	if err != nil || len(jars) != 1 {
		t.Fatalf("%s gave %d jars", coordinates, len(jars))
	}
	return jars[0]
}

// Result is how a client process ended.
type Result struct {
	Out, Err string
	Code     int
}

// Client is a running client process.
type Client struct {
	Cmd      *exec.Cmd
	out, err *Log
	once     sync.Once
	result   Result
}

// Start starts a client process.
func Start(t T, name string, args ...string) *Client {
	t.Helper()
	return StartEnv(t, nil, name, args...)
}

// StartEnv starts a client process with more in its environment.
func StartEnv(t T, env []string, name string, args ...string) *Client {
	t.Helper()
	c := &Client{Cmd: exec.CommandContext(context.Background(), name, args...), out: &Log{}, err: &Log{}}
	c.Cmd.Env = append(os.Environ(), env...)
	c.Cmd.Stdout, c.Cmd.Stderr = c.out, c.err
	if err := c.Cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() { _ = c.Cmd.Process.Kill(); c.Wait() })
	return c
}

// Wait returns how the process ended.
func (c *Client) Wait() Result {
	c.once.Do(func() {
		_ = c.Cmd.Wait()
		c.result = Result{Out: c.out.String(), Err: c.err.String(), Code: c.Cmd.ProcessState.ExitCode()}
	})
	return c.result
}

// Err is what the process has written to standard error so far.
func (c *Client) Err() string { return c.err.String() }

// Run runs a client to its end.
func Run(t T, name string, args ...string) Result {
	t.Helper()
	return Start(t, name, args...).Wait()
}

// BeelineArgs are the command and arguments of stock Beeline, from Spark's own jars and from those that are named before
// them. The url is what stands behind jdbc:hive2://.
func BeelineArgs(t T, url, user string, jars []string, args ...string) []string {
	t.Helper()
	path := strings.Join(append(slices.Clone(jars), SparkHome(t)+"/jars/*"), ":")
	return append([]string{Java(t), "-cp", path, "org.apache.hive.beeline.BeeLine", "-u", "jdbc:hive2://" + url, "-n", user}, args...)
}

// BeelineTo runs Beeline from Spark's own jars with a whole url, behind jdbc:hive2://.
func BeelineTo(t T, url, user string, args ...string) Result {
	t.Helper()
	all := BeelineArgs(t, url, user, nil, args...)
	return Run(t, all[0], all[1:]...)
}

// Beeline runs stock Beeline.
func Beeline(t T, g *Gateway, url, user string, args ...string) Result {
	t.Helper()
	return BeelineTo(t, g.Thrift+url, user, args...)
}

// Rows are the lines of a client's output that hold something.
func (r Result) Rows() []string {
	var out []string
	for _, line := range strings.Split(r.Out, "\n") {
		if strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return out
}

// Within fails the test when f takes longer than the limit.
func Within(t T, limit time.Duration, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		t.Fatalf("%s took %s, allowed are %s", what, took, limit)
	}
}
