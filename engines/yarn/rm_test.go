package yarn

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines/hadoop"
)

// answering is a ResourceManager that gives one answer to everything but /info. These tests are of what is hard to bring a
// real one to.
func answering(t *testing.T, haState func() string, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws/v1/cluster/info" {
			_, _ = io.WriteString(w, `{"clusterInfo":{"state":"STARTED","haState":"`+haState()+`"}}`)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// anybody is access to a cluster that believes every name.
func anybody(t *testing.T) *hadoop.Access {
	t.Helper()
	a, err := hadoop.NewAccess("sluice", nil)
	require.NoError(t, err)
	return a
}

func active() string { return "ACTIVE" }

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = io.WriteString(w, body) }
}

// A standby sends clients to a name of the active one's, or nowhere; a dead one does not answer. The next is asked.
func TestTheActiveOneIsFound(t *testing.T) {
	standby := answering(t, func() string { return "STANDBY" }, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://no.such.host/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	nowhere := answering(t, func() string { return "STANDBY" }, say(http.StatusTemporaryRedirect, "there is no active one"))
	good := answering(t, active, say(http.StatusOK, `{"app":{"id":"application_1_0001","state":"RUNNING","user":"ann"}}`))
	r := newRM([]string{standby, "http://127.0.0.1:1", nowhere, good}, anybody(t), time.Minute)
	got, err := r.app(t.Context(), "ann", "application_1_0001")
	require.NoError(t, err)
	require.Equal(t, "RUNNING", got.State)
}

// While a ResourceManager recovers it does not know what runs; its 404 is believed when it is active.
func TestA404IsBelievedFromAnActiveOne(t *testing.T) {
	var looks atomic.Int32
	at := answering(t, func() string {
		if looks.Add(1) < 3 {
			return "INITIALIZING"
		}
		return "ACTIVE"
	}, say(http.StatusNotFound, `{"RemoteException":{"message":"app not found"}}`))
	_, err := newRM([]string{at}, anybody(t), time.Minute).app(t.Context(), "ann", "application_1_0001")
	require.ErrorIs(t, err, errNoApp)
	require.Equal(t, int32(3), looks.Load())
}

func TestWhatIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		status     int
		body, want string
	}{
		"Hadoop 3.4":  {http.StatusBadRequest, `{"RemoteException":{"exception":"BadRequestException","message":"java.lang.Exception: Requested more memory than configured max"}}`, "(400): Requested more memory than configured max"},
		"Hadoop 3.5":  {http.StatusBadRequest, `{"RemoteException":{"message":"Requested more memory than configured max"}}`, "(400): Requested more memory than configured max"},
		"plain text":  {http.StatusForbidden, "Unauthorized attempt to kill appid application_1_0001 by remote user bob", "(403): Unauthorized attempt"},
		"an internal": {http.StatusInternalServerError, "", "(500): "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newRM([]string{answering(t, active, say(tc.status, tc.body))}, anybody(t), time.Minute).newApplication(t.Context(), "ann")
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// Nobody there: the error names who was asked last, within the patience.
func TestNobodyAnswers(t *testing.T) {
	_, err := newRM([]string{"http://127.0.0.1:1"}, anybody(t), 300*time.Millisecond).newApplication(t.Context(), "ann")
	require.ErrorContains(t, err, "ResourceManager http://127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newRM([]string{"http://127.0.0.1:1"}, anybody(t), time.Hour).newApplication(ctx, "ann")
	require.ErrorIs(t, err, context.Canceled)
}

// An empty answer is no empty list: whoever sweeps by it would take everything for gone.
func TestAnEmptyAnswerIsNoList(t *testing.T) {
	_, err := newRM([]string{answering(t, active, say(http.StatusOK, ""))}, anybody(t), time.Minute).withTag(t.Context(), "sluice", "E-1", live)
	require.Error(t, err)
	got, err := newRM([]string{answering(t, active, say(http.StatusOK, `{"apps":{}}`))}, anybody(t), time.Minute).withTag(t.Context(), "sluice", "E-1", live)
	require.NoError(t, err)
	require.Empty(t, got)
}
