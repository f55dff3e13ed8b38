package yarn

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Hadoop is what a directory of Hadoop's client configuration says of a cluster.
type Hadoop struct {
	Files            map[string]string // core-site.xml, hdfs-site.xml, yarn-site.xml, as far as they are there
	Conf             map[string]string // all their properties
	ResourceManagers []string          // http://host:port or https://host:port
	NameNodes        []string          // host:port
	NameNodePages    []string          // http://host:port or https://host:port of their web pages
	FS               string            // hdfs://…, the default file system
}

// ReadHadoop reads the files that drivers and executors get, too.
func ReadHadoop(dir string) (Hadoop, error) {
	conf := map[string]string{}
	h := Hadoop{Files: map[string]string{}, Conf: conf}
	for _, name := range []string{"core-site.xml", "hdfs-site.xml", "yarn-site.xml"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return h, err
		}
		var site struct {
			Property []struct {
				Name  string `xml:"name"`
				Value string `xml:"value"`
			} `xml:"property"`
		}
		if err := xml.Unmarshal(data, &site); err != nil {
			return h, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		for _, p := range site.Property {
			conf[strings.TrimSpace(p.Name)] = strings.TrimSpace(p.Value)
		}
		h.Files[name] = string(data)
	}
	h.ResourceManagers = resourceManagers(conf)
	h.FS = strings.TrimSuffix(conf["fs.defaultFS"], "/")
	h.NameNodes, h.NameNodePages = nameNodes(conf)
	switch {
	case len(h.Files) == 0:
		return h, fmt.Errorf("%s: there is no core-site.xml, hdfs-site.xml or yarn-site.xml", dir)
	case !strings.HasPrefix(h.FS, "hdfs://"):
		return h, fmt.Errorf("%s: fs.defaultFS is %q; it must be an hdfs:// address", dir, h.FS)
	case len(h.ResourceManagers) == 0:
		return h, fmt.Errorf("%s: yarn-site.xml names no ResourceManager (yarn.resourcemanager.webapp.address or yarn.resourcemanager.hostname)", dir)
	}
	return h, nil
}

// resourceManagers finds the web addresses, by Hadoop's rules: of each id with high availability, and by host name where no
// address is said.
func resourceManagers(conf map[string]string) []string {
	ids := []string{""}
	if conf["yarn.resourcemanager.ha.enabled"] == "true" {
		ids = nil
		for _, id := range strings.Split(conf["yarn.resourcemanager.ha.rm-ids"], ",") {
			ids = append(ids, "."+strings.TrimSpace(id))
		}
	}
	scheme, key, port := "http://", "yarn.resourcemanager.webapp.address", "8088"
	if conf["yarn.http.policy"] == "HTTPS_ONLY" {
		scheme, key, port = "https://", "yarn.resourcemanager.webapp.https.address", "8090"
	}
	var out []string
	for _, id := range ids {
		host := conf["yarn.resourcemanager.hostname"+id]
		at := strings.ReplaceAll(conf[key+id], "${yarn.resourcemanager.hostname}", host)
		if at == "" && host != "" {
			at = net.JoinHostPort(host, port)
		}
		if at != "" {
			out = append(out, scheme+at)
		}
	}
	return out
}

// nameNodes finds the NameNodes of the default file system, one or those of its name service, and their pages.
func nameNodes(conf map[string]string) (rpc, pages []string) {
	u, err := url.Parse(conf["fs.defaultFS"])
	if err != nil || u.Host == "" {
		return nil, nil
	}
	scheme, key, port := "http://", "dfs.namenode.http-address", "9870"
	if conf["dfs.http.policy"] == "HTTPS_ONLY" {
		scheme, key, port = "https://", "dfs.namenode.https-address", "9871"
	}
	page := func(suffix, host string) {
		at := conf[key+suffix]
		if named, p, err := net.SplitHostPort(at); err == nil && (named == "" || named == "0.0.0.0") {
			at = net.JoinHostPort(host, p) // it listens on every address of its host
		}
		pages = append(pages, scheme+cmp.Or(at, net.JoinHostPort(host, port)))
	}
	ids := conf["dfs.ha.namenodes."+u.Host]
	if ids == "" {
		at := u.Host
		if u.Port() == "" {
			at = net.JoinHostPort(u.Host, "8020")
		}
		page("", u.Hostname())
		return []string{at}, pages
	}
	for _, id := range strings.Split(ids, ",") {
		suffix := "." + u.Host + "." + strings.TrimSpace(id)
		if at := conf["dfs.namenode.rpc-address"+suffix]; at != "" {
			host, _, _ := net.SplitHostPort(at)
			rpc = append(rpc, at)
			page(suffix, host)
		}
	}
	return rpc, pages
}

// Secure says that the cluster asks everybody for a Kerberos ticket.
func (h Hadoop) Secure() bool { return h.Conf["hadoop.security.authentication"] == "kerberos" }

// scheme is how YARN's pages are reached.
func (h Hadoop) scheme() string {
	if h.Conf["yarn.http.policy"] == "HTTPS_ONLY" {
		return "https"
	}
	return "http"
}

// renewer is who may renew a delegation token: the ResourceManagers.
func (h Hadoop) renewer() string {
	p := h.Conf["yarn.resourcemanager.principal"]
	if len(h.ResourceManagers) > 0 {
		if u, err := url.Parse(h.ResourceManagers[0]); err == nil {
			p = strings.ReplaceAll(p, "_HOST", u.Hostname())
		}
	}
	return p
}

// tokenService is what a delegation token for the default file system is filed under: a name service, or a NameNode's address,
// as a number, which is how a driver looks for it.
func (h Hadoop) tokenService(ctx context.Context) (string, error) {
	u, err := url.Parse(h.FS)
	if err != nil {
		return "", err
	}
	if h.Conf["dfs.ha.namenodes."+u.Host] != "" {
		return "ha-hdfs:" + u.Host, nil
	}
	host, port, err := net.SplitHostPort(h.NameNodes[0])
	if err != nil || h.Conf["hadoop.security.token.service.use_ip"] == "false" {
		return h.NameNodes[0], err
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ips[0].String(), port), nil
}
