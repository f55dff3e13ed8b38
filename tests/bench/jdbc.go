//go:build e2e

package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/tests/testbed"
)

// jdbc reads a million rows with the stock Hive JDBC driver, whose own limit is what it needs for an answer from memory.
func (f *field) jdbc() []Figure {
	var out []Figure
	for _, q := range []struct{ name, sql string }{{"3 columns", million}, {"20 columns", wide}} {
		servers := slices.Concat(f.servers, []server{{name: "memory", address: newCanned(f.t, f.direct, q.sql, 10_000).serve(f.t)}})
		took, cpu := f.readByJDBC(q.sql, servers)
		title := "1 M rows of " + q.name + ", Hive JDBC, "
		spark := took[1].figure(title+"Spark's Thrift server", "s")
		memory := took[2].figure(title+"from memory", "s")
		out = append(out, spark, memory, took[0].figure(title+"gateway", "s").against(spark), took[0].figure(title+"gateway", "s").against(memory),
			cpu[0].figure(title+"processor time of the gateway", "s"), cpu[1].figure(title+"processor time of Spark's Thrift server", "s"))
	}
	return out
}

// readByJDBC lets one Java program read from all servers in turn.
func (f *field) readByJDBC(sql string, servers []server) (took, cpu []series) {
	const rounds, warm = 12, 5
	args := []string{"-Xmx1g", "-cp", testbed.SparkHome(f.t) + "/jars/*", filepath.Join(testbed.Root(), "tests", "bench", "Rows.java"), fmt.Sprint(rounds), "10000", sql}
	for i, s := range servers {
		args = append(args, fmt.Sprintf("%d=jdbc:hive2://%s/default", i, s.address))
	}
	cmd := exec.Command(testbed.Java(f.t), args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		f.t.Fatalf("%v", err)
	}
	took, cpu = make([]series, len(servers)), make([]series, len(servers))
	seen := make([]int, len(servers))
	var spent float64
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var i int
		var secs float64
		var rows int64
		if _, err := fmt.Sscanf(lines.Text(), "begin %d", &i); err == nil {
			spent = testbed.CPUSeconds(servers[i].pid)
			_, _ = io.WriteString(in, "x")
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "end %d %g %d", &i, &secs, &rows); err != nil || rows != 1_000_000 {
			f.t.Fatalf("%s: %v", lines.Text(), err)
		}
		if seen[i]++; seen[i] > warm {
			took[i] = append(took[i], secs)
			cpu[i] = append(cpu[i], testbed.CPUSeconds(servers[i].pid)-spent)
		}
	}
	if err := cmd.Wait(); err != nil {
		f.t.Fatalf("%v: %s", err, errs.String())
	}
	return took, cpu
}
