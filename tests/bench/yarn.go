//go:build e2e

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// yard is a real HDFS and YARN on this machine, and what is measured there.
type yard struct {
	t       *testbed.Suite
	h       *testbed.Hadoop
	archive string // on HDFS: in place of Spark's jars where none of them runs
	node    bool   // the NodeManager runs
}

// onYARN measures submissions, cold starts and adoption on YARN.
func onYARN(t *testbed.Suite, wanted func(part string) bool) []Figure {
	y := &yard{t: t, node: true, h: testbed.StartHadoop(t, testbed.HadoopOptions{Site: map[string]string{
		// A promise that nobody checks: so many drivers have a place, however small the machine.
		"yarn.nodemanager.resource.memory-mb": "131072", "yarn.nodemanager.resource.cpu-vcores": "128",
	}})}
	y.archive = y.upload("/apps/nothing.zip")
	var out []Figure
	for _, part := range []struct {
		name    string
		measure func() []Figure
	}{{"cold", y.cold}, {"adopt", y.adopt}, {"submit", y.submit}, {"spark-submit", y.sparkSubmit}} { // the last two stop the node
		if wanted(part.name) {
			out = append(out, part.measure()...)
		}
	}
	return out
}

// upload puts an archive on HDFS that everybody may read.
func (y *yard) upload(name string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	e, err := z.Create("nothing")
	if err == nil {
		_, err = io.WriteString(e, "nothing")
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		c := y.h.HDFS("root")
		if err = write(c, name, b.Bytes()); err == nil {
			err = c.Chmod(name, 0o644)
		}
	}
	if err != nil {
		y.t.Fatalf("upload %s: %v", name, err)
	}
	return "hdfs://" + y.h.NameNode + name
}

// withoutNode stops the NodeManager: applications are accepted, and wait.
func (y *yard) withoutNode() {
	if y.node {
		y.h.Stop("nodemanager1")
		y.node = false
	}
}

// cluster is ours, with what the gateway would give it.
func (y *yard) cluster(instance string) *yarn.Cluster {
	hadoop, err := yarn.ReadHadoop(y.h.ConfDir)
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	c, err := yarn.New(yarn.Options{Name: "y", Instance: instance, Hadoop: hadoop, User: "root", Shared: "/apps/sluice", Queue: "root.etl", Ready: spark.Ready,
		Lease: time.Minute, Log: slog.New(slog.DiscardHandler),
		Runtime: func(context.Context, string, func(string)) (yarn.Runtime, error) {
			return yarn.Runtime{Archive: y.archive, Version: testbed.SparkVersion}, nil
		}})
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	y.t.Cleanup(func() { _ = c.Close() })
	return c
}

// plan renders the launch of a new engine of ann's.
func plan(c engines.Cluster) (engines.Launch, error) {
	p, err := c.Platform(context.Background(), "", func(string) {})
	if err != nil {
		return engines.Launch{}, err
	}
	return spark.Driver{}.Plan(engines.Spec{ID: uuid.NewString(), User: "ann", Name: "sluice ann", Memory: "512m", Token: "secret"}, p)
}

// application is what YARN says of one.
type application struct {
	ID, State string
	Started   int64 `json:"startedTime"` // in milliseconds since the epoch
}

// live are ann's applications that have not ended.
func (y *yard) live() []application {
	var answer struct{ Apps struct{ App []application } }
	at := "http://" + y.h.RM + "/ws/v1/cluster/apps?user.name=ann&user=ann&deSelects=resourceRequests&states=NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING"
	if err := ask(http.DefaultClient, http.MethodGet, at, nil, &answer); err != nil {
		y.t.Fatalf("%v", err)
	}
	return answer.Apps.App
}

// none waits until ann has no application.
func (y *yard) none() {
	testbed.Until(y.t, time.Minute, "no application of ann's is left", func() bool { return len(y.live()) == 0 })
}

// ask sends a request to one of Hadoop's REST APIs; body and into may be nil.
func ask(c *http.Client, method, at string, body, into any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, at, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s answers %s: %s", method, at, resp.Status, text)
	case into == nil:
		return nil
	}
	return json.Unmarshal(text, into)
}

// together does something n times, for each number below n, by so many clients at a time.
func together(clients, n int, do func(i int)) {
	var all sync.WaitGroup
	var next atomic.Int64
	for range clients {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	all.Wait()
}

// ownCPU is the processor time that this process has used, in seconds.
func ownCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
