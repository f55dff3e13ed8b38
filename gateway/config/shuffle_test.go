package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShuffle(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	here, err := os.Getwd()
	require.NoError(t, err)
	cfg := load(t, `
runtimes:
  old: {version: 3.5.7}
  bare: {version: 4.0.1}
clusters:
  local: {closed_network: true, shuffle: {masters: "s1:9097, 10.0.0.2:9098,[fd00::1]:9097", client: spark4.jar, clients: {old: ~/spark3.jar, bare: none}}}
  hadoop:
    kind: yarn
    yarn: {hadoop_conf: /etc/hadoop}
    shuffle: {masters: "s1:9097", client: "hdfs://nn:8020/apps/spark4.jar", clients: {old: /opt/spark3.jar, bare: "local:///opt/x.jar"}, replicate: false, fallback: auto}
  k8s:
    kind: kubernetes
    kubernetes: {image: "spark:4.3.0"}
    shuffle: {masters: "s1:9097", client: "local:///opt/spark/celeborn/spark4.jar"}
`, "SLUICE_CLUSTERS_K8S_SHUFFLE_MASTERS=s3:9097,s4:9097")
	require.NoError(t, cfg.Validate())
	at := cfg.Clusters["local"].Shuffle
	require.Equal(t, []string{"s1:9097", "10.0.0.2:9098", "[fd00::1]:9097"}, at.MasterList())
	require.True(t, at.Replicate, "a worker that is lost must not cost a stage, unless somebody wants it so")
	require.Equal(t, "never", at.Fallback)
	for runtime, want := range map[string][2]string{"": {filepath.Join(here, "spark4.jar"), "client"}, "old": {"/home/ann/spark3.jar", "clients.old"}, "bare": {NoClient, "clients.bare"}} {
		jar, key := at.ClientOf(runtime)
		require.Equal(t, want, [2]string{jar, key}, runtime)
	}
	yarn := cfg.Clusters["hadoop"].Shuffle
	require.Equal(t, Shuffle{Masters: "s1:9097", Client: "hdfs://nn:8020/apps/spark4.jar", Clients: map[string]string{"old": "/opt/spark3.jar", "bare": "local:///opt/x.jar"}, Fallback: "auto"}, yarn)
	jar, key := yarn.ClientOf("newer")
	require.Equal(t, [2]string{"hdfs://nn:8020/apps/spark4.jar", "client"}, [2]string{jar, key})
	require.Equal(t, []string{"s3:9097", "s4:9097"}, cfg.Clusters["k8s"].Shuffle.MasterList())
	require.Empty(t, Default().Clusters["local"].Shuffle.MasterList(), "there is no service unless somebody names one")
}
