//go:build e2e

package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// renewal is for how long a delegation token is good until it is renewed.
const renewal = 20 * time.Second

// An HDFS that asks for proof, for data, too: pods act as their user by a token, which a gateway renews, also one that was
// killed and started again, and cancels in the end.
func TestKerberos(t *testing.T) {
	testbed.Long(t)
	testbed.NeedKDC(t)
	h := testbed.StartHadoop(t, testbed.HadoopOptions{Host: kube.Control, Kerberos: true, DFS: map[string]string{
		"dfs.namenode.delegation.token.renew-interval": strconv.FormatInt(renewal.Milliseconds(), 10),
		"dfs.data.transfer.protection":                 "authentication"}})
	p := newPlace(t, "kerberos", "hadoop_conf: "+h.ConfDir)
	said := onlineCheck(t, p.config())
	require.NotZero(t, said.Code)
	require.Contains(t, said.Out+said.Err, "clusters.k.kubernetes.kerberos_principal: "+filepath.Join(h.ConfDir, "core-site.xml")+" asks for Kerberos: give a principal and its keytab")

	p.keys = append(p.keys, "kerberos_principal: "+h.Principal("sluice"), "kerberos_keytab: "+h.Keytab("sluice"), "krb5_conf: "+h.Krb5Conf)
	said = onlineCheck(t, p.config())
	require.Zero(t, said.Code, said.Out+said.Err)
	require.Contains(t, said.Out, "Kerberos: log in as "+h.Principal("sluice")+"@SLUICE.TEST")
	require.Contains(t, said.Out, "a delegation token of hdfs://"+h.NameNode)

	g := p.gateway()
	began := time.Now()
	c := p.dial(g, "ann")
	write := func(dir string) {
		finish(t, c, c.Async("INSERT OVERWRITE DIRECTORY 'hdfs://"+h.NameNode+"/user/ann/"+dir+"' USING csv SELECT id, id % 7 FROM range(0, 1000, 1, 4)"))
		require.Equal(t, [][]string{{"1000"}}, c.All("SELECT count(*) FROM csv.`hdfs://"+h.NameNode+"/user/ann/"+dir+"`"))
		require.Equal(t, []string{"ann"}, owners(t, h, "/user/ann/"+dir))
	}
	write("first")
	require.Equal(t, [][]string{{"1000"}}, c.All("SELECT count(*) FROM csv.`first`"), "his home is his")
	_, st := c.Exec("INSERT OVERWRITE DIRECTORY 'hdfs://" + h.NameNode + "/user/bob/mine' USING csv SELECT 1")
	require.Contains(t, st.GetErrorMessage(), "Permission denied: user=ann")
	running := p.drivers()
	require.Len(t, running, 1)
	require.NotContains(t, fmt.Sprint(running[0].Spec.Containers[0].Env), "HADOOP_USER_NAME")
	secret, err := kube.Client().CoreV1().Secrets(p.namespace).Get(t.Context(), running[0].Name, metav1.GetOptions{})
	require.NoError(t, err)
	token := secret.Data["hadoop-tokens"]
	require.Greater(t, len(token), 100)
	pods, err := json.Marshal(p.pods(""))
	require.NoError(t, err)
	for _, enc := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		for skip := range 3 { // wherever the bytes begin
			require.NotContains(t, string(pods), enc.EncodeToString(token[60+skip:90+skip]))
		}
	}

	testbed.Until(t, 2*time.Minute, "the token would have expired twice", func() bool { return time.Since(began) > 3*renewal })
	write("second")
	g.Kill()
	g = g.Restart(p.config())
	began = time.Now()
	c = p.dial(g, "ann")
	write("third")
	testbed.Until(t, 2*time.Minute, "the token would have expired again", func() bool { return time.Since(began) > 2*renewal })
	write("fourth")
	require.Equal(t, names(running), names(p.drivers()), "one engine has done it all")
	require.NotContains(t, g.Log(), "cannot renew")
	g.Stop()
	p.awaitNothing()
	require.NotContains(t, g.Log(), "cannot cancel")
	require.Contains(t, h.Log("namenode"), "cmd=cancelDelegationToken")
}

// onlineCheck asks what a gateway with a configuration would meet.
func onlineCheck(t *testing.T, config string) testbed.Result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	return testbed.Run(t, testbed.Binary(t), "config", "check", "--online", "--config", file)
}
