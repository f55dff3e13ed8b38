package yarn

import (
	"strings"
)

// advices are the next steps for what YARN and HDFS complain about, by words of theirs. CLUSTER is the cluster's name, USER
// the user's.
var advices = []struct{ words, next string }{
	{"to unknown queue", "set clusters.CLUSTER.yarn.queue to a queue that the cluster has"},
	{"to non-leaf queue", "set clusters.CLUSTER.yarn.queue to one of the queues below it"},
	{"cannot submit applications to queue", "let USER submit to it, or set clusters.CLUSTER.yarn.queue to another queue"},
	{"more memory than configured max", "ask for less: engine.memory, or spark.driver.memory of the session"},
	{"more cores than configured max", "ask for less: spark.driver.cores of the session"},
	{"Invalid label resource request", "set clusters.CLUSTER.yarn.driver_label to a label that the cluster has"},
	{"permission to access all labels", "its queue may not use the driver's node label: set clusters.CLUSTER.yarn.driver_label, or let the queue use it"},
	{"Queue's Absolute max capacity = 0.0 %", "its queue may not use the driver's node label: set clusters.CLUSTER.yarn.driver_label, or give the queue a share of it"},
	{"Queue's AM resource limit exceeded", "the queue has as many drivers as it may: end some, or raise its maximum-am-resource-percent"},
	{"changed on src filesystem", "somebody has replaced it; connect again"},
	{"spark.yarn.archive", "see clusters.CLUSTER.yarn.archives; if it names none, connect again and the archive is uploaded again"},
	{"File does not exist", "somebody has removed it; connect again"},
	{"access=READ,", "let USER read it, or name another file"},
	{"ermission denied", "/user/USER must be there on HDFS and belong to USER"},
}

// advise is the next step for a complaint, as a sentence to follow it; or nothing.
func advise(text, cluster, user string) string {
	for _, a := range advices {
		if strings.Contains(text, a.words) {
			return ": " + strings.NewReplacer("CLUSTER", cluster, "USER", user).Replace(a.next)
		}
	}
	return ""
}
