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
	_, err = w.Write([]byte("hello"))
	require.NoError(t, err)
	testbed.Until(t, 10*time.Second, "the NameNode has heard of the file's block", func() bool {
		err := w.Close()
		require.True(t, err == nil || hdfs.IsErrReplicating(err), "%v", err)
		return err == nil
	})

	infos, err := ann.ReadDir("/user/ann")
	require.NoError(t, err)
	require.Len(t, infos, 1)
	require.Equal(t, "words", infos[0].Name())
	require.Equal(t, "ann", infos[0].(interface{ Owner() string }).Owner())
	data, err := ann.ReadFile("/user/ann/words")
	require.NoError(t, err)
	require.Equal(t, "hello", string(data))

	_, err = bob.ReadFile("/user/ann/words")
	require.ErrorIs(t, err, os.ErrPermission)
	require.ErrorIs(t, bob.Mkdir("/apps/mine", 0o755), os.ErrPermission)
	_, err = bob.ReadDir("/apps")
	require.NoError(t, err)
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
	id := newApplication(t, shared, "user.name=ann")
	code, said := call(t, http.MethodPost, shared, "?user.name=ann", `{"application-id":"`+id+`","application-name":"sleeper","queue":"etl",
		"resource":{"memory":128,"vCores":1},"am-container-spec":{"commands":{"command":"exec sleep 3600"}}}`)
	require.Equal(t, http.StatusAccepted, code, said)
	var container int
	testbed.Until(t, time.Minute, "the container runs", func() bool { container = sleeper(shared); return container != 0 })

	shared.Kill("nodemanager1")
	require.Equal(t, container, sleeper(shared), "a container outlives its NodeManager")
	shared.Start("nodemanager1")
	require.Equal(t, container, sleeper(shared))

	kill := "/" + id + "/state?user.name="
	code, said = call(t, http.MethodPut, shared, kill+"bob", `{"state":"KILLED"}`)
	require.Equal(t, http.StatusForbidden, code, said)
	code, said = call(t, http.MethodPut, shared, kill+"ann", `{"state":"KILLED"}`)
	require.Less(t, code, 300, said)
	testbed.Until(t, time.Minute, "the container has ended", func() bool { return sleeper(shared) == 0 })
}

// A machine has room for few daemons, so that the shared cluster is HDFS alone meanwhile.
func TestTwoClustersOnOneHDFS(t *testing.T) {
	shared.Kill("nodemanager1") // one that stops waits for what has run on it
	shared.Stop("resourcemanager")
	t.Cleanup(func() {
		shared.Start("resourcemanager")
		shared.Start("nodemanager1")
	})
	other := testbed.StartHadoop(t, testbed.HadoopOptions{FS: shared.NameNode, Scheduler: "fair"})
	require.Contains(t, newApplication(t, other, "user.name=bob"), "application_")
	infos, err := other.HDFS("bob").ReadDir("/user")
	require.NoError(t, err)
	require.Len(t, infos, 2)
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
	code, said := call(t, http.MethodPost, h, "/new-application?"+query, "")
	require.Equal(t, http.StatusOK, code, said)
	var r struct {
		ID string `json:"application-id"`
	}
	require.NoError(t, json.Unmarshal([]byte(said), &r))
	return r.ID
}

func call(t *testing.T, method string, h *testbed.Hadoop, path, body string) (code int, said string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+h.RM+"/ws/v1/cluster/apps"+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(data)
}
