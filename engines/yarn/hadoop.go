package yarn

import (
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
	ResourceManagers []string          // http://host:port or https://host:port
	NameNodes        []string          // host:port
	FS               string            // hdfs://…, the default file system
}

// ReadHadoop reads the files that drivers and executors get, too.
func ReadHadoop(dir string) (Hadoop, error) {
	h := Hadoop{Files: map[string]string{}}
	conf := map[string]string{}
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
	h.NameNodes = nameNodes(conf)
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

// nameNodes finds the NameNodes of the default file system: one, or those of its name service.
func nameNodes(conf map[string]string) []string {
	u, err := url.Parse(conf["fs.defaultFS"])
	if err != nil || u.Host == "" {
		return nil
	}
	ids := conf["dfs.ha.namenodes."+u.Host]
	if ids == "" {
		if u.Port() == "" {
			return []string{net.JoinHostPort(u.Host, "8020")}
		}
		return []string{u.Host}
	}
	var out []string
	for _, id := range strings.Split(ids, ",") {
		if at := conf["dfs.namenode.rpc-address."+u.Host+"."+strings.TrimSpace(id)]; at != "" {
			out = append(out, at)
		}
	}
	return out
}
