//go:build e2e

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/colinmarc/hdfs/v2"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/tests/testbed"
)

// raw submits with the fewest calls that will do, in straight code: one client that keeps its connections, and nothing is
// noted, looked for or followed. It writes and sends what the gateway does.
type raw struct {
	rm      string // http://host:port/ws/v1/cluster
	fs      *hdfs.Client
	http    *http.Client
	launch  engines.Launch
	hadoop  yarn.Hadoop
	archive map[string]any // a local resource
}

func newRaw(y *yard, l engines.Launch) *raw {
	hadoop, err := yarn.ReadHadoop(y.h.ConfDir)
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	r := &raw{rm: "http://" + y.h.RM + "/ws/v1/cluster", fs: y.h.HDFS("ann"), http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}, launch: l, hadoop: hadoop}
	info, err := r.fs.Stat(y.archive[len("hdfs://"+y.h.NameNode):])
	if err != nil {
		y.t.Fatalf("%v", err)
	}
	r.archive = resource(y.archive, "PUBLIC", info.Size(), info.ModTime())
	return r
}

func resource(uri, visibility string, size int64, changed time.Time) map[string]any {
	return map[string]any{"resource": uri, "type": "ARCHIVE", "visibility": visibility, "size": size, "timestamp": changed.UnixMilli()}
}

// submit returns the id of an application that the ResourceManager says is there.
func (r *raw) submit() (id string, err error) {
	var created struct {
		ID string `json:"application-id"`
	}
	if err := ask(r.http, http.MethodPost, r.rm+"/apps/new-application?user.name=ann", nil, &created); err != nil {
		return "", err
	}
	dir := staging(created.ID)
	if err := r.fs.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := r.fs.Chmod(dir, 0o700); err != nil {
		return "", err
	}
	conf, err := r.conf()
	if err != nil {
		return "", err
	}
	file := path.Join(dir, "__spark_conf__.zip")
	if err := write(r.fs, file, conf); err != nil {
		return "", err
	}
	info, err := r.fs.Stat(file)
	if err != nil {
		return "", err
	}
	staged := resource(r.hadoop.FS+file, "PRIVATE", info.Size(), info.ModTime())
	if err := ask(r.http, http.MethodPost, r.rm+"/apps?user.name=ann", r.body(created.ID, r.hadoop.FS+dir, staged), nil); err != nil {
		return "", err
	}
	return created.ID, ask(r.http, http.MethodGet, r.rm+"/apps/"+created.ID+"?user.name=ann&deSelects=resourceRequests", nil, &struct{ App application }{})
}

func staging(id string) string { return path.Join("/user/ann/.sparkStaging", id) }

// conf has the files that an engine's settings are in. They are not escaped, because nobody reads them.
func (r *raw) conf() ([]byte, error) {
	var settings bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(r.launch.Conf)) {
		settings.WriteString(k + "=" + r.launch.Conf[k] + "\n")
	}
	files := map[string]string{"__spark_conf__.properties": settings.String(), "__spark_hadoop_conf__.xml": "<configuration></configuration>\n"}
	maps.Copy(files, r.launch.Files)
	for name, text := range r.hadoop.Files {
		files["__hadoop_conf__/"+name] = text
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(w, files[name])
		}
		if err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

func (r *raw) body(id, dir string, conf map[string]any) map[string]any {
	type entry struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	}
	type entries struct {
		Entry []entry `json:"entry"`
	}
	env := entries{[]entry{{"CLASSPATH", "{{PWD}}<CPS>{{PWD}}/__spark_conf__<CPS>{{PWD}}/__spark_libs__/*"}, {"SPARK_YARN_STAGING_DIR", dir}, {"SPARK_USER", "ann"}}}
	for k, v := range r.launch.Env {
		env.Entry = append(env.Entry, entry{k, v})
	}
	command := "{{JAVA_HOME}}/bin/java -server"
	for _, o := range r.launch.JVMOptions {
		command += " '" + o + "'"
	}
	command += " org.apache.spark.deploy.yarn.ApplicationMaster --class '" + r.launch.MainClass + "' 1> <LOG_DIR>/stdout 2> <LOG_DIR>/stderr"
	return map[string]any{
		"application-id": id, "application-name": r.launch.Name, "application-type": "SPARK", "queue": "root.etl", "max-app-attempts": 1,
		"resource": map[string]int{"memory": 896, "vCores": 1}, "application-tags": map[string]any{"tag": []string{"raw", "raw-" + string(r.launch.Tag)}},
		"am-container-spec": map[string]any{
			"commands": map[string]string{"command": command}, "environment": env,
			"local-resources":  entries{[]entry{{"__spark_libs__", r.archive}, {"__spark_conf__", conf}}},
			"application-acls": entries{[]entry{{"VIEW_APP", "ann"}, {"MODIFY_APP", "ann"}}},
		}}
}

// end kills an application and removes its files, which nobody else would.
func (r *raw) end(t *testbed.Suite, id string) {
	err := ask(r.http, http.MethodPut, r.rm+"/apps/"+id+"/state?user.name=ann", map[string]string{"state": "KILLED"}, nil)
	if err == nil {
		err = r.fs.RemoveAll(staging(id))
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// write makes a file on HDFS. The NameNode may be told of its end before the DataNode has reported the block.
func write(c *hdfs.Client, name string, data []byte) error {
	w, err := c.Create(name)
	if err != nil {
		return err
	}
	if _, err = w.Write(data); err != nil {
		return err
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval = 2 * time.Millisecond
	_, err = backoff.Retry(context.Background(), func() (struct{}, error) {
		err := w.Close()
		if err != nil && !hdfs.IsErrReplicating(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(time.Minute))
	return err
}
