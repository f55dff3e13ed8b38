package yarn

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
)

// With a shuffle service every container gets the client's jar, and has it on its class path.
func TestShuffle(t *testing.T) {
	const staging = "hdfs://nn:8020/user/ann/.sparkStaging/application_1795420710040_0813"
	l, err := spark.Driver{}.PlanBatch(engines.Batch{ID: "b-7", User: "ann", Name: "nightly", Memory: "1g", Python: "/etl/job.py", Conf: map[string]string{"spark.driver.extraClassPath": "/site/*:lib/x.jar"}},
		engines.Platform{Version: "3.5.7", Closed: true, Conf: map[string]string{clientKey: "hdfs://nn:8020/apps/sluice/shuffle-client-0a1b2c.jar"},
			Shuffle: &engines.Shuffle{Masters: []string{"m1:9097"}, Jar: "/opt/celeborn-client-spark-3-shaded_2.12-0.5.4.jar", Client: clientLink, Replicate: true}})
	require.NoError(t, err)
	s := site("3.5.7")
	s.Resources = append(s.Resources, Resource{Link: clientLink, URI: l.Conf[clientKey], Public: true, Size: 27599017, Timestamp: 1795421293790},
		Resource{Link: "job.py", URI: staging + "/job.py", Size: 12, Timestamp: 1795421293790, DriverOnly: true})
	body, err := submission(l, s, "application_1795420710040_0813", staging, Resource{Link: confLink, URI: staging + "/" + confArchive, Archive: true, Size: 2380, Timestamp: 1795421297660, DriverOnly: true})
	require.NoError(t, err)
	text, err := json.MarshalIndent(body, "", " ")
	require.NoError(t, err)
	all := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(text)) + "\n"
	files := confFiles(l, s, staging)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all += fmt.Sprintf("\n== %s\n%s", name, files[name])
	}
	golden(t, "batch-python-3.5.7-shuffle", all)
}

// A jar has its name on HDFS by its content, so that two clusters, or two replicas, put it there once.
func TestNamesOfClients(t *testing.T) {
	dir := t.TempDir()
	name := func(file, content string) string {
		at := filepath.Join(dir, file)
		require.NoError(t, os.WriteFile(at, []byte(content), 0o600))
		j, err := readJar(at)
		require.NoError(t, err)
		return clientName(j)
	}
	one := name("a.jar", "x")
	require.Regexp(t, `^shuffle-client-[0-9a-f]{8}\.jar$`, one)
	require.Equal(t, one, name("a.jar", "x"))
	require.NotEqual(t, one, name("a.jar", "y"))
}
