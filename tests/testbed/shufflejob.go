package testbed

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
)

// ShuffleOptions say what a ShuffleJob does. What is not said is as in shuffle/job.py.
type ShuffleOptions struct {
	Masters   []string // of the shuffle service, host:port; none: Spark's own shuffle
	Replicate bool
	Fallback  bool
	User      string            // as whom the service knows the job
	Spark     string            // version; empty: the one that the client is for
	Master    string            // of Spark; empty: local-cluster[2,1,1024], whose two executors are processes of their own
	Kind      string            // repartition, take, sort, aggregate, join, skew, mappers
	MB        int               // how much goes through the shuffle
	Maps      int               // partitions before it
	Reduces   int               // and behind it
	Takes     int               // readers that are closed early
	Writer    string            // HASH or SORT
	Codec     string            // LZ4, ZSTD or NONE
	Hold      bool              // wait for Go between maps and fetches; repartition and take can
	Verify    bool              // compare with the same query without a shuffle
	Speculate bool              // slow tasks run twice
	Encrypt   bool              // what Spark writes to disk
	Conf      map[string]string // more settings of Spark; they win over all others
}

// ShuffleResult is what a ShuffleJob says in the end.
type ShuffleResult struct {
	Kind          string
	Verified      bool
	Wall          float64 `json:"wall_s"`
	Count         int64
	Xor           string
	Sum           int64
	Stages        int
	StageAttempts int            `json:"stage_attempts"` // as many as Stages, if none was run again
	FailedTasks   int            `json:"failed_tasks"`
	Failures      map[string]int // by the reason that Spark gives
	Stall         int            `json:"longest_stall_ms"` // for how long a running task moved nothing, at the most
	Stalled       string         // which one
	LongestTask   int            `json:"longest_task_ms"`
	LongestDelay  int            `json:"longest_delay_ms"` // of a task behind the median of its stage
	LongestFetch  int            `json:"longest_fetch_wait_ms"`
	LongestWrite  int            `json:"longest_write_ms"`
}

// ShuffleProgress is how far a job has come.
type ShuffleProgress struct {
	Pushed, Fetched int64 // bytes
	Tasks, Failed   int
}

// ShuffleJob is a running Spark job that shuffles, and checks what has arrived.
type ShuffleJob struct {
	*Client
	Dir string // its marks, its event log, and its executors' logs in home/work
	t   T
}

// jobPatience is how long a job may take to come to some point.
const jobPatience = 5 * time.Minute

// StartShuffleJob starts a job on a stock Spark, with the settings that the gateway gives its engines. It ends with the test.
func StartShuffleJob(t T, o ShuffleOptions) *ShuffleJob {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-shuffle-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var client Celeborn
	if len(o.Masters) > 0 {
		client = CelebornClient(t)
	}
	if o.Spark == "" {
		if o.Spark = client.Spark; o.Spark == "" {
			o.Spark = OldSpark
		}
	}
	home := homeIn(t, dir, sparkOf(t, o.Spark))
	conf, err := json.Marshal(o.conf(t, client))
	if err != nil {
		t.Fatalf("%v", err)
	}
	file := filepath.Join(dir, "conf.json")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	j := &ShuffleJob{Dir: dir, t: t}
	t.Cleanup(j.killRest) // behind the end of the job itself
	python, py4j := systemPython(t), filepath.Join(home, "lib")
	zips, _ := filepath.Glob(filepath.Join(py4j, "py4j-*-src.zip"))
	if len(zips) != 1 {
		t.Fatalf("%s has %d py4j archives", py4j, len(zips))
	}
	env := []string{"SPARK_HOME=" + home, "PYTHONPATH=" + home + ":" + zips[0], "PYSPARK_PYTHON=" + python, "SPARK_LOCAL_IP=127.0.0.1",
		"CELEBORN_LOCAL_IP=127.0.0.1", "JAVA_HOME=" + javaHome(t)}
	args := append([]string{filepath.Join(Root(), "tests", "testbed", "shuffle", "job.py"), "--dir", dir, "--conf", file}, o.args()...)
	j.Client = StartEnv(t, env, python, args...)
	return j
}

// args are the job's own.
func (o ShuffleOptions) args() (out []string) {
	if o.Kind != "" {
		out = append(out, "--kind", o.Kind)
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"--mb", o.MB}, {"--maps", o.Maps}, {"--reduces", o.Reduces}, {"--takes", o.Takes}} {
		if n.value > 0 {
			out = append(out, n.name, strconv.Itoa(n.value))
		}
	}
	if o.Hold {
		out = append(out, "--hold")
	}
	if o.Verify {
		out = append(out, "--verify")
	}
	return out
}

// conf is what the gateway renders for a batch, with what makes the job small and its shuffle the one that is asked for.
func (o ShuffleOptions) conf(t T, client Celeborn) map[string]string {
	t.Helper()
	wishes := map[string]string{"spark.master": o.Master, "spark.driver.memory": "1g", "spark.executor.memory": "1g",
		"spark.speculation": strconv.FormatBool(o.Speculate), "spark.io.encryption.enabled": strconv.FormatBool(o.Encrypt),
		"spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1"}
	if o.Master == "" {
		wishes["spark.master"] = "local-cluster[2,1,1024]"
	}
	if o.Speculate {
		maps.Copy(wishes, map[string]string{"spark.speculation.quantile": "0.5", "spark.speculation.multiplier": "1.1", "spark.speculation.minTaskRuntime": "0ms"})
	}
	if o.Writer != "" {
		wishes["spark.celeborn.client.spark.shuffle.writer"] = o.Writer
	}
	if o.Codec != "" {
		wishes["spark.celeborn.client.shuffle.compression.codec"] = o.Codec
	}
	place := engines.Platform{Version: o.Spark, Closed: true, Conf: map[string]string{"spark.master": wishes["spark.master"]}}
	if len(o.Masters) > 0 {
		place.Shuffle = &engines.Shuffle{Masters: o.Masters, Jar: client.Jar, Client: client.Jar, Replicate: o.Replicate, Fallback: o.Fallback, Key: "CELEBORN_CLIENT_JAR"}
	}
	l, err := spark.Driver{}.PlanBatch(engines.Batch{ID: "shuffle", User: o.User, Name: "shuffle", Memory: "1g", Python: "/job.py", Conf: wishes}, place)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var java []string
	for _, option := range l.JVMOptions { // pyspark's own launch has the others
		if strings.HasPrefix(option, "-Dceleborn.") {
			java = append(java, option)
		}
	}
	l.Conf["spark.driver.extraJavaOptions"] = strings.Join(java, " ")
	maps.Copy(l.Conf, o.Conf)
	return l.Conf
}

// homeIn makes a Spark home of links: a local cluster writes its executors' directories into its home, which is the cache.
func homeIn(t T, dir, spark string) string {
	t.Helper()
	home := filepath.Join(dir, "home")
	err := os.Mkdir(home, 0o755)
	for _, name := range []string{"bin", "jars", "lib", "pyspark"} {
		if err == nil {
			err = os.Symlink(filepath.Join(spark, name), filepath.Join(home, name))
		}
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return home
}

// systemPython is the machine's Python itself, not a script that chooses one by its environment.
func systemPython(t T) string {
	t.Helper()
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatalf("python3: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func javaHome(t T) string {
	t.Helper()
	java, err := exec.LookPath(Java(t))
	if err == nil {
		java, err = filepath.EvalSymlinks(java)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return filepath.Dir(filepath.Dir(java))
}

// Result waits for the job's end and returns what it says. A job that did not come to its end fails the test.
func (j *ShuffleJob) Result() ShuffleResult {
	j.t.Helper()
	r := j.Wait()
	lines := strings.Split(strings.TrimSpace(r.Out), "\n")
	var out ShuffleResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &out); err != nil {
		j.t.Fatalf("the job ended with %d and says no result: %s\n%s", r.Code, r.Out, endOf(r.Err))
	}
	if r.Code != 0 {
		j.t.Fatalf("the job's rows are wrong: %s\n%s", r.Out, endOf(r.Err))
	}
	return out
}

func endOf(text string) string { return text[max(0, len(text)-8000):] }

// Progress is how far the job has come; nothing before its first stage.
func (j *ShuffleJob) Progress() (p ShuffleProgress) {
	if data, err := os.ReadFile(filepath.Join(j.Dir, "progress.json")); err == nil {
		_ = json.Unmarshal(data, &p)
	}
	return p
}

// Pushed waits until so many bytes are written to the shuffle: it is in the middle of its maps then.
func (j *ShuffleJob) Pushed(bytes int64) {
	j.t.Helper()
	j.until("enough was pushed", func() bool { return j.Progress().Pushed >= bytes })
}

// Fetched waits until so many bytes are read from it.
func (j *ShuffleJob) Fetched(bytes int64) {
	j.t.Helper()
	j.until("enough was fetched", func() bool { return j.Progress().Fetched >= bytes })
}

// MapsDone waits until a job with Hold has ended its maps.
func (j *ShuffleJob) MapsDone() {
	j.t.Helper()
	j.until("the maps have ended", func() bool { _, err := os.Stat(filepath.Join(j.Dir, "maps-done")); return err == nil })
}

// Go lets a job with Hold fetch.
func (j *ShuffleJob) Go() {
	j.t.Helper()
	if err := os.WriteFile(filepath.Join(j.Dir, "go"), nil, 0o600); err != nil {
		j.t.Fatalf("%v", err)
	}
}

// until waits for something that does not come any more once the job has ended.
func (j *ShuffleJob) until(what string, there func() bool) {
	j.t.Helper()
	Until(j.t, jobPatience, what, func() bool {
		if there() {
			return true
		}
		if commandLine(j.Cmd.Process.Pid) == "" {
			r := j.Wait()
			j.t.Fatalf("the job ended with %d before %s: %s\n%s", r.Code, what, r.Out, endOf(r.Err))
		}
		return false
	})
}

// Driver is the JVM of the job's driver, 0 if it has ended.
func (j *ShuffleJob) Driver() int {
	for _, pid := range processes(j.Dir) {
		if strings.Contains(commandLine(pid), "org.apache.spark.deploy.SparkSubmit") {
			return pid
		}
	}
	return 0
}

// Executors are the JVMs of its executors, on a local cluster.
func (j *ShuffleJob) Executors() []int {
	var out []int
	for _, pid := range processes(j.Dir) {
		if strings.Contains(commandLine(pid), "CoarseGrainedExecutorBackend") {
			out = append(out, pid)
		}
	}
	return out
}

// ExecutorLogs are what the executors have written to standard error.
func (j *ShuffleJob) ExecutorLogs() string {
	files, _ := filepath.Glob(filepath.Join(j.Dir, "home", "work", "*", "*", "stderr"))
	var all strings.Builder
	for _, f := range files {
		data, _ := os.ReadFile(f)
		all.WriteString("== " + f + "\n" + string(data) + "\n")
	}
	return all.String()
}

// killRest ends what a killed job leaves.
func (j *ShuffleJob) killRest() {
	for _, pid := range processes(j.Dir) {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
}
