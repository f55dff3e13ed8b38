package yarn

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/sluicedata/sluice/engines/hadoop"
)

// Hadoop is a YARN cluster as its client configuration describes it.
type Hadoop struct {
	hadoop.Conf
	ResourceManagers []string // http://host:port or https://host:port
}

// ReadHadoop reads a directory of Hadoop's client configuration.
func ReadHadoop(dir string) (h Hadoop, err error) {
	if h.Conf, err = hadoop.ReadConf(dir); err != nil {
		return h, err
	}
	if err := h.NeedHDFS(dir); err != nil {
		return h, err
	}
	if h.ResourceManagers = resourceManagers(h.Values); len(h.ResourceManagers) == 0 {
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

// scheme is how YARN's pages are reached.
func (h Hadoop) scheme() string {
	if h.Values["yarn.http.policy"] == "HTTPS_ONLY" {
		return "https"
	}
	return "http"
}

// renewer is who may renew a delegation token: the ResourceManagers.
func (h Hadoop) renewer() string {
	p := h.Values["yarn.resourcemanager.principal"]
	if len(h.ResourceManagers) > 0 {
		if u, err := url.Parse(h.ResourceManagers[0]); err == nil {
			p = strings.ReplaceAll(p, "_HOST", u.Hostname())
		}
	}
	return p
}
