// Package yarn runs engines on a YARN cluster without a JVM of its own: files are staged over HDFS, the application is
// submitted over the ResourceManager's REST API.
package yarn

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// Resource is a file on HDFS that YARN brings into a container's directory under a name. Size and Timestamp must be the
// file's own, or the NodeManager refuses it.
type Resource struct {
	Link       string
	URI        string // hdfs://…
	Archive    bool   // it is unpacked, into a directory of that name
	Public     bool   // anybody may read it, so that a node fetches it once for all
	Size       int64  // bytes
	Timestamp  int64  // when it was changed, in milliseconds since the epoch
	DriverOnly bool   // executors do not get it
}

// Site is what a submission has to know about its cluster.
type Site struct {
	Queue         string
	DriverLabel   string // node label of the driver's container; empty sends none
	ExecutorLabel string
	Tags          []string
	Resources     []Resource        // what every container gets: the archive of Spark's jars as __spark_libs__, and more
	Port          string            // where the engine is to listen; empty lets it find a free one
	Viewer        string            // who may look at the application and its log besides its user: the gateway
	Tokens        map[string]string // delegation tokens by service, as a NameNode writes them
	// HadoopConf are the configuration files of the cluster, such as core-site.xml, by name.
	HadoopConf map[string]string
}

// Names that Spark's ApplicationMaster looks for in its container. Spark on YARN, Client.
const (
	libsLink      = "__spark_libs__"
	confLink      = "__spark_conf__"
	propertyFile  = "__spark_conf__.properties"
	cacheFile     = "__spark_dist_cache__.properties"
	overlayFile   = "__spark_hadoop_conf__.xml"
	hadoopConfDir = "__hadoop_conf__"
	confArchive   = confLink + ".zip"
)

const appMaster = "org.apache.spark.deploy.yarn.ApplicationMaster"

// confFiles renders what the archive __spark_conf__.zip holds, by name. staging is the application's directory on HDFS, as a
// URI.
func confFiles(l engines.Launch, site Site, staging string) map[string]string {
	files := map[string]string{
		propertyFile: engines.Properties(sparkConf(l, site, staging)),
		cacheFile:    engines.Properties(distCache(site, staging)),
		overlayFile:  "<configuration></configuration>\n", // nothing beyond the files below
	}
	for name, text := range site.HadoopConf {
		files[hadoopConfDir+"/"+name] = text
	}
	maps.Copy(files, l.Files)
	return files
}

// sparkConf is the engine's settings with those that make it an application of this cluster.
func sparkConf(l engines.Launch, site Site, staging string) map[string]string {
	conf := maps.Clone(l.Conf)
	maps.Copy(conf, map[string]string{
		"spark.master":              "yarn",
		"spark.submit.deployMode":   "cluster",
		"spark.app.name":            l.Name,
		"spark.driver.memory":       l.Memory,
		"spark.yarn.maxAppAttempts": "1", // a second one would be an engine that nobody asked for
		"spark.yarn.queue":          site.Queue,
		"spark.yarn.stagingDir":     parent(parent(staging)), // Spark adds .sparkStaging and the application's id
	})
	if site.ExecutorLabel != "" {
		conf["spark.yarn.executor.nodeLabelExpression"] = site.ExecutorLabel
	}
	if site.Port != "" {
		conf["spark.connect.grpc.binding.port"] = site.Port
	}
	maps.Copy(conf, programConf(l))
	for _, r := range site.Resources {
		if r.Link == libsLink {
			conf["spark.yarn.archive"] = r.URI
		}
	}
	return conf
}

// distCache tells the ApplicationMaster what executors get, in lists that run in parallel.
func distCache(site Site, staging string) map[string]string {
	var names, sizes, times, visible, types []string
	for _, r := range site.Resources {
		if r.DriverOnly {
			continue
		}
		names = append(names, r.URI+"#"+r.Link)
		sizes = append(sizes, strconv.FormatInt(r.Size, 10))
		times = append(times, strconv.FormatInt(r.Timestamp, 10))
		visible = append(visible, r.visibility())
		types = append(types, r.kind())
	}
	list := func(values []string) string { return strings.Join(values, ",") }
	return map[string]string{
		"spark.yarn.cache.filenames":    list(names),
		"spark.yarn.cache.sizes":        list(sizes),
		"spark.yarn.cache.timestamps":   list(times),
		"spark.yarn.cache.visibilities": list(visible),
		"spark.yarn.cache.types":        list(types),
		"spark.yarn.cache.confArchive":  staging + "/" + confArchive,
	}
}

func (r Resource) visibility() string {
	if r.Public {
		return "PUBLIC"
	}
	return "PRIVATE"
}

func (r Resource) kind() string {
	if r.Archive {
		return "ARCHIVE"
	}
	return "FILE"
}

// submission renders the body of POST /ws/v1/cluster/apps. Hadoop's ResourceManager ignores fields that it does not know,
// and says 202 all the same, so the names here are what golden tests hold. staging is the application's directory, conf
// the archive of confFiles in it.
func submission(l engines.Launch, site Site, id, staging string, conf Resource) (application, error) {
	heap, err := engines.Mebibytes(l.Memory)
	if err != nil {
		return application{}, err
	}
	cores, err := engines.DriverCores(l.Conf)
	if err != nil {
		return application{}, err
	}
	env := map[string]string{
		"CLASSPATH":              extraClassPath(l) + "{{PWD}}<CPS>{{PWD}}/" + confLink + "<CPS>{{PWD}}/" + libsLink + "/*<CPS>{{PWD}}/" + confLink + "/" + hadoopConfDir,
		"SPARK_YARN_STAGING_DIR": staging,
		"SPARK_USER":             l.User,
		"SPARK_PREFER_IPV6":      "false",
	}
	const ofDriver = "spark.yarn.appMasterEnv."
	for k, v := range l.Conf {
		if name, ok := strings.CutPrefix(k, ofDriver); ok {
			env[name] = v
		}
	}
	maps.Copy(env, l.Env)
	if l.Program != nil && l.Program.Python {
		env["PYTHONPATH"] = pythonPath(l.Program, env["PYTHONPATH"])
	}
	local := map[string]localResource{}
	for _, r := range append(slices.Clone(site.Resources), conf) {
		local[r.Link] = localResource{r.URI, r.kind(), r.visibility(), r.Size, r.Timestamp}
	}
	return application{
		ID: id, Name: l.Name, Type: "SPARK", Queue: site.Queue, MaxAttempts: 1,
		DriverLabel: site.DriverLabel, AppLabel: site.DriverLabel,
		Resource: resource{Memory: heap + engines.DriverOverhead(heap, l.Conf, 0.1), Cores: cores},
		Tags:     tags{site.Tags},
		Container: container{
			Commands:    commands{command(l)},
			Environment: entriesOf(env),
			Resources:   entriesOf(local),
			ACLs:        entriesOf(map[string]string{"VIEW_APP": site.viewers(l.User), "MODIFY_APP": l.User}),
			Credentials: credentialsOf(site.Tokens),
		},
	}, nil
}

// extraClassPath is what stands in front of a driver's class path, as in Spark's own submissions. What has no directory is in
// the container's.
func extraClassPath(l engines.Launch) string {
	var out string
	for _, e := range strings.Split(l.Conf["spark.driver.extraClassPath"], ":") {
		switch {
		case e == "":
		case strings.ContainsAny(e[:1], "/${"):
			out += e + "<CPS>"
		default:
			out += "{{PWD}}/" + e + "<CPS>"
		}
	}
	return out
}

// viewers is an access list of Hadoop's: users with commas between them.
func (s Site) viewers(user string) string {
	if s.Viewer == "" || s.Viewer == user {
		return user
	}
	return user + "," + s.Viewer
}

// command is what the NodeManager's shell runs. What is in braces or brackets is YARN's to replace.
func command(l engines.Launch) string {
	words := []string{"{{JAVA_HOME}}/bin/java", "-server", "-Djava.net.preferIPv6Addresses=false"}
	for _, o := range l.JVMOptions {
		words = append(words, shell(o))
	}
	words = append(words, "-Djava.io.tmpdir={{PWD}}/tmp", "-Dspark.yarn.app.container.log.dir=<LOG_DIR>", appMaster, "--class", shell(l.MainClass))
	words = append(words, programWords(l)...)
	for _, a := range l.Args {
		words = append(words, "--arg", literal(a))
	}
	return strings.Join(append(words,
		"--properties-file", "{{PWD}}/"+confLink+"/"+propertyFile,
		"--dist-cache-conf", "{{PWD}}/"+confLink+"/"+cacheFile,
		"1>", "<LOG_DIR>/stdout", "2>", "<LOG_DIR>/stderr"), " ") + afterwards(l)
}

// shell quotes a word for the NodeManager's launch script, which puts the command between double quotes of its own.
func shell(word string) string {
	return "'" + strings.NewReplacer("$", `\$`, `"`, `\"`, "'", `'\''`, `\`, `\\`, "`", "\\`").Replace(word) + "'"
}

// literal quotes a word in which YARN is to replace nothing: what it looks for is cut in two, which the shell joins.
func literal(word string) string {
	return strings.NewReplacer("{", "{''", "}", "}''", "<", "<''").Replace(shell(word))
}
