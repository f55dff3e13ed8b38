package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicedata/sluice/router/rules"
)

// Validate returns everything that is wrong with a configuration, each with the path of its key.
func (c Config) Validate() error {
	var errs []error
	wrong := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	for _, k := range keys(c) {
		if v := k.value.String(); k.oneof != nil && !slices.Contains(k.oneof, v) {
			wrong(k.name(), "%q is not one of %s%s", v, strings.Join(k.oneof, ", "), didYouMean(v, k.oneof))
		}
		if d, ok := k.value.Interface().(time.Duration); ok && !durationFits(k.name(), d) {
			wrong(k.name(), "%s is too short", durationText(d))
		}
		if k.value.Kind() == reflect.Int && k.value.Int() < 0 {
			wrong(k.name(), "%d is negative", k.value.Int())
		}
	}
	for _, l := range []struct{ path, address string }{{"listen.thrift", c.Listen.Thrift}, {"listen.http", c.Listen.HTTP}} {
		if err := checkAddress(l.address); err != nil {
			wrong(l.path, "%v", err)
		}
		if c.Auth.Mode == "none" && !c.Auth.OpenToNetwork && !isLoopback(l.address) {
			wrong(l.path, "%s can be reached by others, and auth.mode is none: set auth.mode: file, or listen on 127.0.0.1, or say auth.open_to_network: true if anybody may run anything", l.address)
		}
	}
	if c.DataDir == "" {
		wrong("data_dir", "must not be empty")
	}
	if c.Auth.Mode == "file" && c.Auth.File == "" {
		wrong("auth.file", "must name the password file when auth.mode is file; sluice password USER makes its lines")
	}
	if _, err := c.Auth.ProxyRules(); err != nil {
		errs = append(errs, err)
	}
	c.Audit.validate(wrong)
	c.validateRoute(wrong)
	if c.Secret != "" && len(c.Secret) < 32 {
		wrong("secret", "must have at least 32 characters")
	}
	c.HS2.validate(wrong)
	c.TLS.validate(wrong)
	c.validateProfiles(wrong)
	c.validateStore(wrong)
	if c.Spool.Dir != "" && c.Spool.Dir == c.DataDir {
		wrong("spool.dir", "must be a directory of its own, not data_dir itself")
	}
	if c.Spool.Memory > c.Spool.TotalMemory {
		wrong("spool.memory", "%s is more than spool.total_memory, %s", c.Spool.Memory, c.Spool.TotalMemory)
	}
	if c.Spool.Disk > c.Spool.TotalDisk {
		wrong("spool.disk", "%s is more than spool.total_disk, %s", c.Spool.Disk, c.Spool.TotalDisk)
	}
	for _, name := range c.ClusterNames() {
		c.Clusters[name].validate("clusters."+name, c.Runtimes, wrong)
	}
	errs = append(errs, c.checkRuntimes()...)
	if _, ok := c.Clusters[c.Engine.Cluster]; !ok {
		names := c.ClusterNames()
		wrong("engine.cluster", "there is no cluster %q; clusters are %s%s", c.Engine.Cluster, strings.Join(names, ", "), didYouMean(c.Engine.Cluster, names))
	}
	return errors.Join(errs...)
}

// ClusterNames are the clusters in alphabetical order, which is that of the router.
func (c Config) ClusterNames() []string { return slices.Sorted(maps.Keys(c.Clusters)) }

// validateRoute reads the rules as the gateway will.
func (c Config) validateRoute(wrong complaint) {
	if c.Route.RecordSize < 1<<20 {
		wrong("route.record_size", "%s is less than 1MiB", c.Route.RecordSize)
	}
	if c.Route.File == "" {
		return
	}
	if _, err := rules.LoadFile(c.Route.File, c.ClusterNames()); err != nil {
		wrong("route.file", "%v", err)
	}
}

// complaint takes what is wrong with a key.
type complaint func(path, format string, args ...any)

func (c Config) validateProfiles(wrong complaint) {
	for name, p := range c.Profiles {
		if _, ok := c.Clusters[p.Cluster]; !ok && p.Cluster != "" {
			wrong("profiles."+name+".cluster", "there is no cluster %q", p.Cluster)
		}
		level := p.ShareLevel
		if level == "" {
			level = c.Engine.ShareLevel
		}
		if p.Warm && level == "connection" {
			wrong("profiles."+name+".warm", "engines of one connection cannot be kept warm: nobody else can have them; set profiles.%s.share_level", name)
		}
		if p.Warm && (level == "user" || level == "group") && p.WarmFor == "" {
			wrong("profiles."+name+".warm_for", "must say whose engines are kept warm, because they belong to a %s; or set share_level: server", level)
		}
	}
}

func (c Cluster) validate(path string, runtimes map[string]Runtime, wrong complaint) {
	switch c.Kind {
	case "yarn":
		c.YARN.validate(path+".yarn", runtimes, wrong)
	case "kubernetes":
		c.Kubernetes.validate(path+".kubernetes", runtimes, wrong)
	}
	c.Shuffle.validate(path+".shuffle", c.Kind, runtimes, wrong)
}

func (k Kubernetes) validate(path string, runtimes map[string]Runtime, wrong complaint) {
	if k.Image == "" {
		wrong(path+".image", "must name an image of Spark, such as apache/spark:4.0.1-java17-python3")
	}
	for name := range k.Images {
		if _, ok := runtimes[name]; !ok {
			wrong(path+".images."+name, "there is no runtime of that name; add it to runtimes")
		}
	}
	if k.MaxExecutors > 0 && k.MinExecutors > k.MaxExecutors {
		wrong(path+".min_executors", "%d is more than max_executors, %d", k.MinExecutors, k.MaxExecutors)
	}
	if k.FilesURL != "" && !strings.HasPrefix(k.FilesURL, "http://") && !strings.HasPrefix(k.FilesURL, "https://") {
		wrong(path+".files_url", "%q must begin with http:// or https://", k.FilesURL)
	}
	if (k.Principal == "") != (k.Keytab == "") {
		wrong(path+".kerberos_principal", "and kerberos_keytab must be given together")
	}
	if k.Principal != "" && k.HadoopConf == "" {
		wrong(path+".hadoop_conf", "must name the directory of core-site.xml and hdfs-site.xml, which say where tokens come from")
	}
}

func (y YARN) validate(path string, runtimes map[string]Runtime, wrong complaint) {
	if y.HadoopConf == "" {
		wrong(path+".hadoop_conf", "must name the directory of the cluster's core-site.xml, hdfs-site.xml and yarn-site.xml")
	}
	for _, at := range strings.Split(y.ResourceManagers, ",") {
		if at = strings.TrimSpace(at); y.ResourceManagers != "" && !strings.HasPrefix(at, "http://") && !strings.HasPrefix(at, "https://") {
			wrong(path+".resource_managers", "%q must begin with http:// or https://", at)
		}
	}
	if y.SharedDir != "" && !strings.HasPrefix(y.SharedDir, "/") {
		wrong(path+".shared_dir", "%q must be a path on HDFS that begins with /", y.SharedDir)
	}
	if (y.Principal == "") != (y.Keytab == "") {
		wrong(path+".kerberos_principal", "and kerberos_keytab must be given together")
	}
	for name, uri := range y.Archives {
		if _, ok := runtimes[name]; !ok && name != DefaultRuntime {
			wrong(path+".archives."+name, "there is no runtime of that name; use one of runtimes, or %s", DefaultRuntime)
		}
		if !strings.HasPrefix(uri, "hdfs://") || !strings.HasSuffix(uri, ".zip") {
			wrong(path+".archives."+name, "%q must be hdfs://… and end in .zip", uri)
		}
	}
}

// DefaultRuntime is how archives name the Spark of those who name none.
const DefaultRuntime = "default"

func (h HS2) validate(wrong complaint) {
	if h.MaxConnections < 1 {
		wrong("hs2.max_connections", "must be at least 1")
	}
	if h.MaxMessageSize < 1<<20 || h.MaxMessageSize > 1<<30 {
		wrong("hs2.max_message_size", "%s is not between 1MiB and 1GiB", h.MaxMessageSize)
	}
	if h.FetchBytes < 64<<10 || h.FetchBytes > h.MaxMessageSize {
		wrong("hs2.fetch_bytes", "%s is not between 64KiB and hs2.max_message_size", h.FetchBytes)
	}
	if strings.ContainsAny(h.HTTPPath, ":*?# ") || slices.Contains([]string{"healthz", "readyz", "metrics", "sql", "debug"}, strings.Trim(h.HTTPPath, "/")) {
		wrong("hs2.http_path", "%q is no path of its own, like cliservice or gateway/default/hive", h.HTTPPath)
	}
}

func (t TLS) validate(wrong complaint) {
	switch {
	case t.Cert != "" && t.Key == "":
		wrong("tls.key", "must name the key of tls.cert")
	case t.Cert == "" && t.Key != "":
		wrong("tls.cert", "must name the certificate of tls.key")
	case t.Cert == "" && t.ClientCA != "":
		wrong("tls.cert", "must be set when tls.client_ca is: without TLS clients show no certificate")
	}
}

func (c Config) validateStore(wrong complaint) {
	if c.Store.URL != "" && !strings.HasPrefix(c.Store.URL, "postgres://") && !strings.HasPrefix(c.Store.URL, "postgresql://") {
		wrong("store.url", "must begin with postgres://; leave it empty for an SQLite file in data_dir")
	}
	if c.Store.URL != "" && c.Secret == "" {
		wrong("secret", "must be set, and be the same on every gateway that shares store.url: engine tokens are derived from it")
	}
}

func (a Audit) validate(wrong complaint) {
	if a.FileSize < 1<<20 {
		wrong("audit.file_size", "%s is less than 1MiB", a.FileSize)
	}
	if a.MaxStatement > a.FileSize/8 { // JSON writes some signs with six
		wrong("audit.max_statement", "%s is more than an eighth of audit.file_size, %s: a record must fit into a file", a.MaxStatement, a.FileSize)
	}
	if a.Buffer < 1<<20 {
		wrong("audit.buffer", "%s is less than 1MiB", a.Buffer)
	}
}

// durationFits: what may be zero means "none"; the others drive timers.
func durationFits(path string, d time.Duration) bool {
	switch path {
	case "session.query_timeout", "hs2.disconnect_grace", "hs2.http_cookie_age", "shutdown_grace", "engine.max_lifetime", "engine.drain_timeout":
		return d >= 0
	case "engine.lease", "store.replica_timeout":
		return d >= 3*time.Second
	}
	return d >= time.Millisecond
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no host:port", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	if host == "" {
		return fmt.Errorf("%q names no host; write 127.0.0.1%s for this machine alone, 0.0.0.0%s for all", address, address, address)
	}
	return nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // said elsewhere
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
