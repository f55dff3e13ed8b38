//go:build e2e

package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// crossing is one gateway in front of a YARN and a Kubernetes cluster that see the same tables, with rules that a test changes.
type crossing struct {
	*place
	h     *testbed.Hadoop
	g     *testbed.Gateway
	rules string
	n     int // versions of the rules
}

func newCrossing(t *testing.T) *crossing {
	h := testbed.StartHadoop(t, testbed.HadoopOptions{Host: kube.Control})
	meta := testbed.StartMetastore(t, testbed.MetastoreOptions{Hadoop: h})
	x := &crossing{place: newPlace(t, "route", "hadoop_conf: "+h.ConfDir), h: h, rules: filepath.Join(t.TempDir(), "rules.yaml")}
	x.mayCount()
	x.conf = []string{"spark.sql.catalogImplementation: hive", "spark.hadoop.hive.metastore.uris: " + meta.URI,
		"spark.sql.warehouse.dir: hdfs://" + h.NameNode + "/warehouse"}
	x.write(`- {when: 'conf["side"] == "k"', to: k}
- {when: 'conf["side"] == "y"', to: {cluster: y, queue: root.etl}}
- to: local`)
	x.g = testbed.StartGateway(t, x.config()+yarnBeside(x.place, h)+"route: {file: "+x.rules+"}\nauth: {admin_users: root}\n",
		"SLUICE_ENGINE_START_TIMEOUT=150s")
	return x
}

// write puts rules into the file at once, and returns the name of their version.
func (x *crossing) write(rules string) (version string) {
	x.t.Helper()
	x.n++
	version = fmt.Sprint("v", x.n)
	require.NoError(x.t, os.WriteFile(x.rules+".new", []byte("version: "+version+"\nrules:\n"+rules+"\n"), 0o600))
	require.NoError(x.t, os.Rename(x.rules+".new", x.rules))
	return version
}

// change writes rules and waits until they are in force.
func (x *crossing) change(c *testbed.HS2, rules string) {
	x.t.Helper()
	version := x.write(rules)
	testbed.Until(x.t, 10*time.Second, version+" is in force", func() bool { return x.explain(c)[0][1] == version })
}

// explain asks in SQL where a statement would go.
func (x *crossing) explain(c *testbed.HS2) [][]string {
	x.t.Helper()
	return c.All("EXPLAIN ROUTE SELECT * FROM words")
}

// until waits until the router would decide so, for a reason with these words.
func (x *crossing) until(c *testbed.HS2, cluster, reason string) {
	x.t.Helper()
	var last []string
	testbed.Until(x.t, 30*time.Second, "a statement would go to "+cluster+": "+reason, func() bool {
		all := x.explain(c)
		last = all[len(all)-1]
		return last[0] == "decision" && last[1] == cluster && strings.Contains(last[2], reason)
	})
	x.t.Log(last)
}

func (x *crossing) session(conf ...string) *testbed.HS2 {
	x.t.Helper()
	all := map[string]string{}
	for _, c := range conf {
		k, v, _ := strings.Cut(c, "=")
		all[k] = v
	}
	return testbed.DialHS2(x.t, x.g.Thrift, "ann", "x", all)
}

// sluice runs a command against the gateway as an administrator.
func (x *crossing) sluice(args ...string) string {
	x.t.Helper()
	r := testbed.Run(x.t, testbed.Binary(x.t), append(args, "--gateway", "http://"+x.g.HTTP, "--user", "root")...)
	require.Zero(x.t, r.Code, r.Out+r.Err)
	return r.Out
}

// side is where a session's engine is.
func side(c *testbed.HS2) string {
	if strings.HasPrefix(c.All("SET spark.master")[0][1], "k8s:") {
		return "k"
	}
	return "y"
}

// saidOf is what was said of a statement that ends well.
func saidOf(t *testing.T, c *testbed.HS2, sql string) string {
	t.Helper()
	op := c.Async(sql)
	finish(t, c, op)
	return strings.Join(c.Log(op), "\n")
}

// One gateway, a YARN and a Kubernetes cluster at once: what a migration is made of.
func TestTheRouter(t *testing.T) {
	x := newCrossing(t)
	y, k := x.session("side=y", "sluice.work=etl"), x.session("side=k", "sluice.work=etl")
	x.sameRows(t, y, k)
	t.Run("shares move under load", func(t *testing.T) { x.sharesMove(t, k) })
	t.Run("a full queue spills over", func(t *testing.T) { x.spills(t) })
	t.Run("a cluster drains", func(t *testing.T) { x.drains(t) })
	t.Run("a cluster dies and comes back", func(t *testing.T) { x.dies(t) })
}

// sameRows runs the same ETL by rule on each cluster. The rows are equal.
func (x *crossing) sameRows(t *testing.T, y, k *testbed.HS2) {
	etl := func(table string) string {
		return "CREATE TABLE " + table + " USING parquet AS SELECT id, concat('w', id % 7) AS word, sum(id) OVER (PARTITION BY id % 7 ORDER BY id) AS s FROM range(0, 5000, 1, 4)"
	}
	starts := k.Async(etl("by_k"))
	op := y.Async(etl("by_y"))
	finish(t, y, op)
	finish(t, k, starts)
	require.Contains(t, strings.Join(y.Log(op), "\n"), `Routed to cluster y (queue root.etl): rule #2: the rule names it (rules v1)`)
	require.Contains(t, strings.Join(k.Log(starts), "\n"), "Routed to cluster k: rule #1: the rule names it (rules v1)")
	require.Equal(t, "y", side(y))
	require.Equal(t, "k", side(k))
	const sums = "SELECT count(*), sum(id), sum(s), max(word), sum(hash(id, word, s)) FROM "
	require.Equal(t, y.All(sums+"by_y"), k.All(sums+"by_k"))
	require.Equal(t, k.All(sums+"by_y"), y.All(sums+"by_k"), "each reads what the other one has written")
	require.Equal(t, [][]string{{"0"}}, k.All("SELECT count(*) FROM (SELECT * FROM by_y EXCEPT ALL SELECT * FROM by_k)"))
}

// sharesMove moves six sessions that work all the time from YARN to Kubernetes. No statement fails, and each session keeps
// its temporary view.
func (x *crossing) sharesMove(t *testing.T, asks *testbed.HS2) {
	weighted := func(k int) string {
		return fmt.Sprintf("- {name: migration, to: {weighted: {y: %d, k: %d}, queues: {y: root.etl}}}", 100-k, k)
	}
	x.change(asks, weighted(0))
	const sessions = 6
	var onK [sessions]atomic.Bool
	var done [sessions]atomic.Int64
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for i := range sessions {
		c := x.session()
		c.All(fmt.Sprintf("CREATE TEMPORARY VIEW mine AS SELECT %d AS me, count(*) AS n FROM by_y", i))
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				op := c.Async("SELECT me, n FROM mine")
				if st := c.WaitState(op, 2*time.Minute); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
					t.Errorf("a statement failed: %s\n%s", st.GetErrorMessage(), strings.Join(c.Log(op), "\n"))
					return
				}
				rows := testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results)
				if want := fmt.Sprintf("[[%d 5000]]", i); fmt.Sprint(rows) != want {
					t.Errorf("%v, not %s", rows, want)
				}
				if strings.Contains(strings.Join(c.Log(op), "\n"), "cluster k:") {
					onK[i].Store(true)
				}
				done[i].Add(1)
			}
		})
	}
	moved := func() (n int) {
		for i := range onK {
			if onK[i].Load() {
				n++
			}
		}
		return n
	}
	statements := func() (n int64) {
		for i := range done {
			n += done[i].Load()
		}
		return n
	}
	more := func() { // two statements of each session
		for i := range done {
			before := done[i].Load()
			testbed.Until(t, time.Minute, "statements go on", func() bool { return done[i].Load() >= before+2 || t.Failed() })
		}
	}
	more()
	require.Zero(t, moved())
	shares := []int{20, 50, 80}
	if testing.Short() {
		shares = shares[1:2]
	}
	for _, share := range shares {
		x.change(asks, weighted(share))
		more()
		t.Logf("%d %%: %d of %d sessions have moved, %d statements", share, moved(), sessions, statements())
	}
	x.change(asks, weighted(100))
	testbed.Until(t, time.Minute, "all have moved", func() bool { return moved() == sessions || t.Failed() })
	more()
	close(stop)
	wait.Wait()
	t.Logf("%d statements, none failed", statements())
}

// spills has a new session go to Kubernetes while the queue on YARN has no room for a driver.
func (x *crossing) spills(t *testing.T) {
	c := x.session()
	x.change(c, "- {name: yarn first, to: {chain: [y, k], queues: {y: root.bi}}}")
	x.until(c, "y (queue root.bi)", "it comes first")
	full := x.h.Sleep("ann", "root.bi", 5120)
	x.until(c, "k", "not y: its queue root.bi is full")
	said := saidOf(t, c, "SELECT count(*) FROM by_y")
	require.Contains(t, said, "Routed to cluster k: rule yarn first: it comes first of those that can take it; not y: its queue root.bi is full")
	require.Equal(t, "k", side(c))
	x.h.EndApp("ann", full)
	fresh := x.session()
	x.until(fresh, "y (queue root.bi)", "it comes first")
	require.Contains(t, saidOf(t, c, "SELECT 1 FROM by_y LIMIT 1"), "Runs on cluster k: rule yarn first: the session has its engine there")
}

// drains has a session leave a cluster with its next statement, with what it had made there.
func (x *crossing) drains(t *testing.T) {
	c := x.session()
	x.change(c, "- {name: both, to: {chain: [k, y], queues: {y: root.etl}}}")
	c.All("CREATE TEMPORARY VIEW few AS SELECT * FROM by_k LIMIT 3")
	require.Equal(t, "k", side(c))
	x.sluice("route", "drain", "k")
	require.Contains(t, x.sluice("route", "clusters"), "up, drains")
	said := saidOf(t, c, "SELECT count(*) FROM few")
	require.Contains(t, said, "The session moves from cluster k to y (queue root.etl): rule both: it comes first of those that can take it; not k: it drains")
	require.Contains(t, said, "Made again on the new engine: view few")
	require.Equal(t, "y", side(c))
	x.sluice("route", "undrain", "k")
	require.Equal(t, "y", side(c), "nobody is moved back")
	x.until(x.session(), "k", "it comes first")
	r := testbed.Run(t, testbed.Binary(t), "route", "drain", "k", "--gateway", "http://"+x.g.HTTP, "--user", "ann")
	require.NotZero(t, r.Code)
	require.Contains(t, r.Err, "this is for administrators only")
}

// dies ends YARN's ResourceManager and then Kubernetes' API server: who has an engine works on, new sessions go elsewhere, and
// come back.
func (x *crossing) dies(t *testing.T) {
	const work = "SELECT count(*) FROM by_y"
	onY, onK := x.session("side=y"), x.session("side=k")
	x.change(onY, "- {when: 'conf[\"side\"] == \"k\"', to: {chain: [k, y], queues: {y: root.etl}}}\n- {name: y first, to: {chain: [y, k], queues: {y: root.etl}}}")
	require.Equal(t, [][]string{{"5000"}}, onY.All(work))
	require.Equal(t, [][]string{{"5000"}}, onK.All(work))
	require.Equal(t, "y", side(onY))

	x.h.Kill("resourcemanager")
	fresh := x.session()
	x.until(fresh, "k", "not y: it does not answer since")
	require.Equal(t, [][]string{{"5000"}}, onY.All(work), "its engine is there")
	require.Equal(t, "y", side(onY))
	require.Equal(t, [][]string{{"5000"}}, fresh.All(work))
	require.Equal(t, "k", side(fresh))
	x.h.Start("resourcemanager")
	x.until(x.session(), "y (queue root.etl)", "it comes first")

	kube.Stop("apiserver")
	fresh = x.session("side=k")
	x.until(fresh, "y (queue root.etl)", "not k: it does not answer since")
	require.Equal(t, [][]string{{"5000"}}, onK.All(work), "its engine is there")
	require.Equal(t, [][]string{{"5000"}}, fresh.All(work))
	require.Equal(t, "y", side(fresh))
	kube.Start("apiserver")
	x.until(x.session("side=k"), "k", "it comes first")
	require.Equal(t, [][]string{{"5000"}}, onY.All(work))
}
