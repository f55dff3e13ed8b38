package yarn

import (
	"fmt"
	"strings"
)

// advices are the next steps for what YARN and HDFS complain about, by words of theirs. %[1]s is the cluster's name, %[2]s
// the user's.
var advices = []struct{ words, next string }{
	{"to unknown queue", "set clusters.%[1]s.yarn.queue to a queue that the cluster has"},
	{"to non-leaf queue", "set clusters.%[1]s.yarn.queue to one of the queues below it"},
	{"cannot submit applications to queue", "let %[2]s submit to it, or set clusters.%[1]s.yarn.queue to another queue"},
	{"more memory than configured max", "ask for less: engine.memory, or spark.driver.memory of the session"},
	{"more cores than configured max", "ask for less: spark.driver.cores of the session"},
	{"Invalid label resource request", "set clusters.%[1]s.yarn.driver_label to a label that the cluster has"},
	{"Queue's Absolute max capacity = 0.0 %", "its queue may not use the driver's node label: set clusters.%[1]s.yarn.driver_label, or give the queue a share of it"},
	{"Queue's AM resource limit exceeded", "the queue has as many drivers as it may: end some, or raise its maximum-am-resource-percent"},
	{"changed on src filesystem", "somebody has replaced it; connect again"},
	{"File does not exist", "somebody has removed it; connect again"},
	{"access=READ,", "let %[2]s read it, or name another file"},
	{"ermission denied", "/user/%[2]s must be there on HDFS and belong to %[2]s"},
}

// advise is the next step for a complaint, as a sentence to follow it; or nothing.
func advise(text, cluster, user string) string {
	for _, a := range advices {
		if strings.Contains(text, a.words) {
			return ": " + fmt.Sprintf(a.next, cluster, user)
		}
	}
	return ""
}
