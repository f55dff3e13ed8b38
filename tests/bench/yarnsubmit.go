//go:build e2e

package main

import (
	"archive/zip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// costs are what submissions cost, each by the name of the process.
type costs struct {
	pids map[string]int
	all  map[string]series
}

func (y *yard) costs() *costs {
	return &costs{pids: map[string]int{"ResourceManager": y.h.PID("resourcemanager"), "NameNode": y.h.PID("namenode")}, all: map[string]series{}}
}

// of measures n submissions. What comes before and after them, as the end of the applications, does not count.
func (c *costs) of(n int, submit func()) {
	own, others := ownCPU(), spent(c.pids)
	submit()
	c.all["this process"] = append(c.all["this process"], (ownCPU()-own)/float64(n))
	for name, after := range spent(c.pids) {
		c.all[name] = append(c.all[name], (after-others[name])/float64(n))
	}
}

func (c *costs) medians() map[string]float64 {
	out := map[string]float64{}
	for name, s := range c.all {
		out[name] = s.quantile(0.5)
	}
	return out
}

// submit is how many engines a minute can be submitted, their settings staged on HDFS. The NodeManager is stopped, so that
// applications wait until they are killed after each turn, and our side follows those of the turn, as the gateway does.
func (y *yard) submit() []Figure {
	const warm, rounds = 1, 5
	y.withoutNode()
	c := y.cluster("bench")
	l, err := plan(c)
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	var out []Figure
	for _, load := range []struct{ clients, n int }{{1, 20}, {8, 64}} {
		straight, ours := y.costs(), y.costs()
		raws := make([]*raw, load.clients) // a client of HDFS has one connection, and uses it for one call at a time
		for i := range raws {
			raws[i] = newRaw(y, l)
		}
		figures := race(fmt.Sprintf("submissions with a staged file, %d at a time", load.clients), "/min", warm, rounds,
			runner{"straight REST and HDFS", nil, func() float64 { return y.submitRaw(straight, raws, load.n) }},
			runner{"gateway's cluster", nil, func() float64 { return y.submitOurs(ours, c, load.clients, load.n) }})
		figures[0].CPU, figures[1].CPU = straight.medians(), ours.medians()
		out = append(out, figures...)
	}
	return out
}

func (y *yard) submitRaw(c *costs, raws []*raw, n int) (perMinute float64) {
	free := make(chan *raw, len(raws))
	for _, r := range raws {
		free <- r
	}
	ids := make([]string, n)
	c.of(n, func() {
		took := timed(1, func() {
			together(len(raws), n, func(i int) {
				r := <-free
				defer func() { free <- r }()
				var err error
				if ids[i], err = r.submit(); err != nil {
					y.t.Fatalf("%v", err)
				}
			})
		})()
		perMinute = 60 * float64(n) / took
	})
	for _, id := range ids {
		raws[0].end(y.t, id)
	}
	y.none()
	return perMinute
}

func (y *yard) submitOurs(c *costs, on *yarn.Cluster, clients, n int) (perMinute float64) {
	tags := make([]engines.Tag, n)
	c.of(n, func() {
		took := timed(1, func() { together(clients, n, func(i int) { tags[i] = y.submitOne(on) }) })()
		perMinute = 60 * float64(n) / took
	})
	together(16, n, func(i int) {
		if err := on.Kill(context.Background(), tags[i]); err != nil {
			y.t.Fatalf("%v", err)
		}
	})
	y.none()
	return perMinute
}

// submitOne does what the gateway does for a new engine, its records apart.
func (y *yard) submitOne(on *yarn.Cluster) engines.Tag {
	l, err := plan(on)
	if err == nil {
		_, err = on.Submit(context.Background(), l)
	}
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	return l.Tag
}

// sparkSubmit is the processor time of a submission by Spark's own program, which is a process each, and by ours. Spark's
// stages a jar and its settings and leaves once the application is accepted; ours the settings, and follows it on.
func (y *yard) sparkSubmit() []Figure {
	const rounds, each = 3, 40
	y.withoutNode()
	c := y.cluster("bench")
	jar := y.jar()
	ours, took, theirs := y.costs(), series{}, series{}
	y.submitOurs(y.costs(), c, 1, 10)
	figures := race("a submission, CPU", "ms", 0, rounds,
		runner{"spark-submit", nil, func() float64 {
			cmd := y.sparkSubmitCommand(jar)
			theirs = append(theirs, timed(1, func() {
				if said, err := cmd.CombinedOutput(); err != nil {
					y.t.Fatalf("spark-submit: %v: %s", err, said)
				}
			})())
			r := newRaw(y, engines.Launch{})
			left := y.live()
			if len(left) != 1 {
				y.t.Fatalf("spark-submit has left %d applications", len(left))
			}
			r.end(y.t, left[0].ID)
			y.none()
			return 1000 * (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
		}},
		runner{"gateway's cluster", nil, func() float64 {
			took = append(took, 60/y.submitOurs(ours, c, 1, each))
			all := ours.all["this process"]
			return 1000 * all[len(all)-1]
		}})
	wall := theirs.figure("a submission, spark-submit", "s")
	return append(figures, wall, took.figure("a submission, gateway's cluster", "s").against(wall))
}

// jar has no class in it: none is looked for until a container runs.
func (y *yard) jar() string {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	y.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	name := filepath.Join(dir, "app.jar")
	f, err := os.Create(name)
	if err == nil {
		z := zip.NewWriter(f)
		_, err = z.Create("META-INF/MANIFEST.MF")
		if err == nil {
			err = z.Close()
		}
		_ = f.Close()
	}
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	return name
}

// sparkSubmitCommand is what the script spark-submit runs.
func (y *yard) sparkSubmitCommand(jar string) *exec.Cmd {
	args := append([]string{"-Xmx1g"}, spark.JVMOptions()...)
	args = append(args, "-cp", strings.Join([]string{filepath.Join(testbed.SparkHome(y.t), "jars", "*"), y.h.ConfDir}, ":"), "org.apache.spark.deploy.SparkSubmit",
		"--master", "yarn", "--deploy-mode", "cluster", "--queue", "root.etl", "--driver-memory", "512m",
		"--conf", "spark.yarn.archive="+y.archive, "--conf", "spark.yarn.submit.waitAppCompletion=false", "--class", "bench.Nothing", jar)
	cmd := exec.CommandContext(context.Background(), testbed.Java(y.t), args...)
	cmd.Env = append(os.Environ(), "HADOOP_CONF_DIR="+y.h.ConfDir, "HADOOP_USER_NAME=ann", "SPARK_LOCAL_IP=127.0.0.1")
	return cmd
}
