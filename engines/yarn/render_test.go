package yarn

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata, whose difference a reviewer reads.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "if this is meant: go test ./engines/yarn -update")
}

func site(version string) Site {
	return Site{Queue: "root.bi", Tags: []string{"sluice", "e-41"},
		Resources: []Resource{{Link: libsLink, URI: "hdfs://nn:8020/apps/sluice/spark-" + version + "-0a1b2c.zip", Archive: true, Public: true, Size: 422347865, Timestamp: 1795421293790}},
		Viewer:    "sluice", HadoopConf: map[string]string{"core-site.xml": "<configuration/>\n", "yarn-site.xml": "<configuration/>\n"}}
}

// An engine as it is submitted, to the last byte: the ResourceManager ignores what it does not know.
func TestEngine(t *testing.T) {
	const staging = "hdfs://nn:8020/user/ann/.sparkStaging/application_1795420710040_0813"
	for _, version := range []string{"3.5.7", "4.3.0"} {
		t.Run(version, func(t *testing.T) {
			l, err := spark.Driver{}.Plan(engines.Spec{ID: "e-41", User: "ann", Name: "sluice ann", Memory: "2g", Token: "s3cret",
				Conf: map[string]string{"spark.sql.shuffle.partitions": "8", "spark.executor.memory": "1g", "spark.yarn.appMasterEnv.TZ": "UTC"}},
				engines.Platform{Version: version, Closed: true, Conf: map[string]string{"spark.hadoop.hive.metastore.uris": "thrift://ms:9083"}})
			require.NoError(t, err)
			body, err := submission(l, site(version), "application_1795420710040_0813", staging,
				Resource{Link: confLink, URI: staging + "/" + confArchive, Archive: true, Size: 2380, Timestamp: 1795421297660, DriverOnly: true})
			require.NoError(t, err)
			text, err := json.MarshalIndent(body, "", " ")
			require.NoError(t, err)
			all := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(text)) + "\n"
			files := confFiles(l, site(version), staging)
			for _, name := range slices.Sorted(maps.Keys(files)) {
				all += fmt.Sprintf("\n== %s\n%s", name, files[name])
			}
			golden(t, "engine-"+version, all)
		})
	}
}

// The launch script puts the command between double quotes, and bash takes those off first.
func TestWordsSurviveTheShell(t *testing.T) {
	for _, word := range []string{"plain", "two words", "it's", `say "x"`, "cost $HOME", `a'b"c$d`, "; rm -rf /"} {
		script := `exec /bin/bash -c "printf %s ` + shell(word) + `"`
		out, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput()
		require.NoError(t, err, "%s: %s", script, out)
		require.Equal(t, word, string(out))
	}
}
