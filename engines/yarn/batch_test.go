package yarn

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
)

// A batch as it is submitted, to the last byte, as if its files were on HDFS already.
func TestBatch(t *testing.T) {
	const staging = "hdfs://nn:8020/user/ann/.sparkStaging/application_1795420710040_0813"
	for name, b := range map[string]engines.Batch{
		"jar": {Jar: "/etl/job.jar", Class: "com.example.Job", Jars: []string{"hdfs:///libs/avro.jar", "/etl/more.jar"}, Args: []string{"2026-01-02", `{"a":{"b":1}}`},
			Files: []string{"/etl/words.txt#w"}, Conf: map[string]string{"spark.sql.shuffle.partitions": "8", "spark.executor.memory": "1g"}},
		"python": {Python: "/etl/main.py", PyFiles: []string{"/etl/util.py", "/etl/packed.zip"}, Archives: []string{"/etl/env.tar.gz#env"}, Args: []string{"x"},
			Conf: map[string]string{"spark.pyspark.python": "./env/bin/python"}},
		"sql": {SQL: "/etl/daily.sql"},
	} {
		for _, version := range []string{"3.5.7", "4.3.0"} {
			t.Run(name+"-"+version, func(t *testing.T) {
				b.ID, b.User, b.Name, b.Memory = "b-7", "ann", "daily", "2g"
				l, err := spark.Driver{}.PlanBatch(b, engines.Platform{Version: version, Conf: map[string]string{"spark.hadoop.hive.metastore.uris": "thrift://ms:9083"}})
				require.NoError(t, err)
				s := site(version)
				s.Tags = []string{"sluice", markOf(l)}
				for i, f := range l.Program.Bring {
					s.Resources = append(s.Resources, Resource{Link: linkOf(l.Program, f.Link), URI: staging + "/" + stagedName(f), Archive: f.Archive,
						DriverOnly: driverOnly(l.Program, f), Public: strings.HasPrefix(f.From, "hdfs:"), Size: int64(100 + i), Timestamp: 1795421297000})
				}
				body, err := submission(l, s, "application_1795420710040_0813", staging,
					Resource{Link: confLink, URI: staging + "/" + confArchive, Archive: true, Size: 2380, Timestamp: 1795421297660, DriverOnly: true})
				require.NoError(t, err)
				text, err := json.MarshalIndent(body, "", " ")
				require.NoError(t, err)
				all := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(text)) + "\n"
				files := confFiles(l, s, staging)
				for _, file := range slices.Sorted(maps.Keys(files)) {
					if file != "sluice_sql.py" { // it has tests of its own
						all += fmt.Sprintf("\n== %s\n%s", file, files[file])
					}
				}
				golden(t, "batch-"+name+"-"+version, all)
			})
		}
	}
}

func TestWordsThatYARNMustNotReplace(t *testing.T) {
	for _, word := range []string{"{{PWD}}", "{{{x}}}", `{"a":{"b":1}}`, "<LOG_DIR>", "a<CPS>b", "'{{", `\{`, "`id`", `a\b\\c`, "two\nlines"} {
		text := literal(word)
		for _, special := range []string{"{{", "}}", "<LOG_DIR>", "<CPS>"} {
			require.NotContains(t, text, special)
		}
		out, err := exec.CommandContext(t.Context(), "bash", "-c", `exec /bin/bash -c "printf %s `+text+`"`).CombinedOutput()
		require.NoError(t, err, "%s: %s", text, out)
		require.Equal(t, word, string(out))
	}
}

func TestContentOfALog(t *testing.T) {
	const before = "Container: container_1_0001_01_000001 on localhost:1\nLogAggregationType: LOCAL\n====\nLogType:stdout\nLogLength:6\nLogContents:\n"
	const after = "End of LogType:stdout.This log file belongs to a running container (container_1_0001_01_000001) and so may not be complete.\n****\n\n"
	for _, text := range []string{"", "a\nb\n", "no end", "LogContents:\nEnd of LogType:stdout\n"} {
		require.Equal(t, text, content(before+text+after, "stdout"))
	}
	require.Equal(t, "as it is", content("as it is", "stdout"), "an older NodeManager writes nothing around it")
}

// An application is what its final status says, and nothing before it has ended.
func TestOutcome(t *testing.T) {
	for want, reports := range map[engines.Outcome][]report{
		engines.Succeeded: {{State: "FINISHED", FinalStatus: "SUCCEEDED"}},
		engines.Failed:    {{State: "FINISHED", FinalStatus: "FAILED"}, {State: "FAILED", FinalStatus: "FAILED"}},
		engines.Killed:    {{State: "KILLED", FinalStatus: "KILLED"}, {State: "FINISHED", FinalStatus: "KILLED"}},
		"":                {{State: "RUNNING", FinalStatus: "UNDEFINED"}, {State: "KILLED"}, {State: "RUNNING", FinalStatus: "SUCCEEDED"}, {State: "FINISHED", FinalStatus: "ENDED"}},
	} {
		for _, r := range reports {
			require.Equal(t, want, r.outcome(), "%+v", r)
		}
	}
}
