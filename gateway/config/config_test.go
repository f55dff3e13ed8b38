package config

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// write makes a configuration file and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// load reads a configuration that must be right and warn of nothing.
func load(t *testing.T, text string, environ ...string) Config {
	t.Helper()
	cfg, warnings, err := Load(write(t, text), environ)
	require.NoError(t, err)
	require.Empty(t, warnings)
	return cfg
}

func TestDefaultsAreValid(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	t.Setenv("XDG_DATA_HOME", "")
	cfg, warnings, err := Load("", nil)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.NoError(t, cfg.Validate())
	want := Default()
	want.DataDir = "/home/ann/.local/share/sluice" // paths are made absolute, everything else stays
	require.Equal(t, want, cfg)
}

func TestDataDirFollowsXDG(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	cfg, _, err := Load("", nil)
	require.NoError(t, err)
	require.Equal(t, "/data/sluice", cfg.DataDir)
}

func TestFileOverDefaultsAndEnvironmentOverFile(t *testing.T) {
	cfg := load(t, `
listen:
  thrift: 127.0.0.1:1
  http: 127.0.0.1:2
hs2:
  sasl: false
  poll_timeout: 90s
spool: {memory: 1MiB, disk: 2g}
session:
  log_lines: 7
`, "SLUICE_LISTEN_HTTP=127.0.0.1:3", "SLUICE_HS2_SASL=true", "SLUICE_SPOOL_DISK=3GiB", "SLUICE_SHUTDOWN_GRACE=1m", "PATH=/bin", "SLUICE_CONFIG=x.yaml")
	require.Equal(t, Listen{Thrift: "127.0.0.1:1", HTTP: "127.0.0.1:3"}, cfg.Listen)
	require.True(t, cfg.HS2.SASL)
	require.Equal(t, 90*time.Second, cfg.HS2.PollTimeout)
	require.Equal(t, Default().HS2.FetchBytes, cfg.HS2.FetchBytes, "beside keys that are set, the others keep their defaults")
	require.Equal(t, Spool{Memory: 1 << 20, Disk: 3 << 30, TotalMemory: Default().Spool.TotalMemory, TotalDisk: Default().Spool.TotalDisk}, cfg.Spool)
	require.Equal(t, 7, cfg.Session.LogLines)
	require.Equal(t, time.Minute, cfg.ShutdownGrace)
}

func TestFileThatSaysNothing(t *testing.T) {
	want, _, err := Load("", nil)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"empty":           "",
		"a comment":       "# nothing\n",
		"empty section":   "listen:\nclusters:\nengine:\n  conf:\n",
		"empty cluster":   "clusters:\n  local:\n",
		"key, no value":   "data_dir:\nspark:\n  home:\n  version:\nsession:\n  log_lines:\n",
		"null, in words":  "data_dir: null\nauth:\n  file: null\n",
		"null, as a sign": "data_dir: ~\nspark:\n  java_home: ~\n",
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, want, load(t, text)) })
	}
}

func TestMissingFile(t *testing.T) {
	_, _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "none.yaml")
}

// Spark's keys have dots, and some slashes; neither may be taken for the path of a key of ours.
func TestSettingsOfSparkKeepTheirKeys(t *testing.T) {
	cfg := load(t, `
engine:
  conf:
    spark.sql.shuffle.partitions: 4
    spark.sql.catalog.ice: org.example.Catalog
    spark.sql.catalog.ice.type: hadoop
    spark.hadoop.a/b: "1"
    spark.on: true
`)
	require.Equal(t, map[string]string{
		"spark.sql.shuffle.partitions": "4", "spark.sql.catalog.ice": "org.example.Catalog", "spark.sql.catalog.ice.type": "hadoop",
		"spark.hadoop.a/b": "1", "spark.on": "true",
	}, cfg.Engine.Conf)
}

// engine.conf is one key: like any other, the environment gives it a new value and does not add to the file's.
func TestSettingsOfSparkFromTheEnvironment(t *testing.T) {
	cfg := load(t, "engine: {conf: {spark.a.b: 1}}\n", "SLUICE_ENGINE_CONF=spark.sql.shuffle.partitions=8, spark.opts=-Da=b ,")
	require.Equal(t, map[string]string{"spark.sql.shuffle.partitions": "8", "spark.opts": "-Da=b"}, cfg.Engine.Conf)
}

func TestClusters(t *testing.T) {
	cfg := load(t, `
clusters:
  local: {cores: 2}
  big-one: {kind: local, cores: 16}
engine:
  cluster: big-one
`, "SLUICE_CLUSTERS_LOCAL_CORES=3", "SLUICE_CLUSTERS_BIG_ONE_CORES=32")
	require.Equal(t, map[string]Cluster{"local": localWith(3), "big-one": localWith(32)}, cfg.Clusters)
	require.NoError(t, cfg.Validate())

	require.Equal(t, map[string]Cluster{"local": localWith(4)}, load(t, "", "SLUICE_CLUSTERS_LOCAL_CORES=4").Clusters)
}

func TestRuntimes(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	cfg := load(t, `
runtimes:
  old: {version: 3.5.7, java_home: ~/jdk}
  "3.5": {home: /opt/spark, version: 3.5.2-vendor-1}
clusters:
  local: {closed_network: true}
`, "SLUICE_RUNTIMES_OLD_VERSION=3.5.6")
	require.Equal(t, map[string]Runtime{
		"old": {Version: "3.5.6", JavaHome: "/home/ann/jdk"}, "3.5": {Home: "/opt/spark", Version: "3.5.2-vendor-1"},
	}, cfg.Runtimes)
	require.NoError(t, cfg.Validate())
}

// Which Spark a home holds is seen when it is used; that it may be refused then is told at once.
func TestARuntimeOfUnknownVersionIsWarnedOf(t *testing.T) {
	open := "runtimes: {mine: {home: /opt/spark}}\n"
	cfg, warnings, err := Load(write(t, open), nil)
	require.NoError(t, err)
	require.NoError(t, cfg.Validate())
	require.Equal(t, []Warning{{"runtimes.mine: says no version, and if /opt/spark holds a Spark before 4.0 it runs only on a cluster with closed_network: true; say runtimes.mine.version to have it checked"}}, warnings)
	load(t, open+"clusters: {local: {closed_network: true}}\n")
	load(t, "runtimes: {mine: {home: /opt/spark, version: 4.1.0}}\n")
}

func TestPathsBecomeAbsolute(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	here, err := os.Getwd()
	require.NoError(t, err)
	cfg := load(t, "data_dir: ~/d\nauth: {file: users}\nspark: {home: /opt/spark}\n")
	require.Equal(t, "/home/ann/d", cfg.DataDir)
	require.Equal(t, filepath.Join(here, "users"), cfg.Auth.File)
	require.Equal(t, "/opt/spark", cfg.Spark.Home)
	require.Empty(t, cfg.Spark.JavaHome, "an empty path must not become the working directory")
}

// Every bad file has beside it what a user reads, word for word: from Load, or from Validate if Load has no objection.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".err")
			require.NoError(t, err)
			cfg, _, err := Load(file, nil)
			if err == nil {
				err = cfg.Validate()
			}
			require.EqualError(t, err, strings.TrimSuffix(string(want), "\n"))
		})
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		err    string // empty: it is valid
	}{
		"network, by password":   {func(c *Config) { c.Listen.Thrift, c.Auth = "0.0.0.0:1", Auth{Mode: "file", File: "/u"} }, ""},
		"network, by wish":       {func(c *Config) { c.Listen.Thrift, c.Auth.OpenToNetwork = "0.0.0.0:1", true }, ""},
		"localhost":              {func(c *Config) { c.Listen.Thrift = "localhost:1" }, ""},
		"another loopback":       {func(c *Config) { c.Listen.Thrift = "127.0.0.2:1" }, ""},
		"IPv6 loopback":          {func(c *Config) { c.Listen.Thrift = "[::1]:1" }, ""},
		"any free port":          {func(c *Config) { c.Listen.Thrift = "127.0.0.1:0" }, ""},
		"a secret":               {func(c *Config) { c.Secret = strings.Repeat("x", 32) }, ""},
		"no query timeout":       {func(c *Config) { c.Session.QueryTimeout = 0 }, ""},
		"no grace":               {func(c *Config) { c.ShutdownGrace, c.HS2.DisconnectGrace = 0, 0 }, ""},
		"port too large":         {func(c *Config) { c.Listen.HTTP = "127.0.0.1:65536" }, `listen.http: "127.0.0.1:65536" has no port between 0 and 65535`},
		"no data_dir":            {func(c *Config) { c.DataDir = "" }, "data_dir: must not be empty"},
		"negative duration":      {func(c *Config) { c.ShutdownGrace = -time.Second }, "shutdown_grace: -1s is too short"},
		"negative cores":         {func(c *Config) { c.Clusters = map[string]Cluster{"local": localWith(-1)} }, "clusters.local.cores: -1 is negative"},
		"a shared store":         {func(c *Config) { c.Store.URL, c.Secret = "postgres://h/d", strings.Repeat("x", 32) }, ""},
		"a store of two minds":   {func(c *Config) { c.Store.URL = "postgres://h/d" }, "secret: must be set, and be the same on every gateway that shares store.url: engine tokens are derived from it"},
		"another database":       {func(c *Config) { c.Store.URL, c.Secret = "mysql://h/d", strings.Repeat("x", 32) }, "store.url: must begin with postgres://; leave it empty for an SQLite file in data_dir"},
		"a profile":              {func(c *Config) { c.Profiles["bi"] = Profile{ShareLevel: "server", Warm: true, Engines: 2} }, ""},
		"warm for nobody":        {func(c *Config) { c.Profiles["bi"] = Profile{Warm: true} }, "profiles.bi.warm_for: must say whose engines are kept warm, because they belong to a user; or set share_level: server"},
		"warm for one":           {func(c *Config) { c.Profiles["bi"] = Profile{Warm: true, ShareLevel: "connection"} }, "profiles.bi.warm: engines of one connection cannot be kept warm: nobody else can have them; set profiles.bi.share_level"},
		"a profile's cluster":    {func(c *Config) { c.Profiles["bi"] = Profile{Cluster: "k"} }, `profiles.bi.cluster: there is no cluster "k"`},
		"spool in data_dir":      {func(c *Config) { c.Spool.Dir = c.DataDir }, "spool.dir: must be a directory of its own, not data_dir itself"},
		"memory above its total": {func(c *Config) { c.Spool.Memory = 1 << 30 }, "spool.memory: 1GiB is more than spool.total_memory, 256MiB"},
		"disk above its total":   {func(c *Config) { c.Spool.TotalDisk = 1 << 30 }, "spool.disk: 20GiB is more than spool.total_disk, 1GiB"},
		"fetch above message":    {func(c *Config) { c.HS2.FetchBytes = 200 << 20 }, "hs2.fetch_bytes: 200MiB is not between 64KiB and hs2.max_message_size"},
		"a YARN cluster": {func(c *Config) {
			c.Clusters["y"] = placed(Cluster{Kind: "yarn", YARN: YARN{HadoopConf: "/etc/hadoop/conf", ResourceManagers: "http://a:1, https://b:2", SharedDir: "/apps"}})
		}, ""},
		"a YARN cluster without its files": {func(c *Config) { c.Clusters["y"] = placed(Cluster{Kind: "yarn"}) },
			"clusters.y.yarn.hadoop_conf: must name the directory of the cluster's core-site.xml, hdfs-site.xml and yarn-site.xml"},
		"a YARN cluster's addresses": {func(c *Config) {
			c.Clusters["y"] = placed(Cluster{Kind: "yarn", YARN: YARN{HadoopConf: "/etc/hadoop/conf", ResourceManagers: "rm:8088", SharedDir: "apps"}})
		}, "clusters.y.yarn.resource_managers: \"rm:8088\" must begin with http:// or https://\nclusters.y.yarn.shared_dir: \"apps\" must be a path on HDFS that begins with /"},
		"a Kubernetes cluster": {func(c *Config) {
			k := NewCluster()
			k.Kind, k.Kubernetes.Image = "kubernetes", "apache/spark:4.0.1"
			c.Clusters["k"] = k
		}, ""},
		"a Kubernetes cluster's keys": {func(c *Config) {
			k := NewCluster()
			k.Kind, k.Kubernetes.Images, k.Kubernetes.MinExecutors, k.Kubernetes.FilesURL, k.Kubernetes.QoS, k.Kubernetes.Principal = "kubernetes", map[string]string{"old": "x"}, 30, "gateway:10099", "best", "sluice@X"
			c.Clusters["k"] = k
		}, "clusters.k.kubernetes.qos: \"best\" is not one of burstable, guaranteed\nclusters.k.kubernetes.image: must name an image of Spark, such as apache/spark:4.0.1-java17-python3\n" +
			"clusters.k.kubernetes.images.old: there is no runtime of that name; add it to runtimes\nclusters.k.kubernetes.min_executors: 30 is more than max_executors, 20\n" +
			"clusters.k.kubernetes.files_url: \"gateway:10099\" must begin with http:// or https://\nclusters.k.kubernetes.kerberos_principal: and kerberos_keytab must be given together\n" +
			"clusters.k.kubernetes.hadoop_conf: must name the directory of core-site.xml and hdfs-site.xml, which say where tokens come from"},
		"an enum of a cluster":  {func(c *Config) { c.Clusters["local"] = placed(Cluster{Kind: "loacl"}) }, `clusters.local.kind: "loacl" is not one of local, yarn, kubernetes; did you mean local?`},
		"IPv6, any":             {func(c *Config) { c.Listen.Thrift, c.Auth.Mode = "[::]:1", "file" }, "auth.file: must name the password file when auth.mode is file; sluice password USER makes its lines"},
		"a name is not trusted": {func(c *Config) { c.Listen.Thrift = "localhost.example:1" }, "listen.thrift: localhost.example:1 can be reached by others, and auth.mode is none: set auth.mode: file, or listen on 127.0.0.1, or say auth.open_to_network: true if anybody may run anything"},
		"an old Spark, closed": {func(c *Config) {
			c.Spark.Version, c.Clusters["local"] = "3.5.7", placed(Cluster{Kind: "local", ClosedNetwork: true})
		}, ""},
		"an old Spark, open":    {func(c *Config) { c.Spark.Version = "3.5.7" }, "spark.version: Spark 3.5.7 has no token and listens on every interface, and no cluster says that its network is closed: set clusters.NAME.closed_network: true where nobody but this gateway reaches the engines, or use Spark 4.0 or newer"},
		"a home of any version": {func(c *Config) { c.Spark = Spark{Home: "/opt/spark", Version: "3.5.7"} }, ""},
		"no version":            {func(c *Config) { c.Spark.Version = "four" }, `spark.version: "four" is no version; write it like 4.3.0`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Default()
			tc.change(&cfg)
			if err := cfg.Validate(); tc.err != "" {
				require.EqualError(t, err, tc.err)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

func TestEnvironmentErrors(t *testing.T) {
	_, _, err := Load("", []string{"SLUICE_HS2_SASL=maybe", "SLUICE_SESSION_IDLE_TIMEOUT=6", "SLUICE_ENGINE_CONF=spark.a", "SLUICE_CLUSTERS_LOCAL_CORES=", "SLUICE_SPOOL_DISK=x"})
	require.EqualError(t, err, strings.Join([]string{
		`environment SLUICE_HS2_SASL: hs2.sasl: "maybe" is neither true nor false`,
		`environment SLUICE_SESSION_IDLE_TIMEOUT: session.idle_timeout: "6" is no duration; write it like 30s, 5m or 6h`,
		`environment SLUICE_ENGINE_CONF: engine.conf: "spark.a" is no key=value`,
		`environment SLUICE_CLUSTERS_LOCAL_CORES: clusters.local.cores: "" is no whole number`,
		`environment SLUICE_SPOOL_DISK: spool.disk: "x" is no size; write it like 64MiB, 1g or 4096`,
	}, "\n"))
}

// Kubernetes sets variables for a Service of the name sluice; they must not keep the gateway from starting.
func TestUnknownEnvironmentOnlyWarns(t *testing.T) {
	want, _, err := Load("", nil)
	require.NoError(t, err)
	cfg, warnings, err := Load("", []string{"SLUICE_DATA_DRI=/x", "SLUICE_PORT_10009_TCP=tcp://10.0.0.1:10009", "OTHER=1"})
	require.NoError(t, err)
	require.Equal(t, want, cfg)
	require.Len(t, warnings, 2)
	require.Equal(t, "environment: SLUICE_DATA_DRI is no setting of ours; did you mean SLUICE_DATA_DIR?", warnings[0].String())
	require.Contains(t, warnings[1].String(), "environment: SLUICE_PORT_10009_TCP is no setting of ours")
}

func TestPrintLoadsBack(t *testing.T) {
	for name, text := range map[string]string{
		"defaults": "",
		"changed": `
listen: {thrift: "0.0.0.0:10009"}
data_dir: /var/lib/sluice
auth: {mode: file, file: /etc/users, open_to_network: true}
hs2: {sasl: false, max_message_size: 1000003, poll_timeout: 1h0m1s}
session: {query_timeout: 90m, idle_timeout: 10h, operation_idle_timeout: 1500ms}
engine:
  memory: "08"
  conf: {spark.a.b: "yes", spark.a: "", "spark.c/d": "1,2=3"}
spark: {version: "4.10"}
runtimes:
  "3.5": {version: 3.5.7}
  mine: {home: /opt/spark, java_home: /opt/jdk}
clusters:
  "on": {kind: local, cores: 1, closed_network: true}
  "1": {kind: local}
`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := load(t, text)
			var out bytes.Buffer
			require.NoError(t, cfg.Print(&out))
			require.Equal(t, cfg, load(t, out.String()), out.String())
		})
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	secret := strings.Repeat("s3cret", 6)
	cfg := load(t, "secret: "+secret+"\n")
	require.Equal(t, secret, cfg.Secret)
	var out bytes.Buffer
	require.NoError(t, cfg.Print(&out))
	require.NotContains(t, out.String(), secret)
	require.NotContains(t, out.String(), "secret:", "an empty secret would overwrite a real one when it is loaded")
}

func TestDocsHaveEveryKeyOnce(t *testing.T) {
	docs := Docs()
	all := documented()
	for _, k := range all {
		require.Equal(t, 1, strings.Count(docs, "| `"+k.name()+"` | `"+k.env()+"` |"), k.name())
		require.NotEmpty(t, k.help, k.name())
		require.NotContains(t, k.help, "|", "it would break the table: %s", k.name())
	}
	require.Equal(t, len(all)+2, strings.Count(docs, "\n"), "two lines of header and one for each key")
}

func TestNamesInTheEnvironmentAreUnique(t *testing.T) {
	var names []string
	for _, k := range keys(Default()) {
		names = append(names, k.env())
	}
	slices.Sort(names)
	require.Equal(t, slices.Compact(slices.Clone(names)), names)
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "4096": 4096, "1k": 1 << 10, "1K": 1 << 10, "64MiB": 64 << 20, "64 mib": 64 << 20, " 2g ": 2 << 30, "3TiB": 3 << 40, "5t": 5 << 40, "7b": 7,
	} {
		got, err := ParseBytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		back, err := ParseBytes(got.String())
		require.NoError(t, err)
		require.Equal(t, want, back, "%s is written as %s", text, got)
	}
	for _, text := range []string{"", "g", "-1", "1.5g", "64MB", "0x10", "9223372036854775807k", "99999999999999999999", "1 2"} {
		_, err := ParseBytes(text)
		require.Error(t, err, text)
	}
}

// placed is a cluster whose other kinds have their defaults, as those of a file have.
func placed(c Cluster) Cluster {
	c.Kubernetes, c.Shuffle = NewCluster().Kubernetes, NewCluster().Shuffle
	return c
}

func localWith(cores int) Cluster {
	c := NewCluster()
	c.Kind, c.Cores = "local", cores
	return c
}
