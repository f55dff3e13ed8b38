// Package spark drives stock Spark Connect servers: it renders their launch and speaks their protocol.
package spark

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// Kind is the kind of engine this driver knows.
const Kind engines.Kind = "spark"

// tagKey is a setting of no meaning to Spark that carries our engine id, so that the engine can say who it is.
const tagKey = "spark.sluice.engine"

const (
	mainClass = "org.apache.spark.sql.connect.service.SparkConnectServer"
	// tokenEnv is where a Connect server of 4.0 and later finds the bearer token that its clients must show. An
	// environment variable, because settings are visible in process lists.
	tokenEnv = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
	userEnv  = "SPARK_USER"
	// Ready matches the one line in which a Connect server tells its real port.
	Ready = `Spark Connect server started at: (\S+:\d+)`
)

// Driver is the Spark driver. It has no state.
type Driver struct{}

// Kind implements engines.Driver.
func (Driver) Kind() engines.Kind { return Kind }

// openPackages are what Arrow, Kryo and Netty reach into on Java 17 and later; spark-submit adds the same.
var openPackages = []string{
	"java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util",
	"java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref", "sun.nio.ch", "sun.nio.cs",
	"sun.security.action", "sun.util.calendar",
}

// JVMOptions are what a JVM that runs Spark's classes needs.
func JVMOptions() []string {
	opts := []string{
		"-XX:+IgnoreUnrecognizedVMOptions",
		"-Djdk.reflect.useDirectMethodHandle=false",
		"-Dio.netty.tryReflectionSetAccessible=true",
	}
	for _, p := range openPackages {
		opts = append(opts, "--add-opens=java.base/"+p+"=ALL-UNNAMED")
	}
	return opts
}

// toStderr is how everything is logged.
const toStderr = `rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_ERR
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex
`

// logging makes the server say its address, which it does at INFO, and otherwise only what went wrong.
const logging = "rootLogger.level = warn\n" + toStderr + `logger.connect.name = org.apache.spark.sql.connect.service
logger.connect.level = info
`

// defaults are the settings of an engine that neither the cluster nor the user has chosen.
func defaults() map[string]string {
	return map[string]string{
		"spark.connect.grpc.binding.port": "0",
		// An execution that nobody reads dies after this: as long as a restarted gateway may take to come back.
		"spark.connect.execute.manager.detachedTimeout": "15m",
		// The gateway ends sessions itself; this one is for those of a gateway that never came back.
		"spark.connect.session.manager.defaultSessionTimeout": "24h",
		// Cancel waits for word of a job.
		"spark.connect.progress.reportInterval": "200ms",
		// Smaller batches than the default 128 MiB keep both heaps smooth.
		"spark.connect.grpc.arrow.maxBatchSize":       "16m",
		"spark.scheduler.mode":                        "FAIR",
		"spark.ui.enabled":                            "false",
		"spark.sql.legacy.createHiveTableByDefault":   "false",
		"spark.sql.execution.arrow.compression.codec": "none",
		"spark.log.structuredLogging.enabled":         "false",
	}
}

// Plan renders the launch of a Connect server: a stock main class, its settings, and the token in the environment. A
// server before 4.0 knows no token and listens on every interface, so it needs a network that is closed.
func (Driver) Plan(spec engines.Spec, p engines.Platform) (engines.Launch, error) {
	memory, err := heapOf(spec.Memory, spec.Conf)
	switch {
	case spec.ID == "":
		return engines.Launch{}, fmt.Errorf("plan a Spark engine: it has no id")
	case spec.Token == "":
		return engines.Launch{}, fmt.Errorf("plan a Spark engine: it has no token")
	case err != nil:
		return engines.Launch{}, fmt.Errorf("engine.memory: %w", err)
	case !p.Closed && (p.Version == "" || isOld(p.Version)):
		return engines.Launch{}, fmt.Errorf("plan a Spark engine: Spark %s has no token and listens on every interface, and this cluster does not say that its network is closed: set clusters.NAME.closed_network: true if nobody but this gateway reaches the engines there, or use a runtime of Spark 4.0 or newer", cmp.Or(p.Version, "of a version that is not known, perhaps before 4.0,"))
	}
	env := map[string]string{}
	if spec.User != "" { // Connect does not tell Spark who a session's user is; current_user() asks for the engine's
		env[userEnv] = spec.User
	}
	if !isOld(p.Version) {
		env[tokenEnv] = spec.Token
	}
	conf := defaults()
	maps.Copy(conf, spec.Conf)
	// Where an engine runs, as whom, and who may reach it, is not for its user to say.
	maps.DeleteFunc(conf, func(k, _ string) bool {
		return impersonates(k) || beginsWithOne(k, ofCluster) && !beginsWithOne(k, ofUser)
	})
	delete(conf, "spark.connect.authenticate.token")
	delete(conf, "spark.connect.grpc.interceptor.classes")
	conf["spark.connect.grpc.binding.port"] = "0"
	if err := placed(conf, spec.User, p); err != nil {
		return engines.Launch{}, fmt.Errorf("plan a Spark engine: %w", err)
	}
	shuffleEnv(env, p)
	conf["spark.app.name"] = spec.Name
	conf[tagKey] = spec.ID

	return engines.Launch{
		Tag:        engines.Tag(spec.ID),
		User:       spec.User,
		Name:       spec.Name,
		Memory:     memory,
		Java:       p.Java,
		JVMOptions: append(options(memory, conf), shuffleOptions(spec.User, p)...),
		ClassPath:  classPath(p),
		MainClass:  mainClass,
		Conf:       conf,
		Env:        env,
		Files:      map[string]string{"log4j2.properties": logging},
		Ready:      Ready,
	}, nil
}

// heapOf is the driver's heap: its user's, in Spark's own setting, or else the one that is given.
func heapOf(memory string, conf map[string]string) (string, error) {
	if m := conf["spark.driver.memory"]; heapSize.MatchString(m) {
		return m, nil
	}
	if !heapSize.MatchString(memory) {
		return "", fmt.Errorf("%q is no size of a Java heap; write it like 1g or 512m", memory)
	}
	return memory, nil
}

// options are those of a driver's JVM.
func options(memory string, conf map[string]string) []string {
	opts := append([]string{"-Xmx" + memory, "-Dlog4j2.configurationFile=log4j2.properties"}, JVMOptions()...)
	return append(opts, strings.Fields(conf["spark.driver.extraJavaOptions"])...)
}

var heapSize = regexp.MustCompile(`^[1-9][0-9]*[kKmMgGtT]$`)

var (
	causedBy  = regexp.MustCompile(`(?m)^Caused by: (.+)$`)
	exception = regexp.MustCompile(`(?m)^(?:Exception in thread "[^"]*" )?([\w.$]+(?:Exception|Error): .+)$`)
	vmError   = regexp.MustCompile(`(?m)^(Error: .+|Error occurred during initialization of VM\n.+|Unrecognized .+)$`)
)

// RootCause finds the innermost cause of the last exception in the log; a JVM that did not start says it in its own words.
func (Driver) RootCause(log string) string {
	for _, re := range []*regexp.Regexp{causedBy, exception, vmError} {
		if all := re.FindAllStringSubmatch(log, -1); len(all) > 0 {
			return strings.ReplaceAll(strings.TrimSpace(all[len(all)-1][1]), "\n", ": ")
		}
	}
	return ""
}
