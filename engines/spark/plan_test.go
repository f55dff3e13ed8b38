package spark

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestPlanIsGolden(t *testing.T) {
	l, err := Driver{}.Plan(
		engines.Spec{ID: "e1", User: "ann", Name: "sluice-ann", Memory: "1g", Token: "t0k3n", Conf: map[string]string{
			"spark.sql.shuffle.partitions": "8", "spark.driver.memory": "2g", "spark.connect.authenticate.token": "mine",
			"spark.yarn.appMasterEnv.HADOOP_USER_NAME": "hdfs", "spark.executorEnv.SPARK_USER": "root", "spark.yarn.queue": "root.mine",
			"spark.connect.grpc.binding.address": "0.0.0.0", "spark.driver.extraJavaOptions": "-Dx=y -verbose:gc"}},
		engines.Platform{Home: "/spark", Java: "/jdk/bin/java", Version: "4.3.0", Conf: map[string]string{
			"spark.master": "local[*]", "spark.connect.grpc.binding.address": "127.0.0.1"}})
	require.NoError(t, err)
	got, err := json.MarshalIndent(l, "", "  ")
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("testdata/launch.json", append(got, '\n'), 0o644))
	}
	want, err := os.ReadFile("testdata/launch.json")
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
	delete(l.Env, tokenEnv)
	rest, err := json.Marshal(l)
	require.NoError(t, err)
	require.NotContains(t, string(rest), "t0k3n", "the token is in the environment and nowhere else")
}

func TestPlanRefuses(t *testing.T) {
	good := engines.Spec{ID: "e", Token: "t", Memory: "1g"}
	for name, tc := range map[string]struct {
		spec engines.Spec
		at   engines.Platform
		err  string
	}{
		"no id":           {engines.Spec{Token: "t", Memory: "1g"}, engines.Platform{}, "it has no id"},
		"no token":        {engines.Spec{ID: "e", Memory: "1g"}, engines.Platform{}, "it has no token"},
		"bad memory":      {engines.Spec{ID: "e", Token: "t", Memory: "1 gig"}, engines.Platform{}, `engine.memory: "1 gig" is no size of a Java heap`},
		"old, open":       {good, engines.Platform{Version: "3.5.7"}, "Spark 3.5.7 has no token and listens on every interface, and this cluster does not say that its network is closed: set clusters.NAME.closed_network: true if nobody but this gateway reaches the engines there, or use a runtime of Spark 4.0 or newer"},
		"unknown version": {good, engines.Platform{}, "Spark of a version that is not known, perhaps before 4.0, has no token and listens on every interface"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Driver{}.Plan(tc.spec, tc.at)
			require.ErrorContains(t, err, tc.err)
		})
	}
}

func TestTheTokenIsForThoseWhoAskForIt(t *testing.T) {
	for version, want := range map[string]map[string]string{
		"3.5.7": {}, "4.0.0": {tokenEnv: "t"}, "4.4.0-SNAPSHOT": {tokenEnv: "t"}, "10.1": {tokenEnv: "t"}, "": {tokenEnv: "t"},
	} {
		l, err := Driver{}.Plan(engines.Spec{ID: "e", Token: "t", Memory: "1g"}, engines.Platform{Version: version, Closed: true})
		require.NoError(t, err)
		require.Equal(t, want, l.Env, version)
	}
}

func TestRootCause(t *testing.T) {
	for name, tc := range map[string]struct{ log, want string }{
		"innermost": {"26/11/24 ERROR SparkContext: Error\njava.lang.RuntimeException: outer\n\tat a.b(C:1)\nCaused by: java.net.BindException: middle\nCaused by: java.lang.ClassNotFoundException: no.such.Class\n\t... 3 more\n", "java.lang.ClassNotFoundException: no.such.Class"},
		"only one":  {"Exception in thread \"main\" java.lang.IllegalArgumentException: bad master\n\tat x\n", "java.lang.IllegalArgumentException: bad master"},
		"no JVM":    {"Error occurred during initialization of VM\nToo small maximum heap\n", "Error occurred during initialization of VM: Too small maximum heap"},
		"nothing":   {"WARN all is well\n", ""},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, Driver{}.RootCause(tc.log)) })
	}
}
