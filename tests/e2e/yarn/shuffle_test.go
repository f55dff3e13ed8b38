//go:build e2e

package yarn

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// shuffles sums through a shuffle of Spark's own, and says which classes did it, on the driver and on executors.
const shuffles = `
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
sc = spark.sparkContext
print("sum", spark.range(0, 1000, 1, 4).selectExpr("id % 7 k", "id").groupBy("k").sum("id").selectExpr("sum(` + "`sum(id)`" + `)").first()[0])
print("pairs", sorted(sc.parallelize(range(100), 4).map(lambda n: (n % 3, n)).reduceByKey(lambda a, b: a + b, 3).collect()))
print("manager", sc._jvm.org.apache.spark.SparkEnv.get().shuffleManager().getClass().getName())
print("user", sc._jvm.java.lang.System.getProperty("celeborn.quota.identity.user-specific.userName"))
`

// The client's jar comes to every container: neither driver nor executors start without the manager's class. There is no
// service here, so its fallback shuffles in the end.
func TestTheShuffleClientIsDelivered(t *testing.T) {
	stock := testbed.CelebornClient(t)
	inPlace := put(t, stock.Jar, "/user/ann/client.jar", 0o644)
	for name, jar := range map[string]string{"from the gateway": stock.Jar, "from HDFS": inPlace, "on every node": "local://" + stock.Jar} {
		t.Run(name, func(t *testing.T) {
			c := client(t, func(o *yarn.Options) {
				o.Shuffle = func(string) *engines.Shuffle {
					return &engines.Shuffle{Masters: []string{"127.0.0.1:1"}, Jar: jar, Client: strings.TrimPrefix(jar, "local://"), Fallback: true, Key: "clusters.y.shuffle.client"}
				}
			})
			l := plan(t, c, stock.Spark, engines.Batch{Python: testbed.Write(t, "shuffles.py", shuffles)})
			submit(t, c, l)
			r := wait(t, c, l.Tag)
			for _, line := range []string{"sum 499500", "pairs [(0, 1683), (1, 1617), (2, 1650)]", "manager org.apache.spark.shuffle.celeborn.SparkShuffleManager", "user ann"} {
				require.Contains(t, r.out, line+"\n", "%s\n%s", r.Reason, r.log)
			}
			require.Equal(t, engines.Succeeded, r.Outcome)
		})
	}
	infos, err := shared.HDFS("sluice").ReadDir("/user/sluice/sluice")
	require.NoError(t, err)
	clients := 0
	for _, i := range infos {
		if strings.HasPrefix(i.Name(), "shuffle-client-") {
			clients++
		}
	}
	require.Equal(t, 1, clients, "the same jar is there once")
}

// napping has two map stages: eight tasks of less than a second, and one of nine seconds beside one that ends at once. Whichever is
// begun first, executors have nothing to do while that one takes its time, and what they have mapped is read afterwards.
const napping = `SELECT count(*), sum(a.v), sum(b.v) FROM
	(SELECT id % 1000 AS k, id AS v FROM range(0, 8000, 1, 8) WHERE id % 1000 <> 0 OR java_method('java.lang.Thread', 'sleep', 800L) IS NOT NULL) a
	JOIN (SELECT id AS k, id * 2 AS v FROM range(0, 1000, 1, 2) WHERE id >= 450 OR id % 50 <> 0 OR java_method('java.lang.Thread', 'sleep', 1000L) IS NOT NULL) b ON a.k = b.k`

// An engine shuffles through our workers and through nothing else. Its executors are given back as soon as they are idle, though their
// rows are still needed, with no shuffle service on YARN's nodes; nothing is run again for that.
func TestExecutorsAreReleased(t *testing.T) {
	testbed.Long(t)
	explain(t, shared)
	stock, events := testbed.CelebornClient(t), t.TempDir()
	s := testbed.StartShuffle(t, testbed.ShuffleServers{Workers: 2})
	y := place{name: "y", h: shared, queue: "root.etl", conf: []string{`spark.dynamicAllocation.enabled: "true"`, `spark.dynamicAllocation.maxExecutors: "3"`,
		"spark.dynamicAllocation.executorIdleTimeout: 2s", "spark.sql.adaptive.enabled: false", `spark.sql.autoBroadcastJoinThreshold: "-1"`, `spark.sql.shuffle.partitions: "4"`,
		`spark.eventLog.enabled: "true"`, "spark.eventLog.dir: file://" + events}}
	g := startGateway(t, configOf(y)+"    shuffle: {masters: \""+s.Address+"\", client: "+stock.Jar+"}\nruntimes:\n  stock: {version: "+stock.Spark+"}\n")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.cluster": "y", "sluice.runtime": "stock"})
	require.Equal(t, [][]string{{"8000", "31996000", "7992000"}}, finish(t, c, c.Async(napping)))
	for _, w := range s.Workers {
		require.Positive(t, w.Metric("sluice_shuffle_pushed_bytes_total"), "each has a copy")
	}
	g.Stop()
	nothingLeft(t, shared)
	logs, err := filepath.Glob(filepath.Join(events, "application_*"))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	released(t, logs[0])
}

// released reads in an event log that executors with rows of the first stage were gone before the last one began, and that each
// task was run once.
func released(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	ran, early, joined := map[string]bool{}, 0, false // executors with rows that are needed
	for line := range strings.Lines(string(data)) {
		var e struct {
			Event    string
			Executor string `json:"Executor ID"`
			Attempt  int    `json:"Stage Attempt ID"`
			Task     struct {
				Executor string `json:"Executor ID"`
			} `json:"Task Info"`
			End       struct{ Reason string } `json:"Task End Reason"`
			Submitted struct {
				Tasks int `json:"Number of Tasks"`
			} `json:"Stage Info"`
		}
		if !strings.HasSuffix(line, "\n") { // the engine was killed meanwhile
			break
		}
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		switch e.Event {
		case "SparkListenerTaskEnd":
			require.Equal(t, "Success", e.End.Reason, line)
			require.Zero(t, e.Attempt, line)
			ran[e.Task.Executor] = true
		case "SparkListenerExecutorRemoved":
			if ran[e.Executor] {
				early++
			}
		case "SparkListenerStageSubmitted":
			if e.Submitted.Tasks == 4 { // which reads all rows
				require.Positive(t, early, "executors are released before")
				t.Logf("%d of %d executors were released before their rows were read", early, len(ran))
				joined = true
			}
		}
	}
	require.True(t, joined, "the stage that joins is in the event log")
}
