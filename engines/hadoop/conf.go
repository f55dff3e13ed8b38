// Package hadoop is what every cluster needs that works beside a Hadoop: its client configuration, Kerberos, WebHDFS, and delegation
// tokens of HDFS.
package hadoop

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

// Conf is what a directory of Hadoop's client configuration says.
type Conf struct {
	Files         map[string]string // the texts of those of files that are there, by their names
	Values        map[string]string // all their properties
	NameNodes     []string          // host:port
	NameNodePages []string          // http://host:port or https://host:port of their web pages
	FS            string            // hdfs://…, or whatever the default file system is
}

// files are those that clients read.
var files = []string{"core-site.xml", "hdfs-site.xml", "yarn-site.xml", "hive-site.xml"}

// ReadConf reads the files that drivers and executors get, too. A directory need not have all of them.
func ReadConf(dir string) (Conf, error) {
	c := Conf{Files: map[string]string{}, Values: map[string]string{}}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return c, err
		}
		var site struct {
			Property []struct {
				Name  string `xml:"name"`
				Value string `xml:"value"`
			} `xml:"property"`
		}
		if err := xml.Unmarshal(data, &site); err != nil {
			return c, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		for _, p := range site.Property {
			c.Values[strings.TrimSpace(p.Name)] = strings.TrimSpace(p.Value)
		}
		c.Files[name] = string(data)
	}
	if len(c.Files) == 0 {
		return c, fmt.Errorf("%s: there is no core-site.xml, hdfs-site.xml, yarn-site.xml or hive-site.xml", dir)
	}
	c.FS = strings.TrimSuffix(c.Values["fs.defaultFS"], "/")
	c.NameNodes, c.NameNodePages = nameNodes(c.Values)
	return c, nil
}

// NeedHDFS says that the default file system is no HDFS; dir is where the configuration lies.
func (c Conf) NeedHDFS(dir string) error {
	if strings.HasPrefix(c.FS, "hdfs://") {
		return nil
	}
	return fmt.Errorf("%s: fs.defaultFS is %q; it must be an hdfs:// address", dir, c.FS)
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
func (c Conf) Secure() bool { return c.Values["hadoop.security.authentication"] == "kerberos" }

// TokenService is what a delegation token for the default file system is filed under: a name service, or a NameNode's address,
// as a number, which is how a driver looks for it.
func (c Conf) TokenService(ctx context.Context) (string, error) {
	u, err := url.Parse(c.FS)
	if err != nil {
		return "", err
	}
	if c.Values["dfs.ha.namenodes."+u.Host] != "" {
		return "ha-hdfs:" + u.Host, nil
	}
	host, port, err := net.SplitHostPort(c.NameNodes[0])
	if err != nil || c.Values["hadoop.security.token.service.use_ip"] == "false" {
		return c.NameNodes[0], err
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ips[0].String(), port), nil
}
