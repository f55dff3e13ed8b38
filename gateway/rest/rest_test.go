package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/rest"
	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/watch"
)

// known is an authenticator that knows everybody, whose directory may be gone.
type known struct{ gone bool }

func (k known) Authenticate(_ context.Context, user, password string) (auth.Identity, error) {
	switch {
	case k.gone:
		return auth.Identity{}, errors.New("the directory does not answer")
	case password != user+"-secret":
		return auth.Identity{}, auth.ErrDenied
	}
	return auth.Identity{User: user, Groups: []string{"people", user + "s"}}, nil
}

const text = `version: v1
rules:
- {name: people, when: '"anns" in groups and touches("cards.*")', to: {refuse: no cards for ann}}
- {name: all, to: {chain: [a, b]}}
`

// page is the pages over a router with a real store.
type page struct {
	http.Handler
	router *route.Router
	store  *store.Store
}

func newPage(t *testing.T, directory known) page {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	w := watch.New([]watch.Cluster{{Name: "a", Kind: "yarn"}, {Name: "b", Kind: "kubernetes"}})
	t.Cleanup(w.Close)
	w.Read("b", router.State{Known: true, Free: router.Room{Memory: 7}})
	r, err := route.New(t.Context(), route.Options{Watch: w, File: file, Store: st, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return page{rest.Handler(rest.Options{Auth: directory, Admins: auth.NewAdmins("root", "ops"), Router: r}), r, st}
}

// ask sends a request of a user, whose password is right unless it is given.
func (p page) ask(t *testing.T, method, path, body, user string, password ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, rest.Prefix+path, strings.NewReader(body))
	if user != "" {
		req.SetBasicAuth(user, strings.Join(append(password, user+"-secret")[:1], ""))
	}
	rec := httptest.NewRecorder()
	p.ServeHTTP(rec, req)
	return rec
}

func TestWhoMayDoWhat(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path, body, user, password string
		gone                               bool
		code                               int
		detail                             string // of a problem, or the body
	}{
		"nobody":                        {method: "GET", path: "/clusters", code: 401, detail: "say who you are, by HTTP basic authentication"},
		"a wrong password":              {method: "GET", path: "/clusters", user: "ann", password: "x", code: 401, detail: "the password is wrong"},
		"nobody drains":                 {method: "POST", path: "/clusters/a/drain", code: 401, detail: "say who you are"},
		"the directory is gone":         {method: "GET", path: "/clusters", user: "ann", gone: true, code: 503, detail: "the directory does not answer"},
		"no page":                       {method: "GET", path: "/nothing", user: "ann", code: 404, detail: "there is no such page: /api/v1/nothing"},
		"everybody sees clusters":       {method: "GET", path: "/clusters", user: "ann", code: 200, detail: `"name":"b"`},
		"everybody asks for himself":    {method: "POST", path: "/route/explain", body: `{"sql": "SELECT 1"}`, user: "ann", code: 200, detail: `"cluster":"a"`},
		"by his name, too":              {method: "POST", path: "/route/explain", body: `{"user": "ann"}`, user: "ann", code: 200, detail: `"cluster":"a"`},
		"with his own groups":           {method: "POST", path: "/route/explain", body: `{"user": "ann", "groups": ["others"], "sql": "SELECT * FROM cards.numbers"}`, user: "ann", code: 200, detail: "no cards for ann"},
		"not for others":                {method: "POST", path: "/route/explain", body: `{"user": "bob"}`, user: "ann", code: 403, detail: "only an administrator may ask for another user"},
		"nor as one who acts for him":   {method: "POST", path: "/route/explain", body: `{"real_user": "hue"}`, user: "ann", code: 403, detail: "only an administrator may ask for another user"},
		"an administrator for others":   {method: "POST", path: "/route/explain", body: `{"user": "ann", "groups": ["anns"], "sql": "SELECT * FROM cards.numbers"}`, user: "root", code: 200, detail: "no cards for ann"},
		"an administrator for himself":  {method: "POST", path: "/route/explain", body: `{"sql": "SELECT * FROM cards.numbers"}`, user: "root", code: 200, detail: `"cluster":"a"`},
		"no request":                    {method: "POST", path: "/route/explain", body: "SELECT 1", user: "ann", code: 400, detail: "the body must be a request in JSON"},
		"an address that is none":       {method: "POST", path: "/route/explain", body: `{"address": "here"}`, user: "ann", code: 400, detail: `address: "here" is no address`},
		"work that is none":             {method: "POST", path: "/route/explain", body: `{"work": "play"}`, user: "ann", code: 400, detail: `work: "play" is not one of interactive, etl, batch`},
		"a drain by others":             {method: "POST", path: "/clusters/a/drain", user: "ann", code: 403, detail: "for administrators only: auth.admin_users"},
		"an undrain by others":          {method: "POST", path: "/clusters/a/undrain", user: "ann", code: 403, detail: "for administrators only"},
		"versions for others":           {method: "GET", path: "/route/versions", user: "ann", code: 403, detail: "for administrators only"},
		"a rollback by others":          {method: "POST", path: "/route/rollback", body: `{"version": "v1"}`, user: "ann", code: 403, detail: "for administrators only"},
		"a drain":                       {method: "POST", path: "/clusters/a/drain", user: "root", code: 204},
		"a drain, as a command says it": {method: "POST", path: "/clusters/a/drain", body: "null", user: "root", code: 204},
		"a drain of nothing":            {method: "POST", path: "/clusters/c/drain", user: "root", code: 404, detail: `there is no cluster "c"; clusters are a, b`},
		"an undrain of nothing":         {method: "POST", path: "/clusters/c/undrain", user: "root", code: 404, detail: `there is no cluster "c"`},
		"a rollback":                    {method: "POST", path: "/route/rollback", body: `{"version": "v1"}`, user: "root", code: 204},
		"the end of one":                {method: "POST", path: "/route/rollback", body: `{"version": ""}`, user: "root", code: 204},
		"a rollback to nothing":         {method: "POST", path: "/route/rollback", body: `{"version": "v9"}`, user: "root", code: 404, detail: `the store has no version "v9" of the rules`},
		"a rollback without a body":     {method: "POST", path: "/route/rollback", user: "root", code: 400, detail: "an empty version ends a rollback"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPage(t, known{tc.gone})
			var password []string
			if tc.password != "" {
				password = []string{tc.password}
			}
			rec := p.ask(t, tc.method, tc.path, tc.body, tc.user, password...)
			require.Equal(t, tc.code, rec.Code, rec.Body.String())
			require.Equal(t, tc.code == http.StatusUnauthorized, rec.Header().Get("WWW-Authenticate") == `Basic realm="sluice"`)
			if tc.code < 300 {
				require.Contains(t, rec.Body.String(), tc.detail)
				return
			}
			require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"))
			var got struct {
				Title, Detail string
				Status        int
			}
			require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &got))
			require.Equal(t, tc.code, got.Status)
			require.Equal(t, http.StatusText(tc.code), got.Title)
			require.Contains(t, got.Detail, tc.detail)
		})
	}
}

func TestClusters(t *testing.T) {
	p := newPage(t, known{})
	require.Equal(t, 204, p.ask(t, "POST", "/clusters/a/drain", "", "root").Code)
	var s router.Snapshot
	require.NoError(t, json.Unmarshal(p.ask(t, "GET", "/clusters", "", "ann").Body.Bytes(), &s))
	require.Equal(t, []router.State{{Name: "a", Kind: "yarn", Health: router.Up, Draining: true}, {Name: "b", Kind: "kubernetes", Health: router.Up, Known: true, Free: router.Room{Memory: 7}}}, s.Clusters)
	all, err := p.store.Settings(t.Context())
	require.NoError(t, err)
	require.Equal(t, "root", all[0].SaidBy, "it is known who said so")
	require.Equal(t, 204, p.ask(t, "POST", "/clusters/a/undrain", "", "root").Code)
	require.False(t, p.router.Clusters().Find("a").Draining)
}

func TestExplain(t *testing.T) {
	p := newPage(t, known{})
	require.Equal(t, 204, p.ask(t, "POST", "/clusters/a/drain", "", "root").Code)
	var got rules.Trace
	require.NoError(t, json.Unmarshal(p.ask(t, "POST", "/route/explain", `{"sql": "SELECT * FROM web.clicks"}`, "ann").Body.Bytes(), &got))
	require.Equal(t, "v1", got.Version)
	require.Equal(t, "b", got.Cluster)
	require.Equal(t, "kind select; reads spark_catalog.web.clicks", got.SQL)
	require.Equal(t, []bool{false, true}, []bool{got.Rules[0].Matched, got.Rules[1].Matched})
	require.Equal(t, `touches("cards.*") does not hold`, got.Rules[0].Why)
	require.Equal(t, 3, got.Rules[0].Line)
	require.Equal(t, []rules.CandidateTrace{{Cluster: "a", Why: "it drains: it gets no new engines"}, {Cluster: "b", Picked: true, Why: got.Reason}}, got.Candidates)

	got = rules.Trace{}
	require.NoError(t, json.Unmarshal(p.ask(t, "POST", "/route/explain", `{"sql": "SELECT * FROM cards.numbers"}`, "ann").Body.Bytes(), &got))
	require.Empty(t, got.Place)
	require.Contains(t, got.Reason, `no cards for ann (rule "people", line 3 of version v1)`)
}

func TestVersions(t *testing.T) {
	p := newPage(t, known{})
	var got route.Status
	require.NoError(t, json.Unmarshal(p.ask(t, "GET", "/route/versions", "", "root").Body.Bytes(), &got))
	require.Len(t, got.Versions, 1)
	require.Equal(t, []string{"v1", "100 % of sessions", text}, []string{got.Versions[0].Name, got.Versions[0].Force, got.Versions[0].Text})
	require.NoError(t, p.store.Close())
	require.Equal(t, 503, p.ask(t, "GET", "/route/versions", "", "root").Code)
	require.Equal(t, 503, p.ask(t, "POST", "/clusters/a/drain", "", "root").Code)
	require.Equal(t, 200, p.ask(t, "GET", "/clusters", "", "root").Code, "what is in memory needs no store")
}
