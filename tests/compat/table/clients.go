package main

// client is how docs/clients.md shows one: its columns are what the record holds of it.
type client struct {
	name string
	none map[string]int // capabilities that it does not have, by their footnote
	// borrowed says that its time limit is the gateway's: it has none of its own.
	borrowed bool
	how      string // how to connect, for its users
}

// columns are the capabilities of the table, in order.
var columns = []string{"connect", "types", "pages", "errors", "engine lost", "cancel", "timeout", "metadata", "log", "HTTP", "TLS"}

var footnotes = []string{
	"The client has no such thing.",
	"No time limit of its own: the test asks for one by `sluice.query_timeout`, which every client can put into its session's configuration.",
	"Not tried with this client.",
	"Over the driver that it uses; see its row.",
}

const (
	absent = iota + 1
	_
	same
	driver
)

var clients = []client{
	{name: "Beeline 2.3", borrowed: true, none: map[string]int{"engine lost": same}, how: "`beeline -u jdbc:hive2://HOST:10009/default -n USER`. It is among Spark's own jars."},
	{name: "Beeline 3.1", borrowed: true, none: map[string]int{"engine lost": same}, how: "The same, with the jars `org.apache.hive:hive-beeline:3.1.3` and `org.apache.hive:hive-jdbc:3.1.3:standalone` in front of Spark's."},
	{name: "Hive JDBC 2.3.9", how: jdbcHow("2.3.9")},
	{name: "Hive JDBC 3.1.3", how: jdbcHow("3.1.3")},
	{name: "Hive JDBC 4.0.1", how: jdbcHow("4.0.1")},
	{name: "Hive JDBC 4.1.0", how: jdbcHow("4.1.0") + " DBeaver's calls are the column metadata."},
	{name: "Kyuubi JDBC 1.9.2", how: "`org.apache.kyuubi:kyuubi-hive-jdbc-shaded:1.9.2`, URL `jdbc:kyuubi://HOST:10009/default`."},
	{name: "PyHive 0.7", borrowed: true, none: map[string]int{"engine lost": same, "metadata": absent}, how: "`hive.connect(host=HOST, port=10009, username=USER)`; over HTTP `scheme=\"http\", port=10099`, with TLS `scheme=\"https\", ssl_cert=\"required\"`. On the binary port it has no TLS."},
	{name: "impyla 0.24", borrowed: true, none: map[string]int{"engine lost": same}, how: "`impala.dbapi.connect(host=HOST, port=10009, user=USER, password=PASSWORD, auth_mechanism=\"PLAIN\")`; over HTTP `use_http_transport=True, http_path=\"cliservice\", port=10099`. It keeps an error's message, not its SQLSTATE, and gives arrays as bytes."},
	{name: "SQLAlchemy 2.0", none: map[string]int{"types": driver, "pages": driver, "errors": driver, "engine lost": driver, "cancel": driver, "timeout": driver, "log": driver, "HTTP": driver, "TLS": driver},
		how: "`create_engine(\"hive://USER@HOST:10009/DATABASE\")` with PyHive. Its `get_table_names` takes the first column of SHOW TABLES, which is the database in Spark."},
	{name: "gohive 2.1", borrowed: true, none: map[string]int{"engine lost": same, "cancel": absent, "metadata": absent, "log": absent}, how: "`gohive.OpenDB(gohive.Config{Host: HOST, Port: 10009, Auth: \"NONE\", Username: USER, Database: \"default\"})`; over HTTP `TransportMode: \"http\"`. A context that ends does not end the statement: give the session a `sluice.query_timeout`. Of an error that comes with a page it keeps no text."},
	{name: "hive-driver 1.0", borrowed: true, none: map[string]int{"engine lost": same}, how: "npm: `client.connect({host, port: 10009}, new connections.TcpConnection(), new auth.PlainTcpAuthentication({username, password}))`. It makes decimals JavaScript numbers."},
}

func jdbcHow(version string) string {
	return "`org.apache.hive:hive-jdbc:" + version + ":standalone`, URL `jdbc:hive2://HOST:10009/default`; over HTTP `jdbc:hive2://HOST:10099/default;transportMode=http;httpPath=cliservice`; with TLS `;ssl=true;sslTrustStore=FILE;trustStorePassword=PASSWORD`."
}

// tools are shown with what was done with each.
var tools = []client{
	{name: "dbt-spark 1.11", how: "`type: spark, method: thrift, host: HOST, port: 10009, user: USER`; the `http` method goes to `/sql/protocolv1/o/ORGANIZATION/CLUSTER` of port 10099, always with TLS."},
	{name: "Airflow 2.11, Hive provider 9.7", how: "`AIRFLOW_CONN_NAME=hiveserver2://USER@HOST:10009/default`, used by `HiveServer2Hook` and Hive operators. The `SET airflow.ctx…` before each query start no engine."},
	{name: "Superset", how: "SQLAlchemy URI `hive://USER@HOST:10009/default`. The loop of its SQL Lab, with its expressions for the progress bar, scripted over PyHive."},
	{name: "Hue", how: "An interpreter with the interface `hiveserver2`, host and port 10009. Its calls, scripted: protocol V11, one session over several connections."},
}
