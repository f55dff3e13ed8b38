package testbed

import (
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// site is a configuration file of Hadoop's.
type site map[string]string

func (s site) write(t T, dir, name string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("<configuration>\n")
	for _, key := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "<property><name>%s</name><value>", key)
		_ = xml.EscapeText(&b, []byte(s[key]))
		b.WriteString("</value></property>\n")
	}
	b.WriteString("</configuration>\n")
	writeFile(t, dir, name, b.String())
}

func writeFile(t T, dir, name, text string) {
	t.Helper()
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}

const hadoopLogging = `log4j.rootLogger=INFO,out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{HH:mm:ss,SSS} %-5p %c{1}: %m%n
`

// name is the host in names of principals, and in addresses of web pages where Kerberos guards them. An address is one, too.
func (h *Hadoop) name() string {
	if h.Host == "127.0.0.1" {
		return "localhost"
	}
	return h.Host
}

// HostsOption keeps a JVM from asking a name server about the cluster's address, which may have none that answers; empty where
// only loopback is used.
func (h *Hadoop) HostsOption() string {
	if h.Host == "127.0.0.1" {
		return ""
	}
	machine, _ := os.Hostname() // the servers ask for their own, too
	writeFile(h.t, h.Dir, "hosts", strings.ReplaceAll("127.0.0.1 localhost\nHOST HOST\nHOST ", "HOST", h.Host)+machine+"\n")
	return "-Djdk.net.hosts.file=" + filepath.Join(h.Dir, "hosts")
}

// addresses are free ones on the cluster's host.
type addresses struct {
	ports []string
	host  string
	web   string // the host of web pages, as Kerberos knows it
}

func (a *addresses) port() string {
	port := a.ports[0]
	a.ports = a.ports[1:]
	return port
}

func (a *addresses) next() string { return a.host + ":" + a.port() }

func (a *addresses) page() string { return a.web + ":" + a.port() }

// configure chooses ports, writes a configuration directory for each daemon and one for clients, and lists the daemons.
func (h *Hadoop) configure(o HadoopOptions) {
	h.t.Helper()
	for _, name := range []string{"log", "tmp"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, name), 0o755); err != nil {
			h.t.Fatalf("%v", err)
		}
	}
	free := &addresses{ports: steadyPorts(h.t, h.Host, 16+4*o.Nodes), host: h.Host, web: h.Host}
	if h.Krb5Conf != "" {
		free.web = h.name() // the principal is HTTP/localhost
	}
	h.NameNode = o.FS
	if o.FS == "" {
		h.NameNode, h.NameNodeWeb, h.dataNodeWeb = free.next(), free.page(), free.page()
	}
	core, dfs, yarn := h.clientCore(), h.clientDFS(), h.clientYARN(o, free)
	h.secure(core, dfs, yarn, false)
	maps.Copy(yarn, o.Site)
	maps.Copy(dfs, o.DFS)
	h.ConfDir = filepath.Join(h.Dir, "conf", "client")
	core.write(h.t, h.ConfDir, "core-site.xml")
	dfs.write(h.t, h.ConfDir, "hdfs-site.xml")
	yarn.write(h.t, h.ConfDir, "yarn-site.xml")

	core["hadoop.tmp.dir"] = filepath.Join(h.Dir, "tmp")
	maps.Copy(dfs, h.serverDFS(free))
	maps.Copy(yarn, h.serverYARN(o))
	h.secure(core, dfs, yarn, true)
	maps.Copy(yarn, o.Site)
	add := func(name, class string, heap int, more site) *hadoopDaemon {
		dir := filepath.Join(h.Dir, "conf", name)
		mine := maps.Clone(yarn)
		maps.Copy(mine, more)
		core.write(h.t, dir, "core-site.xml")
		dfs.write(h.t, dir, "hdfs-site.xml")
		mine.write(h.t, dir, "yarn-site.xml")
		writeFile(h.t, dir, "log4j.properties", hadoopLogging)
		d := &hadoopDaemon{name: name, class: "org.apache.hadoop." + class, heap: heap, conf: dir}
		h.daemons = append(h.daemons, d)
		return d
	}
	if o.FS == "" {
		add("namenode", "hdfs.server.namenode.NameNode", 256, nil)
		add("datanode", "hdfs.server.datanode.DataNode", 256, nil)
	}
	for i := range h.RMs {
		h.resourceManager(o, i, add)
	}
	for n := 1; n <= o.Nodes; n++ {
		name := "nodemanager" + strconv.Itoa(n)
		more := h.nodeYARN(name, free)
		if n == o.Nodes && o.Label != "" {
			more["yarn.nodemanager.node-labels.provider.configured-node-partition"] = o.Label
		}
		d := add(name, "yarn.server.nodemanager.NodeManager", 256, more)
		_, d.port, _ = strings.Cut(more["yarn.nodemanager.address"], ":")
	}
}

func (h *Hadoop) resourceManager(o HadoopOptions, i int, add func(name, class string, heap int, more site) *hadoopDaemon) {
	h.t.Helper()
	name, more := "resourcemanager", site{}
	if o.HA {
		more["yarn.resourcemanager.ha.id"] = rmID(i)
	}
	if i > 0 {
		name += strconv.Itoa(i + 1)
	}
	fair := filepath.Join(h.Dir, "conf", name, "fair-scheduler.xml")
	more["yarn.scheduler.fair.allocation.file"] = fair
	d := add(name, "yarn.server.resourcemanager.ResourceManager", 384, more)
	d.id, d.web = rmID(i), h.RMs[i]
	capacityQueues(o.Label).write(h.t, d.conf, "capacity-scheduler.xml")
	writeFile(h.t, d.conf, filepath.Base(fair), fairQueues)
}

func (h *Hadoop) clientCore() site {
	return site{
		"fs.defaultFS":                  "hdfs://" + h.NameNode,
		"hadoop.proxyuser.sluice.hosts": "*",
		"hadoop.proxyuser.sluice.users": "*",
		// The users are no accounts of this machine: nothing is to be asked about them.
		"hadoop.user.group.static.mapping.overrides": "dr.who=;sluice=sluice;ann=ann;bob=bob",
		// Who has lost a daemon finds it again soon.
		"ipc.client.connect.retry.interval": "200",
	}
}

func (h *Hadoop) clientDFS() site {
	s := site{
		"dfs.replication":         "1",
		"dfs.permissions.enabled": "true",
	}
	if h.NameNodeWeb != "" {
		s["dfs.namenode.http-address"] = h.NameNodeWeb
	}
	return s
}

// rmID is what the configuration calls a ResourceManager of two.
func rmID(i int) string { return "rm" + strconv.Itoa(i+1) }

func (h *Hadoop) clientYARN(o HadoopOptions, free *addresses) site {
	s := site{
		"yarn.acl.enable": "true",
		"yarn.admin.acl":  h.superuser,
		// An application that has lost the ResourceManager is to find it again soon, too.
		"yarn.resourcemanager.connect.retry-interval.ms": "500",
	}
	suffixes := []string{""}
	if o.HA {
		suffixes = []string{"." + rmID(0), "." + rmID(1)}
		maps.Copy(s, site{
			"yarn.resourcemanager.cluster-id":                    "testbed",
			"yarn.resourcemanager.ha.enabled":                    "true",
			"yarn.resourcemanager.ha.rm-ids":                     rmID(0) + "," + rmID(1),
			"yarn.resourcemanager.ha.automatic-failover.enabled": "false",
		})
	}
	for _, suffix := range suffixes {
		web := free.page()
		h.RMs = append(h.RMs, web)
		s["yarn.resourcemanager.hostname"+suffix] = h.Host
		s["yarn.resourcemanager.webapp.address"+suffix] = web
		for _, service := range []string{"", "scheduler.", "resource-tracker.", "admin."} {
			s["yarn.resourcemanager."+service+"address"+suffix] = free.next()
		}
	}
	h.RM = h.RMs[0]
	return s
}

func (h *Hadoop) serverDFS(free *addresses) site {
	return site{
		"dfs.namenode.name.dir":                                "file://" + filepath.Join(h.Dir, "namenode"),
		"dfs.namenode.handler.count":                           "4",
		"dfs.namenode.safemode.extension":                      "0",
		"dfs.datanode.data.dir":                                "file://" + filepath.Join(h.Dir, "datanode"),
		"dfs.datanode.hostname":                                h.name(),
		"dfs.datanode.address":                                 free.next(),
		"dfs.datanode.ipc.address":                             free.next(),
		"dfs.datanode.http.address":                            h.dataNodeWeb,
		"dfs.heartbeat.interval":                               "1",
		"dfs.namenode.datanode.registration.ip-hostname-check": "false",
	}
}

func (h *Hadoop) serverYARN(o HadoopOptions) site {
	s := site{
		"yarn.resourcemanager.recovery.enabled":                                         "true",
		"yarn.resourcemanager.store.class":                                              "org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore",
		"yarn.resourcemanager.fs.state-store.uri":                                       "file://" + filepath.Join(h.Dir, "resourcemanager"),
		"yarn.resourcemanager.client.thread-count":                                      "8",
		"yarn.resourcemanager.nodemanagers.heartbeat-interval-ms":                       "200",
		"yarn.resourcemanager.work-preserving-recovery.scheduling-wait-ms":              "1000",
		"yarn.cluster.max-application-priority":                                         "10",
		"yarn.scheduler.minimum-allocation-mb":                                          "128",
		"yarn.scheduler.maximum-allocation-mb":                                          "8192",
		"yarn.scheduler.maximum-allocation-vcores":                                      "16",
		"yarn.node-labels.enabled":                                                      "true",
		"yarn.node-labels.configuration-type":                                           "distributed",
		"yarn.node-labels.fs-store.root-dir":                                            "file://" + filepath.Join(h.Dir, "labels"),
		"yarn.nodemanager.node-labels.provider":                                         "config",
		"yarn.nodemanager.resource.memory-mb":                                           "8192", // a promise, which nobody checks
		"yarn.nodemanager.resource.cpu-vcores":                                          "16",
		"yarn.nodemanager.pmem-check-enabled":                                           "false",
		"yarn.nodemanager.vmem-check-enabled":                                           "false",
		"yarn.nodemanager.recovery.enabled":                                             "true",
		"yarn.nodemanager.disk-health-checker.min-free-space-per-disk-mb":               "512",
		"yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99",
	}
	const schedulers = "org.apache.hadoop.yarn.server.resourcemanager.scheduler."
	switch o.Scheduler {
	case "", "capacity":
		s["yarn.resourcemanager.scheduler.class"] = schedulers + "capacity.CapacityScheduler"
	case "fair":
		s["yarn.resourcemanager.scheduler.class"] = schedulers + "fair.FairScheduler"
	default:
		h.t.Fatalf("there is no scheduler %q", o.Scheduler)
	}
	return s
}

func (h *Hadoop) nodeYARN(name string, free *addresses) site {
	return site{
		"yarn.nodemanager.hostname":                  h.Host,
		"yarn.nodemanager.address":                   free.next(),
		"yarn.nodemanager.localizer.address":         free.next(),
		"yarn.nodemanager.webapp.address":            free.page(),
		"yarn.nodemanager.collector-service.address": free.next(),
		"yarn.nodemanager.local-dirs":                filepath.Join(h.Dir, name, "local"),
		"yarn.nodemanager.log-dirs":                  filepath.Join(h.Dir, "log", name),
		"yarn.nodemanager.recovery.dir":              filepath.Join(h.Dir, name, "recovery"),
	}
}

// capacityQueues let every queue grow to the whole cluster. A labelled partition is for root.etl alone; root.bi may ask for it, and has none of it.
func capacityQueues(label string) site {
	const root = "yarn.scheduler.capacity.root."
	s := site{
		"yarn.scheduler.capacity.resource-calculator":         "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator",
		"yarn.scheduler.capacity.maximum-am-resource-percent": "0.8",
		root + "queues":                  "default,etl,bi",
		root + "acl_administer_queue":    " ", // nobody: what the root allows, every queue does
		root + "acl_submit_applications": "*",
	}
	for queue, share := range map[string]string{"default": "20", "etl": "40", "bi": "40"} {
		s[root+queue+".capacity"] = share
		s[root+queue+".maximum-capacity"] = "100"
		s[root+queue+".user-limit-factor"] = "5"
	}
	if label != "" {
		for _, queue := range []string{"", "etl."} {
			s[root+queue+"accessible-node-labels"] = label
			s[root+queue+"accessible-node-labels."+label+".capacity"] = "100"
		}
		s[root+"default.accessible-node-labels"] = " "
		// It may ask for such nodes, and has no share of them: what it asks for never comes.
		s[root+"bi.accessible-node-labels"] = label
		s[root+"bi.accessible-node-labels."+label+".capacity"] = "0"
		s[root+"bi.accessible-node-labels."+label+".maximum-capacity"] = "0"
	}
	return s
}

const fairQueues = `<allocations>
<queue name="root"><aclSubmitApps>*</aclSubmitApps><aclAdministerApps> </aclAdministerApps>
<queue name="default"><weight>1</weight></queue>
<queue name="etl"><weight>2</weight></queue>
<queue name="bi"><weight>2</weight></queue>
</queue>
</allocations>
`
