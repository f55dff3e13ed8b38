package ops

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

func check(name string, err error) Check {
	return Check{Name: name, See: func(context.Context) error { return err }}
}

func TestHealth(t *testing.T) {
	// The process lives even if what it needs does not: a restart would not mend a database.
	h := Handler(Options{Registry: prometheus.NewRegistry(), Checks: []Check{check("store", errors.New("gone"))}})
	code, body := get(t, h, "/healthz")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"status":"ok"}`, body)
}

func TestReady(t *testing.T) {
	for name, tc := range map[string]struct {
		checks []Check
		code   int
		body   string
	}{
		"nothing to see": {nil, http.StatusOK, `{"ready":true,"checks":{}}`},
		"all is there": {[]Check{check("store", nil), check("cluster local", nil)}, http.StatusOK,
			`{"ready":true,"checks":{"store":"ok","cluster local":"ok"}}`},
		"the first is gone": {[]Check{check("store", errors.New("disk I/O error")), check("cluster local", nil)}, http.StatusServiceUnavailable,
			`{"ready":false,"checks":{"store":"disk I/O error","cluster local":"ok"}}`},
		"the last is gone": {[]Check{check("store", nil), check("cluster local", errors.New("no java"))}, http.StatusServiceUnavailable,
			`{"ready":false,"checks":{"store":"ok","cluster local":"no java"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := get(t, Handler(Options{Registry: prometheus.NewRegistry(), Checks: tc.checks}), "/readyz")
			require.Equal(t, tc.code, code)
			require.JSONEq(t, tc.body, body)
		})
	}
}

// Each request looks anew, and no look may go on for ever.
func TestReadyLooksEachTime(t *testing.T) {
	looks := 0
	var err error
	h := Handler(Options{Registry: prometheus.NewRegistry(), Checks: []Check{{Name: "store", See: func(ctx context.Context) error {
		looks++
		_, bounded := ctx.Deadline()
		require.True(t, bounded)
		return err
	}}}})
	for i, failure := range []error{nil, errors.New("gone"), nil} {
		err = failure
		code, _ := get(t, h, "/readyz")
		require.Equal(t, failure == nil, code == http.StatusOK)
		require.Equal(t, i+1, looks)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	sessions := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_sessions", Help: "Open sessions."})
	registry.MustRegister(sessions)
	sessions.Set(3)
	h := Handler(Options{Registry: registry})
	code, body := get(t, h, "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "# HELP sluice_sessions Open sessions.\n# TYPE sluice_sessions gauge\nsluice_sessions 3\n")
}

func TestUnknownPath(t *testing.T) {
	code, _ := get(t, Handler(Options{Registry: prometheus.NewRegistry()}), "/debug/pprof/")
	require.Equal(t, http.StatusNotFound, code)
}

// Clients of a front end ask with a slash at the end and without; neither may be sent on, because they do not follow.
func TestFrontEnds(t *testing.T) {
	front := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method+" "+r.URL.Path) })
	h := Handler(Options{Registry: prometheus.NewRegistry(), FrontEnds: map[string]http.Handler{"/front": front, "/front/*rest": front}})
	for _, path := range []string{"/front", "/front/", "/front/more"} {
		code, body := get(t, h, path)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, "GET "+path, body)
	}
	code, _ := get(t, h, "/fron")
	require.Equal(t, http.StatusNotFound, code)
	code, _ = get(t, h, "/healthz")
	require.Equal(t, http.StatusOK, code)
}

// A check that panics is a fault of ours, which must not end the process that others are working with.
func TestPanicIsAnError(t *testing.T) {
	h := Handler(Options{Registry: prometheus.NewRegistry(), Checks: []Check{{Name: "store", See: func(context.Context) error { panic("boom") }}}})
	code, _ := get(t, h, "/readyz")
	require.Equal(t, http.StatusInternalServerError, code)
}

// An answer that is on its way when the gateway is told to stop is given to its end.
func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	asked, stopped := make(chan struct{}), make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-ctx.Done()
		_, _ = io.WriteString(w, "to its end")
	})
	go func() { stopped <- Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	go func() {
		<-asked
		cancel()
	}()
	resp, err := http.Get("http://" + l.Addr().String())
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "to its end", string(body))
	require.NoError(t, <-stopped)
	_, err = net.Dial("tcp", l.Addr().String())
	require.Error(t, err)
}

func TestServeTellsWhyItCannot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorIs(t, Serve(t.Context(), l, http.NotFoundHandler(), slog.New(slog.DiscardHandler)), net.ErrClosed)
}
