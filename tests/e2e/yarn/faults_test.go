//go:build e2e

package yarn

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// slow is a query whose tasks take a while, with a shuffle behind them: 12 seconds on one core.
const slow = `SELECT id % 2 AS k, count(*) AS n FROM range(0, 1200, 1, 4)
	WHERE java_method('java.lang.Thread', 'sleep', 10L) IS NOT NULL GROUP BY id % 2 ORDER BY k`

// drivers are the processes of the drivers on a cluster.
func drivers(h *testbed.Hadoop) (pids []int) {
	for _, pid := range h.Processes() {
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if bytes.Contains(line, []byte("bin/java\x00")) && bytes.Contains(line, []byte("org.apache.spark.deploy.yarn.ApplicationMaster\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// The ResourceManager, the NameNode and the NodeManager are killed while a statement runs and another one's engine is being
// asked for: both get their rows. What one engine has written, another one reads, as its own user; and a driver that is killed
// is replaced.
func TestDaemonsAreKilled(t *testing.T) {
	explain(t, shared)
	meta := testbed.StartMetastore(t, testbed.MetastoreOptions{Hadoop: shared})
	g := startGateway(t, config(shared, "root.etl", "spark.sql.catalogImplementation: hive", "spark.hadoop.hive.metastore.uris: "+meta.URI,
		"spark.sql.warehouse.dir: hdfs://"+shared.NameNode+"/warehouse"))
	ann := onYARN(t, g, "ann")
	ann.All("CREATE TABLE words USING parquet AS SELECT id, concat('w', id) AS word FROM range(0, 100, 1, 2)")
	running := applications(t, shared, "ann")
	require.Len(t, running, 1)

	op := ann.Async(slow)
	reads(t, ann, op, "Stage-")
	shared.Kill("resourcemanager")
	shared.Kill("namenode")
	bob := onYARN(t, g, "bob")
	asked := bob.Async("SELECT count(*), min(word) FROM words")
	reads(t, bob, asked, "Starting a spark engine")
	shared.Start("namenode")
	shared.Start("resourcemanager")
	shared.WaitNodes()
	require.Equal(t, [][]string{{"0", "600"}, {"1", "600"}}, finish(t, ann, op))
	require.Equal(t, [][]string{{"100", "w0"}}, finish(t, bob, asked))

	op = ann.Async(slow)
	shared.Kill("nodemanager1")
	shared.Start("nodemanager1")
	require.Equal(t, [][]string{{"0", "600"}, {"1", "600"}}, finish(t, ann, op))
	require.Equal(t, keys(running), keys(applications(t, shared, "ann")), "nothing was submitted twice")
	require.Len(t, applications(t, shared, "bob"), 1)

	// One catalogue, and one identity in it.
	_, st := bob.Exec("INSERT INTO words VALUES (1, 'mine')")
	require.Contains(t, st.GetErrorMessage(), "Permission denied: user=bob")
	require.Contains(t, fmt.Sprint(bob.All("DESCRIBE EXTENDED words")), "[Owner ann ")
	infos, err := shared.HDFS("ann").ReadDir("/warehouse/words")
	require.NoError(t, err)
	require.NotEmpty(t, infos)
	for _, i := range infos {
		require.Equal(t, "ann", i.(interface{ Owner() string }).Owner(), i.Name())
	}

	// kill -9 of a driver. It is ann's: her statement fails and says so, her session goes on.
	end(t, shared, "bob", keys(applications(t, shared, "bob"))[0])
	testbed.Until(t, time.Minute, "ann's driver is alone", func() bool { return len(drivers(shared)) == 1 })
	op = ann.Async(slow)
	reads(t, ann, op, "Stage-")
	require.NoError(t, syscall.Kill(drivers(shared)[0], syscall.SIGKILL))
	failed := ann.WaitState(op, time.Minute)
	require.Equal(t, tcli.TOperationState_ERROR_STATE, failed.GetOperationState())
	require.Contains(t, failed.GetErrorMessage(), "The engine was lost")
	op = ann.Async("SELECT count(*) FROM words")
	require.Equal(t, [][]string{{"100"}}, finish(t, ann, op))
	require.NotEqual(t, keys(running), keys(applications(t, shared, "ann")))
	ann.All("DROP TABLE words")
	g.Stop()
	nothingLeft(t, shared)
}

func keys(m map[string]string) (names []string) {
	for k := range m {
		names = append(names, k)
	}
	return names
}

// nothingLeft waits until no application and no file of one is left.
func nothingLeft(t *testing.T, h *testbed.Hadoop) {
	t.Helper()
	for _, user := range []string{"ann", "bob"} {
		testbed.Until(t, time.Minute, "nothing of "+user+"'s runs", func() bool { return len(applications(t, h, user)) == 0 })
		testbed.Until(t, 20*time.Second, "nothing of "+user+"'s is left on HDFS", func() bool { return len(staged(t, h, user)) == 0 })
	}
	marks, err := h.HDFS("sluice").ReadDir("/user/sluice/sluice/staging")
	require.NoError(t, err)
	for _, m := range marks {
		testbed.Until(t, 20*time.Second, "no note is left in "+m.Name(), func() bool {
			left, err := h.HDFS("sluice").ReadDir("/user/sluice/sluice/staging/" + m.Name())
			return err == nil && len(left) == 0
		})
	}
}

// between stands before a ResourceManager; submitted is called when one has answered a submission, and its answer is lost.
func between(t *testing.T, h *testbed.Hadoop, submitted func()) string {
	t.Helper()
	to, err := url.Parse("http://" + h.RM)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/ws/v1/cluster/apps" {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			submitted()
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// An answer to a submission is lost: the application is found, not submitted again. And when the gateway dies at that very
// moment, the next one finds it.
func TestALostAnswer(t *testing.T) {
	explain(t, shared)
	var g *testbed.Gateway
	var answers atomic.Int32
	killed := make(chan struct{})
	at := between(t, shared, func() {
		if answers.Add(1) == 1 {
			g.Kill()
			close(killed)
		}
	})
	y := place{name: "y", h: shared, queue: "root.etl", keys: []string{"resource_managers: " + at}}
	before := submissions(t, shared, "ann")
	g = startGateway(t, configOf(y))
	onYARN(t, g, "ann").Async("SELECT 1 FROM range(1)")
	<-killed
	require.Len(t, submissions(t, shared, "ann"), len(before)+1)
	g = g.Restart(configOf(y))
	require.Equal(t, [][]string{{"1"}}, onYARN(t, g, "ann").All("SELECT 1 FROM range(1)"))
	require.Len(t, submissions(t, shared, "ann"), len(before)+1, "it was found")

	// Without a death: bob's is submitted once, although nobody heard so.
	was := submissions(t, shared, "bob")
	require.Equal(t, [][]string{{"1"}}, onYARN(t, g, "bob").All("SELECT 1 FROM range(1)"))
	require.Len(t, submissions(t, shared, "bob"), len(was)+1)
	require.Greater(t, answers.Load(), int32(1))
	g.Stop()
	nothingLeft(t, shared)
}

// submissions are all applications of a user that the cluster knows.
func submissions(t *testing.T, h *testbed.Hadoop, user string) []string {
	t.Helper()
	return keys(applicationsIn(t, h, user, ""))
}

// A queue without room for another driver says so, and keeps nobody waiting who goes elsewhere.
func TestAQueueWithoutRoom(t *testing.T) {
	explain(t, shared)
	id := newApplication(t, shared, "user.name=ann")
	code, said := call(t, http.MethodPost, shared.RM, "?user.name=ann", strings.NewReplacer(`"memory":128`, `"memory":5400`, `"queue":"etl"`, `"queue":"default"`).Replace(sleepBody(id)))
	require.Equal(t, http.StatusAccepted, code, said)
	t.Cleanup(func() { // of a test that has failed
		_, _ = call(t, http.MethodPut, shared.RM, "/"+id+"/state?user.name=ann", `{"state":"KILLED"}`)
	})
	testbed.Until(t, time.Minute, "the queue's driver sleeps", func() bool { return sleeper(shared) != 0 })

	g := startGateway(t, configOf(place{name: "full", h: shared, queue: "root.default"}, place{name: "y", h: shared, queue: "root.etl"}))
	bob := on(t, g, "bob", "full")
	waits := bob.Async("SELECT 5 FROM range(1)")
	log := logOf(bob, waits)
	const full = "queue root.default is running, uses 5504 of 8192 MiB and 1 of 16 cores, and 1 of its applications wait for a driver"
	testbed.Until(t, time.Minute, "bob reads how full his queue is", func() bool { return strings.Contains(log(), full) })
	require.Contains(t, log(), "Queue's AM resource limit exceeded")
	require.Contains(t, log(), "raise its maximum-am-resource-percent")
	require.Equal(t, [][]string{{"7"}}, onYARN(t, g, "ann").All("SELECT 7 FROM range(1)"))
	require.Equal(t, tcli.TOperationState_RUNNING_STATE, bob.Status(waits).GetOperationState())
	end(t, shared, "ann", id)
	require.Equal(t, [][]string{{"5"}}, finish(t, bob, waits))
	g.Stop()
	nothingLeft(t, shared)
}

// Two users' engines have the same port, one after the other, with a Spark that asks nobody who they are: a session that is
// still open at one of them never speaks to the other.
func TestOnePortForTwoEngines(t *testing.T) {
	explain(t, shared)
	port := strconv.Itoa(testbed.FreePort(t))
	y := place{name: "y", h: shared, queue: "root.etl", keys: []string{"ports: " + port + "-" + port}}
	g := startGateway(t, configOf(y)+"runtimes:\n  old: {version: "+testbed.OldSpark+"}\n")
	dial := func(user string) *testbed.HS2 {
		return testbed.DialHS2(t, g.Thrift, user, "x", map[string]string{"sluice.cluster": "y", "sluice.runtime": "old"})
	}
	ann, bob := dial("ann"), dial("bob")
	require.Equal(t, [][]string{{"ann", testbed.OldSpark}}, ann.All("SELECT current_user(), substring(version(), 1, 5)"))
	require.NoError(t, syscall.Kill(drivers(shared)[0], syscall.SIGKILL))
	testbed.Until(t, time.Minute, "ann's application has ended", func() bool { return len(applications(t, shared, "ann")) == 0 })
	require.Equal(t, [][]string{{"bob"}}, bob.All("SELECT current_user()"))
	op := ann.Async("SELECT current_user()")
	st := ann.WaitState(op, 3*time.Minute)
	require.Equal(t, tcli.TOperationState_ERROR_STATE, st.GetOperationState(), "bob's engine has the port")
	require.NoError(t, syscall.Kill(drivers(shared)[0], syscall.SIGKILL))
	testbed.Until(t, time.Minute, "bob's application has ended", func() bool { return len(applications(t, shared, "bob")) == 0 })
	require.Equal(t, [][]string{{"ann"}}, finish(t, ann, ann.Async("SELECT current_user()")))
	g.Stop()
	nothingLeft(t, shared)
}
