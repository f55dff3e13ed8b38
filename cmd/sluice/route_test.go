package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
)

// call runs a command in a directory with files, and returns what it prints.
func call(t *testing.T, files map[string]string, args ...string) (string, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	var out bytes.Buffer
	root := rootCmd()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

const good = `version: v1
rules:
- {name: cards, when: touches("cards.*") or "pci" in groups, to: yarn1, strict: true}
- {name: all, to: {pool: [k8s1, yarn1]}}
limits: [{user: "*", running: 3}]
`

const someCases = `rules: rules.yaml
clusters: {yarn1: {}, k8s1: {}}
cases:
- {name: cards, request: {user: ann, sql: SELECT * FROM cards.numbers}, want: {cluster: yarn1}}
- {name: others, request: {user: ann, sql: SELECT 1}, want: {cluster: k8s1}}
`

const record = `{"at":"2026-12-01T12:00:00Z","names":["k8s1","yarn1"],"clusters":[{"name":"k8s1","health":"up"},{"name":"yarn1","health":"up"}]}
{"at":"2026-12-01T12:00:01Z","request":{"User":"ann","Work":"interactive","SQL":{"Kind":"select","Reads":["spark_catalog.cards.numbers"],"Complete":true}},"decision":{"Cluster":"k8s1","rule":"all","version":"v0"}}
{"at":"2026-12-01T12:00:02Z","request":{"User":"bob","Work":"etl","SQL":{"Kind":"select","Complete":true}},"decision":{"Cluster":"k8s1","rule":"all","version":"v0"}}
`

func TestRouteOnFiles(t *testing.T) {
	files := map[string]string{
		"rules.yaml": good, "bad.yaml": "rules:\n- {when: usr == \"x\", to: yarn1}\n- to: k8s9\n", "sub/cases.yaml": someCases, "sub/rules.yaml": good, "cases.yaml": someCases,
		"failing.yaml": "rules: rules.yaml\nclusters: {yarn1: {}, k8s1: {}}\ncases:\n- {name: wrong, request: {sql: SELECT * FROM cards.numbers}, want: {cluster: k8s1}}\n",
		"routes.jsonl": record, "sluice.yaml": "clusters: {yarn1: {kind: local}, k8s1: {kind: local}}\nengine: {cluster: yarn1}\n",
	}
	for name, tc := range map[string]struct {
		args []string
		says []string
		err  string
	}{
		"check":                     {args: []string{"check", "rules.yaml", "--clusters", "yarn1,k8s1"}, says: []string{"ok: 2 rules and 1 limits, version "}},
		"check with a config":       {args: []string{"check", "rules.yaml", "--config", "sluice.yaml"}, says: []string{"ok: 2 rules"}},
		"check of a bad file":       {args: []string{"check", "bad.yaml", "--clusters", "yarn1,k8s1"}, err: "bad.yaml:2:10: there is no usr (did you mean user?)\nbad.yaml:3:7: there is no cluster \"k8s9\" (did you mean k8s1?); clusters are yarn1, k8s1"},
		"check of no file":          {args: []string{"check", "none.yaml", "--clusters", "a"}, err: "open none.yaml: no such file or directory"},
		"test":                      {args: []string{"test", "cases.yaml", "sub/cases.yaml"}, says: []string{"4 cases, 0 failed\n"}},
		"test that fails":           {args: []string{"test", "cases.yaml", "failing.yaml"}, says: []string{"FAILED  failing.yaml: wrong: it goes to yarn1, not to k8s1\n", "matched    cards", "3 cases, 1 failed\n"}, err: "some cases failed"},
		"test of no cases":          {args: []string{"test", "rules.yaml"}, err: "rules.yaml: "},
		"explain":                   {args: []string{"explain", "--rules", "rules.yaml", "--clusters", "k8s1,yarn1", "SELECT * FROM cards.numbers"}, says: []string{"statement                           kind select; reads spark_catalog.cards.numbers\n", "decision   yarn1                    rule cards: the rule names it\n"}},
		"explain for somebody":      {args: []string{"explain", "--rules", "rules.yaml", "--clusters", "k8s1,yarn1", "--for", "eve", "--groups", "a,pci", "--cluster", "k8s1"}, says: []string{"refused", "the rule is strict and allows yarn1 only: leave sluice.cluster=k8s1 out"}},
		"explain of no work":        {args: []string{"explain", "--rules", "rules.yaml", "--clusters", "k8s1,yarn1", "--work", "play"}, err: `work: "play" is not one of interactive, etl, batch`},
		"explain by a bad file":     {args: []string{"explain", "--rules", "bad.yaml", "--clusters", "k8s1,yarn1"}, err: "bad.yaml:2:10: there is no usr"},
		"replay":                    {args: []string{"replay", "--policy", "rules.yaml", "routes.jsonl"}, says: []string{"2 requests, of which 1 would go elsewhere (50.0 %)", "k8s1                                    2 -> 1\n", "1 × k8s1 -> yarn1 by rule \"cards\"\n         for example user ann, interactive: rule cards: the rule names it\n"}},
		"replay of several":         {args: []string{"replay", "--policy", "rules.yaml", "routes.jsonl", "routes.jsonl"}, says: []string{"4 requests, of which 2 would go elsewhere"}},
		"replay without rules":      {args: []string{"replay", "routes.jsonl"}, err: `required flag(s) "policy" not set`},
		"replay of what is none":    {args: []string{"replay", "--policy", "rules.yaml", "rules.yaml"}, err: "the record has no decisions"},
		"replay through a bad file": {args: []string{"replay", "--policy", "bad.yaml", "routes.jsonl"}, err: "bad.yaml:2:10: there is no usr"},
		"names":                     {args: []string{"names"}, says: []string{"user       whose work it is\n", "touches    ", "functions  len, "}},
		"rollback to nothing":       {args: []string{"rollback"}, err: "say either a version or --end"},
		"rollback to both":          {args: []string{"rollback", "v1", "--end"}, err: "say either a version or --end"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := call(t, files, append([]string{"route"}, tc.args...)...)
			if tc.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.err)
			}
			for _, text := range tc.says {
				require.Contains(t, out, text)
			}
		})
	}
}

// What commands ask a gateway, and print of its answers.
func TestRouteAsksAGateway(t *testing.T) {
	status := route.Status{Version: "h2", Loaded: "h3", Pinned: true, Broken: "rules.yaml:1:1: it is no YAML", Versions: []route.Version{
		{Version: "h3", Name: "week-3", Text: "a\nc\n"}, {Version: "h2", Name: "week-2", Text: "a\nb\n", Force: "100 % of sessions"}}}
	clusters := router.Snapshot{Clusters: []router.State{{Name: "k8s1", Kind: "kubernetes", Health: router.Up, Draining: true, Known: true, Free: router.Room{Memory: 5, MilliCores: 1500}, Total: router.Room{Memory: 7, MilliCores: 2000}, Drivers: 3},
		{Name: "yarn1", Kind: "yarn", Health: router.Down, Why: "it does not answer"}}}
	for name, tc := range map[string]struct {
		args   []string
		asks   string
		answer any
		code   int
		says   []string
		err    string
	}{
		"explain": {args: []string{"explain", "--work", "etl", "--conf", "etl.job=a,k=v", "--tags", "x", "SELECT 1"}, asks: `POST /api/v1/route/explain "work":"etl" "conf":{"etl.job":"a","k":"v"} "tags":["x"] "sql":"SELECT 1"`,
			answer: rules.Trace{Version: "v1", Reason: "by the rule", Cluster: "k8s1", Place: "k8s1"}, says: []string{"rules      v1 ", "decision   k8s1                     by the rule\n"}},
		"clusters": {args: []string{"clusters"}, asks: "GET /api/v1/clusters", answer: clusters,
			says: []string{"k8s1     kubernetes  up, drains  5 MiB and 1.5 cores of 7 MiB and 2 cores  0        3", "yarn1    yarn        down        not known", "it does not answer\n"}},
		"versions":           {args: []string{"versions"}, asks: "GET /api/v1/route/versions", answer: status, says: []string{"h2       week-2  ", "100 % of sessions\n", "rolled back: the file is version h3; sluice route rollback --end takes it again\n", "the file on disk is not in force: rules.yaml:1:1: it is no YAML\n"}},
		"diff with one":      {args: []string{"diff", "week-3"}, asks: "GET /api/v1/route/versions", answer: status, says: []string{"--- h3 week-3\n+++ h2 week-2\n", "-c\n+b\n"}},
		"diff of two":        {args: []string{"diff", "h2", "h3"}, asks: "GET /api/v1/route/versions", answer: status, says: []string{"--- h2 week-2\n+++ h3 week-3\n", "-b\n+c\n"}},
		"diff with none":     {args: []string{"diff", "week-9"}, asks: "GET /api/v1/route/versions", answer: status, err: `there is no version "week-9"; sluice route versions lists them`},
		"rollback":           {args: []string{"rollback", "week-2"}, asks: `POST /api/v1/route/rollback {"version":"week-2"}`, code: http.StatusNoContent},
		"the end of one":     {args: []string{"rollback", "--end"}, asks: `POST /api/v1/route/rollback {"version":""}`, code: http.StatusNoContent},
		"drain":              {args: []string{"drain", "k8s1"}, asks: "POST /api/v1/clusters/k8s1/drain", code: http.StatusNoContent},
		"undrain":            {args: []string{"undrain", "k8s1"}, asks: "POST /api/v1/clusters/k8s1/undrain", code: http.StatusNoContent},
		"what it refuses":    {args: []string{"drain", "k8s1"}, asks: "POST /api/v1/clusters/k8s1/drain", code: http.StatusForbidden, answer: map[string]string{"detail": "this is for administrators only"}, err: "this is for administrators only"},
		"what is no gateway": {args: []string{"clusters"}, asks: "GET /api/v1/clusters", code: http.StatusTeapot, answer: "tea", err: "the gateway answers 418 I'm a teapot"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				user, password, _ := r.BasicAuth()
				var body bytes.Buffer
				_, _ = body.ReadFrom(r.Body)
				if user != "root" || password != "hunter2" {
					t.Errorf("it says it is %q with %q", user, password)
				}
				checkAsked(t, tc.asks, r.Method+" "+r.URL.Path, body.String())
				if tc.code != 0 {
					w.WriteHeader(tc.code)
				}
				if tc.answer != nil {
					_ = json.NewEncoder(w).Encode(tc.answer)
				}
			}))
			defer server.Close()
			t.Setenv("SLUICE_GATEWAY", server.URL+"/")
			t.Setenv("SLUICE_USER", "root")
			t.Setenv("SLUICE_PASSWORD", "hunter2")
			out, err := call(t, nil, append([]string{"route"}, tc.args...)...)
			if tc.err == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, tc.err)
			}
			for _, text := range tc.says {
				require.Contains(t, out, text)
			}
			require.Equal(t, 1, asked)
		})
	}
	t.Setenv("SLUICE_GATEWAY", "http://127.0.0.1:1")
	_, err := call(t, nil, "route", "clusters")
	require.ErrorContains(t, err, "ask the gateway (--gateway names it): ")
}

// checkAsked compares a request with a method, a page and parts of a body.
func checkAsked(t *testing.T, want, page, body string) {
	t.Helper()
	parts := bytes.SplitN([]byte(want), []byte(" "), 3)
	if got := string(parts[0]) + " " + string(parts[1]); got != page {
		t.Errorf("it asks %s, not %s", page, got)
	}
	if len(parts) < 3 {
		return
	}
	for _, part := range bytes.Split(parts[2], []byte(` "`)) {
		if !bytes.Contains([]byte(body), bytes.TrimPrefix(part, []byte(`"`))) {
			t.Errorf("it says %s, in which there is no %s", body, part)
		}
	}
}
