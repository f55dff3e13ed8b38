// Package config is the one source of every setting: its name, default, type and help. Defaults come first, then the
// file, then the environment. What is unknown or wrong is refused with its place, all of it at once.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size, written like 64MiB, 1g or 4096.
type Bytes int64

// Config is the whole configuration. The tags name a key and say what it means; Default gives its value.
type Config struct {
	Listen        Listen             `koanf:"listen"`
	TLS           TLS                `koanf:"tls"`
	DataDir       string             `koanf:"data_dir" help:"Directory of the store, the master secret, spooled results and everything of local clusters."`
	Secret        string             `koanf:"secret" help:"Master secret from which engine tokens are derived; the same on every replica. Empty: made once in data_dir." secret:"true"`
	Store         Store              `koanf:"store"`
	Audit         Audit              `koanf:"audit"`
	Auth          Auth               `koanf:"auth"`
	HS2           HS2                `koanf:"hs2"`
	Session       Session            `koanf:"session"`
	Limits        Limits             `koanf:"limits"`
	Spool         Spool              `koanf:"spool"`
	Engine        Engine             `koanf:"engine"`
	Route         Route              `koanf:"route"`
	Spark         Spark              `koanf:"spark"`
	Profiles      map[string]Profile `koanf:"profiles"`
	Runtimes      map[string]Runtime `koanf:"runtimes"`
	Clusters      map[string]Cluster `koanf:"clusters"`
	Log           Log                `koanf:"log"`
	ShutdownGrace time.Duration      `koanf:"shutdown_grace" help:"How long running statements may go on when the gateway is told to stop."`
}

// Listen is where the gateway listens.
type Listen struct {
	Thrift string `koanf:"thrift" help:"Address of the HiveServer2 port, host:port; port 0 is any free one, data_dir/endpoints.json says which."`
	HTTP   string `koanf:"http" help:"Address of the HTTP port: HiveServer2 over HTTP (hs2.http_path), health, readiness, metrics."`
}

// TLS is for both ports. The files are read again when they change.
type TLS struct {
	Cert     string `koanf:"cert" help:"Certificate of both ports with its chain, in PEM; a new one is used without a restart. Empty: no TLS."`
	Key      string `koanf:"key" help:"The certificate's key, in PEM."`
	ClientCA string `koanf:"client_ca" help:"Authorities in PEM: clients must show a certificate of one of them, too (JDBC: twoWay=true). Health and metrics ask for none."`
}

// Store is where sessions, operations and engines are recorded.
type Store struct {
	URL            string        `koanf:"url" help:"postgres://user:password@host/database, which several gateways may share. Empty: an SQLite file in data_dir." secret:"true"`
	ReplicaTimeout time.Duration `koanf:"replica_timeout" help:"A gateway that the store has not heard of for so long is dead: others take over what it had."`
}

// Limits are what nobody may exceed on one gateway; 0 is no limit.
type Limits struct {
	Sessions             int `koanf:"sessions" help:"Open sessions in all; 0 is no limit."`
	SessionsPerUser      int `koanf:"sessions_per_user" help:"Open sessions of one user; 0 is no limit."`
	SessionsPerAddress   int `koanf:"sessions_per_address" help:"Open sessions from one client address; 0 is no limit."`
	OperationsPerSession int `koanf:"operations_per_session" help:"Operations of one session whose handles are open; 0 is no limit."`
	Waiting              int `koanf:"waiting" help:"Statements that wait for an engine to start; 0 is no limit."`
}

// Profile is a named bundle that a session asks for with sluice.profile.
type Profile struct {
	Runtime    string            `koanf:"runtime" help:"Engine software of its sessions, unless they say sluice.runtime."`
	Cluster    string            `koanf:"cluster" help:"Cluster of its sessions, unless they say sluice.cluster."`
	ShareLevel string            `koanf:"share_level" help:"Whom its engines are shared with, unless a session says sluice.engine.share. Empty: engine.share_level." oneof:",connection,user,group,server"`
	Memory     string            `koanf:"memory" help:"Heap of its engines' drivers. Empty: engine.memory."`
	Conf       map[string]string `koanf:"conf" help:"Spark settings of its engines and sessions; what a session says wins."`
	InitSQL    string            `koanf:"init_sql" help:"Statements that each of its sessions begins with on an engine, with semicolons between them."`
	Engines    int               `koanf:"engines" help:"How many engines share the work of those who share; 0 is one."`
	Warm       bool              `koanf:"warm" help:"Keep these engines running and ready, whether somebody wants them or not."`
	WarmFor    string            `koanf:"warm_for" help:"Whose engines are kept warm: users or groups, with commas between them. With share_level server it is empty."`
}

// Auth is how clients prove who they are.
type Auth struct {
	Mode string `koanf:"mode" help:"none: names are believed; file: names and passwords in auth.file." oneof:"none,file"`
	File string `koanf:"file" help:"Password file: a line user:bcrypt-hash[:group,group] each, as htpasswd -B and sluice password make them."`
	// Maps are keyed by the user who logs in, and by Hadoop's names of the rules.
	ProxyUsers       map[string]ProxyUser `koanf:"proxy_users"`
	HadoopProxyUsers map[string]string    `koanf:"hadoop_proxyusers" help:"The same rules in Hadoop's form, as core-site.xml has them: hadoop.proxyuser.NAME.users, .groups and .hosts. In the environment a list can have one entry only."`
	AdminUsers       string               `koanf:"admin_users" help:"Who may drain clusters, roll rules back (sluice route), ask for other users, and see the gateway's own profiles (/debug/pprof): users, with commas between them."`
	AdminGroups      string               `koanf:"admin_groups" help:"The same, by groups. Empty both: nobody may."`
	OpenToNetwork    bool                 `koanf:"open_to_network" help:"Allow auth.mode none on an address that others can reach: anybody may then run anything."`
}

// ProxyUser is for whom a user may act, and from where. As in Hadoop, one of users and groups is enough, and what is not
// said is not allowed.
type ProxyUser struct {
	Users  string `koanf:"users" help:"For whom this user may act: users, with commas between them; * is everybody."`
	Groups string `koanf:"groups" help:"For whom this user may act: members of these groups, with commas between them; * is everybody."`
	Hosts  string `koanf:"hosts" help:"From where it may: addresses, ranges like 10.0.0.0/8 and names of hosts, with commas between them; * is everywhere, empty nowhere."`
}

// Audit is the record of every session and operation.
type Audit struct {
	Store        bool          `koanf:"store" help:"Keep the records in the store, table audit."`
	Keep         time.Duration `koanf:"keep" help:"For how long the store keeps them."`
	File         string        `koanf:"file" help:"Write the records as JSON lines, too: into this file, or to stdout or stderr. Empty: nowhere."`
	FileSize     Bytes         `koanf:"file_size" help:"Begin a new file when this one is so large; the old one is kept beside it, with the time in its name."`
	Files        int           `koanf:"files" help:"Old files kept; 0 is all of them."`
	Statements   string        `koanf:"statements" help:"What a record holds of a statement, which may hold secrets: its text and the error's, a hash of the text, or nothing." oneof:"full,hash,none"`
	MaxStatement Bytes         `koanf:"max_statement" help:"Longest text of a statement in a record; the rest is cut off."`
	Buffer       Bytes         `koanf:"buffer" help:"Memory for records that wait to be written, while the store cannot be reached say; what is beyond is dropped, counted and told in the log."`
}

// HS2 is the HiveServer2 front end.
type HS2 struct {
	SASL              bool          `koanf:"sasl" help:"SASL PLAIN, what clients do unless told otherwise; false: bare Thrift for clients set to NOSASL."`
	MaxMessageSize    Bytes         `koanf:"max_message_size" help:"Largest request."`
	LoginTimeout      time.Duration `koanf:"login_timeout" help:"How long a client may take to log in."`
	MessageTimeout    time.Duration `koanf:"message_timeout" help:"How long one request may take to arrive once it has begun, and one reply to be taken."`
	PollTimeout       time.Duration `koanf:"poll_timeout" help:"Longest wait of GetOperationStatus for a change."`
	MaxConnections    int           `koanf:"max_connections" help:"Open connections at once."`
	FetchBytes        Bytes         `koanf:"fetch_bytes" help:"About how large a reply to FetchResults may become; one row is always sent."`
	StackTraces       bool          `koanf:"stack_traces" help:"Add the engine's stack trace to error messages."`
	CloseOnDisconnect bool          `koanf:"close_on_disconnect" help:"Close sessions whose last connection is gone."`
	DisconnectGrace   time.Duration `koanf:"disconnect_grace" help:"How long such a session waits for its client to come back."`
	HTTPPath          string        `koanf:"http_path" help:"Path of HiveServer2 on the HTTP port, JDBC's httpPath. It answers at / and at Databricks' paths, too."`
	HTTPCookieAge     time.Duration `koanf:"http_cookie_age" help:"For how long a cookie proves who a client over HTTP is, in place of its password; 0s gives out none."`
	HTTPCompression   bool          `koanf:"http_compression" help:"Send replies over HTTP in gzip to clients that take it."`
}

// Session is about sessions and operations.
type Session struct {
	IdleTimeout          time.Duration `koanf:"idle_timeout" help:"Close sessions that nobody has used for so long."`
	OperationIdleTimeout time.Duration `koanf:"operation_idle_timeout" help:"Close ended operations that nobody has asked for for so long."`
	QueryTimeout         time.Duration `koanf:"query_timeout" help:"Time limit of a statement; the smaller of this and the client's wins, 0s is none."`
	LogLines             int           `koanf:"log_lines" help:"Lines of log kept for each operation."`
}

// Spool is where results wait for their clients.
type Spool struct {
	Dir         string `koanf:"dir" help:"Directory of results that do not stay in memory, for one gateway alone. Empty: data_dir/spool."`
	Memory      Bytes  `koanf:"memory" help:"Rows of an operation kept in memory. Results beyond 2 MiB are on disk too."`
	Disk        Bytes  `koanf:"disk" help:"Rows of an operation kept on disk; beyond it the operation fails."`
	TotalMemory Bytes  `koanf:"total_memory" help:"Rows of all operations kept in memory; what is beyond goes to disk alone."`
	TotalDisk   Bytes  `koanf:"total_disk" help:"Rows of all operations kept on disk; an operation that goes beyond it fails."`
}

// Engine is about the engines that are started.
type Engine struct {
	Cluster      string            `koanf:"cluster" help:"Cluster of sessions that name none with sluice.cluster."`
	ShareLevel   string            `koanf:"share_level" help:"Whom an engine is shared with, unless a session says sluice.engine.share." oneof:"connection,user,group,server"`
	StartTimeout time.Duration     `koanf:"start_timeout" help:"How long an engine may take to start, downloads included."`
	IdleTimeout  time.Duration     `koanf:"idle_timeout" help:"End engines that nobody has used for so long."`
	MaxLifetime  time.Duration     `koanf:"max_lifetime" help:"Give an engine to nobody any more once it is so old; who has it goes on elsewhere with the next statement. 0s: never."`
	DrainTimeout time.Duration     `koanf:"drain_timeout" help:"End such an engine after so long even if statements run on it; 0s: wait for them."`
	Lease        time.Duration     `koanf:"lease" help:"How long an engine lives on when no gateway renews it."`
	Memory       string            `koanf:"memory" help:"Heap of an engine's driver, in Java's form: 1g, 512m."`
	Conf         map[string]string `koanf:"conf" help:"Spark settings of every engine. In the environment: key=value,key=value."`
}

// Route is how the cluster of each statement is chosen.
type Route struct {
	File        string `koanf:"file" help:"File of rules (docs/routing.md); a new one is used without a restart, if it is valid. Empty: the cluster that a client names, or engine.cluster."`
	Record      bool   `koanf:"record" help:"Record every decision in data_dir/routes.jsonl, for sluice route replay: what a statement touches, not its text."`
	RecordSize  Bytes  `koanf:"record_size" help:"Begin a new file when this one is so large; the old one is kept beside it, with the time in its name."`
	RecordFiles int    `koanf:"record_files" help:"Old files kept; 0 is all of them."`
}

// Spark is the distribution that local engines run from.
type Spark struct {
	Home     string `koanf:"home" help:"A Spark distribution of your own. Empty: SPARK_HOME, or the version below, fetched once."`
	Version  string `koanf:"version" help:"Version to fetch, and to tell clients before an engine is there."`
	JavaHome string `koanf:"java_home" help:"A JDK 17 or newer. Empty: JAVA_HOME, or java on the PATH."`
}

// Runtime is another Spark beside the default one; a session picks it with sluice.runtime=NAME.
type Runtime struct {
	Home     string `koanf:"home" help:"A Spark distribution of your own, with a Connect server in its jars. Empty: the version below, fetched once."`
	Version  string `koanf:"version" help:"Version to fetch (sluice spark list), or that home has."`
	JavaHome string `koanf:"java_home" help:"A JDK that this Spark runs on: 17 or newer, for Spark 3.5 from 8 to 17. Empty: JAVA_HOME, or java on the PATH."`
}

// Cluster is a place that runs engines.
type Cluster struct {
	Kind          string     `koanf:"kind" help:"local: this machine; yarn: a YARN cluster; kubernetes: a namespace of a Kubernetes cluster." oneof:"local,yarn,kubernetes"`
	Cores         int        `koanf:"cores" help:"Cores of each engine; 0 is all."`
	ClosedNetwork bool       `koanf:"closed_network" help:"Say that nobody but this gateway can reach the ports of engines there, because a network namespace or a firewall keeps others out. Engines that ask nobody who they are may run then: Spark before 4.0, which has no token and listens on every interface."`
	Dir           string     `koanf:"dir" help:"Directory of a local cluster; gateways on one machine that share it and the store share its engines. Empty: in data_dir."`
	YARN          YARN       `koanf:"yarn"`
	Kubernetes    Kubernetes `koanf:"kubernetes"`
	Shuffle       Shuffle    `koanf:"shuffle"`
}

// Kubernetes is where a cluster of kind kubernetes is, and how its engines are placed.
type Kubernetes struct {
	Kubeconfig            string            `koanf:"kubeconfig" help:"Kubeconfig file. Empty: the service account of the pod that the gateway runs in, or else what kubectl would use."`
	Context               string            `koanf:"context" help:"Context of that file. Empty: its current one."`
	Namespace             string            `koanf:"namespace" help:"Namespace of drivers and executors. Empty: the context's, or the gateway's own."`
	Image                 string            `koanf:"image" help:"Image of Spark, laid out as Apache's own; a version in its tag, such as spark:4.3.0-java17, wins over spark.version."`
	Images                map[string]string `koanf:"images" help:"Images of other runtimes, by their names."`
	PullPolicy            string            `koanf:"pull_policy" help:"When nodes fetch images. Empty: Kubernetes' own rule." oneof:",Always,IfNotPresent,Never"`
	ServiceAccount        string            `koanf:"service_account" help:"Account of drivers, which make executors."`
	HostNetwork           bool              `koanf:"host_network" help:"Drivers and executors use their nodes' network, without an overlay; false: the pod network."`
	Ports                 string            `koanf:"ports" help:"With host networking: range of ports of drivers. Each has five of them, one behind the other, which no other driver has."`
	ExecutorPorts         string            `koanf:"executor_ports" help:"With host networking: range of ports that executors listen on; each takes the first that is free on its node. Empty: any port."`
	Evictable             string            `koanf:"evictable" help:"Label of nodes that may be taken away, KEY or KEY=VALUE: executors prefer them and tolerate a taint of that key (NoSchedule), drivers stay off them. Empty: nodes are all alike."`
	DriverSelector        string            `koanf:"driver_selector" help:"Labels that drivers' nodes must have, KEY=VALUE with commas between them."`
	ExecutorSelector      string            `koanf:"executor_selector" help:"The same for executors."`
	DriverTolerations     string            `koanf:"driver_tolerations" help:"Taints of nodes that drivers may run on all the same, KEY=VALUE:EFFECT or KEY:EFFECT with commas between them."`
	ExecutorTolerations   string            `koanf:"executor_tolerations" help:"The same for executors."`
	DriverPriorityClass   string            `koanf:"driver_priority_class" help:"Priority class of drivers."`
	ExecutorPriorityClass string            `koanf:"executor_priority_class" help:"Priority class of executors: a low one gives way to other pods."`
	DriverTemplate        string            `koanf:"driver_template" help:"File with a PodTemplateSpec that lies under what is set for drivers: volumes, sidecars, labels, security context."`
	ExecutorTemplate      string            `koanf:"executor_template" help:"The same for executors."`
	DriverCPU             string            `koanf:"driver_cpu" help:"Processors requested for a driver, such as 500m. Empty: spark.driver.cores."`
	ExecutorCPU           string            `koanf:"executor_cpu" help:"Processors requested for an executor. Empty: spark.executor.cores."`
	QoS                   string            `koanf:"qos" help:"burstable: pods may use processors that nobody uses; guaranteed: they get what they request, and no more." oneof:"burstable,guaranteed"`
	MinExecutors          int               `koanf:"min_executors" help:"Executors that each engine keeps, at least."`
	MaxExecutors          int               `koanf:"max_executors" help:"Executors of an engine or batch, at most; 0 is any number."`
	MaxDrivers            int               `koanf:"max_drivers" help:"Engines and batches at a time in the namespace: more of them would leave no room for executors. 0 is any number."`
	Lease                 time.Duration     `koanf:"lease" help:"How long an engine lives on when no gateway can renew it; in place of engine.lease, because an API server may be away for longer than that."`
	HadoopConf            string            `koanf:"hadoop_conf" help:"Directory of core-site.xml, hdfs-site.xml, hive-site.xml: drivers get them."`
	Principal             string            `koanf:"kerberos_principal" help:"Kerberos principal of the gateway, for an HDFS whose core-site.xml asks for Kerberos: drivers get delegation tokens of their users, which the gateway renews."`
	Keytab                string            `koanf:"kerberos_keytab" help:"Keytab file of that principal."`
	Krb5Conf              string            `koanf:"krb5_conf" help:"Kerberos configuration. Empty: /etc/krb5.conf."`
	FilesURL              string            `koanf:"files_url" help:"Address under which pods reach this gateway's HTTP port, http://HOST:PORT, to fetch the files of batches. Empty: listen.http, unless that is this machine's alone."`
	Conf                  map[string]string `koanf:"conf" help:"Spark settings of engines there, such as where the metastore is; they win over users'."`
}

// NewCluster is a cluster of which nothing is said but its name.
func NewCluster() Cluster {
	return Cluster{YARN: YARN{Conf: map[string]string{}, Archives: map[string]string{}}, Kubernetes: Kubernetes{ServiceAccount: "sluice-driver", HostNetwork: true,
		Ports: "24000-24999", Evictable: "sluice/evictable", QoS: "burstable", MaxExecutors: 20, MaxDrivers: 50, Lease: 30 * time.Minute,
		Images: map[string]string{}, Conf: map[string]string{}},
		Shuffle: Shuffle{Clients: map[string]string{}, Replicate: true, Fallback: "never"}}
}

func localCluster() Cluster {
	c := NewCluster()
	c.Kind = "local"
	return c
}

// YARN is where a cluster of kind yarn is, and how its engines are submitted.
type YARN struct {
	HadoopConf       string            `koanf:"hadoop_conf" help:"Directory of the cluster's core-site.xml, hdfs-site.xml and yarn-site.xml: they tell where its ResourceManagers and NameNodes are, and drivers get them."`
	ResourceManagers string            `koanf:"resource_managers" help:"Addresses of the ResourceManagers, http://host:port with commas between them, in place of those in yarn-site.xml."`
	Queue            string            `koanf:"queue" help:"Queue for engines. Empty: default."`
	DriverLabel      string            `koanf:"driver_label" help:"Node label for drivers. Empty: the queue's own."`
	ExecutorLabel    string            `koanf:"executor_label" help:"Node label for executors. Empty: the queue's own."`
	Ports            string            `koanf:"ports" help:"Range of ports that engines listen on, like 22000-22999, for a firewall between the gateway and the nodes; each engine has one of them, so that it should be much larger than the engines of a node are many. Empty: each finds a free port, and the gateway reads it in the driver's log."`
	ServiceUser      string            `koanf:"service_user" help:"Who the gateway is to the cluster: it lists applications, and uploads the Spark that all use. Empty: the user of kerberos_principal, or sluice."`
	Principal        string            `koanf:"kerberos_principal" help:"Kerberos principal of the gateway, user@REALM or user/host@REALM, for a cluster whose core-site.xml asks for Kerberos. The cluster must let it act for users: hadoop.proxyuser.USER.hosts and .groups."`
	Keytab           string            `koanf:"kerberos_keytab" help:"Keytab file of that principal."`
	Krb5Conf         string            `koanf:"krb5_conf" help:"Kerberos configuration. Empty: /etc/krb5.conf."`
	Archives         map[string]string `koanf:"archives" help:"Sparks that are on HDFS already, by the name of a runtime, or default: hdfs://HOST/PATH.zip with the jars at its root, the Connect server's among them, readable for everybody. A runtime without one is uploaded from this machine once."`
	SharedDir        string            `koanf:"shared_dir" help:"Directory on HDFS for that Spark, which everybody must be able to read. Empty: /user/SERVICE_USER/sluice."`
	Conf             map[string]string `koanf:"conf" help:"Spark settings of engines there, such as where the metastore is; they win over users'."`
}

// Log is the gateway's own log, on standard error.
type Log struct {
	Level  string `koanf:"level" help:"Least level that is logged." oneof:"debug,info,warn,error"`
	Format string `koanf:"format" help:"text or json." oneof:"text,json"`
}

// Default returns the configuration of a gateway that was told nothing.
func Default() Config {
	return Config{
		Listen:  Listen{Thrift: "127.0.0.1:10009", HTTP: "127.0.0.1:10099"},
		DataDir: defaultDataDir(),
		Auth:    Auth{Mode: "none", ProxyUsers: map[string]ProxyUser{}, HadoopProxyUsers: map[string]string{}},
		HS2: HS2{
			SASL: true, MaxMessageSize: 100 << 20, LoginTimeout: 20 * time.Second, PollTimeout: 5 * time.Second, MessageTimeout: 2 * time.Minute,
			MaxConnections: 4096, FetchBytes: 8 << 20, CloseOnDisconnect: true, DisconnectGrace: 30 * time.Second,
			HTTPPath: "cliservice", HTTPCookieAge: time.Hour, HTTPCompression: true,
		},
		Store:         Store{ReplicaTimeout: 30 * time.Second},
		Audit:         Audit{Store: true, Keep: 30 * 24 * time.Hour, FileSize: 100 << 20, Files: 10, Statements: "full", MaxStatement: 64 << 10, Buffer: 64 << 20},
		Session:       Session{IdleTimeout: 6 * time.Hour, OperationIdleTimeout: 3 * time.Hour, LogLines: 10_000},
		Limits:        Limits{OperationsPerSession: 1000, Waiting: 1000},
		Route:         Route{Record: true, RecordSize: 64 << 20, RecordFiles: 4},
		Spool:         Spool{Memory: 8 << 20, Disk: 20 << 30, TotalMemory: 256 << 20, TotalDisk: 100 << 30},
		Engine:        Engine{Cluster: "local", ShareLevel: "user", StartTimeout: 5 * time.Minute, IdleTimeout: 30 * time.Minute, Lease: time.Minute, Memory: "1g", Conf: map[string]string{}},
		Spark:         Spark{Version: "4.3.0"},
		Profiles:      map[string]Profile{},
		Runtimes:      map[string]Runtime{},
		Clusters:      map[string]Cluster{"local": localCluster()},
		Log:           Log{Level: "info", Format: "text"},
		ShutdownGrace: 10 * time.Second,
	}
}

func defaultDataDir() string {
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "sluice")
	}
	return "~/.local/share/sluice"
}

var byteUnits = []struct {
	suffix string
	size   Bytes
}{
	{"tib", 1 << 40}, {"gib", 1 << 30}, {"mib", 1 << 20}, {"kib", 1 << 10},
	{"t", 1 << 40}, {"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"b", 1},
}

// ParseBytes reads a size: a number and, without regard to case, k, m, g, t or KiB, MiB, GiB, TiB. All are powers of 1024.
func ParseBytes(text string) (Bytes, error) {
	number, unit := strings.ToLower(strings.TrimSpace(text)), Bytes(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > int64(1<<62)/int64(unit) {
		return 0, fmt.Errorf("%q is no size; write it like 64MiB, 1g or 4096", text)
	}
	return Bytes(n) * unit, nil
}

// String writes the size with the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits[:4] {
		if b >= u.size && b%u.size == 0 {
			name := strings.ToUpper(u.suffix[:1]) + "iB"
			return strconv.FormatInt(int64(b/u.size), 10) + name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
