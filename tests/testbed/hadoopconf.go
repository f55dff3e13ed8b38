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

// configure chooses ports, writes a configuration directory for each daemon and one for clients, and lists the daemons.
func (h *Hadoop) configure(o HadoopOptions) {
	h.t.Helper()
	for _, name := range []string{"log", "tmp"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, name), 0o755); err != nil {
			h.t.Fatalf("%v", err)
		}
	}
	ports := steadyPorts(h.t, 10+4*o.Nodes)
	address := func() string {
		port := ports[0]
		ports = ports[1:]
		return "127.0.0.1:" + port
	}
	h.RM, h.NameNode, h.nameNodeWeb, h.dataNodeWeb = address(), o.FS, address(), address()
	if o.FS == "" {
		h.NameNode = address()
	}

	core := site{
		"fs.defaultFS":                  "hdfs://" + h.NameNode,
		"hadoop.proxyuser.sluice.hosts": "*",
		"hadoop.proxyuser.sluice.users": "*",
		// The users are no accounts of this machine: nothing is to be asked about them.
		"hadoop.user.group.static.mapping.overrides": "dr.who=;sluice=sluice;ann=ann;bob=bob",
		// Who has lost a daemon finds it again soon.
		"ipc.client.connect.retry.interval": "200",
	}
	dfs := site{
		"dfs.replication":         "1",
		"dfs.permissions.enabled": "true",
	}
	yarn := site{
		"yarn.acl.enable":                               "true",
		"yarn.admin.acl":                                h.superuser,
		"yarn.resourcemanager.hostname":                 "127.0.0.1",
		"yarn.resourcemanager.webapp.address":           h.RM,
		"yarn.resourcemanager.address":                  address(),
		"yarn.resourcemanager.scheduler.address":        address(),
		"yarn.resourcemanager.resource-tracker.address": address(),
		"yarn.resourcemanager.admin.address":            address(),
		// An application that has lost the ResourceManager is to find it again soon, too.
		"yarn.resourcemanager.connect.retry-interval.ms": "500",
	}
	maps.Copy(yarn, o.Site)
	h.ConfDir = filepath.Join(h.Dir, "conf", "client")
	core.write(h.t, h.ConfDir, "core-site.xml")
	dfs.write(h.t, h.ConfDir, "hdfs-site.xml")
	yarn.write(h.t, h.ConfDir, "yarn-site.xml")

	core["hadoop.tmp.dir"] = filepath.Join(h.Dir, "tmp")
	maps.Copy(dfs, site{
		"dfs.namenode.name.dir":                                "file://" + filepath.Join(h.Dir, "namenode"),
		"dfs.namenode.http-address":                            h.nameNodeWeb,
		"dfs.namenode.handler.count":                           "4",
		"dfs.namenode.safemode.extension":                      "0",
		"dfs.datanode.data.dir":                                "file://" + filepath.Join(h.Dir, "datanode"),
		"dfs.datanode.hostname":                                "localhost",
		"dfs.datanode.address":                                 address(),
		"dfs.datanode.ipc.address":                             address(),
		"dfs.datanode.http.address":                            h.dataNodeWeb,
		"dfs.heartbeat.interval":                               "1",
		"dfs.namenode.datanode.registration.ip-hostname-check": "false",
	})
	maps.Copy(yarn, site{
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
	})
	const schedulers = "org.apache.hadoop.yarn.server.resourcemanager.scheduler."
	switch o.Scheduler {
	case "", "capacity":
		yarn["yarn.resourcemanager.scheduler.class"] = schedulers + "capacity.CapacityScheduler"
	case "fair":
		yarn["yarn.resourcemanager.scheduler.class"] = schedulers + "fair.FairScheduler"
	default:
		h.t.Fatalf("there is no scheduler %q", o.Scheduler)
	}
	maps.Copy(yarn, o.Site)

	conf := func(name string, more site) string {
		dir := filepath.Join(h.Dir, "conf", name)
		mine := maps.Clone(yarn)
		maps.Copy(mine, more)
		core.write(h.t, dir, "core-site.xml")
		dfs.write(h.t, dir, "hdfs-site.xml")
		mine.write(h.t, dir, "yarn-site.xml")
		writeFile(h.t, dir, "log4j.properties", hadoopLogging)
		return dir
	}
	add := func(name, class string, heap int, more site) *hadoopDaemon {
		d := &hadoopDaemon{name: name, class: "org.apache.hadoop." + class, heap: heap, conf: conf(name, more)}
		h.daemons = append(h.daemons, d)
		return d
	}
	if o.FS == "" {
		add("namenode", "hdfs.server.namenode.NameNode", 256, nil)
		add("datanode", "hdfs.server.datanode.DataNode", 256, nil)
	}
	fair := filepath.Join(h.Dir, "conf", "resourcemanager", "fair-scheduler.xml")
	rm := add("resourcemanager", "yarn.server.resourcemanager.ResourceManager", 384, site{"yarn.scheduler.fair.allocation.file": fair})
	capacityQueues(o.Label).write(h.t, rm.conf, "capacity-scheduler.xml")
	writeFile(h.t, rm.conf, filepath.Base(fair), fairQueues)
	for n := 1; n <= o.Nodes; n++ {
		name := "nodemanager" + strconv.Itoa(n)
		main := address()
		more := site{
			"yarn.nodemanager.hostname":                  "127.0.0.1",
			"yarn.nodemanager.address":                   main,
			"yarn.nodemanager.localizer.address":         address(),
			"yarn.nodemanager.webapp.address":            address(),
			"yarn.nodemanager.collector-service.address": address(),
			"yarn.nodemanager.local-dirs":                filepath.Join(h.Dir, name, "local"),
			"yarn.nodemanager.log-dirs":                  filepath.Join(h.Dir, "log", name),
			"yarn.nodemanager.recovery.dir":              filepath.Join(h.Dir, name, "recovery"),
		}
		if n == o.Nodes && o.Label != "" {
			more["yarn.nodemanager.node-labels.provider.configured-node-partition"] = o.Label
		}
		add(name, "yarn.server.nodemanager.NodeManager", 256, more).port = strings.TrimPrefix(main, "127.0.0.1:")
	}
}

// capacityQueues let every queue grow to the whole cluster. A labelled partition is for root.etl alone.
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
		for _, queue := range []string{"default.", "bi."} {
			s[root+queue+"accessible-node-labels"] = " "
		}
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
