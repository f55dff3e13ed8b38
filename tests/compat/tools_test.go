//go:build e2e

package compat

import (
	"context"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

func TestDBT(t *testing.T) {
	out := python(t, "dbt", "dbt_loop.py", file("dbt"), "debug", "debug/--target/https", "seed", "run", "run/--select/ages", "test", "docs/generate")
	for _, step := range []struct {
		name, section string
		want          []string
	}{
		{"debug", "debug", []string{"success True"}},
		{"debug over https", "debug/--target/https", []string{"success True"}},
		{"seed", "seed", []string{"success True", "people success "}},
		{"run", "run", []string{"success True", "adults success ", "ages success ", "names success "}},
		{"run again", "run/--select/ages", []string{"success True", "ages success "}},
		{"test", "test", []string{"success True", "not_null_adults_age pass ", "not_null_adults_id pass ", "unique_adults_id pass "}},
		{"docs generate", "docs/generate", []string{"success True",
			"model.people.adults [('id', 'long'), ('name', 'string'), ('age', 'long')]", "model.people.ages [('n', 'long'), ('oldest', 'long')]",
			"model.people.names [('name', 'string')]", "seed.people.people [('id', 'long'), ('name', 'string'), ('age', 'long'), ('born', 'date')]"}},
	} {
		record.Can(t, "dbt-spark 1.11", step.name, func(t *testing.T) {
			require.ElementsMatch(t, step.want, out.lines(t, step.section), out.result.Err)
		})
	}
	c := testbed.DialHS2(t, gateway.Thrift, "ann", "x", nil)
	require.Equal(t, [][]string{{"1", "ANN", "34"}, {"3", "KÄTHE", "71"}}, c.All("SELECT * FROM dbt_people.adults ORDER BY id"))
	require.Equal(t, [][]string{{"2", "71"}, {"2", "71"}}, c.All("SELECT * FROM dbt_people.ages"), "the second run appended")
}

func TestAirflow(t *testing.T) {
	quiet := testbed.StartGateway(t, "")
	_, port, err := net.SplitHostPort(quiet.Thrift)
	require.NoError(t, err)
	t.Setenv("QUIET_PORT", port)
	t.Setenv("AIRFLOW_HOME", t.TempDir())
	t.Setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR") // it logs to the standard output
	out := python(t, "airflow", "airflow_hook.py")
	const name = "Airflow 2.11, Hive provider 9.7"
	record.Can(t, name, "context without an engine", func(t *testing.T) {
		require.Equal(t, []string{"[(1,)]", "[('airflow.ctx.dag_id', 'nightly')]"}, out.lines(t, "alone"))
		require.Empty(t, quiet.Engines())
		require.Empty(t, quiet.Processes(), "not even a catalogue")
	})
	record.Can(t, name, "records", func(t *testing.T) {
		require.Equal(t, []string{"[(1, 'one')]", "[('airflow.ctx.task_id', 'load')]", "[(0,), (1,), (2,)]", "[{'id': 1, 'name': 'one'}]"}, out.lines(t, "records"))
	})
	record.Can(t, name, "errors", func(t *testing.T) { require.Equal(t, []string{"True"}, out.lines(t, "error")) })
}

// hueBar is what Hue makes of a log: the starts and ends of jobs, of the first total it finds.
func hueBar(log string) int {
	total := 1
	if m := regexp.MustCompile(`Total jobs = (\d+)`).FindStringSubmatch(log); m != nil {
		total, _ = strconv.Atoi(m[1])
	}
	return max(5, (strings.Count(log, "Starting Job")+strings.Count(log, "Ended Job"))*100/(2*total))
}

// TestHue makes Hue's calls: a session that lives on while its connections come and go, pages before the columns, and a
// bar from the log. Hue itself is no package of a registry.
func TestHue(t *testing.T) {
	prepare(t)
	first, err := testbed.TryDialHS2(t, gateway.Thrift, "ann", "x")
	require.NoError(t, err)
	opened, err := first.OpenSession(context.Background(), &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V11,
		Configuration: map[string]string{"hive.server2.proxy.user": "ann"}})
	require.NoError(t, err)
	first.Session = opened.SessionHandle
	const name = "Hue"
	record.Can(t, name, "session", func(t *testing.T) {
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, opened.Status.StatusCode)
		require.NotNil(t, opened.Configuration, "Hue puts a key into it")
		op, st := first.Exec("SET -v")
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, st.StatusCode, st.GetErrorMessage())
		require.Greater(t, len(testbed.Texts(first.Fetch(op, tcli.TFetchOrientation_FETCH_FIRST, -1, 0).Results)), 100)
	})
	running := first.Async(busy)
	second, err := testbed.TryDialHS2(t, gateway.Thrift, "ann", "x") // another process of Hue
	require.NoError(t, err)
	t.Cleanup(func() { _ = second.Conn.Close() })
	second.Session = first.Session
	require.NoError(t, first.Conn.Close())
	record.Can(t, name, "progress", func(t *testing.T) {
		log, bars := "", map[int]bool{}
		testbed.Until(t, 2*time.Minute, "the statement ends", func() bool {
			log += strings.Join(second.Log(running), "\n")
			bars[hueBar(log)] = true
			return second.Status(running).GetOperationState() != tcli.TOperationState_RUNNING_STATE
		})
		require.Greater(t, len(bars), 1, log)
		for bar := range bars {
			require.LessOrEqual(t, bar, 100, log)
		}
	})
	record.Can(t, name, "pages before columns", func(t *testing.T) {
		require.Equal(t, [][]string{{"1000"}}, testbed.Texts(second.Fetch(running, tcli.TFetchOrientation_FETCH_FIRST, 100, 0).Results))
		meta, err := second.GetResultSetMetadata(context.Background(), &tcli.TGetResultSetMetadataReq{OperationHandle: running})
		require.NoError(t, err)
		require.Len(t, meta.Schema.Columns, 1)
		require.Empty(t, testbed.Texts(second.Fetch(running, tcli.TFetchOrientation_FETCH_NEXT, 100, 0).Results))
		require.Equal(t, [][]string{{"1000"}}, testbed.Texts(second.Fetch(running, tcli.TFetchOrientation_FETCH_FIRST, 100, 0).Results), "from the start again")
	})
	record.Can(t, name, "metadata", func(t *testing.T) { hueTree(t, second) })
}

// hueTree asks for what Hue's assist panel shows.
func hueTree(t *testing.T, c *testbed.HS2) {
	t.Helper()
	all := func(op *tcli.TOperationHandle, st *tcli.TStatus, err error) [][]string {
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, st.StatusCode, st.GetErrorMessage())
		return testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_FIRST, 5000, 0).Results)
	}
	ctx, schema, any := context.Background(), tcli.TPatternOrIdentifier("compat"), tcli.TPatternOrIdentifier(".*")
	schemas, err := c.GetSchemas(ctx, &tcli.TGetSchemasReq{SessionHandle: c.Session})
	require.Contains(t, all(schemas.OperationHandle, schemas.Status, err), []string{"compat", ""})
	tables, err := c.GetTables(ctx, &tcli.TGetTablesReq{SessionHandle: c.Session, SchemaName: &schema, TableName: &any, TableTypes: []string{"VIEW"}})
	rows := all(tables.OperationHandle, tables.Status, err)
	require.Len(t, rows, 1)
	require.Equal(t, "looked", rows[0][2])
	functions, err := c.GetFunctions(ctx, &tcli.TGetFunctionsReq{SessionHandle: c.Session, FunctionName: any})
	require.Greater(t, len(all(functions.OperationHandle, functions.Status, err)), 300)
	require.Equal(t, []string{"id", "int", "the key"}, c.All("DESCRIBE compat.seen")[0])
}
