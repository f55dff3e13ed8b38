package testbed

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"github.com/jcmturner/gokrb5/v8/client"
)

// HadoopVersion is the Hadoop that the tests run on.
const HadoopVersion = "3.4.3"

// HadoopOptions say what cluster StartHadoop starts. The zero value is one node, with an HDFS of its own.
type HadoopOptions struct {
	Nodes     int               // NodeManagers, 1 or 2; 0 means 1
	Label     string            // the partition that the last node is in; empty for the default one
	Scheduler string            // "capacity", which is the default, or "fair"
	FS        string            // the NameNode, host:port, of another cluster, to share its HDFS
	Version   string            // of Hadoop; empty for HadoopVersion
	HA        bool              // two ResourceManagers, of which the first is active until Activate is called
	Host      string            // the address that everything binds and is named by; empty for 127.0.0.1
	Kerberos  bool              // with a KDC of its own, and SPNEGO on every page; see NeedKDC
	Site      map[string]string // more keys of yarn-site.xml
	DFS       map[string]string // more keys of hdfs-site.xml
}

// Hadoop is a running cluster: a NameNode and a DataNode, a ResourceManager and NodeManagers, each a process, on 127.0.0.1
// alone, or on Host. Queues are root.default, root.etl and root.bi, users ann and bob have a home, and "sluice" may act for anybody.
//
// Daemons are named namenode, datanode, resourcemanager, resourcemanager2, nodemanager1 and nodemanager2.
type Hadoop struct {
	RM          string   // host:port of the web services of the ResourceManager, of two the first
	RMs         []string // those of both
	NameNode    string   // host:port that follows hdfs://
	NameNodeWeb string   // host:port of WebHDFS; empty where the HDFS is another cluster's
	Host        string   // the address of all of it
	Dir         string   // all of its state; logs are in Dir/log
	ConfDir     string   // what a client needs: core-site.xml, hdfs-site.xml, yarn-site.xml
	Krb5Conf    string   // empty without Kerberos

	mu          sync.Mutex
	logins      map[string]*client.Client
	dataNodeWeb string
	superuser   string
	java        string
	lib         string // jars and webapps
	daemons     []*hadoopDaemon
	t           T
}

type hadoopDaemon struct {
	name, class string
	heap        int // MB
	conf        string
	port        string        // of a NodeManager, which is known by it
	id, web     string        // of a ResourceManager
	cmd         *exec.Cmd     // nil while it is stopped
	ended       chan struct{} // of cmd
	began       time.Time
}

// StartHadoop starts a cluster and waits until it takes files and applications. It ends with the test, and its containers
// with it.
func StartHadoop(t T, o HadoopOptions) *Hadoop {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.Version == "" {
		o.Version = HadoopVersion
	}
	me, err := user.Current()
	if err != nil {
		t.Fatalf("%v", err)
	}
	dir, err := os.MkdirTemp("", "sluice-hadoop-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	h := &Hadoop{Host: cmp.Or(o.Host, "127.0.0.1"), Dir: dir, superuser: me.Username, java: Java(t), lib: hadoopLib(t, o.Version), t: t}
	h.endWithTest()
	if o.Kerberos {
		if o.FS != "" {
			t.Fatalf("a cluster with Kerberos has an HDFS of its own: its KDC knows no other")
		}
		h.superuser = "nn"
		h.startKDC()
	}
	h.configure(o)

	for _, d := range h.resourceManagers() {
		h.launch(d.name)
	}
	if o.FS == "" {
		h.format()
		h.launch("namenode")
		h.launch("datanode")
	}
	if o.HA {
		h.Activate("resourcemanager")
	}
	if o.Label != "" { // a node in a partition that the ResourceManager does not know is refused
		h.await("resourcemanager")
		h.addLabel(o.Label)
	}
	for n := range o.Nodes {
		h.launch(fmt.Sprintf("nodemanager%d", n+1))
	}
	for _, d := range h.daemons {
		h.await(d.name)
	}
	if o.FS == "" {
		h.directories()
	}
	return h
}

// endWithTest ends the daemons and the containers with the test, and removes the directory.
func (h *Hadoop) endWithTest() {
	h.t.Helper()
	reaped := h.reaper()
	h.t.Cleanup(func() {
		for _, d := range h.daemons {
			h.end(d, syscall.SIGKILL)
		}
		Until(h.t, 30*time.Second, "no process of the cluster is left", func() bool {
			left := h.Processes()
			for _, pid := range left { // containers outlive a NodeManager that is killed
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return len(left) == 0
		})
		reaped()
		_ = os.RemoveAll(h.Dir)
	})
}

// FetchHadoop fetches a version of Hadoop into the cache, once.
func FetchHadoop(t T, version string) {
	t.Helper()
	hadoopLib(t, version)
}

// hadoopLib fetches a version of Hadoop: the jars of the four servers and of rmadmin, with all they need, in jars.
func hadoopLib(t T, version string) string {
	t.Helper()
	return cached(t, "hadoop-"+version, func(dir string) error {
		var pom strings.Builder
		pom.WriteString(`<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>testbed</groupId>` +
			"<artifactId>hadoop-servers</artifactId><version>1</version><packaging>pom</packaging><dependencies>\n")
		// The ResourceManager loads a class of the timeline service even where there is none.
		parts := []string{"common", "hdfs", "hdfs-client", "yarn-server-resourcemanager", "yarn-server-nodemanager", "yarn-server-timelineservice",
			"yarn-client"}
		for _, part := range parts {
			fmt.Fprintf(&pom, "<dependency><groupId>org.apache.hadoop</groupId><artifactId>hadoop-%s</artifactId><version>%s</version></dependency>\n", part, version)
		}
		pom.WriteString("</dependencies></project>\n")
		file := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(file, []byte(pom.String()), 0o644); err != nil {
			return err
		}
		jars := filepath.Join(dir, "jars")
		if err := run("mvn", "-q", "-B", "--strict-checksums", "-f", file, "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory="+jars); err != nil {
			return err
		}
		for _, part := range parts {
			if _, err := os.Stat(filepath.Join(jars, "hadoop-"+part+"-"+version+".jar")); err != nil {
				return err
			}
		}
		for _, app := range []string{"hdfs", "datanode"} { // their pages are in no jar, and without the directory they do not start
			if err := os.MkdirAll(filepath.Join(dir, "webapps", app), 0o755); err != nil {
				return err
			}
		}
		return nil
	})
}

// command is Java with a class of Hadoop's. Nothing of this process's own Hadoop settings, if it has any, reaches it.
func (h *Hadoop) command(class string, heap int, conf string, args ...string) *exec.Cmd {
	h.t.Helper()
	java, err := exec.LookPath(h.java)
	if err == nil {
		java, err = filepath.EvalSymlinks(java)
	}
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	line := []string{fmt.Sprintf("-Xmx%dm", heap), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xss512k",
		"-Djava.net.preferIPv4Stack=true", "-Djava.io.tmpdir=" + filepath.Join(h.Dir, "tmp")}
	// Hadoop 3.4 was made for Java 11.
	for _, pkg := range []string{"java.lang", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util", "java.util.concurrent",
		"sun.nio.ch", "sun.security.action"} {
		line = append(line, "--add-opens=java.base/"+pkg+"=ALL-UNNAMED")
	}
	if o := h.HostsOption(); o != "" {
		line = append(line, o)
	}
	if h.Krb5Conf != "" {
		line = append(line, "-Djava.security.krb5.conf="+h.Krb5Conf, "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED")
	}
	line = append(line, "-cp", strings.Join([]string{conf, h.lib, filepath.Join(h.lib, "jars", "*")}, ":"), class)
	cmd := exec.CommandContext(context.Background(), java, append(line, args...)...)
	cmd.Dir = h.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "JAVA_HOME=" + filepath.Dir(filepath.Dir(java)),
		"HADOOP_CONF_DIR=" + conf, "HADOOP_HOME=" + h.lib, "HADOOP_COMMON_HOME=" + h.lib, "HADOOP_HDFS_HOME=" + h.lib, "HADOOP_YARN_HOME=" + h.lib}
	return cmd
}

func (h *Hadoop) format() {
	h.t.Helper()
	d := h.daemon("namenode")
	if out, err := h.command(d.class, d.heap, d.conf, "-format", "-nonInteractive").CombinedOutput(); err != nil {
		h.t.Fatalf("format HDFS: %v: %s", err, out)
	}
}

func (h *Hadoop) daemon(name string) *hadoopDaemon {
	h.t.Helper()
	for _, d := range h.daemons {
		if d.name == name {
			return d
		}
	}
	h.t.Fatalf("the cluster has no %s", name)
	return nil
}

func (h *Hadoop) launch(name string) {
	h.t.Helper()
	d := h.daemon(name)
	if d.cmd != nil {
		h.t.Fatalf("the %s runs already", name)
	}
	log, err := os.OpenFile(h.log(d), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	defer func() { _ = log.Close() }()
	cmd, ended := h.command(d.class, d.heap, d.conf), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	d.began = time.Now()
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("start the %s: %v", name, err)
	}
	go func() { _ = cmd.Wait(); close(ended) }()
	d.cmd, d.ended = cmd, ended
}

// Start starts a daemon that was killed or stopped, on the same ports and state, and waits until it serves again. The
// ResourceManager does so before its nodes are back; WaitNodes waits for them. One of two ResourceManagers is standby then.
func (h *Hadoop) Start(name string) {
	h.t.Helper()
	h.launch(name)
	h.await(name)
}

// Stop asks a daemon to stop and waits until it has. A NodeManager ends its containers then, and takes 17 s if it had any.
func (h *Hadoop) Stop(name string) {
	h.t.Helper()
	h.end(h.daemon(name), syscall.SIGTERM)
}

// Kill ends a daemon without a chance to tidy up. The containers of a NodeManager go on.
func (h *Hadoop) Kill(name string) {
	h.t.Helper()
	h.end(h.daemon(name), syscall.SIGKILL)
}

func (h *Hadoop) end(d *hadoopDaemon, sig syscall.Signal) {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(sig)
	select {
	case <-d.ended:
	case <-time.After(30 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	d.cmd = nil
}

// PID is the process of a daemon, 0 while it is stopped.
func (h *Hadoop) PID(name string) int {
	h.t.Helper()
	if d := h.daemon(name); d.cmd != nil {
		return d.cmd.Process.Pid
	}
	return 0
}

// Log is what a daemon has logged so far, in all its lives.
func (h *Hadoop) Log(name string) string {
	h.t.Helper()
	data, _ := os.ReadFile(h.log(h.daemon(name)))
	return string(data)
}

func (h *Hadoop) log(d *hadoopDaemon) string { return filepath.Join(h.Dir, "log", d.name+".log") }

// await waits until a daemon serves.
func (h *Hadoop) await(name string) {
	h.t.Helper()
	d := h.daemon(name)
	if d.cmd == nil {
		h.t.Fatalf("the %s is stopped", name)
	}
	h.until(d, "the "+name+" serves", func() bool { return h.serves(d) })
}

// until is Until with the log of whichever daemon is to blame.
func (h *Hadoop) until(d *hadoopDaemon, what string, there func() bool) {
	h.t.Helper()
	const limit = 3 * time.Minute
	deadline := time.Now().Add(limit)
	Until(h.t, limit+time.Minute, what, func() bool {
		for _, other := range h.daemons {
			if other.cmd == nil {
				continue
			}
			select {
			case <-other.ended:
				h.t.Fatalf("the %s ended: %s", other.name, h.tail(other))
			default:
			}
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("waited %s in vain until %s: %s", limit, what, h.tail(d))
		}
		return there()
	})
}

func (h *Hadoop) tail(d *hadoopDaemon) string {
	log := h.Log(d.name)
	return log[max(0, len(log)-8<<10):]
}

// WaitNodes waits until the ResourceManager counts on every NodeManager that was started.
func (h *Hadoop) WaitNodes() {
	h.t.Helper()
	for _, d := range h.daemons {
		if strings.HasPrefix(d.name, "nodemanager") && d.cmd != nil {
			h.await(d.name)
		}
	}
}

// HDFS is a client that acts as a user, by the user's keytab where the cluster wants Kerberos. It is closed when the
// cluster ends.
func (h *Hadoop) HDFS(name string) *hdfs.Client {
	h.t.Helper()
	o := hdfs.ClientOptions{Addresses: []string{h.NameNode}, User: name}
	if h.Krb5Conf != "" {
		o.KerberosClient, o.KerberosServicePrincipleName = h.login(name), "nn/"+h.name()
	}
	c, err := hdfs.NewClient(o)
	if err != nil {
		h.t.Fatalf("HDFS as %s: %v", name, err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (h *Hadoop) directories() {
	h.t.Helper()
	h.directory("/tmp", h.superuser, 0o1777)
	h.directory("/apps", h.superuser, 0o755)
	h.directory("/user", h.superuser, 0o755)
	h.directory("/user/ann", "ann", 0o750)
	h.directory("/user/bob", "bob", 0o750)
	h.directory("/user/sluice", "sluice", 0o755)
}

// directory makes one in HDFS, or changes the owner and mode of one that is there.
func (h *Hadoop) directory(path, owner string, mode os.FileMode) {
	h.t.Helper()
	c := h.HDFS(h.superuser)
	err := c.MkdirAll(path, mode)
	if err == nil {
		err = c.Chmod(path, mode) // whatever the umask
	}
	if err == nil {
		err = c.Chown(path, owner, owner)
	}
	if err != nil {
		h.t.Fatalf("make %s in HDFS: %v", path, err)
	}
}

// reaper starts a shell that ends what is left of the cluster when this process has died without doing so: containers
// are no children of ours. Then it leaves the logs only. The function that it returns ends the shell.
func (h *Hadoop) reaper() (end func()) {
	h.t.Helper()
	cmd := exec.CommandContext(context.Background(), "sh", "-c", `
		read -r line; [ "$line" = done ] && exit
		for again in 1 2 3; do
			for file in $(grep -lsF "$MARK/" /proc/[0-9]*/cmdline; find /proc -maxdepth 2 -name cwd \( -lname "$MARK" -o -lname "$MARK/*" \) 2>/dev/null); do
				pid=${file#/proc/}; kill -9 "${pid%/*}" 2>/dev/null
			done
		done
		find "$MARK" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +`)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MARK=" + h.Dir}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is not for it
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatalf("start the reaper: %v", err)
	}
	return func() {
		_, _ = io.WriteString(in, "done\n")
		_ = cmd.Wait()
	}
}

// Processes lists what belongs to the cluster, daemons and containers: by the command line, or, as for what a container's command starts, by the
// directory it runs in.
func (h *Hadoop) Processes() []int {
	out := processes(h.Dir + "/")
	entries, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range entries {
		at, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(at+"/", h.Dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// steadyPorts are free ones outside the range from which the kernel gives ports to whoever connects: a daemon must find
// its own free again after it was away, while the others call it.
func steadyPorts(t T, host string, n int) []string {
	t.Helper()
	var lc net.ListenConfig
	var out []string
	for port := 10000 + int(time.Now().UnixNano()%15000); len(out) < n; port++ {
		if port > 32000 {
			t.Fatalf("there are no %d free ports", n)
		}
		l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }()
		out = append(out, strconv.Itoa(port))
	}
	return out
}
