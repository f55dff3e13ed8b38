package testbed

import (
	_ "embed"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicedata/sluice/engines/spark"
)

// metastoreSource starts the metastore on one address. Its own main class listens on every interface, without asking
// anybody who they are.
//
//go:embed Metastore.java
var metastoreSource string

// MetastoreOptions say what metastore StartMetastore starts.
type MetastoreOptions struct {
	Hadoop *Hadoop // whose HDFS holds the warehouse, in /warehouse; one without Kerberos
}

// Metastore is a running Hive metastore: the stock one that is part of Spark, on a database of its own. It acts on HDFS
// as whoever calls it, so that the directory of a table belongs to who made the table.
type Metastore struct {
	Server
	URI string // thrift://HOST:PORT, for hive.metastore.uris
}

// StartMetastore starts a metastore and waits until it serves. It ends with the test, and with the cluster at the latest.
func StartMetastore(t T, o MetastoreOptions) *Metastore {
	t.Helper()
	h := o.Hadoop
	if h.Krb5Conf != "" {
		t.Fatalf("the metastore asks nobody who they are: it cannot serve a cluster with Kerberos")
	}
	h.directory("/warehouse", h.superuser, 0o1777)
	dir, err := os.MkdirTemp(h.Dir, "metastore-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	port := steadyPorts(t, h.Host, 1)[0]
	address := net.JoinHostPort(h.Host, port)
	site{
		"javax.jdo.option.ConnectionURL":   "jdbc:derby:" + filepath.Join(dir, "derby") + ";create=true",
		"datanucleus.schema.autoCreateAll": "true",
		// The pool that is Hive's default is not among Spark's jars.
		"datanucleus.connectionPoolingType":  "NONE",
		"hive.metastore.schema.verification": "false",
		"hive.metastore.execute.setugi":      "true",
		"hive.metastore.warehouse.dir":       "hdfs://" + h.NameNode + "/warehouse",
	}.write(t, dir, "hive-site.xml")
	writeFile(t, dir, "Metastore.java", metastoreSource)
	writeFile(t, dir, "log4j2.properties", "rootLogger.level = warn\nrootLogger.appenderRef.out.ref = out\nappender.out.type = Console\n"+
		"appender.out.name = out\nappender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d %p %c{1}: %m%n%ex\n")
	args := append([]string{"-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Djava.net.preferIPv4Stack=true", "-Djava.io.tmpdir=" + dir}, spark.JVMOptions()...)
	path := strings.Join([]string{dir, h.ConfDir, filepath.Join(SparkHome(t), "jars", "*")}, ":")
	if o := h.HostsOption(); o != "" {
		args = append(args, o)
	}
	args = append(args, "-cp", path, filepath.Join(dir, "Metastore.java"), h.Host, port)
	return &Metastore{Server: serve(t, dir, address, nil, Java(t), args), URI: "thrift://" + address}
}
