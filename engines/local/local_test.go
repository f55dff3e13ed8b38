package local

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

// TestMain lets this test binary be its own supervisor, as the gateway's binary is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == SuperviseCommand {
		if err := Supervise(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func newCluster(t *testing.T, dir string, lease time.Duration) *Cluster {
	self, err := os.Executable()
	require.NoError(t, err)
	return New(Options{Name: "local", Dir: dir, Lease: lease, Supervise: []string{self, SuperviseCommand}, Log: slog.New(slog.DiscardHandler)})
}

// script is a launch of a shell script in place of a JVM: what is under test is the supervisor.
func script(text string) engines.Launch {
	return engines.Launch{Tag: "one", Name: "one", Java: "/bin/sh", JVMOptions: []string{"-c", text, "sh"},
		MainClass: "Main", Ready: `listens on (\S+)`, Env: map[string]string{"SECRET": "s3cret"}}
}

// until waits for an event of the application in the given state.
func until(t *testing.T, events <-chan engines.Event, state engines.State) engines.App {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case ev := <-events:
			if ev.App.Tag == "one" && ev.App.State == state {
				return ev.App
			}
		case <-limit:
			t.Fatalf("it never became %s", state)
		}
	}
}

func alive(pid string) bool {
	_, err := os.Stat(filepath.Join("/proc", strings.TrimSpace(pid)))
	return err == nil
}

func TestFromSubmitToTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 20)) // longer than a socket's path may be
	c := newCluster(t, dir, time.Minute)
	events, err := c.Watch(t.Context())
	require.NoError(t, err)
	l := script(`echo $$ > pid; echo "$SECRET" > got; sleep 300 & echo $! > child; echo "listens on 127.0.0.1:1234"; wait`)
	_, err = c.Submit(t.Context(), l)
	require.NoError(t, err)
	app := until(t, events, engines.Running)
	require.Equal(t, "127.0.0.1:1234", app.Address)
	require.Equal(t, filepath.Join(dir, "apps", "one", "engine.log"), app.Log)

	again, err := c.Submit(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, app, again, "twice is once")
	apps, err := c.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []engines.App{app}, apps)
	got, err := os.ReadFile(filepath.Join(dir, "apps", "one", "got"))
	require.NoError(t, err)
	require.Equal(t, "s3cret\n", string(got))
	_, err = os.Stat(filepath.Join(dir, "apps", "one", orderFile))
	require.ErrorIs(t, err, os.ErrNotExist, "the order holds the secret and is gone once it is read")

	child, err := os.ReadFile(filepath.Join(dir, "apps", "one", "child"))
	require.NoError(t, err)
	require.NoError(t, c.Kill(t.Context(), "one"))
	require.Equal(t, "it was told to end", until(t, events, engines.Ended).Reason)
	require.Eventually(t, func() bool { return !alive(string(child)) }, 5*time.Second, 10*time.Millisecond, "the whole process group ends")
	require.NoError(t, c.Kill(t.Context(), "one"), "killing twice is no error")
	log, err := c.Log(t.Context(), "one", 1000)
	require.NoError(t, err)
	require.Contains(t, log, "listens on 127.0.0.1:1234")
	apps, err = c.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, apps)
	require.NoError(t, c.Close())
}

func TestALeaseThatNobodyRenews(t *testing.T) {
	c := newCluster(t, t.TempDir(), time.Second)
	events, err := c.Watch(t.Context())
	require.NoError(t, err)
	began := time.Now()
	_, err = c.Submit(t.Context(), script(`echo "listens on h:1"; sleep 300`))
	require.NoError(t, err)
	until(t, events, engines.Running)
	for time.Since(began) < 3*time.Second {
		require.NoError(t, c.Renew(t.Context(), "one"))
		<-time.After(200 * time.Millisecond) // the span over which it is renewed
	}
	apps, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, apps, 1, "renewed, it lives")
	require.Contains(t, until(t, events, engines.Ended).Reason, "its lease ended: no gateway renewed it for 1s")
	require.NoError(t, c.Close())
}

func TestAnotherGatewayFindsItAgain(t *testing.T) {
	dir := t.TempDir()
	first := newCluster(t, dir, time.Minute)
	events, err := first.Watch(t.Context())
	require.NoError(t, err)
	_, err = first.Submit(t.Context(), script(`echo "listens on h:1"; sleep 300`))
	require.NoError(t, err)
	app := until(t, events, engines.Running)

	second := newCluster(t, dir, time.Minute)
	apps, err := second.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []engines.App{app}, apps, "found by listing, not by memory")
	require.NoError(t, second.Kill(t.Context(), "one"))
	until(t, events, engines.Ended)
	require.NoError(t, second.Close())
	require.NoError(t, first.Close())
}

func TestEndsThatNobodyWanted(t *testing.T) {
	for name, tc := range map[string]struct{ text, reason string }{
		"at once":       {`echo "cannot start" >&2; exit 3`, "its process ended: exit status 3"},
		"by itself":     {`echo "listens on h:1"; exit 0`, "its process ended by itself"},
		"killed":        {`kill -9 $$`, "its process ended: signal: killed"},
		"no such thing": {``, "start /no/such/java: "},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, t.TempDir(), time.Minute)
			events, err := c.Watch(t.Context())
			require.NoError(t, err)
			l := script(tc.text)
			if tc.text == "" {
				l.Java = "/no/such/java"
			}
			app, err := c.Submit(t.Context(), l)
			require.NoError(t, err)
			if app.State != engines.Ended {
				app = until(t, events, engines.Ended)
			}
			require.Contains(t, app.Reason, tc.reason)
			require.NoError(t, c.Close())
		})
	}
}

func TestASupervisorThatIsKilledTakesItsEngineAlong(t *testing.T) {
	dir := t.TempDir()
	c := newCluster(t, dir, time.Minute)
	events, err := c.Watch(t.Context())
	require.NoError(t, err)
	_, err = c.Submit(t.Context(), script(`echo $$ $PPID > pids; echo "listens on h:1"; exec sleep 300`))
	require.NoError(t, err)
	until(t, events, engines.Running)
	data, err := os.ReadFile(filepath.Join(dir, "apps", "one", "pids"))
	require.NoError(t, err)
	var engine, supervisor int
	_, err = fmt.Sscan(string(data), &engine, &supervisor)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(supervisor, syscall.SIGKILL))
	require.Equal(t, "its supervisor was killed", until(t, events, engines.Ended).Reason)
	require.Eventually(t, func() bool { return !alive(fmt.Sprint(engine)) }, 5*time.Second, 10*time.Millisecond)
	require.NoError(t, c.Close())
}

func TestCommandIsPure(t *testing.T) {
	require.Equal(t,
		[]string{"java", "-Xmx1g", "-Da.b=1", "-Dc=x y", "-cp", "/spark/jars/*:/more", "Main", "arg"},
		command(engines.Launch{Java: "java", JVMOptions: []string{"-Xmx1g"}, ClassPath: []string{"/spark/jars/*", "/more"}, MainClass: "Main",
			Args: []string{"arg"}, Conf: map[string]string{"c": "x y", "a.b": "1"}}))
}

func TestThePortOfTheCatalogueIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "port.json")
	first, err := keptPort(context.Background(), file, false)
	require.NoError(t, err)
	again, err := keptPort(context.Background(), file, false)
	require.NoError(t, err)
	require.Equal(t, first, again)
	running, err := keptPort(context.Background(), file, true)
	require.NoError(t, err)
	require.Equal(t, first, running)
}

func TestReachable(t *testing.T) {
	for told, want := range map[string]string{
		"127.0.0.1:1234":            "127.0.0.1:1234",
		"0:0:0:0:0:0:0:0%0:21035":   "127.0.0.1:21035", // Spark 3.5
		"[::]:21035":                "127.0.0.1:21035",
		"0.0.0.0:21035":             "127.0.0.1:21035",
		"10.1.2.3:21035":            "10.1.2.3:21035",
		"host:1":                    "host:1",
		"fe80:0:0:0:0:0:0:1%2:1234": "fe80:0:0:0:0:0:0:1%2:1234",
		"nothing":                   "nothing",
	} {
		require.Equal(t, want, reachable(told), told)
	}
}

// Engines of every runtime see one catalogue, and it is the default runtime's, whoever comes first.
func TestOneCatalogueForAllRuntimes(t *testing.T) {
	c := newCluster(t, t.TempDir(), time.Minute)
	c.opt.Closed = true
	c.opt.Runtime = func(_ context.Context, name string, _ func(string)) (Runtime, error) {
		return map[string]Runtime{"": {"/new", "4.3.0", "/new/java"}, "old": {"/old", "3.5.7", "/old/java"}}[name], nil
	}
	old, err := c.Platform(t.Context(), "old", nil)
	require.NoError(t, err)
	require.Equal(t, engines.Platform{Home: "/old", Java: "/old/java", Version: "3.5.7", Closed: true, Conf: old.Conf}, old)
	require.Equal(t, []string{"/new/jars/*"}, c.meta.launch.ClassPath)
	require.Equal(t, "/new/java", c.meta.launch.Java)
	standard, err := c.Platform(t.Context(), "", nil)
	require.NoError(t, err)
	require.Equal(t, "4.3.0", standard.Version)
	require.Equal(t, old.Conf, standard.Conf, "the same catalogue and warehouse")
}

func TestACatalogueThatTheDefaultCannotOpen(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, checkMaker(dir, "4.3.0"))
	require.NoError(t, checkMaker(dir, "3.5.7"), "nothing was made yet")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "derby"), 0o700))
	require.NoError(t, checkMaker(dir, "4.3.0"), "a newer one opens it")
	require.NoError(t, checkMaker(dir, "3.5.7"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "made_by"), []byte("4.3.0"), 0o600))
	require.NoError(t, checkMaker(dir, "4.1.0"))
	require.EqualError(t, checkMaker(dir, "3.5.7"), "the catalogue in "+dir+" was made by Spark 4.3.0, and the Derby of Spark 3.5.7 cannot open it: make Spark 4.3.0 the default runtime (spark.version or spark.home), and Spark 3.5.7 one of the runtimes beside it")
	require.NoError(t, os.Remove(filepath.Join(dir, "made_by")))
	require.NoError(t, checkMaker(dir, "3.5.7"), "one of before it was written down")
}

func TestABatchIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := script("exit 0")
	l.Program = &engines.Program{Main: "job.jar"}
	_, err := newCluster(t, dir, time.Minute).Submit(t.Context(), l)
	require.ErrorContains(t, err, "this machine runs no batches yet: name a cluster of kind yarn")
	require.NoDirExists(t, filepath.Join(dir, "apps"))
}
