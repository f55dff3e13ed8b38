package spark

import (
	_ "embed"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// pythonRunner is Spark's own class that starts a Python program and fails with it.
const pythonRunner = "org.apache.spark.deploy.PythonRunner"

// batchLogging tells what the program logs, and of Spark only what went wrong.
const batchLogging = "rootLogger.level = info\n" + toStderr + `logger.spark.name = org.apache.spark
logger.spark.level = warn
logger.shaded.name = org.sparkproject
logger.shaded.level = warn
logger.hadoop.name = org.apache.hadoop
logger.hadoop.level = warn
`

// PlanBatch implements engines.BatchDriver.
func (Driver) PlanBatch(b engines.Batch, p engines.Platform) (engines.Launch, error) {
	if b.ID == "" {
		return engines.Launch{}, fmt.Errorf("plan a Spark batch: it has no id")
	}
	conf, err := batchConf(b, p)
	if err != nil {
		return engines.Launch{}, err
	}
	memory, err := heapOf(b.Memory, b.Conf)
	if err != nil {
		return engines.Launch{}, fmt.Errorf("memory: %w", err)
	}
	l := engines.Launch{
		Tag:        engines.Tag(b.ID),
		User:       b.User,
		Name:       b.Name,
		Memory:     memory,
		Java:       p.Java,
		JVMOptions: append(options(memory, conf), shuffleOptions(b.User, p)...),
		ClassPath:  classPath(p),
		MainClass:  b.Class,
		Args:       b.Args,
		Conf:       conf,
		Env:        map[string]string{},
		Files:      map[string]string{"log4j2.properties": batchLogging},
	}
	if b.User != "" {
		l.Env[userEnv] = b.User
	}
	shuffleEnv(l.Env, p)
	return l, setProgram(&l, b)
}

// sqlRunner runs a script of SQL. Spark's own class for that, SparkSQLCLIDriver, runs as a YARN application and prints the rows,
// but always ends with System.exit, so that the ApplicationMaster reports every script as failed: "Shutdown hook called before
// final status was reported". What PythonRunner runs fails and succeeds as it does itself.
//
//go:embed sql.py
var sqlRunner string

const sqlRunnerFile = "sluice_sql.py"

// setProgram says what is run, and what is brought for it.
func setProgram(l *engines.Launch, b engines.Batch) error {
	if err := oneProgram(b); err != nil {
		return err
	}
	var bring bringer
	p := &engines.Program{Python: b.Jar == ""}
	switch {
	case b.Jar != "":
		p.Main = bring.one("jar", b.Jar, false, ".jar")
	case b.Python != "":
		l.MainClass = pythonRunner
		p.Main = bring.one("python", b.Python, false, ".py")
		p.Packages = bring.all("py_files", b.PyFiles, false, ".py", ".zip", ".egg")
	default:
		l.MainClass = pythonRunner
		p.Main, l.Files[sqlRunnerFile] = sqlRunnerFile, sqlRunner
		l.Args = []string{bring.one("sql", b.SQL, false)}
	}
	p.Jars = bring.all("jars", b.Jars, false, ".jar")
	bring.all("files", b.Files, false)
	bring.all("archives", b.Archives, true, ".zip", ".jar", ".tar.gz", ".tgz", ".tar")
	p.Bring, l.Program = bring.files, p
	return bring.err
}

func oneProgram(b engines.Batch) error {
	n := 0
	for _, uri := range []string{b.Jar, b.Python, b.SQL} {
		if uri != "" {
			n++
		}
	}
	switch {
	case n == 0:
		return fmt.Errorf("the batch has no program: name one as jar, python or sql")
	case n > 1:
		return fmt.Errorf("the batch has %d programs: name one of jar, python and sql", n)
	case b.Jar != "" && !className.MatchString(b.Class):
		return fmt.Errorf("class: %q is no name of a class: name the one in the jar that has the main method", b.Class)
	case b.Jar == "" && b.Class != "":
		return fmt.Errorf("class: only a jar has one: leave it out, or name a jar")
	case b.Python == "" && len(b.PyFiles) > 0:
		return fmt.Errorf("py_files: only a Python program imports them: leave them out, or name the program as python")
	case b.SQL != "" && len(b.Args) > 0:
		return fmt.Errorf("args: a script of SQL takes none: leave them out, or use settings as ${name} in the script")
	}
	return nil
}

var className = regexp.MustCompile(`^[\pL_$][\pL\pN_$]*(\.[\pL_$][\pL\pN_$]*)*$`)

// bringer collects files, and the first error.
type bringer struct {
	files []engines.File
	links map[string]string // who has taken a name
	err   error
}

// all brings a list, and returns the names.
func (b *bringer) all(field string, uris []string, archive bool, endings ...string) (links []string) {
	for i, uri := range uris {
		links = append(links, b.one(fmt.Sprintf("%s[%d]", field, i), uri, archive, endings...))
	}
	return links
}

// one brings a file that must have one of some endings, if any are given, and returns its name.
func (b *bringer) one(field, uri string, archive bool, endings ...string) string {
	if b.err != nil {
		return ""
	}
	f, err := readURI(uri)
	if err == nil && !endsInOne(f.From, endings) {
		err = fmt.Errorf("its name must end in %s", strings.Join(endings, " or "))
	}
	if err == nil && !archive && !endsInOne(f.Link, endings) {
		err = fmt.Errorf("the name behind # must end in %s, too", strings.Join(endings, " or "))
	}
	if other, taken := b.links[f.Link]; err == nil && taken {
		err = fmt.Errorf("%s has the name %s already: give one of them another with #NAME behind it", other, f.Link)
	}
	if err != nil {
		b.err = fmt.Errorf("%s: %q: %w", field, uri, err)
		return ""
	}
	if b.links == nil {
		b.links = map[string]string{}
	}
	b.links[f.Link] = field
	f.Field, f.Archive = field, archive
	b.files = append(b.files, f)
	return f.Link
}

func endsInOne(name string, endings []string) bool {
	for _, e := range endings {
		if strings.HasSuffix(name, e) {
			return true
		}
	}
	return len(endings) == 0
}

var linkName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+@=-]*$`)

// readURI reads how a batch names a file.
func readURI(uri string) (engines.File, error) {
	const next = "name a file by a path on the gateway's machine, such as /etl/job.jar, or as hdfs://… if it is there"
	var f engines.File
	var name string
	if strings.HasPrefix(uri, "/") {
		name, f.Link, _ = strings.Cut(uri, "#")
		name = path.Clean(name)
		f.From = name
	} else {
		u, err := url.Parse(uri)
		if err != nil {
			return f, fmt.Errorf("it is no URI: %s", next)
		}
		name, f.Link = path.Clean(u.Path), u.Fragment
		switch {
		case u.Scheme != "file" && u.Scheme != "hdfs":
			return f, fmt.Errorf("nothing is brought from there: %s", next)
		case u.Scheme == "file" && u.Host != "" && u.Host != "localhost":
			return f, fmt.Errorf("the gateway reads no files of %s: %s", u.Host, next)
		case !strings.HasPrefix(name, "/") || u.RawQuery != "" || u.User != nil:
			return f, fmt.Errorf("it is no path that begins with /: %s", next)
		case u.Scheme == "file":
			f.From = name
		default:
			f.From = (&url.URL{Scheme: "hdfs", Host: u.Host, Path: name}).String()
		}
	}
	if name == "/" {
		return f, fmt.Errorf("it is a directory: %s", next)
	}
	if f.Link == "" {
		f.Link = path.Base(name)
	}
	if !linkName.MatchString(f.Link) {
		return f, fmt.Errorf("%q cannot be its name in the working directory: put # and a name of letters, digits and . _ + @ = - behind it", f.Link)
	}
	return f, nil
}

// fieldOf says which field of a batch is to be used in place of a setting that names files: files are checked, and
// brought, by their fields alone.
var fieldOf = map[string]string{
	"spark.jars": "jars", "spark.yarn.dist.jars": "jars", "spark.jars.packages": "jars",
	"spark.files": "files", "spark.yarn.dist.files": "files",
	"spark.archives": "archives", "spark.yarn.dist.archives": "archives",
	"spark.submit.pyFiles": "py_files", "spark.yarn.dist.pyFiles": "py_files",
}

// ofPlatform are the settings, or beginnings of settings, that say where a batch runs, as whom, and with which Spark. They are
// not for its user to say.
var ofPlatform = []string{"spark.master", "spark.submit.", "spark.yarn.", "spark.jars.", "spark.kerberos.", "spark.kubernetes.",
	"spark.app.id", "spark.driver.host", "spark.driver.bindAddress", "spark.sluice."}

// ofCluster are the same of an engine, which names no files.
var ofCluster = []string{"spark.yarn.", "spark.kubernetes.", "spark.kerberos.", "spark.sluice."}

// ofUser are exceptions from them.
var ofUser = []string{"spark.yarn.appMasterEnv.", "spark.yarn.am.waitTime", "spark.yarn.max.executor.failures",
	"spark.yarn.executor.failuresValidityInterval", "spark.kubernetes.driverEnv.", "spark.kubernetes.executor.request.cores",
	"spark.kubernetes.memoryOverheadFactor", "spark.kubernetes.allocation.", "spark.kubernetes.executor.annotation."}

// identity are environment variables that make a driver or an executor somebody else's.
var identity = map[string]bool{"CLASSPATH": true, "SPARK_USER": true, "SPARK_YARN_STAGING_DIR": true, "HADOOP_USER_NAME": true,
	"HADOOP_PROXY_USER": true, "HADOOP_TOKEN_FILE_LOCATION": true}

// impersonates says that a setting makes a driver or an executor somebody else's.
func impersonates(key string) bool {
	for _, env := range []string{"spark.yarn.appMasterEnv.", "spark.executorEnv.", "spark.kubernetes.driverEnv."} {
		if name, ok := strings.CutPrefix(key, env); ok {
			return identity[name]
		}
	}
	return false
}

// batchConf are the user's settings, as far as they are his to say, under the platform's.
func batchConf(b engines.Batch, p engines.Platform) (map[string]string, error) {
	conf := map[string]string{"spark.sql.legacy.createHiveTableByDefault": "false"} // as in an engine: one script, one result
	for k, v := range b.Conf {
		if field, ok := fieldOf[k]; ok {
			return nil, fmt.Errorf("conf: %s brings nothing: name the files in %s", k, field)
		}
		if beginsWithOne(k, ofPlatform) && !beginsWithOne(k, ofUser) {
			continue
		}
		if !impersonates(k) {
			conf[k] = v
		}
	}
	if err := placed(conf, b.User, p); err != nil {
		return nil, err
	}
	conf["spark.app.name"] = b.Name
	return conf, nil
}

func beginsWithOne(text string, beginnings []string) bool {
	for _, b := range beginnings {
		if strings.HasPrefix(text, b) {
			return true
		}
	}
	return false
}
