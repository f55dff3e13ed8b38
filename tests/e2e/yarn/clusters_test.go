//go:build e2e

package yarn

import (
	"context"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// check runs sluice config check --online.
func check(t *testing.T, config string) testbed.Result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	return testbed.Run(t, testbed.Binary(t), "config", "check", "--online", "--config", file)
}

// archive is the Spark that a gateway has uploaded.
func archive(t *testing.T, h *testbed.Hadoop) string {
	t.Helper()
	infos, err := h.HDFS("ann").ReadDir("/user/sluice/sluice")
	require.NoError(t, err)
	for _, i := range infos {
		if strings.HasPrefix(i.Name(), "spark-"+testbed.SparkVersion) {
			return "hdfs://" + h.NameNode + "/user/sluice/sluice/" + i.Name()
		}
	}
	t.Fatal("there is no archive of Spark")
	return ""
}

// Two clusters at once, of which one has two ResourceManagers: the same rows from both, and a failover in the middle of a
// statement.
func TestTwoClusters(t *testing.T) {
	testbed.Long(t)
	explain(t, shared)
	other := testbed.StartHadoop(t, testbed.HadoopOptions{FS: shared.NameNode, HA: true, Nodes: 2, Label: "spot"})
	explain(t, other)
	y := place{name: "y", h: shared, queue: "root.etl"}
	g := startGateway(t, configOf(y))
	want := onYARN(t, g, "ann").All(join)
	g.Stop()

	z := place{name: "z", h: other, queue: "root.etl", keys: []string{"archives: {default: " + archive(t, shared) + "}"}}
	g = startGateway(t, configOf(y, z,
		place{name: "barred", h: other, queue: "root.bi", keys: append(z.keys, "driver_label: spot")},
		place{name: "closed", h: other, queue: "root.default", keys: append(z.keys, "driver_label: spot")},
		place{name: "mislabelled", h: other, queue: "root.etl", keys: append(z.keys, "driver_label: nolabel")},
		place{name: "empty", h: other, queue: "root.etl", keys: []string{"archives: {default: hdfs://" + shared.NameNode + "/apps/none.zip}"}}))
	c := on(t, g, "ann", "z")
	require.Equal(t, want, finish(t, c, c.Async(join)))
	running := keys(applications(t, other, "ann"))
	require.Len(t, running, 1)
	op := c.Async(slow)
	reads(t, c, op, "Stage-")
	other.Kill("resourcemanager")
	other.Activate("resourcemanager2")
	other.WaitNodes()
	require.Equal(t, [][]string{{"0", "600"}, {"1", "600"}}, finish(t, c, op))
	other.Start("resourcemanager") // a standby, which everybody asks first
	require.Equal(t, want, c.All(join))
	require.Equal(t, running, keys(applications(t, other, "ann")))

	for cluster, say := range map[string][]string{
		"barred":      {"its queue may not use the driver's node label: set clusters.barred.yarn.driver_label"},
		"closed":      {"doesn't have permission to access all labels", "set clusters.closed.yarn.driver_label"},
		"mislabelled": {"nolabel", "set clusters.mislabelled.yarn.driver_label"},
		"empty":       {"/apps/none.zip", "file does not exist", "clusters.empty.yarn.archives"},
	} {
		began := time.Now()
		_, st := on(t, g, "bob", cluster).Exec("SELECT 1 FROM range(1)")
		for _, text := range say {
			require.Contains(t, st.GetErrorMessage(), text)
		}
		require.Less(t, time.Since(began), 20*time.Second, cluster)
	}
	g.Stop()
	nothingLeft(t, other)
}

func TestConfigCheckOnline(t *testing.T) {
	r := check(t, config(shared, "root.etl"))
	require.Zero(t, r.Code, r.Out+r.Err)
	for _, line := range []string{"ResourceManager http://" + shared.RM + " active", "queue root.etl is running", "submit applications as sluice",
		"hdfs://" + shared.NameNode + " as sluice", "write to /user/sluice/sluice"} {
		require.Contains(t, r.Out, "ok      cluster y: "+line)
	}
	r = check(t, configOf(
		place{name: "a", h: shared, queue: "root.nosuch", keys: []string{"driver_label: spot", "shared_dir: /apps/sluice"}},
		place{name: "b", h: shared, queue: "root", keys: []string{"resource_managers: http://127.0.0.1:1", "archives: {default: hdfs://" + shared.NameNode + "/apps/none.zip}"}},
		place{name: "c", h: shared, queue: "root", conf: []string{"spark.hadoop.hive.metastore.uris: thrift://127.0.0.1:1"}}))
	require.NotZero(t, r.Code)
	for _, line := range []string{
		"cluster a: queue root.nosuch: clusters.a.yarn.queue: the cluster has no such queue, but root.",
		"cluster a: node label spot: clusters.a.yarn.driver_label: the cluster has no such node label",
		"cluster a: write to /apps/sluice: clusters.a.yarn.shared_dir: ",
		"cluster b: ResourceManager http://127.0.0.1:1: ",
		"cluster b: an active ResourceManager: there is none",
		"cluster b: archive hdfs://" + shared.NameNode + "/apps/none.zip: clusters.b.yarn.archives.default: ",
		"cluster c: queue root: clusters.c.yarn.queue: it takes no applications itself, but root.",
		"cluster c: Hive metastore 127.0.0.1:1: ",
	} {
		require.Contains(t, r.Out, "FAILED  "+line)
	}
}

// What a gateway that crashed has left on HDFS is removed by the next one: the files of an application that has ended, and of
// one that was never submitted, after a while. Nothing else is touched.
func TestLeftOvers(t *testing.T) {
	hadoop, err := yarn.ReadHadoop(shared.ConfDir)
	require.NoError(t, err)
	sweep := func(grace time.Duration) {
		c, err := yarn.New(yarn.Options{Name: "y", Instance: "sluice-crashed", Hadoop: hadoop, User: "sluice", Shared: "/user/sluice/crashed",
			Grace: grace, Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		none, err := c.List(context.Background())
		require.NoError(t, err)
		require.Empty(t, none)
	}
	const marks = "/user/sluice/crashed/staging/sluice-crashed-y"
	leave := func(id string, marked bool) {
		require.NoError(t, shared.HDFS("ann").MkdirAll(path.Join("/user/ann/.sparkStaging", id), 0o700))
		if marked {
			require.NoError(t, shared.HDFS("sluice").MkdirAll(path.Join(marks, id+"@ann"), 0o755))
		}
	}
	never, foreign, live := newApplication(t, shared, "user.name=ann"), newApplication(t, shared, "user.name=ann"), sleep(t, shared)
	ended := newApplication(t, shared, "user.name=ann")
	code, said := call(t, "POST", shared.RM, "?user.name=ann", strings.Replace(sleepBody(ended), `"queue":"etl"`, `"queue":"nosuch"`, 1))
	require.Equal(t, 202, code, said)
	for _, id := range []string{never, live, ended} {
		leave(id, true)
	}
	leave(foreign, false)
	gone := func(id string) func() bool {
		return func() bool {
			_, err := shared.HDFS("sluice").Stat(path.Join(marks, id+"@ann"))
			return os.IsNotExist(err)
		}
	}
	sweep(time.Hour)
	testbed.Until(t, 30*time.Second, "what has ended is swept", gone(ended)) // which comes last
	require.ElementsMatch(t, []string{never, live, foreign}, staged(t, shared, "ann"))
	sweep(time.Millisecond)
	testbed.Until(t, 30*time.Second, "what never came is swept", gone(never))
	require.ElementsMatch(t, []string{live, foreign}, staged(t, shared, "ann"))
	require.False(t, gone(live)())
	end(t, shared, "ann", live)
	testbed.Until(t, time.Minute, "the container has ended", func() bool { return sleeper(shared) == 0 })
	require.NoError(t, shared.HDFS("ann").RemoveAll("/user/ann/.sparkStaging"))
}
