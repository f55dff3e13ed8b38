//go:build e2e

package kube

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluicedata/sluice/tests/testbed"
)

// between puts a proxy before the API server. Requests that drop says yes to get no answer, and do not arrive.
func (p *place) between(drop func(*http.Request) bool) {
	p.t.Helper()
	file, err := os.ReadFile(p.kubeconfig)
	require.NoError(p.t, err)
	server := regexp.MustCompile(`server: *"?(https://[^"\s,}]+)"?`).FindStringSubmatch(string(file))
	require.Len(p.t, server, 2, string(file))
	token := regexp.MustCompile(`token: *"?([A-Za-z0-9._-]+)"?`).FindStringSubmatch(string(file))
	require.Len(p.t, token, 2, string(file))
	at, err := url.Parse(server[1])
	require.NoError(p.t, err)
	proxy := httputil.NewSingleHostReverseProxy(at)
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: false} //nolint:gosec // the way of a test to its own server
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if drop(r) {
			panic(http.ErrAbortHandler)
		}
		r.Header.Set("Authorization", "Bearer "+token[1]) // clients send it over TLS alone
		proxy.ServeHTTP(w, r)
	}))
	p.t.Cleanup(s.Close)
	text := strings.Replace(string(file), server[1], s.URL, 1)
	text = regexp.MustCompile(`,? *certificate-authority-data: *"?[A-Za-z0-9+/=]+"?`).ReplaceAllString(text, "")
	p.kubeconfig = filepath.Join(p.t.TempDir(), "between.kubeconfig")
	require.NoError(p.t, os.WriteFile(p.kubeconfig, []byte(text), 0o600))
}

// A gateway that is killed between the two things that make a driver leaves nothing: whoever comes next finds the pod and
// ends it, and its user gets another engine.
func TestKilledBetweenTwoCreates(t *testing.T) {
	p := newPlace(t, "between")
	var g *testbed.Gateway
	var asked atomic.Int32
	killed := make(chan struct{})
	p.between(func(r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/secrets") && asked.Add(1) == 1 {
			g.Kill()
			close(killed)
			return true
		}
		return false
	})
	g = p.gateway()
	p.dial(g, "ann").Async("SELECT current_user()")
	select {
	case <-killed:
	case <-time.After(time.Minute):
		t.Fatal(g.Log())
	}
	half := p.drivers()
	require.Len(t, half, 1)
	require.Empty(t, without(p.left(), "pod "))
	g = g.Restart(p.config(), "SLUICE_ENGINE_START_TIMEOUT=150s")
	require.Equal(t, [][]string{{"ann"}}, p.dial(g, "ann").All("SELECT current_user()"))
	for _, d := range p.drivers() {
		require.NotEqual(t, half[0].Name, d.Name)
	}
	g.Stop()
	p.awaitNothing()
}

// An API server that is away for a minute, or half of one in a short run, disturbs nobody who has an engine; who needs one waits for it. A gateway that is
// started anew meanwhile finds what there is when it can.
func TestTheAPIServerIsAway(t *testing.T) {
	p := newPlace(t, "away", "min_executors: 1", "max_executors: 1")
	g := p.gateway()
	ann := p.dial(g, "ann")
	const query = "SELECT count(*) FROM range(0, 1000, 1, 2)"
	require.Equal(t, [][]string{{"1000"}}, ann.All(query))
	before := names(p.drivers())

	away := time.Minute
	if testing.Short() {
		away = 30 * time.Second
	}
	kube.Stop("apiserver")
	since := time.Now()
	p.dial(g, "bob").Async("SELECT 1 FROM range(1)")
	for time.Since(since) < away/2 {
		require.Equal(t, [][]string{{"1000"}}, ann.All(query))
	}
	require.Contains(t, g.Log(), "the API server does not answer; what runs goes on")
	code, said := g.Get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code, said)
	g.Kill()
	g = g.Restart(p.config(), "SLUICE_ENGINE_START_TIMEOUT=150s")
	again := p.dial(g, "ann")
	op := again.Async(query)
	bob := p.dial(g, "bob")
	opBob := bob.Async("SELECT current_user()")
	testbed.Until(t, time.Minute, "it was away long enough", func() bool { return time.Since(since) > away })
	kube.Start("apiserver")

	require.Equal(t, [][]string{{"1000"}}, finish(t, again, op))
	require.Equal(t, [][]string{{"bob"}}, finish(t, bob, opBob))
	require.Subset(t, names(p.drivers()), before, "ann's engine is the one she had")
	require.Len(t, p.drivers(), 2)
	g.Stop()
	p.awaitNothing()
}

// Two gateways share an engine, and one decides about it. When the other one dies, or the engine does, nothing is left twice.
func TestTwoGatewaysOneEngine(t *testing.T) {
	p := newPlace(t, "replicas")
	db := testbed.StartPostgres(t)
	gs := testbed.StartReplicasWith(t, 2, db.Database(t), p.config(), "SLUICE_ENGINE_START_TIMEOUT=150s", "SLUICE_STORE_REPLICA_TIMEOUT=4s")
	one, two := p.dial(gs[0], "ann"), p.dial(gs[1], "ann")
	a, b := one.Async("SELECT current_user()"), two.Async("SELECT current_user()")
	require.Equal(t, [][]string{{"ann"}}, finish(t, one, a))
	require.Equal(t, [][]string{{"ann"}}, finish(t, two, b))
	was := names(p.drivers())
	require.Len(t, was, 1)

	gs[0].Kill()
	require.Equal(t, [][]string{{"ann"}}, two.All("SELECT current_user()"))
	kube.Exec("node1", "sh", "-c", "kill -9 $(pgrep -f [d]eploy.SparkSubmit)")
	testbed.Until(t, time.Minute, "the engine that died is gone", func() bool { return len(p.pods("")) == 0 })
	require.Equal(t, [][]string{{"ann"}}, p.dial(gs[1], "ann").All("SELECT current_user()"))
	require.Len(t, p.drivers(), 1)
	require.NotEqual(t, was, names(p.drivers()))
	gs[1].Stop()
	p.awaitNothing()
}

// What nobody renews is ended by its own kubelet, gateway or not.
func TestALeaseEnds(t *testing.T) {
	testbed.Long(t)
	t.Parallel()
	p := newPlace(t, "lease", "lease: 75s")
	g := p.gateway()
	require.Equal(t, [][]string{{"ann"}}, p.dial(g, "ann").All("SELECT current_user()"))
	g.Kill()
	testbed.Until(t, 5*time.Minute, "the engine has ended", func() bool {
		d := p.drivers()
		return len(d) == 1 && d[0].Status.Phase == corev1.PodFailed
	})
	g = g.Restart(p.config())
	p.awaitNothing() // whoever comes next takes away what is left of it
	g.Stop()
}
