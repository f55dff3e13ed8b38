package spark

import (
	"maps"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

const stockJar = "celeborn-client-spark-3-shaded_2.12-0.5.4.jar"

func shufflePlace() engines.Platform {
	return engines.Platform{Home: "/spark", Java: "java", Version: "3.5.7", Closed: true, Conf: map[string]string{"spark.driver.host": "127.0.0.1"},
		Shuffle: &engines.Shuffle{Masters: []string{"m1:9097", "m2:9097"}, Jar: "/opt/" + stockJar, Client: "/opt/" + stockJar,
			Key: "clusters.big.shuffle.client", Replicate: true}}
}

func plannedAt(t *testing.T, p engines.Platform, conf map[string]string) engines.Launch {
	t.Helper()
	l, err := Driver{}.Plan(engines.Spec{ID: "e", User: "ann", Token: "t", Memory: "1g", Conf: conf}, p)
	require.NoError(t, err)
	return l
}

// What a shuffle service adds to an engine, to the last setting.
func TestShuffleIsGolden(t *testing.T) {
	with, without := plannedAt(t, shufflePlace(), nil), shufflePlace()
	without.Shuffle = nil
	plain := plannedAt(t, without, nil)
	added := maps.Clone(with.Conf)
	maps.DeleteFunc(added, func(k, v string) bool { return plain.Conf[k] == v })
	got := engines.Properties(added)
	if *update {
		require.NoError(t, os.WriteFile("testdata/shuffle.properties", []byte(got), 0o600))
	}
	want, err := os.ReadFile("testdata/shuffle.properties")
	require.NoError(t, err)
	require.Equal(t, string(want), got, "if this is meant: go test ./engines/spark -update")
	for k := range plain.Conf {
		require.Contains(t, with.Conf, k)
	}
	require.Equal(t, []string{"/opt/" + stockJar, "/spark/jars/*"}, with.ClassPath)
	require.Equal(t, "-Dceleborn.quota.identity.user-specific.userName=ann", with.JVMOptions[len(with.JVMOptions)-1])
	require.Equal(t, map[string]string{"CELEBORN_LOCAL_IP": "127.0.0.1", "SPARK_USER": "ann"}, with.Env)
	require.Equal(t, map[string]string{"SPARK_USER": "ann"}, plain.Env)
}

// Where an engine's rows go, and as whose, is not for its user to say; how fast it pushes them is.
func TestAUserStaysWithTheService(t *testing.T) {
	conf := map[string]string{
		"spark.shuffle.manager": "sort", "spark.celeborn.master.endpoints": "mine:9097", "spark.celeborn.client.push.replicate.enabled": "false",
		"spark.celeborn.client.spark.shuffle.fallback.policy": "ALWAYS", "spark.celeborn.quota.identity.user-specific.userName": "root",
		"spark.celeborn.quota.identity.provider": "mine", "spark.celeborn.auth.enabled": "true", "spark.celeborn.client.fetch.timeout": "1s",
		"spark.shuffle.sort.io.plugin.class": "mine", "spark.dynamicAllocation.shuffleTracking.enabled": "true",
		"spark.driver.extraJavaOptions":                        "-Dceleborn.quota.identity.user-specific.userName=root",
		"spark.celeborn.client.shuffle.compression.codec":      "ZSTD",
		"spark.celeborn.client.spark.shuffle.writer":           "SORT",
		"spark.sql.adaptive.localShuffleReader.enabled":        "true",
		"spark.executor.extraClassPath":                        "/mine/*",
		"spark.executorEnv.SPARK_LOCAL_IP":                     "10.0.0.1",
		"spark.celeborn.client.push.maxReqsInFlight.perWorker": "16",
	}
	l := plannedAt(t, shufflePlace(), conf)
	b, err := Driver{}.PlanBatch(engines.Batch{ID: "b", User: "ann", Memory: "1g", Python: "/a.py", Conf: conf}, shufflePlace())
	require.NoError(t, err)
	for name, l := range map[string]engines.Launch{"engine": l, "batch": b} {
		t.Run(name, func(t *testing.T) {
			for k, v := range shuffleConf(*shufflePlace().Shuffle, "ann") {
				require.Equal(t, v, l.Conf[k], k)
			}
			require.NotContains(t, l.Conf, "spark.celeborn.quota.identity.provider")
			require.NotContains(t, l.Conf, "spark.celeborn.auth.enabled")
			require.Equal(t, "-Dceleborn.quota.identity.user-specific.userName=ann", l.JVMOptions[len(l.JVMOptions)-1], "the last one holds")
			for _, k := range []string{"spark.celeborn.client.shuffle.compression.codec", "spark.celeborn.client.spark.shuffle.writer",
				"spark.sql.adaptive.localShuffleReader.enabled", "spark.celeborn.client.push.maxReqsInFlight.perWorker"} {
				require.Equal(t, conf[k], l.Conf[k], k)
			}
			require.Equal(t, "/opt/"+stockJar+":/mine/*", l.Conf["spark.executor.extraClassPath"])
			require.Equal(t, "/opt/"+stockJar, l.Conf["spark.driver.extraClassPath"])
			require.Equal(t, "10.0.0.1", l.Conf["spark.executorEnv.CELEBORN_LOCAL_IP"])
		})
	}
}

// Without a service a user may bring his own.
func TestWithoutAService(t *testing.T) {
	p := shufflePlace()
	p.Shuffle = nil
	l := plannedAt(t, p, map[string]string{"spark.shuffle.manager": "mine", "spark.celeborn.master.endpoints": "mine:9097", "spark.sluice.shuffle.client": "hdfs://nn/x"})
	require.Equal(t, "mine", l.Conf["spark.shuffle.manager"])
	require.Equal(t, "mine:9097", l.Conf["spark.celeborn.master.endpoints"])
	require.NotContains(t, l.Conf, "spark.sluice.shuffle.client")
	require.NotContains(t, l.Conf, "spark.serializer")
}

// What the cluster's own settings say holds, whatever it is.
func TestTheClusterHasTheLastWord(t *testing.T) {
	p := shufflePlace()
	p.Conf = map[string]string{"spark.celeborn.data.io.connectionTimeout": "10s", "spark.driver.extraClassPath": "/site/*", "spark.serializer": "org.example.Mine"}
	l := plannedAt(t, p, map[string]string{"spark.driver.extraClassPath": "/mine/*"})
	require.Equal(t, "10s", l.Conf["spark.celeborn.data.io.connectionTimeout"])
	require.Equal(t, "/opt/"+stockJar+":/site/*", l.Conf["spark.driver.extraClassPath"])
	require.Equal(t, "org.example.Mine", l.Conf["spark.serializer"])
	require.NotContains(t, l.Env, "CELEBORN_LOCAL_IP")
}

func TestSerializer(t *testing.T) {
	for said, want := range map[string]string{"": "org.apache.spark.serializer.KryoSerializer", "org.apache.spark.serializer.JavaSerializer": "org.apache.spark.serializer.KryoSerializer", "a.B": "a.B"} {
		conf := map[string]string{}
		if said != "" {
			conf["spark.serializer"] = said
		}
		require.Equal(t, want, plannedAt(t, shufflePlace(), conf).Conf["spark.serializer"], said)
	}
}

// With the fallback executors may hold shuffle files, and Spark must not be told otherwise.
func TestFallback(t *testing.T) {
	p := shufflePlace()
	p.Shuffle.Fallback, p.Shuffle.Replicate = true, false
	conf := plannedAt(t, p, map[string]string{"spark.dynamicAllocation.shuffleTracking.enabled": "true"}).Conf
	require.Equal(t, "AUTO", conf["spark.celeborn.client.spark.shuffle.fallback.policy"])
	require.Equal(t, "false", conf["spark.celeborn.client.push.replicate.enabled"])
	require.Equal(t, "true", conf["spark.dynamicAllocation.shuffleTracking.enabled"])
	for _, k := range []string{"spark.shuffle.sort.io.plugin.class", "spark.storage.decommission.shuffleBlocks.enabled", "spark.celeborn.quota.enabled"} {
		require.NotContains(t, conf, k)
	}
}

func TestAClientForAnotherSpark(t *testing.T) {
	for name, tc := range map[string]struct{ jar, version, err string }{
		"right":           {"/opt/" + stockJar, "3.5.7", ""},
		"wrong":           {"hdfs://nn/x/" + stockJar, "4.3.0", "clusters.big.shuffle.client: " + stockJar + " is for Spark 3, and this engine is Spark 4.3.0: name the jar for Spark 4 for this runtime, in clients, or none to let its executors keep their shuffle files"},
		"its own name":    {"/opt/client.jar", "4.3.0", ""},
		"unknown version": {"/opt/" + stockJar, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := shufflePlace()
			p.Shuffle.Jar, p.Version = tc.jar, tc.version
			_, err := Driver{}.PlanBatch(engines.Batch{ID: "b", Memory: "1g", SQL: "/a.sql"}, p)
			if tc.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.err)
			}
		})
	}
}
