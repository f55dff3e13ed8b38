package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/replay"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/sql"
	"github.com/sluicedata/sluice/router/watch"
)

// machine is a router that records, over clusters whose room a test sets.
type machine struct {
	*route.Router
	watch *watch.Watch
	stop  func()
}

// start makes a router whose rules send all work where most is free, to the last one at night, and refuse deletes.
func start(t *testing.T, to io.Writer, clusters ...string) machine {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	known := make([]watch.Cluster, len(clusters))
	for i, c := range clusters {
		known[i].Name = c
	}
	w := watch.New(known)
	t.Cleanup(w.Close)
	rec := route.NewRecorder(to, log)
	r, err := route.New(t.Context(), route.Options{Watch: w, Standard: clusters[0], Store: st, Record: rec, Log: log})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = rec.Run(ctx) }()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	return machine{r, w, stop}
}

func (m machine) ask(t *testing.T, user, text string, conf map[string]string) {
	t.Helper()
	_, err := m.Route(&router.Request{At: at, User: user, Work: router.Interactive, Conf: conf, Cluster: conf["sluice.cluster"], SQL: sql.Read(text, "", ""), Driver: router.Room{Memory: 1000, MilliCores: 1000}})
	var no *rules.Refusal
	require.True(t, err == nil || errors.As(err, &no), err)
}

var at = time.Date(2026, 12, 1, 23, 30, 0, 0, time.UTC)

func room(mib int64) router.State {
	return router.State{Known: true, Free: router.Room{Memory: mib, MilliCores: 100_000}}
}

func run(t *testing.T, record, text string) *replay.Report {
	t.Helper()
	report, err := replay.Run(strings.NewReader(record), func(clusters []string) (*rules.Set, error) { return rules.Load([]byte(text), clusters) })
	require.NoError(t, err)
	return report
}

const same = "rules: [{name: engine.cluster, to: a}]"

// A record is read back: the same rules give no change, and others are asked over the states that were.
func TestARecordIsReplayed(t *testing.T) {
	var record bytes.Buffer
	m := start(t, &record, "a", "b")
	m.ask(t, "ann", "SELECT * FROM web.clicks", nil)
	m.watch.Read("a", room(500)) // full
	m.watch.Read("b", room(9000))
	m.ask(t, "ann", "SELECT * FROM web.clicks", nil)
	m.ask(t, "bob", "DELETE FROM web.clicks", nil)
	m.ask(t, "bob", "SELECT 1", map[string]string{"sluice.cluster": "c"}) // refused
	m.watch.Read("b", room(400))
	m.watch.Read("a", room(9000))
	m.ask(t, "ann", "SELECT * FROM web.clicks", nil)
	m.stop()

	report := run(t, record.String(), same)
	require.Equal(t, 5, report.Requests)
	require.Zero(t, report.Changed())
	require.Zero(t, report.Skipped)
	require.Equal(t, map[string]int{"a": 4, "refused": 1}, report.Before)
	require.Equal(t, report.Before, report.After)

	report = run(t, record.String(), `zone: Europe/Berlin
client_choice: ignore
rules:
- {name: deletes, when: sql.kind == "delete", to: {refuse: by nobody}}
- {name: clicks at night, when: touches("web.clicks") and hour == 0, to: {pool: [a, b]}}
- {name: others, to: b}
`)
	require.Equal(t, map[string]int{"a": 2, "b": 2, "refused": 1}, report.After)
	var got []string
	for _, c := range report.Changes {
		got = append(got, fmt.Sprintf("%d %s -> %s by %s: %s", c.Count, c.From, c.To, c.Rule, c.Reason))
	}
	require.Equal(t, []string{
		"1 a -> b by clicks at night: rule clicks at night: 9000 MiB and 100 cores free, the most of 1 that could take it",
		"1 a -> refused by deletes: by nobody (rule \"deletes\", line 4 of version " + versionIn(t, report) + ")",
		"1 refused -> b by others: rule others: the rule names it; the client's own choice of c is ignored by client_choice",
	}, got)
	var text strings.Builder
	report.Write(&text)
	require.Contains(t, text.String(), "5 requests, of which 3 would go elsewhere (60.0 %)")
	require.Contains(t, text.String(), "  a                                       4 -> 2\n")
	require.Contains(t, text.String(), "for example user bob, interactive: by nobody")
}

// versionIn finds the version that a refusal names.
func versionIn(t *testing.T, r *replay.Report) string {
	t.Helper()
	for _, c := range r.Changes {
		if _, v, ok := strings.Cut(c.Reason, "of version "); ok {
			return strings.TrimSuffix(v, ")")
		}
	}
	require.Fail(t, "nothing is refused")
	return ""
}

// A file that was rotated begins in the middle: decisions before the first line with all states cannot be used, later ones can.
func TestARotatedFileBeginsInTheMiddle(t *testing.T) {
	var record bytes.Buffer
	m := start(t, &record, "a", "b")
	const many = 4000 // more than a MiB, so that all states are written again
	for i := range many {
		m.ask(t, "ann", "SELECT * FROM web.clicks", map[string]string{"app": strings.Repeat("x", 400)})
		if i%1000 == 999 { // the recorder takes in what it may have waiting
			m.watch.Read("b", room(int64(i)))
		}
	}
	m.stop()
	all := record.String()
	require.Greater(t, len(all), 2<<20)
	require.Equal(t, 1+len(all)>>20, strings.Count(all, `"names"`), "all states are written again after each MiB")
	report := run(t, all[len(all)/4:], same)
	require.Greater(t, report.Requests, many/4)
	require.Less(t, report.Requests, many)
	require.Zero(t, report.Changed())
	require.Positive(t, report.Skipped, "what stands before is told")
}

// Half a line, as a gateway that is killed leaves it, costs nothing of what the next one writes.
func TestATornLine(t *testing.T) {
	var record bytes.Buffer
	m := start(t, &record, "a", "b")
	m.ask(t, "ann", "SELECT 1", nil)
	m.ask(t, "ann", "SELECT 2", nil)
	m.stop()
	record.Truncate(record.Len() - 20)
	next := start(t, &record, "a", "b", "c") // the clusters are others now
	next.ask(t, "ann", "SELECT 3", map[string]string{"sluice.cluster": "c"})
	next.ask(t, "ann", "SELECT 3", nil)
	next.stop()
	record.Truncate(record.Len() - 20)
	report := run(t, record.String(), same)
	require.Equal(t, 2, report.Requests)
	require.Equal(t, 2, report.Skipped, "the two halves")
	require.Zero(t, report.Changed())
	require.Equal(t, map[string]int{"a": 1, "c": 1}, report.After)
}

// Neither a statement's text nor what looks like a secret is in a record.
func TestSecretsAreNotRecorded(t *testing.T) {
	var record bytes.Buffer
	m := start(t, &record, "a")
	conf := map[string]string{"etl.job": "orders", "fs.s3a.secret.key": "hunter2", "jdbc.Password": "hunter2", "my.TOKEN": "hunter2", "credentials": "hunter2", "long": strings.Repeat("hunter2", 100)}
	m.ask(t, "ann", "SELECT aes_decrypt(x, 'hunter2') FROM web.clicks", conf)
	m.ask(t, "ann", "SELECT * FROM web.clicks 'hunter2' 'hunter2'", conf) // what is wrong with it would be quoted
	m.stop()
	require.Contains(t, record.String(), "orders")
	require.Contains(t, record.String(), "spark_catalog.web.clicks")
	require.NotContains(t, record.String(), "hunter2")
	require.NotContains(t, record.String(), "aes_decrypt")
	require.Equal(t, "hunter2", conf["my.TOKEN"], "the session's own settings stay as they are")
}

func TestWhatIsNoRecord(t *testing.T) {
	load := func(clusters []string) (*rules.Set, error) { return rules.Load([]byte(same), clusters) }
	for name, tc := range map[string]struct{ record, err string }{
		"nothing":                   {"", "the record has no decisions"},
		"states alone":              {`{"names":["a"],"clusters":[{"name":"a"}]}` + "\n", "the record has no decisions"},
		"clusters without the rule": {`{"names":["b"],"clusters":[{"name":"b"}]}` + "\n", `there is no cluster "a"; clusters are b`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := replay.Run(strings.NewReader(tc.record), load)
			require.ErrorContains(t, err, tc.err)
		})
	}
}
