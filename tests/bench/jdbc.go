//go:build e2e

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sluicedata/sluice/tests/testbed"
)

// jdbcClient is a Java program that reads a result with the stock Hive JDBC driver from several servers, of which it is
// told the next one each time.
type jdbcClient struct {
	t    *testbed.Suite
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	errs *strings.Builder
	sum  int64 // of the values of a result, the same for all
}

func (f *field) startJDBC(version, sql string, page int64, addresses ...string) *jdbcClient {
	driver := testbed.SparkHome(f.t) + "/jars/*"
	if version != "of Spark" {
		driver = testbed.Jar(f.t, "org.apache.hive:hive-jdbc:"+version+":jar:standalone")
	}
	args := []string{"-Xmx2g", "-cp", driver, filepath.Join(testbed.Root(), "tests", "bench", "Rows.java"), fmt.Sprint(page), sql}
	for _, a := range addresses {
		args = append(args, "jdbc:hive2://"+a+"/default")
	}
	c := &jdbcClient{t: f.t, cmd: exec.CommandContext(context.Background(), testbed.Java(f.t), args...), errs: &strings.Builder{}}
	c.cmd.Stderr = c.errs
	in, err := c.cmd.StdinPipe()
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		f.t.Fatalf("%v", err)
	}
	c.in, c.out = in, bufio.NewScanner(out)
	return c
}

// read reads the result from one of the servers and returns how long that took.
func (c *jdbcClient) read(server int, want int64) float64 {
	_, err := fmt.Fprintln(c.in, server)
	var took float64
	var rows, sum int64
	if err == nil && c.out.Scan() {
		_, err = fmt.Sscan(c.out.Text(), &took, &rows, &sum)
	}
	if c.sum == 0 {
		c.sum = sum
	}
	if err != nil || rows != want || sum != c.sum {
		c.t.Fatalf("Hive JDBC read %d rows with the sum %d: %v: %s", rows, sum, err, c.errs.String())
	}
	return took
}

func (c *jdbcClient) stop() {
	_ = c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("Hive JDBC: %v: %s", err, c.errs.String())
	}
}

// jdbc reads with the stock driver, whose own limit is what it needs for an answer from memory. The one in Spark's jars,
// which Spark's Beeline uses, asks for the operation's status again before each row.
func (f *field) jdbc() []Figure {
	const page = 10_000
	var out []Figure
	for _, q := range []struct {
		name, version, sql string
		rows               int64
		warm, rounds       int
	}{
		{"1 M rows of 3 columns", "3.1.3", million, 1_000_000, 6, 9},
		{"1 M rows of 20 columns", "3.1.3", wide, 1_000_000, 4, 5},
		{"50,000 rows of 3 columns", "of Spark", strings.Replace(million, "1000000", "50000", 1), 50_000, 2, 5},
	} {
		memory := newCanned(f.t, f.direct, q.sql, page).serve(f.t)
		c := f.startJDBC(q.version, q.sql, page, f.spark.Address, f.gateway.Thrift, memory)
		got := race(q.name+", Hive JDBC "+q.version, "s", q.warm, q.rounds,
			runner{"Spark's Thrift server", f.theirs(), func() float64 { return c.read(0, q.rows) }},
			runner{"gateway", f.ours(), func() float64 { return c.read(1, q.rows) }},
			runner{"from memory", nil, func() float64 { return c.read(2, q.rows) }})
		c.stop()
		out = append(out, got...)
		out = append(out, got[1].against(got[2]))
	}
	return out
}
