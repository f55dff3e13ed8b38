package hs2

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/auth"
)

// people knows names and their passwords, and counts how often it was asked.
type people struct {
	passwords map[string]string
	asked     int
}

func (p *people) Authenticate(_ context.Context, user, password string) (auth.Identity, error) {
	p.asked++
	if known, ok := p.passwords[user]; !ok || known != password {
		return auth.Identity{}, auth.ErrDenied
	}
	return auth.Identity{User: user, Groups: []string{"etl"}}, nil
}

func httpServer(p auth.Authenticator, opt HTTPOptions) *Server {
	return New(Options{Auth: p, HTTP: opt, MaxMessage: 1 << 20, MessageTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
}

var cookieKey = []byte(strings.Repeat("k", 32))

// cookieOf makes a cookie as a server with that key does.
func cookieOf(t *testing.T, key []byte, user string) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	newCookies(HTTPOptions{CookieKey: key, CookieAge: time.Hour}).write(w, auth.Identity{User: user, Groups: []string{"etl"}})
	require.Len(t, w.Result().Cookies(), 1)
	return w.Result().Cookies()[0]
}

func TestIdentify(t *testing.T) {
	good, forged := cookieOf(t, cookieKey, "ann"), cookieOf(t, []byte(strings.Repeat("x", 32)), "ann")
	other := &http.Cookie{Name: "session", Value: "of a proxy"}
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer a.b.c") }
	nothing := func(*http.Request) {}
	for name, tc := range map[string]struct {
		cookies []*http.Cookie
		header  func(*http.Request)
		user    string
		err     string
		asked   int
		set     bool
	}{
		"a password":                        {nil, basic("ann", "tiger-7"), "ann", "", 1, true},
		"a wrong password":                  {nil, basic("ann", "no"), "", "the user name or the password is wrong", 1, false},
		"nothing":                           {nil, nothing, "", "the user name or the password is wrong", 1, false},
		"a cookie":                          {[]*http.Cookie{good}, nothing, "ann", "", 0, false},
		"a cookie among others":             {[]*http.Cookie{other, forged, good}, nothing, "ann", "", 0, false},
		"a cookie and the password":         {[]*http.Cookie{good}, basic("ann", "tiger-7"), "ann", "", 0, false},
		"a cookie and another's password":   {[]*http.Cookie{good}, basic("bob", "lion-8"), "bob", "", 1, true},
		"a cookie and another's wrong one":  {[]*http.Cookie{good}, basic("bob", "tiger-7"), "", "the user name or the password is wrong", 1, false},
		"a forged cookie":                   {[]*http.Cookie{forged}, nothing, "", "the cookie is not valid any more", 0, false},
		"a forged cookie and a password":    {[]*http.Cookie{forged}, basic("ann", "tiger-7"), "ann", "", 1, true},
		"a scheme that is not offered":      {nil, bearer, "", "use Basic", 0, false},
		"another cookie, of something else": {[]*http.Cookie{other}, nothing, "", "the user name or the password is wrong", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &people{passwords: map[string]string{"ann": "tiger-7", "bob": "lion-8"}}
			s := httpServer(p, HTTPOptions{CookieKey: cookieKey, CookieAge: time.Hour, Secure: true})
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cliservice", nil)
			tc.header(r)
			for _, c := range tc.cookies {
				r.AddCookie(c)
			}
			w := httptest.NewRecorder()
			id, err := s.identify(t.Context(), w, r)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				require.Nil(t, id)
			} else {
				require.NoError(t, err)
				require.Equal(t, &auth.Identity{User: tc.user, Groups: []string{"etl"}}, id)
			}
			require.Equal(t, tc.asked, p.asked)
			set := w.Result().Cookies()
			require.Equal(t, tc.set, len(set) == 1)
			if tc.set {
				require.True(t, set[0].HttpOnly && set[0].Secure && set[0].MaxAge == 3600, set[0].String())
				require.NotContains(t, set[0].Value, "tiger")
			}
		})
	}
}

// Where names are believed a stale cookie is still no reason to take its client for nobody.
func TestAStaleCookieIsNotAnonymous(t *testing.T) {
	s := httpServer(auth.None{}, HTTPOptions{CookieKey: cookieKey, CookieAge: time.Hour})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cliservice", nil)
	id, err := s.identify(t.Context(), httptest.NewRecorder(), r)
	require.NoError(t, err)
	require.Equal(t, "anonymous", id.User)
	r.AddCookie(&http.Cookie{Name: cookieName, Value: "cu=ann&rn=7&s=abc"})
	_, err = s.identify(t.Context(), httptest.NewRecorder(), r)
	require.ErrorIs(t, err, errStaleCookie)
}

func TestCookiesEnd(t *testing.T) {
	old := securecookie.New(cookieKey, nil).SetSerializer(securecookie.JSONEncoder{})
	value, err := old.Encode(cookieName, auth.Identity{User: "ann"})
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	r.AddCookie(&http.Cookie{Name: cookieName, Value: value})
	_, state := newCookies(HTTPOptions{CookieKey: cookieKey, CookieAge: time.Hour}).read(r)
	require.Equal(t, validCookie, state)
	_, state = newCookies(HTTPOptions{}).read(r)
	require.Equal(t, staleCookie, state, "a gateway that gives out none believes none")

	short := newCookies(HTTPOptions{CookieKey: cookieKey, CookieAge: time.Second})
	require.Eventually(t, func() bool { _, state := short.read(r); return state == staleCookie }, 5*time.Second, 50*time.Millisecond)

	w := httptest.NewRecorder()
	newCookies(HTTPOptions{}).write(w, auth.Identity{User: "ann"})
	require.Empty(t, w.Result().Cookies())
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "identity": false, "gzip": true, "gzip,deflate": true, "deflate, gzip;q=0.5": true, "GZIP": true,
		"gzip;q=0": false, "gzip;q=0.0, *": false, "x-gzip": false, "br;q=1, gzip; q=1.0": true, "gzip;q=no": false,
	} {
		require.Equal(t, want, acceptsGzip([]string{header}), header)
	}
	require.True(t, acceptsGzip([]string{"br", "gzip"}))
}

func TestReplies(t *testing.T) {
	large := bytes.Repeat([]byte("rows and rows "), 1000)
	for name, tc := range map[string]struct {
		on     bool
		accept string
		reply  []byte
		packed bool
	}{
		"asked": {true, "gzip", large, true}, "not asked": {true, "", large, false},
		"small": {true, "gzip", []byte("small"), false}, "off": {false, "gzip", large, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := httpServer(auth.None{}, HTTPOptions{Compress: tc.on})
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
			r.Header.Set("Accept-Encoding", tc.accept)
			w, sent := httptest.NewRecorder(), false
			s.writeReply(w, r, tc.reply, func() { sent = true })
			require.True(t, sent)
			got := w.Result()
			defer func() { require.NoError(t, got.Body.Close()) }()
			require.EqualValues(t, w.Body.Len(), got.ContentLength)
			require.Equal(t, tc.packed, got.Header.Get("Content-Encoding") == "gzip")
			body := io.Reader(got.Body)
			if tc.packed {
				require.Less(t, w.Body.Len(), len(large)/10)
				var err error
				body, err = gzip.NewReader(got.Body)
				require.NoError(t, err)
			}
			all, err := io.ReadAll(body)
			require.NoError(t, err)
			require.Equal(t, tc.reply, all)
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	s := httpServer(&people{passwords: map[string]string{"ann": "pw"}}, HTTPOptions{})
	for name, tc := range map[string]struct {
		change func(*http.Request)
		body   string
		code   int
		text   string
	}{
		"no password": {func(r *http.Request) { r.Header.Del("Authorization") }, "x", http.StatusUnauthorized, "the password is wrong"},
		"GET":         {func(r *http.Request) { r.Method = http.MethodGet }, "", http.StatusMethodNotAllowed, "POSTed"},
		"an encoding": {func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, "x", http.StatusUnsupportedMediaType, "without an encoding"},
		"too large":   {func(*http.Request) {}, strings.Repeat("x", 1<<20+1), http.StatusRequestEntityTooLarge, "hs2.max_message_size (1048576 bytes)"},
		"no Thrift":   {func(*http.Request) {}, "hello", http.StatusBadRequest, "no call of TCLIService"},
		"empty":       {func(*http.Request) {}, "", http.StatusBadRequest, "no call of TCLIService"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cliservice", strings.NewReader(tc.body))
			r.SetBasicAuth("ann", "pw")
			tc.change(r)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Equal(t, tc.code, w.Code)
			require.Contains(t, w.Body.String(), tc.text)
			require.Equal(t, tc.code == http.StatusUnauthorized, w.Header().Get("WWW-Authenticate") != "")
		})
	}
}

// Whatever comes over HTTP is answered with a reply or with a refusal.
func FuzzHTTP(f *testing.F) {
	f.Add("Basic YW5uOnB3", "hive.server2.auth=x", "gzip", "cliservice", []byte("\x80\x01\x00\x01"))
	f.Add("Bearer a.b.c", "", "", "doAs=bob", []byte{})
	f.Fuzz(func(t *testing.T, authorization, cookie, accept, query string, body []byte) {
		s := httpServer(&people{passwords: map[string]string{"ann": "pw"}}, HTTPOptions{CookieKey: cookieKey, CookieAge: time.Hour, Compress: true})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cliservice", bytes.NewReader(body))
		r.URL.RawQuery = query
		r.Header = http.Header{"Authorization": {authorization}, "Cookie": {cookie}, "Accept-Encoding": {accept}}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusOK {
			user, password, _ := r.BasicAuth()
			require.True(t, user == "ann" && password == "pw", "let in without a password")
			require.NotZero(t, w.Body.Len())
		}
	})
}
