//go:build e2e

// Package iceberg runs dbt on Iceberg tables, which a Spark 3.5 engine has. That Spark has no token and listens on every
// interface, so all of it happens in a network namespace of its own.
package iceberg

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

const jar = "org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.9.2:jar"

// lake is a gateway's configuration with an Iceberg runtime at HOME. The catalogue is Hive's, whose lock table the local
// metastore lacks. It is one of Iceberg alone: in a mixed one dbt does not see which tables are Iceberg's.
const lake = `
runtimes:
  iceberg: {home: HOME}
profiles:
  lake:
    runtime: iceberg
    conf:
      spark.sql.extensions: org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions
      spark.sql.catalog.lake: org.apache.iceberg.spark.SparkCatalog
      spark.sql.catalog.lake.type: hive
      spark.sql.defaultCatalog: lake
      spark.hadoop.iceberg.engine.hive.lock-enabled: "false"
clusters:
  local: {closed_network: true}
`

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/compat/iceberg")
	s := &testbed.Suite{}
	testbed.InNamespace("tests/compat/iceberg", func() {
		testbed.SparkHome(s)
		testbed.FetchSpark(s, testbed.OldSpark)
		testbed.Jar(s, jar)
		python(s)
	})
	code := record.All(m, "iceberg")
	s.End()
	os.Exit(code)
}

func python(t testbed.T) string {
	data, err := os.ReadFile(filepath.Join(testbed.Root(), "tests", "compat", "python", "dbt.txt"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return testbed.Python(t, strings.Fields(string(data))...)
}

// sparkWithIceberg is a stock Spark with one jar more.
func sparkWithIceberg(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "jars"), 0o755))
	testbed.FetchSpark(t, testbed.OldSpark)
	jars, err := filepath.Glob(filepath.Join(filepath.Dir(testbed.SparkHome(t)), "spark-"+testbed.OldSpark, "jars", "*.jar"))
	require.NoError(t, err)
	require.NotEmpty(t, jars)
	for _, j := range append(jars, testbed.Jar(t, jar)) {
		require.NoError(t, os.Symlink(j, filepath.Join(home, "jars", filepath.Base(j))))
	}
	return home
}

func TestSnapshot(t *testing.T) {
	g := testbed.StartGateway(t, strings.ReplaceAll(lake, "HOME", sparkWithIceberg(t)))
	host, port, err := net.SplitHostPort(g.Thrift)
	require.NoError(t, err)
	record.Can(t, "dbt-spark 1.11", "snapshot and merge on Iceberg", func(t *testing.T) {
		years := `/--vars/{years: 1}`
		cmd := exec.Command(python(t), filepath.Join(testbed.Root(), "tests", "compat", "python", "dbt_loop.py"),
			filepath.Join(testbed.Root(), "tests", "compat", "iceberg", "project"), "seed", "snapshot", "run", "snapshot"+years, "run"+years)
		cmd.Env = append(os.Environ(), "HS2_HOST="+host, "HS2_PORT="+port, "PYTHONDONTWRITEBYTECODE=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, 5, strings.Count(string(out), "success True"), string(out))
		c := testbed.DialHS2(t, g.Thrift, "ann", "x", map[string]string{"sluice.profile": "lake"})
		require.Equal(t, [][]string{{"1", "34", "false"}, {"1", "35", "true"}, {"2", "17", "true"}},
			c.All("SELECT id, age, dbt_valid_to IS NULL FROM dbt_history.history ORDER BY id, age"), "the old row has ended, the new one holds")
		require.Equal(t, [][]string{{"1", "35"}, {"2", "18"}}, c.All("SELECT id, age FROM dbt_history.latest ORDER BY id"), "merged")
		require.Contains(t, c.All("SHOW CREATE TABLE dbt_history.history")[0][0], "USING iceberg")
	})
}
