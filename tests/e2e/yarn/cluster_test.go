//go:build e2e

package yarn

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

func TestHDFSHasOwners(t *testing.T) {
	ann, bob := shared.HDFS("ann"), shared.HDFS("bob")
	w, err := ann.Create("/user/ann/words")
	require.NoError(t, err)
	_, err = w.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, w.Close())

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

func newApplication(t *testing.T, h *testbed.Hadoop, query string) string {
	t.Helper()
	at := "http://" + h.RM + "/ws/v1/cluster/apps/new-application?" + query
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, at, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var r struct {
		ID string `json:"application-id"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&r))
	return r.ID
}
