//go:build e2e

package kube

import (
	"fmt"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// yarnBeside is a YARN cluster y for a configuration that has this machine and k.
func yarnBeside(p *place, h *testbed.Hadoop) string {
	return fmt.Sprintf(`  y:
    kind: yarn
    yarn:
      hadoop_conf: %s
      queue: root.etl
      conf:
        spark.executor.instances: "1"
        spark.executor.memory: 512m
        spark.executor.cores: "1"
        spark.connect.grpc.binding.address: %[2]s
        spark.yarn.appMasterEnv.SPARK_LOCAL_IP: %[2]s
        spark.executorEnv.SPARK_LOCAL_IP: %[2]s
        spark.driver.extraJavaOptions: %[3]s
        spark.executor.extraJavaOptions: %[3]s
%[4]s`, h.ConfDir, h.Host, h.HostsOption(), indented(8, p.conf))
}

// owners are those of the files of a directory on HDFS, and of itself.
func owners(t *testing.T, h *testbed.Hadoop, dir string) (names []string) {
	t.Helper()
	c := h.HDFS("ann")
	infos, err := c.ReadDir(dir)
	require.NoError(t, err)
	require.NotEmpty(t, infos, dir)
	self, err := c.Stat(dir)
	require.NoError(t, err)
	for _, i := range append(infos, self) {
		if owner := i.(interface{ Owner() string }).Owner(); len(names) == 0 || names[len(names)-1] != owner {
			names = append(names, owner)
		}
	}
	return names
}

// One catalogue and one identity: what a user has written on YARN he reads and rewrites on Kubernetes, and the other way round;
// it stays his, in the metastore and on HDFS, and nobody else's.
func TestOneCatalogue(t *testing.T) {
	h := testbed.StartHadoop(t, testbed.HadoopOptions{Host: kube.Control})
	meta := testbed.StartMetastore(t, testbed.MetastoreOptions{Hadoop: h})
	p := newPlace(t, "lake", "hadoop_conf: "+h.ConfDir)
	p.conf = []string{"spark.sql.catalogImplementation: hive", "spark.hadoop.hive.metastore.uris: " + meta.URI,
		"spark.sql.warehouse.dir: hdfs://" + h.NameNode + "/warehouse"}
	g := testbed.StartGateway(t, p.config()+yarnBeside(p, h), "SLUICE_ENGINE_START_TIMEOUT=150s")

	k := p.dial(g, "ann")
	y := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.cluster": "y"})
	starts := k.Async("SELECT 1 FROM range(1)") // both engines at once
	finish(t, y, y.Async("CREATE TABLE words USING parquet AS SELECT id, concat('w', id) AS word FROM range(0, 100, 1, 2)"))
	finish(t, k, starts)
	const what = "SELECT count(*), sum(id), min(word) FROM words"
	require.Equal(t, [][]string{{"100", "4950", "w0"}}, y.All(what))
	require.Equal(t, [][]string{{"100", "4950", "w0"}}, k.All(what))

	k.All("CREATE TABLE doubled USING parquet AS SELECT id * 2 AS id, upper(word) AS word FROM words")
	k.All("INSERT OVERWRITE TABLE words SELECT * FROM doubled")
	require.Equal(t, [][]string{{"100", "9900", "W0"}}, k.All(what))
	y.All("REFRESH TABLE words")
	require.Equal(t, [][]string{{"100", "9900", "W0"}}, y.All(what))
	y.All("INSERT INTO doubled SELECT * FROM words")
	k.All("REFRESH TABLE doubled")
	require.Equal(t, [][]string{{"200"}}, k.All("SELECT count(*) FROM doubled"))
	for _, table := range []string{"words", "doubled"} {
		require.Equal(t, []string{"ann"}, owners(t, h, path.Join("/warehouse", table)))
		for _, c := range []*testbed.HS2{y, k} {
			require.Contains(t, fmt.Sprint(c.All("DESCRIBE EXTENDED "+table)), "[Owner ann ")
		}
	}

	bob := p.dial(g, "bob")
	finish(t, bob, bob.Async("CREATE TABLE his USING parquet AS SELECT count(*) AS n FROM words"))
	require.Equal(t, []string{"bob"}, owners(t, h, "/warehouse/his"))
	require.Contains(t, fmt.Sprint(y.All("DESCRIBE EXTENDED his")), "[Owner bob ")
	_, st := bob.Exec("INSERT INTO words VALUES (1, 'mine')")
	require.Contains(t, st.GetErrorMessage(), "Permission denied: user=bob")
	_, st = y.Exec("INSERT INTO his VALUES (1)")
	require.Contains(t, st.GetErrorMessage(), "Permission denied: user=ann")
	g.Stop()
	p.awaitNothing()
}
