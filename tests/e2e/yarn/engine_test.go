//go:build e2e

package yarn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// join is a query with a shuffle.
const join = `SELECT a.k, count(*) AS n, sum(a.v) AS s FROM (SELECT id % 7 AS k, id AS v FROM range(0, 10000, 1, 4)) a
	JOIN (SELECT id AS k FROM range(7)) b ON a.k = b.k GROUP BY a.k ORDER BY a.k`

// place is a cluster of the gateway's configuration.
type place struct {
	name  string
	h     *testbed.Hadoop
	queue string
	keys  []string // more lines of its section
	conf  []string // more of its Spark settings
}

// config has this machine and one cluster.
func config(h *testbed.Hadoop, queue string, conf ...string) string {
	return configOf(place{name: "y", h: h, queue: queue, conf: conf})
}

func configOf(places ...place) string {
	out := "clusters:\n  local: {kind: local}\n"
	for _, p := range places {
		if p.h.Krb5Conf != "" { // NodeManagers there show no logs without Hadoop's native library, which is in no jar
			p.keys = append(p.keys, "kerberos_principal: "+p.h.Principal("sluice"), "kerberos_keytab: "+p.h.Keytab("sluice"), "krb5_conf: "+p.h.Krb5Conf,
				"ports: 23000-23999")
			for _, of := range []string{"driver", "executor"} { // no /etc/krb5.conf on these nodes knows the realm
				p.conf = append(p.conf, "spark."+of+".extraJavaOptions: -Djava.security.krb5.conf="+p.h.Krb5Conf)
			}
		}
		out += fmt.Sprintf(`
  %s:
    kind: yarn
    closed_network: true
    yarn:
      hadoop_conf: %s
      queue: %s
%s      conf:
        spark.executor.instances: "1"
        spark.executor.memory: 512m
        spark.executor.cores: "1"
        spark.connect.grpc.binding.address: 127.0.0.1
        spark.yarn.appMasterEnv.SPARK_LOCAL_IP: 127.0.0.1
        spark.executorEnv.SPARK_LOCAL_IP: 127.0.0.1
%s`, p.name, p.h.ConfDir, p.queue, indented(6, p.keys), indented(8, p.conf))
	}
	return out
}

func indented(by int, lines []string) string {
	out := ""
	for _, l := range lines {
		out += strings.Repeat(" ", by) + l + "\n"
	}
	return out
}

// applications are those of a user that have not ended, and where they stand.
func applications(t *testing.T, h *testbed.Hadoop, user string) map[string]string {
	t.Helper()
	return applicationsIn(t, h, user, "NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING")
}

func applicationsIn(t *testing.T, h *testbed.Hadoop, user, states string) map[string]string {
	t.Helper()
	code, said := ask(t, h.HTTP(user), http.MethodGet, "http://"+h.RM+"/ws/v1/cluster/apps?user="+user+"&states="+states, "")
	require.Equal(t, http.StatusOK, code, said)
	var answer struct {
		Apps struct{ App []struct{ ID, State string } }
	}
	require.NoError(t, json.Unmarshal([]byte(said), &answer))
	out := map[string]string{}
	for _, a := range answer.Apps.App {
		out[a.ID] = a.State
	}
	return out
}

// staged are the applications that have left settings on HDFS.
func staged(t *testing.T, h *testbed.Hadoop, user string) (names []string) {
	t.Helper()
	infos, err := h.HDFS(user).ReadDir("/user/" + user + "/.sparkStaging")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	for _, i := range infos {
		names = append(names, i.Name())
	}
	return names
}

func onYARN(t *testing.T, g *testbed.Gateway, user string) *testbed.HS2 {
	t.Helper()
	return on(t, g, user, "y")
}

func on(t *testing.T, g *testbed.Gateway, user, cluster string) *testbed.HS2 {
	t.Helper()
	return testbed.DialHS2(t, g.Thrift, user, "x", map[string]string{"sluice.cluster": cluster})
}

// startGateway starts one that waits for engines no longer than a slow machine takes.
func startGateway(t *testing.T, config string) *testbed.Gateway {
	t.Helper()
	return testbed.StartGateway(t, config, "SLUICE_ENGINE_START_TIMEOUT=150s")
}

// logOf returns a function that reads a statement's log so far.
func logOf(c *testbed.HS2, op *tcli.TOperationHandle) func() string {
	all := ""
	return func() string { // a line is given once
		all += strings.Join(append(c.Log(op), ""), "\n")
		return all
	}
}

// reads waits until a line with such a text is in a statement's log.
func reads(t *testing.T, c *testbed.HS2, op *tcli.TOperationHandle, text string) {
	t.Helper()
	log := logOf(c, op)
	testbed.Until(t, time.Minute, "its log says "+text, func() bool { return strings.Contains(log(), text) })
}

// finish waits for a statement and reads its rows. Where it fails, so does the test, with the statement's log.
func finish(t *testing.T, c *testbed.HS2, op *tcli.TOperationHandle) [][]string {
	t.Helper()
	if st := c.WaitState(op, 4*time.Minute); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
		t.Fatalf("%s\n%s", st.GetErrorMessage(), strings.Join(c.Log(op), "\n"))
	}
	return testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 100, 0).Results)
}

// A statement runs on the cluster as its user, in the queue, and gives the rows that it gives on this machine. Its engine
// outlives a gateway that is killed, and is replaced when it dies.
func TestTheSameStatementRunsOnYARN(t *testing.T) {
	explain(t, shared)
	g := startGateway(t, config(shared, "root.etl"))
	here := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.engine.share": "connection"})
	want := here.All(join)
	_ = here.Conn.Close()

	c := onYARN(t, g, "ann")
	op := c.Async(join)
	require.Equal(t, want, finish(t, c, op))
	log := strings.Join(c.Log(op), "\n")
	for _, line := range []string{"Routed to cluster y", "is ACCEPTED in queue", "is RUNNING in queue root.etl", "is ready: Spark 4.3.0 on cluster y"} {
		require.Contains(t, log, line)
	}
	require.Regexp(t, `staging \d\.\d s, scheduling \d+\.\d s, container \d+\.\d s, process \d+\.\d s, listening \d+\.\d s`, log)
	told := testbed.Beeline(t, g, "/default?sluice.cluster=y", "ann", "--outputformat=csv2", "--showHeader=false", "--silent=true", "-e", strings.ReplaceAll(join, "\n", " "))
	require.Zero(t, told.Code, told.Err)
	for i, row := range told.Rows() {
		require.True(t, strings.HasSuffix(row, strings.Join(want[i], ",")), row) // the first one has a prompt before it
	}
	require.Len(t, told.Rows(), len(want))
	require.Equal(t, [][]string{{"ann"}}, c.All("SELECT current_user()"))

	running := applications(t, shared, "ann")
	require.Len(t, running, 1)
	// Killed without a word, the gateway finds its engine again: nothing is submitted twice.
	g.Kill()
	g = g.Restart(config(shared, "root.etl"))
	again := onYARN(t, g, "ann")
	began := time.Now()
	require.Equal(t, want, again.All(join))
	require.Less(t, time.Since(began), 15*time.Second, "a new engine takes longer")
	require.Equal(t, running, applications(t, shared, "ann"))

	// The driver dies: its user reads so, and the session goes on with another engine.
	for id := range running {
		end(t, shared, "ann", id)
	}
	testbed.Until(t, 2*time.Minute, "the session has another engine", func() bool {
		op, st := again.Exec("SELECT 7 AS seven FROM range(1)")
		if st.StatusCode != tcli.TStatusCode_SUCCESS_STATUS { // it may meet the old one while that dies
			return false
		}
		return fmt.Sprint(testbed.Texts(again.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results)) == "[[7]]"
	})
	require.NotEqual(t, running, applications(t, shared, "ann"))

	g.Stop()
	testbed.Until(t, time.Minute, "nothing of the gateway's runs", func() bool { return len(applications(t, shared, "ann")) == 0 })
	testbed.Until(t, 20*time.Second, "nothing is left on HDFS", func() bool { return len(staged(t, shared, "ann")) == 0 })
}

// end kills an application behind the gateway's back.
func end(t *testing.T, h *testbed.Hadoop, user, id string) {
	t.Helper()
	code, said := ask(t, h.HTTP(user), http.MethodPut, "http://"+h.RM+"/ws/v1/cluster/apps/"+id+"/state", `{"state":"KILLED"}`)
	require.Equal(t, 2, code/100, said)
}

// What YARN will never run is told in a sentence, with the next step, within seconds; and leaves nothing on HDFS.
func TestRefusedSubmissions(t *testing.T) {
	for name, tc := range map[string]struct {
		queue, user, memory string
		want                []string
	}{
		"no such queue":   {"root.nosuch", "ann", "512m", []string{"unknown queue: root.nosuch", "set clusters.y.yarn.queue"}},
		"a parent queue":  {"root", "ann", "512m", []string{"non-leaf queue", "set clusters.y.yarn.queue"}},
		"too much memory": {"root.etl", "ann", "900g", []string{"Requested more memory than configured max", "engine.memory"}},
		"no home on HDFS": {"root.etl", "eve", "512m", []string{"permission denied", "/user/eve must be there on HDFS and belong to eve"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := testbed.StartGateway(t, config(shared, tc.queue), "SLUICE_ENGINE_MEMORY="+tc.memory)
			began := time.Now()
			_, st := onYARN(t, g, tc.user).Exec("SELECT 3 FROM range(1)")
			for _, w := range tc.want {
				require.Contains(t, st.GetErrorMessage(), w)
			}
			require.Less(t, time.Since(began), 30*time.Second)
			if tc.user == "ann" {
				testbed.Until(t, 20*time.Second, "nothing is left on HDFS", func() bool { return len(staged(t, shared, "ann")) == 0 })
			}
			require.Empty(t, applications(t, shared, tc.user))
		})
	}
}

// explain shows the drivers' logs of a test that fails.
func explain(t *testing.T, h *testbed.Hadoop) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(h.Dir, "log", "nodemanager*", "application_*", "*", "stderr"))
		for _, name := range logs {
			text, _ := os.ReadFile(name)
			t.Logf("%s:\n%s", name, text[max(0, len(text)-8<<10):])
		}
	})
}
