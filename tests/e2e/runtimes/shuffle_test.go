//go:build e2e

package runtimes

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// A client's jar fits one line of Spark, so each runtime has its own, or none. There is no service here, so the client falls
// back, which it can only do if its classes were found.
func TestEachRuntimeHasItsShuffleClient(t *testing.T) {
	testbed.Long(t)
	stock := testbed.CelebornClient(t)
	if stock.Spark != testbed.OldSpark {
		testbed.Skip(t, "the shuffle client is for the default Spark, and the older one has none")
	}
	g := testbed.StartGateway(t, `
runtimes:
  old: {version: `+testbed.OldSpark+`}
clusters:
  local:
    closed_network: true
    shuffle: {masters: "127.0.0.1:1", client: none, clients: {old: `+stock.Jar+`}, fallback: auto}
`)
	const sql = "SELECT k, sum(id) FROM (SELECT id, id % 3 k FROM range(0, 300, 1, 4)) GROUP BY k ORDER BY k"
	want := [][]string{{"0", "14850"}, {"1", "14950"}, {"2", "15050"}}
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.runtime": "old", "spark.celeborn.master.endpoints": "elsewhere:9097"})
	require.Equal(t, want, c.All(sql))
	require.Equal(t, [][]string{{"org.apache.spark.shuffle.celeborn.SparkShuffleManager"}}, c.All("SELECT java_method('java.lang.System', 'getProperty', 'spark.shuffle.manager')"))
	require.Equal(t, [][]string{{"ann", "127.0.0.1", "127.0.0.1:1"}}, c.All("SELECT java_method('java.lang.System', 'getProperty', 'celeborn.quota.identity.user-specific.userName'), "+
		"java_method('java.lang.System', 'getenv', 'CELEBORN_LOCAL_IP'), java_method('java.lang.System', 'getProperty', 'spark.celeborn.master.endpoints')"))
	plain := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	require.Equal(t, want, plain.All(sql))
	require.Equal(t, [][]string{{"null"}}, plain.All("SELECT java_method('java.lang.System', 'getProperty', 'spark.shuffle.manager')"))

	wrong := testbed.StartGateway(t, `
clusters:
  local: {shuffle: {masters: "127.0.0.1:1", client: `+stock.Jar+`}}
`)
	_, status := testbed.DialHS2(t, wrong.Thrift, "ann", "x", nil).Exec("SELECT count(*) FROM range(10)")
	require.Contains(t, status.GetErrorMessage(), "clusters.local.shuffle.client: "+filepath.Base(stock.Jar)+" is for Spark 3, and this engine is Spark "+testbed.SparkVersion)
}
