package hadoop

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

// Short is the user of the principal; nobody has none.
func (l *Login) Short() string {
	if l == nil {
		return ""
	}
	name, _, _ := strings.Cut(l.Principal, "@")
	name, _, _ = strings.Cut(name, "/")
	return name
}

// Access says to Hadoop's services who asks. A cluster without Kerberos believes every name. One with it believes us, and
// lets us act for users if its hadoop.proxyuser settings say so.
type Access struct {
	User string         // our name there
	Krb  *client.Client // nil without Kerberos

	mu   sync.Mutex
	http map[string]*http.Client // by host and port: two services of a host both keep their cookie under one name
}

// NewAccess reads who we are; without a Login that is a mere name. It asks nothing yet.
func NewAccess(user string, l *Login) (*Access, error) {
	a := &Access{User: user, http: map[string]*http.Client{}}
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
	a.Krb = client.NewWithKeytab(name, realm, keys, conf, client.DisablePAFXFAST(true))
	return a, nil
}

// Principal is our full name, as Kerberos has it.
func (a *Access) Principal() string {
	return a.Krb.Credentials.UserName() + "@" + a.Realm()
}

// Realm is whose realm we are of.
func (a *Access) Realm() string { return a.Krb.Credentials.Realm() }

// Secure says that the cluster asks for proof.
func (a *Access) Secure() bool { return a.Krb != nil }

// as adds to a request's query on whose behalf it is. Without a name YARN takes everybody for dr.who, and hides from a reader
// what is not his.
func (a *Access) as(u *url.URL, user string) {
	q := u.Query()
	switch {
	case !a.Secure():
		q.Set("user.name", user)
	case user != a.User:
		q.Set("doAs", user)
	}
	u.RawQuery = q.Encode()
}

// Do sends a request on behalf of a user. Redirects are the caller's to follow: a standby's points to its own idea of the
// active one's name, which need not be ours.
func (a *Access) Do(ctx context.Context, method, at, user string, body []byte) (*http.Response, error) {
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
		if err != nil || proved || !a.Secure() || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		_ = resp.Body.Close() // the service's cookie is missing, or has expired
	}
}

// prove adds a ticket for the service, of RFC 4559.
func (a *Access) prove(req *http.Request) error {
	if err := a.Affirm(); err != nil {
		return err
	}
	if err := spnego.SetSPNEGOHeader(a.Krb, req, "HTTP/"+req.URL.Hostname()); err != nil {
		return fmt.Errorf("a Kerberos ticket for HTTP/%s: %w", req.URL.Hostname(), err)
	}
	return nil
}

// Affirm logs in, if that has not been done or the ticket has expired.
func (a *Access) Affirm() error {
	if a.Krb == nil {
		return nil
	}
	if err := a.Krb.AffirmLogin(); err != nil {
		return fmt.Errorf("log in by Kerberos as %s: %w", a.Krb.Credentials.UserName(), err)
	}
	return nil
}

// client keeps a service's cookie, if that proves who we are. Elsewhere it would hold the name of whoever asked first.
func (a *Access) client(host string) *http.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.http[host]
	if c == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 32 // many applications are followed at once, all by the same few services
		c = &http.Client{Timeout: requestLimit, Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		if a.Secure() {
			c.Jar, _ = cookiejar.New(nil) // it fails for no options
		}
		a.http[host] = c
	}
	return c
}

// requestLimit is for one request, its answer included.
const requestLimit = 30 * time.Second

// Close ends what is open.
func (a *Access) Close() {
	if a.Krb != nil {
		a.Krb.Destroy()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.http {
		c.CloseIdleConnections()
	}
}
