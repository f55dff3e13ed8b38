//go:build e2e

package yarn

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/engines/spark/dist"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// client is one of the shared cluster, as a gateway has it. Another one of the same instance finds its batches.
func client(t *testing.T, change ...func(*yarn.Options)) *yarn.Cluster {
	t.Helper()
	h, err := yarn.ReadHadoop(shared.ConfDir)
	require.NoError(t, err)
	python, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print(sys.executable)").Output()
	require.NoError(t, err)
	o := yarn.Options{
		Name: "y", Instance: "sluice-batches", Hadoop: h,
		User: "sluice", Shared: "/user/sluice/sluice", Queue: "root.etl", Ready: spark.Ready, Lease: time.Minute, Closed: true, Log: slog.Default(),
		Conf: map[string]string{
			"spark.executor.instances": "1", "spark.executor.memory": "512m", "spark.executor.cores": "1",
			"spark.yarn.appMasterEnv.SPARK_LOCAL_IP": "127.0.0.1", "spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1",
			"spark.yarn.appMasterEnv.PYSPARK_PYTHON": strings.TrimSpace(string(python)),
		},
		Runtime: func(ctx context.Context, version string, report func(string)) (yarn.Runtime, error) {
			home, err := dist.Install(ctx, version, report)
			return yarn.Runtime{Home: home, Version: version}, err
		}}
	for _, f := range change {
		f(&o)
	}
	c, err := yarn.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// plan renders a batch of ann's.
func plan(t *testing.T, c *yarn.Cluster, version string, b engines.Batch) engines.Launch {
	t.Helper()
	p, err := c.Platform(t.Context(), version, func(text string) { t.Log(text) })
	require.NoError(t, err)
	b.ID, b.User, b.Name, b.Memory = uuid.NewString(), "ann", t.Name(), "512m"
	l, err := spark.Driver{}.PlanBatch(b, p)
	require.NoError(t, err)
	return l
}

func submit(t *testing.T, c *yarn.Cluster, l engines.Launch) engines.App {
	t.Helper()
	app, err := c.Submit(t.Context(), l)
	require.NoError(t, err)
	require.NotEmpty(t, app.ID)
	return app
}

// result is all that is left of a batch.
type result struct {
	engines.App
	out, log string
}

func wait(t *testing.T, c *yarn.Cluster, tag engines.Tag) (r result) {
	t.Helper()
	r.App, r.out = testbed.EndOfBatch(t, c, tag)
	var err error
	r.log, err = c.Log(t.Context(), tag, 64<<10)
	require.NoError(t, err)
	return r
}

func (r result) require(t *testing.T, want engines.Outcome, lines ...string) {
	t.Helper()
	all := fmt.Sprintf("%s\n== stdout\n%s\n== stderr\n%s", r.Reason, r.out, r.log)
	require.Equal(t, want, r.Outcome, all)
	require.Contains(t, r.URL, string(r.ID))
	for _, line := range lines {
		require.Contains(t, r.out, line+"\n", all)
	}
}

// put copies a file to HDFS as ann.
func put(t *testing.T, from, to string, mode os.FileMode) string {
	t.Helper()
	c := shared.HDFS("ann")
	require.NoError(t, c.MkdirAll(filepath.Dir(to), 0o755))
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	w, err := c.Create(to)
	require.NoError(t, err)
	fill(t, w, data)
	require.NoError(t, c.Chmod(to, mode))
	return "hdfs://" + shared.NameNode + to
}

// odd are arguments that a shell, or YARN, would take for something else.
var odd = []string{"two words", "it's", `say "x"`, "$HOME", "`id`", `a\b\\c`, "{{PWD}}", `{"a":{"b":1}}`, "<LOG_DIR>", ""}

func TestBatches(t *testing.T) {
	c := client(t)
	for _, version := range []string{testbed.SparkVersion, testbed.OldSpark} {
		_, err := c.Platform(t.Context(), version, func(text string) { t.Log(text) })
		require.NoError(t, err)
	}
	job, extra := testbed.BatchJars(t, testbed.SparkVersion)
	words := testbed.Write(t, "words.txt", "hello from a file")
	t.Run("all", func(t *testing.T) {
		t.Run("a jar of this machine", func(t *testing.T) {
			t.Parallel()
			l := plan(t, c, testbed.SparkVersion, engines.Batch{Jar: job, Class: "Job", Jars: []string{"file://" + extra}, Files: []string{words, words + "#again.txt", testbed.Write(t, "empty.txt", "")}, Args: append([]string{"end"}, odd...)})
			submit(t, c, l)
			lines := []string{"file [hello from a file]", "again.txt [hello from a file]", "empty.txt []", "twice [2, 4, 6, 8]", "user ann", "line 0", "line 1999", "the last line"}
			for _, arg := range odd {
				lines = append(lines, "arg ["+arg+"]")
			}
			r := wait(t, c, l.Tag)
			r.require(t, engines.Succeeded, lines...)
			require.True(t, strings.HasPrefix(r.out, "arg [end]\n"), r.out[:100])
			require.True(t, strings.HasSuffix(r.out, "the last line\n"))

			// Whoever asks again, and is another gateway, has the same application, and no second one runs.
			again := submit(t, client(t), l)
			require.Equal(t, r.ID, again.ID)
			require.Equal(t, engines.Ended, again.State)
		})
		t.Run("a jar on HDFS that fails", func(t *testing.T) {
			t.Parallel()
			dir := "/tmp/batch-" + uuid.NewString()
			l := plan(t, c, testbed.SparkVersion, engines.Batch{
				Jar: put(t, job, dir+"/public-job.jar", 0o644), Class: "Job", Args: []string{"fail"},
				Jars: []string{put(t, extra, dir+"/private, of ann.jar", 0o600) + "#extra.jar"}, Files: []string{put(t, words, dir+"/w", 0o600) + "#words.txt"}})
			submit(t, c, l)
			r := wait(t, c, l.Tag)
			r.require(t, engines.Failed, "arg [fail]", "twice [2, 4, 6, 8]")
			require.Contains(t, r.Reason, "java.lang.IllegalStateException: the job gives up")
			require.Contains(t, r.log, "java.lang.IllegalStateException: the job gives up\n\tat Job.main")
			public, err := filepath.Glob(filepath.Join(shared.Dir, "nodemanager1", "local", "filecache", "*", "*.jar"))
			require.NoError(t, err)
			require.Contains(t, strings.Join(public, "\n"), "public-job.jar", "what everybody may read is kept for everybody")
			require.NotContains(t, strings.Join(public, "\n"), "private")
			_, err = shared.HDFS("ann").Stat(dir + "/public-job.jar")
			require.NoError(t, err, "what was on HDFS stays there")
		})
		t.Run("a Python program", func(t *testing.T) {
			t.Parallel()
			python(t, c, testbed.SparkVersion, "end").require(t, engines.Succeeded, "args ['end', 'a  b']")
		})
		t.Run("a Python program that fails, on an old Spark", func(t *testing.T) {
			t.Parallel()
			r := python(t, c, testbed.OldSpark, "fail")
			r.require(t, engines.Failed, "args ['fail', 'a  b']", "ValueError: the program gives up")
			require.Contains(t, r.Reason, "ended as FAILED: User application exited with")
			require.Equal(t, "ValueError: the program gives up", spark.Driver{}.RootCause(r.out))
		})
		t.Run("a script of SQL", func(t *testing.T) {
			t.Parallel()
			script := testbed.Write(t, "daily.sql", `-- what it finds; and more
				CREATE TEMPORARY VIEW v AS SELECT id, 'a;b' AS text FROM range(3);
				SELECT id, text, id = 1, CASE WHEN id > 1 THEN date'2026-01-02' END FROM v ORDER BY id; /* done; */`)
			l := plan(t, c, testbed.SparkVersion, engines.Batch{SQL: script})
			submit(t, c, l)
			r := wait(t, c, l.Tag)
			r.require(t, engines.Succeeded)
			require.Equal(t, "0\ta;b\tfalse\tNULL\n1\ta;b\ttrue\tNULL\n2\ta;b\tfalse\t2026-01-02\n", r.out)
		})
		t.Run("a script of SQL that fails", func(t *testing.T) {
			t.Parallel()
			script := testbed.Write(t, "it.sql", "SELECT 1;\nSELECT * FROM nosuch;\nSELECT 'never';")
			l := plan(t, c, testbed.SparkVersion, engines.Batch{SQL: put(t, script, "/tmp/batch-"+uuid.NewString()+"/it.sql", 0o600)})
			submit(t, c, l)
			r := wait(t, c, l.Tag)
			r.require(t, engines.Failed, "1", "Statement 2 of it.sql failed:", "SELECT * FROM nosuch")
			require.NotContains(t, r.out, "never")
			require.Contains(t, spark.Driver{}.RootCause(r.out), "[TABLE_OR_VIEW_NOT_FOUND]")
		})
		t.Run("a class that is not there", func(t *testing.T) {
			t.Parallel()
			l := plan(t, c, testbed.SparkVersion, engines.Batch{Jar: job, Class: "no.such.Job"})
			submit(t, c, l)
			r := wait(t, c, l.Tag)
			r.require(t, engines.Failed)
			require.Contains(t, r.Reason, "java.lang.ClassNotFoundException: no.such.Job")
		})
		t.Run("a file that its user may not read", func(t *testing.T) {
			t.Parallel()
			l := plan(t, c, testbed.SparkVersion, engines.Batch{Jar: put(t, job, "/tmp/batch-"+uuid.NewString()+"/job.jar", 0), Class: "Job"})
			submit(t, c, l)
			r := wait(t, c, l.Tag)
			r.require(t, engines.Failed)
			require.Contains(t, r.Reason, "Permission denied: user=ann, access=READ")
			require.Contains(t, r.Reason, "let ann read it")
		})
		t.Run("a kill", func(t *testing.T) {
			t.Parallel()
			l := plan(t, c, testbed.SparkVersion, engines.Batch{Jar: job, Class: "Job", Jars: []string{extra}, Files: []string{words}, Args: []string{"wait"}})
			app := submit(t, c, l)
			testbed.Until(t, 2*time.Minute, "the program waits", func() bool {
				out, err := c.Output(t.Context(), l.Tag, 1<<10)
				require.NoError(t, err)
				return strings.HasSuffix(out, "\nwaiting\n")
			})
			other := client(t) // a gateway that was started anew
			list, err := other.List(t.Context())
			require.NoError(t, err)
			require.Empty(t, list, "a batch is no engine")
			require.Equal(t, app.ID, submit(t, other, l).ID)
			require.NoError(t, other.Kill(t.Context(), l.Tag))
			r := wait(t, c, l.Tag)
			r.require(t, engines.Killed, "waiting")
			require.Contains(t, r.Reason, "killed by user")
		})
	})
	require.Empty(t, applications(t, shared, "ann"))
	testbed.Until(t, 20*time.Second, "nothing is left on HDFS", func() bool { return len(staged(t, shared, "ann")) == 0 })
}

// python runs main.py with all that it needs.
func python(t *testing.T, c *yarn.Cluster, version, how string) result {
	t.Helper()
	l := plan(t, c, version, engines.Batch{
		Python: testbed.BatchProgram(), Args: []string{how, "a  b"},
		PyFiles:  []string{testbed.Write(t, "util.py", "def plus(n):\n    return n + 1\n"), testbed.Pack(t, "packed.zip", "packed/__init__.py", "NAME = 'a package'\n")},
		Archives: []string{testbed.Pack(t, "things.zip", "inner/note.txt", "a note") + "#data"}})
	submit(t, c, l)
	r := wait(t, c, l.Tag)
	for _, line := range []string{"packed a package", "archive a note", "plus [2, 3, 4]", "on executors {'a note'}", "user ann"} {
		require.Contains(t, r.out, line+"\n", "%s\n%s", r.Reason, r.log)
	}
	return r
}

// What can be seen to be wrong is told before anything is submitted, with the next step.
func TestRefusedBatches(t *testing.T) {
	c := client(t)
	job := testbed.Write(t, "job.jar", "no jar")
	hidden := put(t, job, "/user/ann/private/job.jar", 0o600)
	require.NoError(t, shared.HDFS("ann").Chmod("/user/ann/private", 0o700))
	for name, tc := range map[string]struct {
		batch engines.Batch
		user  string
		want  string
	}{
		"not on HDFS":            {engines.Batch{Jar: "hdfs:///user/ann/nosuch.jar", Class: "Job"}, "ann", "jar: hdfs:///user/ann/nosuch.jar is not there: put it there, or correct the name"},
		"not here":               {engines.Batch{Jar: job, Class: "Job", Files: []string{"/no/such/file"}}, "ann", "files[0]: /no/such/file is not there: it must be on the gateway's machine"},
		"of somebody else":       {engines.Batch{Jar: hidden, Class: "Job"}, "bob", "jar: bob may not look at " + hidden + ": let bob read it"},
		"of another cluster":     {engines.Batch{Python: "hdfs://elsewhere:8020/a.py"}, "ann", "copy it to hdfs://" + shared.NameNode},
		"a directory":            {engines.Batch{Jar: job, Class: "Job", Files: []string{"hdfs:///user/ann"}}, "ann", "files[0]: hdfs:///user/ann is a directory"},
		"one file twice":         {engines.Batch{Jar: hidden, Class: "Job", Files: []string{hidden + "#again"}}, "ann", "files[0]: " + hidden + " is brought as jar already"},
		"a name that is Spark's": {engines.Batch{Jar: job, Class: "Job", Files: []string{job + "#__spark_conf__"}}, "ann", "files[0]: the name __spark_conf__ is taken on YARN"},
	} {
		t.Run(name, func(t *testing.T) {
			l := plan(t, c, testbed.SparkVersion, tc.batch)
			l.User = tc.user
			_, err := c.Submit(t.Context(), l)
			require.ErrorContains(t, err, tc.want)
			_, found, err := c.Batch(t.Context(), l.Tag)
			require.NoError(t, err)
			require.False(t, found)
		})
	}
	require.Empty(t, staged(t, shared, "ann"))
	require.Empty(t, staged(t, shared, "bob"))
}
