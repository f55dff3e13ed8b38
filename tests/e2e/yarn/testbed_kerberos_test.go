//go:build e2e

package yarn

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

func TestKerberos(t *testing.T) {
	testbed.NeedKDC(t)
	hdfsAlone(t)
	h := testbed.StartHadoop(t, testbed.HadoopOptions{Kerberos: true, DFS: map[string]string{
		"dfs.namenode.delegation.token.renew-interval": strconv.FormatInt(renewal.Milliseconds(), 10)}})

	t.Run("pages", func(t *testing.T) { secretPages(t, h) })
	t.Run("files", func(t *testing.T) { ownFiles(t, h) })
	t.Run("a token for somebody else", func(t *testing.T) { tokenForAnother(t, h) })
	t.Run("an engine", func(t *testing.T) { anEngineUnderKerberos(t, h) })
	t.Run("an application of somebody else", func(t *testing.T) { applicationOfAnother(t, h) })
}

func secretPages(t *testing.T, h *testbed.Hadoop) {
	for _, page := range []string{h.RM + "/ws/v1/cluster/apps", h.NameNodeWeb + "/webhdfs/v1/?op=LISTSTATUS"} {
		at := "http://" + page
		code, said := ask(t, http.DefaultClient, http.MethodGet, at, "")
		require.Equal(t, http.StatusUnauthorized, code, said)
		code, said = ask(t, h.HTTP("ann"), http.MethodGet, at, "")
		require.Equal(t, http.StatusOK, code, said)
	}
}

func ownFiles(t *testing.T, h *testbed.Hadoop) {
	ann := h.HDFS("ann")
	w, err := ann.CreateFile("/tmp/secret", 1, 1<<20, 0o700)
	require.NoError(t, err)
	fill(t, w, []byte("hello"))
	data, err := ann.ReadFile("/tmp/secret")
	require.NoError(t, err)
	require.Equal(t, "hello", string(data))
	_, err = h.HDFS("bob").ReadFile("/tmp/secret")
	require.ErrorContains(t, err, "AccessControlException")
}

func tokenForAnother(t *testing.T, h *testbed.Hadoop) {
	token := "http://" + h.NameNodeWeb + "/webhdfs/v1/?op=GETDELEGATIONTOKEN&renewer=rm&kind=HDFS_DELEGATION_TOKEN&service=" + h.NameNode + "&doas=ann"
	code, said := ask(t, h.HTTP("bob"), http.MethodGet, token, "")
	require.Equal(t, http.StatusForbidden, code, said)
	code, said = ask(t, h.HTTP("sluice"), http.MethodGet, token, "")
	require.Equal(t, http.StatusOK, code, said)
	var r struct {
		Token struct{ URLString string }
	}
	require.NoError(t, json.Unmarshal([]byte(said), &r))
	home := "http://" + h.NameNodeWeb + "/webhdfs/v1/?op=GETHOMEDIRECTORY&delegation=" + url.QueryEscape(r.Token.URLString)
	code, said = ask(t, http.DefaultClient, http.MethodGet, home, "") // the token is enough
	require.Equal(t, http.StatusOK, code, said)
	require.JSONEq(t, `{"Path":"/user/ann"}`, said)
}

func applicationOfAnother(t *testing.T, h *testbed.Hadoop) {
	apps := "http://" + h.RM + "/ws/v1/cluster/apps"
	code, said := ask(t, h.HTTP("bob"), http.MethodPost, apps+"/new-application?doAs=ann", "")
	require.Equal(t, http.StatusForbidden, code, said)
	code, said = ask(t, h.HTTP("sluice"), http.MethodPost, apps+"/new-application?doAs=ann", "")
	require.Equal(t, http.StatusOK, code, said)
	id := applicationID(t, said)
	code, said = ask(t, h.HTTP("sluice"), http.MethodPost, apps+"?doAs=ann", sleepBody(id))
	require.Equal(t, http.StatusAccepted, code, said)
	testbed.Until(t, time.Minute, "the container runs", func() bool { return sleeper(h) != 0 })

	code, said = ask(t, h.HTTP("ann"), http.MethodGet, apps+"/"+id, "")
	require.Equal(t, http.StatusOK, code, said)
	var r struct {
		App struct{ User, AMHostHTTPAddress string }
	}
	require.NoError(t, json.Unmarshal([]byte(said), &r))
	require.Equal(t, "ann", r.App.User)
	// The node's own page wants Kerberos as well, and has an address that Kerberos knows.
	code, said = ask(t, http.DefaultClient, http.MethodGet, "http://"+r.App.AMHostHTTPAddress+"/ws/v1/node/info", "")
	require.Equal(t, http.StatusUnauthorized, code, said)
	code, said = ask(t, h.HTTP("ann"), http.MethodGet, "http://"+r.App.AMHostHTTPAddress+"/ws/v1/node/info", "")
	require.Equal(t, http.StatusOK, code, said)

	code, said = ask(t, h.HTTP("bob"), http.MethodPut, apps+"/"+id+"/state", `{"state":"KILLED"}`)
	require.Equal(t, http.StatusForbidden, code, said)
	code, said = ask(t, h.HTTP("sluice"), http.MethodPut, apps+"/"+id+"/state?doAs=ann", `{"state":"KILLED"}`)
	require.Less(t, code, 300, said)
	testbed.Until(t, time.Minute, "the container has ended", func() bool { return sleeper(h) == 0 })
}
