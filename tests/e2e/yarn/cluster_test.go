//go:build e2e

package yarn

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

func TestHDFSHasOwners(t *testing.T) {
	ann, bob := shared.HDFS("ann"), shared.HDFS("bob")
	w, err := ann.Create("/user/ann/words")
	require.NoError(t, err)
	fill(t, w, []byte("hello"))

	info, err := ann.Stat("/user/ann/words")
	require.NoError(t, err)
	require.Equal(t, "ann", info.(interface{ Owner() string }).Owner())
	data, err := ann.ReadFile("/user/ann/words")
	require.NoError(t, err)
	require.Equal(t, "hello", string(data))

	_, err = bob.ReadFile("/user/ann/words")
	require.ErrorIs(t, err, os.ErrPermission)
	require.ErrorIs(t, bob.Mkdir("/apps/mine", 0o755), os.ErrPermission)
	_, err = bob.ReadDir("/apps")
	require.NoError(t, err)
}

// fill writes a file's content, and waits until it is there.
func fill(t *testing.T, w *hdfs.FileWriter, data []byte) {
	t.Helper()
	_, err := w.Write(data)
	require.NoError(t, err)
	testbed.Until(t, 10*time.Second, "the NameNode has heard of the file's block", func() bool {
		err := w.Close()
		require.True(t, err == nil || hdfs.IsErrReplicating(err), "%v", err)
		return err == nil
	})
}

func TestNewApplication(t *testing.T) {
	require.Contains(t, newApplication(t, shared, "user.name=ann"), "application_")
	require.Contains(t, newApplication(t, shared, "user.name=sluice&doAs=ann"), "application_")
}

func TestAKilledResourceManager(t *testing.T) {
	before := shared.PID("resourcemanager")
	shared.Kill("resourcemanager")
	require.Zero(t, shared.PID("resourcemanager"))
	require.ErrorIs(t, syscall.Kill(before, 0), syscall.ESRCH)
	shared.Start("resourcemanager") // which waits until it is active
	require.NotEqual(t, before, shared.PID("resourcemanager"))
	shared.WaitNodes()
	require.Contains(t, newApplication(t, shared, "user.name=ann"), "application_")
}

func TestAKilledNodeManager(t *testing.T) {
	id := sleep(t, shared)
	container := sleeper(shared)

	shared.Kill("nodemanager1")
	require.Equal(t, container, sleeper(shared), "a container outlives its NodeManager")
	shared.Start("nodemanager1")
	require.Equal(t, container, sleeper(shared))

	kill := "/" + id + "/state?user.name="
	code, said := call(t, http.MethodPut, shared.RM, kill+"bob", `{"state":"KILLED"}`)
	require.Equal(t, http.StatusForbidden, code, said)
	code, said = call(t, http.MethodPut, shared.RM, kill+"ann", `{"state":"KILLED"}`)
	require.Less(t, code, 300, said)
	testbed.Until(t, time.Minute, "the container has ended", func() bool { return sleeper(shared) == 0 })
}

// hdfsAlone leaves of the shared cluster no more than HDFS until the test ends: a machine has room for few daemons.
func hdfsAlone(t *testing.T) {
	t.Helper()
	shared.Kill("nodemanager1") // one that stops waits for what has run on it
	shared.Stop("resourcemanager")
	t.Cleanup(func() {
		shared.Start("resourcemanager")
		shared.Start("nodemanager1")
	})
}

func TestTheFairScheduler(t *testing.T) {
	hdfsAlone(t)
	other := testbed.StartHadoop(t, testbed.HadoopOptions{FS: shared.NameNode, Scheduler: "fair"})
	require.Contains(t, newApplication(t, other, "user.name=bob"), "application_")
	r := check(t, config(other, "root.etl"))
	require.Zero(t, r.Code, r.Out+r.Err)
	require.Contains(t, r.Out, "queue root.etl is running, uses 0 of 8192 MiB")
	r = check(t, config(other, "root.nosuch"))
	require.Contains(t, r.Out, "the cluster has no such queue, but root.")
}

// An application outlives the ResourceManager that took it.
func TestTheOtherResourceManager(t *testing.T) {
	hdfsAlone(t)
	h := testbed.StartHadoop(t, testbed.HadoopOptions{FS: shared.NameNode, HA: true})
	require.Len(t, h.RMs, 2)
	require.Equal(t, h.RM, h.RMs[0])
	id := sleep(t, h)
	container := sleeper(h)

	h.Kill("resourcemanager")
	h.Activate("resourcemanager2")
	h.WaitNodes()
	require.Equal(t, container, sleeper(h))
	code, said := call(t, http.MethodGet, h.RMs[1], "/"+id+"/state?user.name=ann", "")
	require.Equal(t, http.StatusOK, code, said)
	require.JSONEq(t, `{"state":"ACCEPTED"}`, said)

	h.Start("resourcemanager") // which is standby, and sends its callers to the other
	code, said = call(t, http.MethodPut, h.RM, "/"+id+"/state?user.name=ann", `{"state":"KILLED"}`)
	require.Less(t, code, 300, said)
	killed := func(rm string) bool {
		code, said := call(t, http.MethodGet, rm, "/"+id+"/state?user.name=ann", "")
		require.Equal(t, http.StatusOK, code, said)
		return strings.Contains(said, `"KILLED"`)
	}
	testbed.Until(t, time.Minute, "the application has ended", func() bool { return killed(h.RMs[1]) })
	testbed.Until(t, time.Minute, "the container has ended", func() bool { return sleeper(h) == 0 })
	h.Activate("resourcemanager")
	require.True(t, killed(h.RM), "what one has stored, the other has read")
}

// sleep starts an application of ann's, whose only container sleeps, and waits until it does.
func sleep(t *testing.T, h *testbed.Hadoop) (id string) {
	t.Helper()
	id = newApplication(t, h, "user.name=ann")
	code, said := call(t, http.MethodPost, h.RM, "?user.name=ann", sleepBody(id))
	require.Equal(t, http.StatusAccepted, code, said)
	testbed.Until(t, time.Minute, "the container runs", func() bool { return sleeper(h) != 0 })
	return id
}

func sleepBody(id string) string {
	return `{"application-id":"` + id + `","application-name":"sleeper","queue":"etl",
		"resource":{"memory":128,"vCores":1},"am-container-spec":{"commands":{"command":"exec sleep 3600"}}}`
}

// sleeper finds the process of the container that sleeps.
func sleeper(h *testbed.Hadoop) int {
	for _, pid := range h.Processes() {
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if bytes.HasPrefix(line, []byte("sleep\x00")) {
			return pid
		}
	}
	return 0
}

func newApplication(t *testing.T, h *testbed.Hadoop, query string) string {
	t.Helper()
	code, said := call(t, http.MethodPost, h.RM, "/new-application?"+query, "")
	require.Equal(t, http.StatusOK, code, said)
	return applicationID(t, said)
}

// applicationID is in the answer to new-application.
func applicationID(t *testing.T, said string) string {
	t.Helper()
	var r struct {
		ID string `json:"application-id"`
	}
	require.NoError(t, json.Unmarshal([]byte(said), &r))
	return r.ID
}

func call(t *testing.T, method, rm, path, body string) (code int, said string) {
	t.Helper()
	return ask(t, http.DefaultClient, method, "http://"+rm+"/ws/v1/cluster/apps"+path, body)
}

func ask(t *testing.T, c *http.Client, method, at, body string) (code int, said string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, at, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(data)
}
