//go:build e2e

// Package corpus runs a corpus of statements through Spark's own Thrift server and through a gateway with the same Spark,
// with the same stock client, and compares all that the client sees. differences.yaml holds what may differ, and why.
package corpus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// enough is the least number of statements that make a corpus.
const enough = 400

// zone is that of the servers' JVMs. It is not the one of the sessions, nor the client's: whoever mixes them up is seen.
const zone = "TZ=Europe/Berlin"

func TestMain(m *testing.M) {
	testbed.NeedJDK("tests/compat/corpus")
	os.Exit(m.Run())
}

// outcome is what the client saw of one statement.
type outcome struct {
	At, SQL string
	Columns []map[string]any
	Rows    [][]map[string]any
	Error   *struct {
		State, Message string
		Code           int
	}
	Thrown string
}

func TestCorpus(t *testing.T) {
	var stock, ours []outcome
	// One after the other: a machine has room for few JVMs.
	t.Run("Spark's own server", func(t *testing.T) {
		stock = runCorpus(t, "stock", testbed.StartThriftServer(t, zone).Address)
	})
	t.Run("the gateway", func(t *testing.T) {
		g := testbed.StartGateway(t, "clusters: {local: {cores: 2}}", zone)
		ours = runCorpus(t, "gateway", g.Thrift)
	})
	if t.Failed() {
		return
	}
	require.Len(t, ours, len(stock))
	require.GreaterOrEqual(t, len(stock), enough)
	rules := readRules(t)
	equal := 0
	for i := range stock {
		diffs := compare(stock[i], ours[i])
		if len(diffs) == 0 {
			equal++
		}
		for _, d := range diffs {
			if !listed(rules, d) {
				t.Errorf("%s: %s\n%s\n  Spark:   %.600q\n  gateway: %.600q", d.at, d.sql, d.where, d.stock, d.ours)
			}
		}
	}
	t.Logf("%d statements, %d of them equal in everything", len(stock), equal)
	for _, r := range rules {
		t.Logf("%4d differences: %s", r.hits, strings.TrimSpace(r.Why))
		if r.hits == 0 && !r.Optional {
			t.Errorf("a listed difference does not occur any more: %s", r.Why)
		}
	}
}

// runCorpus runs all statements with the Hive JDBC driver of Spark's own jars. What it saw is kept in build/corpus for
// whoever looks into a difference.
func runCorpus(t *testing.T, name, address string) []outcome {
	t.Helper()
	dir := filepath.Join(testbed.Root(), "tests", "compat", "corpus")
	files, err := filepath.Glob(filepath.Join(dir, "sql", "*.sql"))
	require.NoError(t, err)
	args := append([]string{"-Xmx512m", "-Duser.timezone=UTC", "-cp", testbed.SparkHome(t) + "/jars/*", filepath.Join(dir, "Corpus.java"),
		"jdbc:hive2://" + address + "/default", "ann"}, files...)
	r := testbed.Run(t, testbed.Java(t), args...)
	require.Zero(t, r.Code, r.Err)
	kept := filepath.Join(testbed.Root(), "build", "corpus")
	require.NoError(t, os.MkdirAll(kept, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(kept, name+".jsonl"), []byte(r.Out), 0o644))
	var all []outcome
	for _, line := range r.Rows() {
		var o outcome
		require.NoError(t, json.Unmarshal([]byte(line), &o))
		all = append(all, o)
	}
	return all
}
