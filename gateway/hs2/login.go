package hs2

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/session"
)

// login proves who the client is. An authorization identity is whom it acts for.
func (h *handler) login(ctx context.Context, authzid, user, password string) error {
	id, err := h.server.opt.Auth.Authenticate(ctx, user, password)
	if err == nil {
		h.identity, h.target = &id, authzid
		_, err = h.actFor(ctx, authzid)
	} else {
		err = loginFailure(err, h.log)
	}
	if err != nil {
		h.server.loginRefused(Login{User: user, Target: authzid, Address: h.client, FrontEnd: h.frontEnd()}, err)
		return saslFailure{err.Error()}
	}
	return nil
}

// loginFailure is what a client reads when it could not prove who it is.
func loginFailure(err error, log *slog.Logger) error {
	f := &session.Failure{Class: "SLUICE_LOGIN", SQLState: "28000", Message: "Error validating the login: the user name or the password is wrong"}
	if !errors.Is(err, auth.ErrDenied) {
		log.Error("authentication failed for a reason of ours", "error", err)
		f = &session.Failure{Class: "SLUICE_LOGIN_UNAVAILABLE", SQLState: "08004", Message: "Error validating the login: authentication does not work at the moment"}
	}
	return f
}

func (s *Server) loginRefused(l Login, err error) {
	if s.opt.Hooks.LoginRefused != nil {
		s.opt.Hooks.LoginRefused(l, err)
	}
}

var (
	errNoCert      = errors.New("show a client certificate, as tls.client_ca demands")
	errStaleCookie = errors.New("the cookie is not valid any more: log in again")
	errScheme      = errors.New("this scheme of authorization is not offered here: use Basic, a user name and a password")
)

// identify finds out who sent a request, and gives a client that has just proved it a cookie, since passwords cost time
// to check. A cookie that is not valid and comes alone is refused, never taken for nobody: drivers then send their
// password. A request without anything is one of the nameless user, if such is let in.
func (s *Server) identify(ctx context.Context, w http.ResponseWriter, r *http.Request) (*auth.Identity, error) {
	if s.opt.HTTP.ClientCert && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		return nil, errNoCert
	}
	known, cookie := s.cookies.read(r)
	user, password, basic := r.BasicAuth()
	switch {
	case cookie == validCookie && (!basic || user == known.User):
		return &known, nil
	case !basic && r.Header.Get("Authorization") != "":
		return nil, errScheme
	case !basic && cookie == staleCookie:
		return nil, errStaleCookie
	}
	id, err := s.opt.Auth.Authenticate(ctx, user, password)
	if err != nil {
		err = loginFailure(err, s.opt.Log)
		if basic { // clients send no credentials first, to see whether any are wanted
			s.loginRefused(Login{User: user, Target: doAs(r.URL.Query()), Address: r.RemoteAddr, FrontEnd: frontEndHTTP}, err)
		}
		return nil, err
	}
	if basic {
		s.cookies.write(w, id)
	}
	return &id, nil
}

// cookieName is what JDBC drivers look for, unless their cookieName says otherwise; impyla takes any that ends so.
const cookieName = "hive.server2.auth"

// cookies prove for a while who a client is, in place of its password.
type cookies struct {
	codec  *securecookie.SecureCookie // nil where none are given out
	age    time.Duration
	secure bool
}

func newCookies(opt HTTPOptions) *cookies {
	if opt.CookieAge <= 0 {
		return &cookies{}
	}
	codec := securecookie.New(opt.CookieKey, nil).SetSerializer(securecookie.JSONEncoder{}).MaxAge(int(opt.CookieAge.Seconds()))
	return &cookies{codec, opt.CookieAge, opt.Secure}
}

type cookieState int

const (
	noCookie cookieState = iota
	staleCookie
	validCookie
)

// read looks for a valid cookie; a client may hold an old one of another path, too.
func (c *cookies) read(r *http.Request) (auth.Identity, cookieState) {
	state := noCookie
	for _, sent := range r.CookiesNamed(cookieName) {
		var id auth.Identity
		if c.codec != nil && c.codec.Decode(cookieName, sent.Value, &id) == nil {
			return id, validCookie
		}
		state = staleCookie
	}
	return auth.Identity{}, state
}

func (c *cookies) write(w http.ResponseWriter, id auth.Identity) {
	if c.codec == nil {
		return
	}
	value, err := c.codec.Encode(cookieName, id)
	if err != nil {
		return // longer than a cookie may be: its client goes on with the password
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: int(c.age.Seconds()), HttpOnly: true, Secure: c.secure, SameSite: http.SameSiteStrictMode})
}
