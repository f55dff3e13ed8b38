package yarn

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/spnego"
)

// Login is who the gateway is to a cluster that asks for proof.
type Login struct {
	Principal string // user@REALM or user/host@REALM
	Keytab    string // file with its keys
	Config    string // krb5.conf
}

// access says to Hadoop's services who asks. A cluster without Kerberos believes every name. One with it believes us, and
// lets us act for users if its hadoop.proxyuser settings say so.
type access struct {
	user string         // our name there
	krb  *client.Client // nil without Kerberos

	mu   sync.Mutex
	http map[string]*http.Client // by host and port: two services of a host both keep their cookie under one name
}

func newAccess(user string, l *Login) (*access, error) {
	a := &access{user: user, http: map[string]*http.Client{}}
	if l == nil {
		return a, nil
	}
	conf, err := config.Load(l.Config)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.Config, err)
	}
	keys, err := keytab.Load(l.Keytab)
	if err != nil {
		return nil, fmt.Errorf("read the keytab %s: %w", l.Keytab, err)
	}
	name, realm, ok := strings.Cut(l.Principal, "@")
	if !ok {
		realm = conf.LibDefaults.DefaultRealm
	}
	// FAST before the first ticket is what Active Directory refuses.
	a.krb = client.NewWithKeytab(name, realm, keys, conf, client.DisablePAFXFAST(true))
	return a, nil
}

// secure says that the cluster asks for proof.
func (a *access) secure() bool { return a.krb != nil }

// as adds to a request's query on whose behalf it is. Without a name YARN takes everybody for dr.who, and hides from a reader
// what is not his.
func (a *access) as(u *url.URL, user string) {
	q := u.Query()
	switch {
	case !a.secure():
		q.Set("user.name", user)
	case user != a.user:
		q.Set("doAs", user)
	}
	u.RawQuery = q.Encode()
}

// do sends a request on behalf of a user. Redirects are the caller's to follow: a standby's points to its own idea of the
// active one's name, which need not be ours.
func (a *access) do(ctx context.Context, method, at, user string, body []byte) (*http.Response, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	a.as(u, user)
	hc := a.client(u.Host)
	for proved := false; ; proved = true {
		req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json, */*;q=0.5") // logs are plain text
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		if proved {
			if err := a.prove(req); err != nil {
				return nil, err
			}
		}
		resp, err := hc.Do(req)
		if err != nil || proved || !a.secure() || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		_ = resp.Body.Close() // the service's cookie is missing, or has expired
	}
}

// prove adds a ticket for the service, of RFC 4559.
func (a *access) prove(req *http.Request) error {
	if err := a.affirm(); err != nil {
		return err
	}
	if err := spnego.SetSPNEGOHeader(a.krb, req, "HTTP/"+req.URL.Hostname()); err != nil {
		return fmt.Errorf("a Kerberos ticket for HTTP/%s: %w", req.URL.Hostname(), err)
	}
	return nil
}

// affirm logs in, if that has not been done or the ticket has expired.
func (a *access) affirm() error {
	if a.krb == nil {
		return nil
	}
	if err := a.krb.AffirmLogin(); err != nil {
		return fmt.Errorf("log in by Kerberos as %s: %w", a.krb.Credentials.UserName(), err)
	}
	return nil
}

// client keeps a service's cookie, if that proves who we are. Elsewhere it would hold the name of whoever asked first.
func (a *access) client(host string) *http.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.http[host]
	if c == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 32 // many applications are followed at once, all by the same few services
		c = &http.Client{Timeout: requestLimit, Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		if a.secure() {
			c.Jar, _ = cookiejar.New(nil) // it fails for no options
		}
		a.http[host] = c
	}
	return c
}

// requestLimit is for one request, its answer included.
const requestLimit = 30 * time.Second

func (a *access) close() {
	if a.krb != nil {
		a.krb.Destroy()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.http {
		c.CloseIdleConnections()
	}
}
