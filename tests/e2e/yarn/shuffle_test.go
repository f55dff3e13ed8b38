//go:build e2e

package yarn

import (
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
