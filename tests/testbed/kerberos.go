package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/spnego"
)

const realm = "SLUICE.TEST"

// principals are what the KDC knows. Those with a host are the daemons' own, and the gateway's.
func (h *Hadoop) principals() []string {
	at := "/" + h.name()
	return []string{"nn" + at, "dn" + at, "rm" + at, "nm" + at, "HTTP" + at, "sluice" + at, "ann", "bob"}
}

// NeedKDC skips a test on a machine that has no KDC and cannot install Debian's.
func NeedKDC(t *testing.T) {
	t.Helper()
	if err := InstallKDC(); err != nil {
		Skip(t, fmt.Sprintf("a KDC is missing, and cannot be installed: %v", err))
	}
}

// InstallKDC installs Debian's KDC, if there is none. It starts nothing.
func InstallKDC() error {
	for _, name := range []string{"krb5kdc", "kdb5_util", "kadmin.local"} {
		if _, err := kdcTool(name); err == nil {
			continue
		}
		for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "krb5-kdc", "krb5-admin-server"}} {
			// Without a runlevel the packages do not start servers of their own.
			args = append([]string{"RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get"}, args...)
			if err := run("env", args...); err != nil {
				return err
			}
		}
		if _, err := kdcTool(name); err != nil {
			return err
		}
	}
	return nil
}

// kdcTool finds a command where Debian puts it, which only root has in its path.
func kdcTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	return path, err
}

// startKDC starts a KDC of the cluster's own and writes the keytabs.
func (h *Hadoop) startKDC() {
	h.t.Helper()
	if err := InstallKDC(); err != nil {
		h.t.Fatalf("a KDC is missing, and cannot be installed: %v", err)
	}
	dir, address := filepath.Join(h.Dir, "kdc"), FreeAddress(h.t)
	h.Krb5Conf = filepath.Join(h.Dir, "krb5.conf")
	writeFile(h.t, h.Dir, "krb5.conf", fmt.Sprintf("[libdefaults]\n default_realm = %[1]s\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"+
		" rdns = false\n dns_canonicalize_hostname = false\n udp_preference_limit = 1\n[realms]\n %[1]s = {\n  kdc = %[2]s\n }\n[domain_realm]\n %[3]s = %[1]s\n", realm, address, h.name()))
	writeFile(h.t, dir, "kdc.conf", fmt.Sprintf("[kdcdefaults]\n kdc_listen = %[2]s\n kdc_tcp_listen = %[2]s\n[realms]\n %[1]s = {\n"+
		"  database_name = %[3]s/principal\n  key_stash_file = %[3]s/stash\n  max_renewable_life = 7d\n }\n", realm, address, dir))
	writeFile(h.t, dir, "http-secret", "cookies are signed with this")
	if err := os.MkdirAll(filepath.Join(h.Dir, "keytabs"), 0o755); err != nil {
		h.t.Fatalf("%v", err)
	}

	h.kdcCommand("", "kdb5_util", "create", "-s", "-r", realm, "-P", "testbed")
	var script strings.Builder
	for _, p := range h.principals() {
		name, _, _ := strings.Cut(p, "/")
		fmt.Fprintf(&script, "addprinc -randkey %s\nktadd -k %s %s\n", p, h.Keytab(name), p)
	}
	said := h.kdcCommand(script.String(), "kadmin.local")
	for _, p := range h.principals() {
		name, _, _ := strings.Cut(p, "/")
		if _, err := os.Stat(h.Keytab(name)); err != nil {
			h.t.Fatalf("%v: %s", err, said)
		}
	}

	// The path of the file is there for whoever looks for processes of the cluster.
	cmd, log := h.kdcTool("krb5kdc", "-n", "-P", filepath.Join(dir, "pid")), &Log{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("start the KDC: %v", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	Until(h.t, 30*time.Second, "the KDC answers", func() bool {
		select {
		case <-ended:
			h.t.Fatalf("the KDC ended: %s", log.String())
		default:
		}
		c := h.kerberos("nn")
		defer c.Destroy()
		return c.Login() == nil
	})
}

func (h *Hadoop) kdcTool(name string, args ...string) *exec.Cmd {
	h.t.Helper()
	path, err := kdcTool(name)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "KRB5_CONFIG=" + h.Krb5Conf, "KRB5_KDC_PROFILE=" + filepath.Join(h.Dir, "kdc", "kdc.conf")}
	return cmd
}

func (h *Hadoop) kdcCommand(in, name string, args ...string) string {
	h.t.Helper()
	cmd := h.kdcTool(name, args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// Keytab is the file with the key of a principal: ann, bob, or the first part of one with a host, such as sluice.
func (h *Hadoop) Keytab(name string) string { return filepath.Join(h.Dir, "keytabs", name+".keytab") }

// Principal is what the KDC calls a user or a daemon, without the realm.
func (h *Hadoop) Principal(name string) string {
	h.t.Helper()
	for _, p := range h.principals() {
		if short, _, _ := strings.Cut(p, "/"); short == name {
			return p
		}
	}
	h.t.Fatalf("the KDC does not know %s", name)
	return ""
}

// kerberos is a client that can log in as a principal.
func (h *Hadoop) kerberos(name string) *client.Client {
	h.t.Helper()
	conf, err := config.Load(h.Krb5Conf)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	keys, err := keytab.Load(h.Keytab(name))
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	return client.NewWithKeytab(h.Principal(name), realm, keys, conf, client.DisablePAFXFAST(true))
}

// login is a principal that has logged in. It is logged out when the cluster ends.
func (h *Hadoop) login(name string) *client.Client {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.logins[name]; c != nil {
		return c
	}
	c := h.kerberos(name)
	if err := c.Login(); err != nil {
		h.t.Fatalf("log in as %s: %v", name, err)
	}
	h.t.Cleanup(c.Destroy)
	if h.logins == nil {
		h.logins = map[string]*client.Client{}
	}
	h.logins[name] = c
	return c
}

// HTTP is a client of the daemons' web services that acts as a user: by the user's keytab where the cluster wants Kerberos, and
// otherwise by user.name in the query.
func (h *Hadoop) HTTP(name string) *http.Client {
	h.t.Helper()
	as := &asUser{name: name}
	if h.Krb5Conf != "" {
		as.login = h.login(name)
	}
	return &http.Client{Transport: as}
}

type asUser struct {
	name  string
	login *client.Client
}

// RoundTrip implements http.RoundTripper. Every request proves anew who sends it: the cookie that a daemon sets names no
// port, so that those of two daemons on one host would be mixed up.
func (a *asUser) RoundTrip(req *http.Request) (*http.Response, error) {
	body := req.Body
	req = req.Clone(req.Context())
	if a.login == nil {
		query := req.URL.Query()
		query.Set("user.name", a.name)
		req.URL.RawQuery = query.Encode()
	} else if err := spnego.SetSPNEGOHeader(a.login, req, "HTTP/"+req.URL.Hostname()); err != nil {
		if body != nil {
			_ = body.Close()
		}
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(req)
}

// secure adds what a cluster with Kerberos needs, for its clients or its servers.
func (h *Hadoop) secure(core, dfs, yarn site, server bool) {
	if h.Krb5Conf == "" {
		return
	}
	id := func(name string) string { return name + "/" + h.name() + "@" + realm }
	if !server {
		core["hadoop.security.authentication"] = "kerberos"
		core["hadoop.security.authorization"] = "true"
		core["hadoop.rpc.protection"] = "authentication"
		core["hadoop.user.group.static.mapping.overrides"] += ";nn=nn;dn=dn;rm=rm;nm=nm"
		dfs["dfs.block.access.token.enable"] = "true"
		dfs["dfs.namenode.kerberos.principal"] = id("nn")
		dfs["dfs.datanode.kerberos.principal"] = id("dn")
		yarn["yarn.resourcemanager.principal"] = id("rm")
		yarn["yarn.nodemanager.principal"] = id("nm")
		return
	}
	core["hadoop.http.authentication.type"] = "kerberos"
	core["hadoop.http.filter.initializers"] = "org.apache.hadoop.security.AuthenticationFilterInitializer"
	core["hadoop.http.authentication.kerberos.principal"] = id("HTTP")
	core["hadoop.http.authentication.kerberos.keytab"] = h.Keytab("HTTP")
	core["hadoop.http.authentication.signature.secret.file"] = filepath.Join(h.Dir, "kdc", "http-secret")
	dfs["dfs.namenode.keytab.file"] = h.Keytab("nn")
	dfs["dfs.datanode.keytab.file"] = h.Keytab("dn")
	dfs["dfs.web.authentication.kerberos.principal"] = id("HTTP")
	dfs["dfs.web.authentication.kerberos.keytab"] = h.Keytab("HTTP")
	dfs["ignore.secure.ports.for.testing"] = "true" // otherwise the DataNode wants ports below 1024
	yarn["yarn.resourcemanager.keytab"] = h.Keytab("rm")
	yarn["yarn.nodemanager.keytab"] = h.Keytab("nm")
	for _, part := range []string{"resourcemanager", "nodemanager"} {
		yarn["yarn."+part+".webapp.spnego-principal"] = id("HTTP")
		yarn["yarn."+part+".webapp.spnego-keytab-file"] = h.Keytab("HTTP")
	}
}
