package kube

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/hadoop"
)

// Kerberos is a cluster's HDFS that asks for proof. Drivers have no ticket but a delegation token of their user's, which a
// gateway gets, renews and cancels.
type Kerberos struct {
	Access *hadoop.Access
	Hadoop hadoop.Conf
}

// secured lets JVMs take part by their tokens alone: their Hadoop wants to know a realm, and the address of a KDC that it then
// never asks. A file that says both may include others, which a pod does not have. Who needs real ones names a file of his
// own.
func secured(conf map[string]string, realm string) {
	conf["spark.hadoop.hadoop.security.authentication"] = "kerberos" // executors have no core-site.xml
	for _, key := range []string{"spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions"} {
		if !strings.Contains(conf[key], "-Djava.security.krb5.") {
			conf[key] = strings.TrimSpace(conf[key] + " -Djava.security.krb5.realm=" + realm + " -Djava.security.krb5.kdc=none")
		}
	}
}

// hdfsPatience is for how long a launch waits for an HDFS that is away.
const hdfsPatience = time.Minute

// token gets an application's token, once, as the file that its driver finds; nil where there is none to get.
func (c *Cluster) token(ctx context.Context, a *app, l engines.Launch) ([]byte, error) {
	k := c.opt.Kerberos
	if k == nil {
		return nil, nil
	}
	if file := a.tokenFile(); file != nil {
		return file, nil
	}
	file, err := hadoop.Patiently(ctx, hdfsPatience, func() ([]byte, error) {
		service, t, err := hadoop.DelegationToken(ctx, k.Access, k.Hadoop, cmp.Or(l.User, k.Access.User), k.Access.Principal())
		if err != nil {
			return nil, err
		}
		return hadoop.TokenFile(service, t)
	})
	if err != nil && strings.Contains(err.Error(), "not allowed to impersonate") {
		err = fmt.Errorf("%w: let hadoop.proxyuser.%s.hosts and .groups or .users in the NameNodes' core-site.xml allow it", err, k.Access.User)
	}
	a.setTokenFile(file)
	return file, err
}

func (a *app) tokenFile() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens
}

func (a *app) setTokenFile(file []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = file
}

// keepToken renews an application's token until that has ended, and cancels it then. A gateway that did not start the
// application finds the token in its Secret; several gateways that renew one do no harm.
func (c *Cluster) keepToken(ctx context.Context, a *app) {
	if c.opt.Kerberos == nil {
		return
	}
	good := renewAtFirst // for how long a renewed token is good
	var until time.Time
	for {
		pause := min(max(good/16, time.Second), time.Minute)
		switch to, err := c.renewToken(ctx, a); {
		case err == nil:
			if !to.After(until) {
				c.opt.Log.Warn("a delegation token reaches the end of its life, and its engine loses HDFS then: let engine.max_lifetime be shorter than the NameNode's dfs.namenode.delegation.token.max-lifetime",
					"cluster", c.opt.Name, "application", a.tag, "until", to)
			}
			until, good = to, time.Until(to)
			pause = max(good*3/4, time.Second)
		case invalid(err):
			c.opt.Log.Warn("a delegation token is not good any more, and its engine has lost HDFS: end it", "cluster", c.opt.Name, "application", a.tag, "error", err)
			pause = math.MaxInt64
		case ctx.Err() == nil:
			c.opt.Log.Warn("cannot renew a delegation token; tried again soon", "cluster", c.opt.Name, "application", a.tag, "error", err)
		}
		select {
		case <-time.After(pause):
			continue
		case <-a.ended:
		case <-ctx.Done():
		}
		break
	}
	select {
	case <-a.ended: // perhaps by this gateway, which ends itself, too
		c.cancelToken(a)
	default: // another gateway goes on
	}
}

// renewAtFirst is for how long a token is taken to be good before the NameNode has said so: the shortest that is sensible.
const renewAtFirst = 16 * time.Second

func (c *Cluster) renewToken(ctx context.Context, a *app) (until time.Time, err error) {
	soon, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	file := a.tokenFile()
	if file == nil {
		if file, err = c.storedToken(soon, a); err != nil {
			return until, err
		}
		a.setTokenFile(file)
	}
	t, err := hadoop.ReadTokenFile(file)
	if err != nil {
		return until, err
	}
	return c.ownHDFS().Renew(soon, t)
}

// storedToken is what the Secret of an application has.
func (c *Cluster) storedToken(ctx context.Context, a *app) ([]byte, error) {
	s, err := c.opt.API.GetSecret(ctx, podName(a.tag))
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("its Secret is not there: %w", err)
	}
	if err != nil {
		return nil, explain(err, c.path())
	}
	if len(s.Data[tokenKey]) == 0 {
		return nil, fmt.Errorf("its Secret has no token: it was started when %s.kerberos_principal was not set", c.path())
	}
	return s.Data[tokenKey], nil
}

// ownHDFS is HDFS as ourselves: a token's renewer renews and cancels it.
func (c *Cluster) ownHDFS() *hadoop.WebHDFS {
	k := c.opt.Kerberos
	return &hadoop.WebHDFS{Access: k.Access, Pages: k.Hadoop.NameNodePages, User: k.Access.User}
}

// cancelLimit is for how long an end waits for the NameNode: what is not cancelled expires.
const cancelLimit = 5 * time.Second

// cancelToken ends the token of an application that has ended, or never began.
func (c *Cluster) cancelToken(a *app) {
	file := a.tokenFile()
	if file == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelLimit)
	defer cancel()
	t, err := hadoop.ReadTokenFile(file)
	if err == nil {
		err = c.ownHDFS().Cancel(ctx, t)
	}
	if err != nil && !invalid(err) { // another gateway has done it
		c.opt.Log.Warn("cannot cancel a delegation token; it expires by itself", "cluster", c.opt.Name, "application", a.tag, "error", err)
	}
}

// invalid says that the NameNode does not know a token any more: it has expired, or was cancelled.
func invalid(err error) bool { return strings.Contains(err.Error(), "InvalidToken") }

// useStored takes the token that an earlier request has put into the Secret: the driver has that one.
func (c *Cluster) useStored(ctx context.Context, a *app) error {
	if c.opt.Kerberos == nil {
		return nil
	}
	file, err := patiently(ctx, func(ctx context.Context) ([]byte, error) { return c.storedToken(ctx, a) })
	if err != nil || string(file) == string(a.tokenFile()) {
		return err
	}
	c.cancelToken(a)
	a.setTokenFile(file)
	return nil
}

// checkKerberos gets a token for ourselves, and gives it back.
func (c *Cluster) checkKerberos(ctx context.Context, tell func(string, error)) {
	k := c.opt.Kerberos
	if k == nil {
		return
	}
	err := k.Access.Affirm()
	tell("Kerberos: log in as "+k.Access.Principal(), err)
	if err != nil {
		return
	}
	_, t, err := hadoop.DelegationToken(ctx, k.Access, k.Hadoop, k.Access.User, k.Access.Principal())
	if err == nil {
		err = c.ownHDFS().Cancel(ctx, t)
	}
	tell("a delegation token of "+k.Hadoop.FS, err)
}
