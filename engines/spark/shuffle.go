package spark

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// Where the shuffle client's classes go on the class path, and how Spark is told of them.
const (
	driverClassPath   = "spark.driver.extraClassPath"
	executorClassPath = "spark.executor.extraClassPath"
	celeborn          = "spark.celeborn."
	// ofUserName is read from the driver's own properties by clients before 0.6, and from Spark's settings by later ones.
	ofUserName = "celeborn.quota.identity.user-specific.userName"
)

// placed completes the settings that a user wishes, as far as they are his to say, by those of the place.
func placed(conf map[string]string, user string, p engines.Platform) error {
	s := p.Shuffle
	if s == nil {
		maps.Copy(conf, p.Conf)
		return nil
	}
	if err := fits(*s, p.Version); err != nil {
		return err
	}
	maps.DeleteFunc(conf, func(k, _ string) bool { return strings.HasPrefix(k, celeborn) && !beginsWithOne(k, tuning) })
	for k, v := range shuffleWishes() {
		if _, said := conf[k]; !said {
			conf[k] = v
		}
	}
	maps.Copy(conf, shuffleConf(*s, user))
	maps.Copy(conf, p.Conf)
	for _, key := range []string{driverClassPath, executorClassPath} { // in front, where nobody else's class hides the client's
		conf[key] = strings.TrimSuffix(s.Client+":"+conf[key], ":")
	}
	if conf[serializer] == "" || conf[serializer] == javaSerializer {
		conf[serializer] = "org.apache.spark.serializer.KryoSerializer"
	}
	for _, env := range []string{"spark.yarn.appMasterEnv.", "spark.kubernetes.driverEnv.", "spark.executorEnv."} {
		if ip := conf[env+"SPARK_LOCAL_IP"]; ip != "" { // the client looks for an address of its own
			conf[env+localIPEnv] = cmp.Or(conf[env+localIPEnv], ip)
		}
	}
	return nil
}

// Each row of a shuffle has to stand for itself. Java's serializer begins its output with a header, and refers to what it has
// written before: rows of RDDs would be unreadable. Rows of SQL have a form of their own, whatever this says.
const (
	serializer     = "spark.serializer"
	javaSerializer = "org.apache.spark.serializer.JavaSerializer"
)

var clientJar = regexp.MustCompile(`^celeborn-client-spark-(\d+)-shaded_`)

// fits refuses a client's jar that says of itself that it is for another Spark: it would end in a NoSuchMethodError.
func fits(s engines.Shuffle, version string) error {
	made, runs := clientJar.FindStringSubmatch(path.Base(s.Jar)), majorVersion.FindStringSubmatch(version)
	if made == nil || runs == nil || made[1] == runs[1] {
		return nil
	}
	return fmt.Errorf("%s: %s is for Spark %s, and this engine is Spark %s: name the jar for Spark %s for this runtime, in clients, or none to let its executors keep their shuffle files",
		s.Key, path.Base(s.Jar), made[1], version, runs[1])
}

// classPath is that of a driver which is started from a distribution on its machine.
func classPath(p engines.Platform) []string {
	jars := []string{p.Home + "/jars/*"}
	if p.Shuffle != nil {
		jars = append([]string{p.Shuffle.Client}, jars...)
	}
	return jars
}

// shuffleOptions are those of a driver's JVM. They stand behind its user's own, and the last one holds.
func shuffleOptions(user string, p engines.Platform) []string {
	if p.Shuffle == nil || user == "" || strings.ContainsAny(user, " \t\n\"'") {
		return nil
	}
	return []string{"-D" + ofUserName + "=" + user}
}

// localIPEnv is where the client looks for the address that it is to listen on, in place of one that others can reach.
const localIPEnv = "CELEBORN_LOCAL_IP"

// shuffleEnv is what a driver's client needs in its environment.
func shuffleEnv(env map[string]string, p engines.Platform) {
	if host := p.Conf["spark.driver.host"]; p.Shuffle != nil && host != "" {
		env[localIPEnv] = host
	}
}

// tuning are the client's settings that are a matter of one's own speed. The others say where the service is, as whom it is
// used and what a failure costs: those are the cluster's.
var tuning = []string{celeborn + "client.shuffle.compression.", celeborn + "client.spark.shuffle.writer", celeborn + "client.spark.push.",
	celeborn + "client.push.buffer.", celeborn + "client.push.queue.capacity", celeborn + "client.push.maxReqsInFlight.",
	celeborn + "client.fetch.maxReqsInFlight", celeborn + "client.shuffle.partitionSplit."}

// shuffleWishes are settings that a remote shuffle asks for and that may be otherwise, if somebody says so.
func shuffleWishes() map[string]string {
	return map[string]string{
		// A reader of one mapper's rows would read a little of every partition's file.
		"spark.sql.adaptive.localShuffleReader.enabled": "false",
		// No executor is nearer to the rows than another, so there is nothing to wait for.
		"spark.shuffle.reduceLocality.enabled": "false",
	}
}

// shuffleConf are the settings of an engine or batch that shuffles through the service. docs/shuffle.md says of each where
// it comes from, and what the service does for it to hold.
func shuffleConf(s engines.Shuffle, user string) map[string]string {
	conf := map[string]string{
		"spark.shuffle.manager":         "org.apache.spark.shuffle.celeborn.SparkShuffleManager",
		"spark.shuffle.service.enabled": "false",

		celeborn + "master.endpoints":              strings.Join(s.Masters, ","),
		celeborn + "client.push.replicate.enabled": strconv.FormatBool(s.Replicate),
	}
	if user != "" {
		conf["spark."+ofUserName] = user
	}
	if s.Fallback {
		conf[celeborn+"client.spark.shuffle.fallback.policy"] = "AUTO"
	} else {
		maps.Copy(conf, withoutFiles())
	}
	maps.Copy(conf, failover())
	// The client waits for room in its windows by sleeping and looking again: 50 ms a time would bound a task to 40 MB/s.
	for _, wait := range []string{"client.push.takeTaskWaitInterval", "client.push.limit.inFlight.sleepInterval"} {
		conf[celeborn+wait] = "5ms"
	}
	return conf
}

// withoutFiles are the settings of an engine whose executors never hold shuffle files: they may go at any time.
func withoutFiles() map[string]string {
	return map[string]string{
		celeborn + "client.spark.shuffle.fallback.policy": "NEVER",
		// Both questions are there for the fallback, and no answer counts as no: a master that starts anew would fail every
		// query. A shuffle that finds no worker asks again.
		celeborn + "client.spark.shuffle.checkWorker.enabled": "false",
		celeborn + "quota.enabled":                            "false",
		// Spark is told that the end of an executor takes no shuffle data with it: none is run again, tracked or moved away.
		"spark.shuffle.sort.io.plugin.class":               "org.apache.spark.shuffle.celeborn.CelebornShuffleDataIO",
		"spark.dynamicAllocation.shuffleTracking.enabled":  "false",
		"spark.storage.decommission.shuffleBlocks.enabled": "false",
	}
}

// failover are the settings that bound how long a task stands still when a worker fails.
func failover() map[string]string {
	conf := map[string]string{
		// A worker that is alive says so every second as long as somebody waits for it. One that is silent is let go.
		"data.io.connectionTimeout":     "4s",
		"client.closeIdleConnections":   "true",
		"data.io.connectTimeout":        "1s",
		"data.io.maxRetries":            "1",
		"data.io.retryWait":             "500ms",
		"client.push.timeout":           "120s",
		"client.push.revive.interval":   "100ms",
		"client.fetch.timeout":          "600s",
		"client.push.revive.maxRetries": "5",

		// Nobody closes a silent connection to a master or a worker's control port: each question has its own end.
		"rpc.askTimeout":                            "5s",
		"client.rpc.maxRetries":                     "6",
		"client.rpc.registerShuffle.askTimeout":     "120s",
		"client.rpc.requestPartition.askTimeout":    "120s",
		"client.rpc.getReducerFileGroup.askTimeout": "120s",
		"client.rpc.commitFiles.askTimeout":         "4s",
		"client.requestCommitFiles.maxRetries":      "2",
		"client.requestCommitFiles.retryWait":       "200ms",
		"client.reserveSlots.maxRetries":            "5",
		"client.reserveSlots.retryWait":             "200ms",
		"client.registerShuffle.maxRetries":         "30",
		"client.registerShuffle.retryWait":          "1s",
		"masterClient.maxRetries":                   "40",

		// Who has failed is passed over, by the task that saw it and by all others.
		"client.push.excludeWorkerOnFailure.enabled":           "true",
		"client.excludePeerWorkerOnFailure.enabled":            "true",
		"client.fetch.excludeWorkerOnFailure.enabled":          "true",
		"client.excludedWorker.expireTimeout":                  "15s",
		"client.fetch.excludedWorker.expireTimeout":            "60s",
		"client.shuffle.register.filterExcludedWorker.enabled": "true",
		"client.application.heartbeatInterval":                 "2s",
		"client.fetch.maxRetriesForEachReplica":                "6",

		// What is lost all the same is written again by its stage, in place of failing the job.
		"client.spark.fetch.throwsFetchFailure":              "true",
		"client.shuffle.batchHandleCommitPartition.interval": "1s",
		"client.shuffle.expired.checkInterval":               "30s",
	}
	for _, module := range []string{"rpc_app", "rpc_service"} {
		conf[module+".io.connectTimeout"], conf[module+".io.maxRetries"], conf[module+".io.retryWait"] = "2s", "2", "200ms"
	}
	out := map[string]string{}
	for k, v := range conf {
		out[celeborn+k] = v
	}
	return out
}
