//go:build e2e

package local

import (
	"context"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// passwords makes a password file in which everybody has the password x; groups stand behind a name and a colon.
func passwords(t *testing.T, users ...string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	require.NoError(t, err)
	var lines []string
	for _, u := range users {
		name, groups, _ := strings.Cut(u, ":")
		lines = append(lines, name+":"+string(hash)+":"+groups)
	}
	file := filepath.Join(t.TempDir(), "passwords")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return file
}

// proxying starts a gateway on which hue may act for carl and for the group etl from one address, and knox for everybody
// from another one.
func proxying(t *testing.T, env ...string) *testbed.Gateway {
	t.Helper()
	return testbed.StartGateway(t, `
auth:
  mode: file
  file: `+passwords(t, "ann", "bob:etl,bi", "carl", "dora:bi", "hue:services", "knox")+`
  proxy_users:
    hue: {users: carl, groups: etl, hosts: 127.0.0.1}
  hadoop_proxyusers:
    hadoop.proxyuser.knox.users: "*"
    hadoop.proxyuser.knox.hosts: 127.0.0.2
`, env...)
}

// httpAs is a client over HTTP that acts for somebody with each of its requests.
func httpAs(t *testing.T, g *testbed.Gateway, user, query string) *tcli.TCLIServiceClient {
	t.Helper()
	trans, err := thrift.NewTHttpClientWithOptions("http://"+g.HTTP+"/cliservice"+query, thrift.THttpClientOptions{Client: http.DefaultClient})
	require.NoError(t, err)
	trans.(*thrift.THttpClient).SetHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":x")))
	proto := thrift.NewTBinaryProtocolConf(trans, &thrift.TConfiguration{})
	return tcli.NewTCLIServiceClient(thrift.NewTStandardClient(proto, proto))
}

const forUser = "hive.server2.proxy.user"

func openReq(conf map[string]string) *tcli.TOpenSessionReq {
	return &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10, Configuration: conf}
}

// Stock Beeline acts for others as the rules say, and the engine is the other user's.
func TestBeelineActsForOthers(t *testing.T) {
	ctx := context.Background()
	g := proxying(t, "SLUICE_ENGINE_IDLE_TIMEOUT=2s", "SLUICE_HS2_DISCONNECT_GRACE=100ms")
	beeline := func(user, url, sql string) testbed.Result {
		return testbed.Beeline(t, g, "/default"+url, user, "-p", "x", "--outputformat=csv2", "--showHeader=false", "--silent=true", "-e", sql)
	}
	ofEngine := func(r testbed.Result) (user, owner string) {
		t.Helper()
		require.Zero(t, r.Code, r.Err)
		_, id, ok := strings.Cut(strings.Join(r.Rows(), "\n"), "spark.sluice.engine,")
		require.True(t, ok, r.Out)
		rec, err := g.Store(t).Engine(ctx, strings.TrimSpace(id))
		require.NoError(t, err)
		key, err := launch.ParseKey(rec.ShareKey)
		require.NoError(t, err)
		return rec.User, key.Owner
	}

	user, owner := ofEngine(beeline("hue", ";"+forUser+"=bob", "SET spark.sluice.engine"))
	require.Equal(t, []string{"bob", "bob"}, []string{user, owner}, "the engine is bob's")
	require.Regexp(t, `(?m)(^|> )bob$`, beeline("hue", ";"+forUser+"=bob", "SELECT current_user()").Out, "it runs as bob")
	require.Zero(t, beeline("hue", ";"+forUser+"=carl", "SELECT 1").Code, "by name")
	for name, tc := range map[string]struct{ user, target, want string }{
		"another user":    {"hue", "dora", "Failed to validate proxy privilege of hue for dora: hue may not act for dora, who is in bi; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"another address": {"knox", "bob", "Failed to validate proxy privilege of knox for bob: knox may not act for others from 127.0.0.1; add the address to auth.hadoop_proxyusers: hadoop.proxyuser.knox.hosts"},
		"no rule":         {"ann", "bob", "Failed to validate proxy privilege of ann for bob: there is no rule for ann; add auth.proxy_users.ann"},
	} {
		t.Run(name, func(t *testing.T) {
			r := beeline(tc.user, ";"+forUser+"="+tc.target, "SELECT 1")
			require.NotZero(t, r.Code)
			require.Contains(t, r.Err, tc.want)
			require.Contains(t, r.Err, "08S01")
		})
	}

	testbed.Until(t, time.Minute, "bob's engine is idle and ends", func() bool { return len(g.Engines()) == 0 })
	user, owner = ofEngine(beeline("hue", "", "SET spark.sluice.engine"))
	require.Equal(t, []string{"hue", "hue"}, []string{user, owner}, "hue's own engine is another one")
}

// The three ways to name whom a client acts for, from the right address and the wrong one.
func TestWaysToActForOthers(t *testing.T) {
	ctx := context.Background()
	g := proxying(t)
	record := func(h *tcli.TSessionHandle) [2]string {
		t.Helper()
		id, err := uuid.FromBytes(h.SessionId.GUID)
		require.NoError(t, err)
		rec, err := g.Store(t).Session(ctx, id)
		require.NoError(t, err)
		if rec.User == "bob" {
			require.Equal(t, []string{"etl", "bi"}, rec.Groups, "the groups are bob's")
		}
		return [2]string{rec.User, rec.RealUser}
	}
	opened := func(resp *tcli.TOpenSessionResp, err error) [2]string {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode, resp.Status.GetErrorMessage())
		return record(resp.SessionHandle)
	}
	refused := func(want string, resp *tcli.TOpenSessionResp, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Contains(t, resp.Status.GetErrorMessage(), want)
		require.Equal(t, "08S01", resp.Status.GetSqlState())
	}
	dial := func(from, as, user string) *testbed.HS2 {
		t.Helper()
		c, err := testbed.TryDialHS2From(t, from, g.Thrift, as, user, "x")
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Conn.Close() })
		return c
	}
	open := func(c *tcli.TCLIServiceClient, conf map[string]string) (*tcli.TOpenSessionResp, error) {
		return c.OpenSession(ctx, openReq(conf))
	}

	knox := dial("127.0.0.2", "", "knox").TCLIServiceClient
	require.Equal(t, [2]string{"bob", "knox"}, opened(open(knox, map[string]string{forUser: "bob"})), "from the right address")
	require.Equal(t, [2]string{"dora", "knox"}, opened(open(knox, map[string]string{forUser: "dora"})), "anybody, over the same connection")
	require.Equal(t, [2]string{"knox", ""}, opened(open(knox, nil)), "and for itself")
	resp, err := open(dial("127.0.0.3", "", "knox").TCLIServiceClient, map[string]string{forUser: "bob"})
	refused("knox may not act for others from 127.0.0.3", resp, err)

	sasl := dial("", "bob", "hue").TCLIServiceClient
	require.Equal(t, [2]string{"bob", "hue"}, opened(open(sasl, nil)), "SASL's authorization identity")
	require.Equal(t, [2]string{"bob", "hue"}, opened(open(sasl, map[string]string{forUser: "carl"})), "what the transport says wins")
	_, err = testbed.TryDialHS2From(t, "", g.Thrift, "dora", "hue", "x")
	require.ErrorIs(t, err, testbed.ErrRefused)
	require.ErrorContains(t, err, "Failed to validate proxy privilege of hue for dora: ")
	_, err = testbed.TryDialHS2From(t, "", g.Thrift, "bob", "hue", "wrong")
	require.ErrorContains(t, err, "the user name or the password is wrong", "the password comes first")

	require.Equal(t, [2]string{"bob", "hue"}, opened(open(httpAs(t, g, "hue", "?doAs=bob"), nil)))
	require.Equal(t, [2]string{"bob", "hue"}, opened(open(httpAs(t, g, "hue", "?DOAS=bob"), map[string]string{forUser: "carl"})), "doAs wins")
	require.Equal(t, [2]string{"carl", "hue"}, opened(open(httpAs(t, g, "hue", ""), map[string]string{forUser: "carl"})))
	resp, err = open(httpAs(t, g, "hue", "?doAs=dora"), nil)
	refused("Failed to validate proxy privilege of hue for dora", resp, err)
}

// A session that hue opened for bob is hue's: not bob's, and not another's who may act for bob.
func TestSessionsBelongToWhoLoggedIn(t *testing.T) {
	ctx := context.Background()
	g := proxying(t)
	hue := testbed.DialHS2(t, g.Thrift, "hue", "x", map[string]string{forUser: "bob"})
	op := hue.Async("SELECT 1")
	dial := func(from, as, user string) *testbed.HS2 {
		t.Helper()
		c, err := testbed.TryDialHS2From(t, from, g.Thrift, as, user, "x")
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Conn.Close() })
		return c
	}
	for name, tc := range map[string]struct {
		client *tcli.TCLIServiceClient
		mine   bool
	}{
		"bob himself":                  {dial("", "", "bob").TCLIServiceClient, false},
		"another user":                 {dial("", "", "ann").TCLIServiceClient, false},
		"knox, who acts for bob":       {dial("127.0.0.2", "bob", "knox").TCLIServiceClient, false},
		"hue, for carl":                {dial("", "carl", "hue").TCLIServiceClient, false},
		"hue, for carl, over HTTP":     {httpAs(t, g, "hue", "?doAs=carl"), false},
		"bob over HTTP":                {httpAs(t, g, "bob", ""), false},
		"hue over another connection":  {dial("", "", "hue").TCLIServiceClient, true},
		"hue, for bob, by SASL":        {dial("", "bob", "hue").TCLIServiceClient, true},
		"hue, for bob, over HTTP":      {httpAs(t, g, "hue", "?doAs=bob"), true},
		"hue over HTTP, for all of it": {httpAs(t, g, "hue", ""), true},
	} {
		t.Run(name, func(t *testing.T) {
			exec, err := tc.client.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: hue.Session, Statement: "SELECT 1"})
			require.NoError(t, err)
			state, err := tc.client.GetOperationStatus(ctx, &tcli.TGetOperationStatusReq{OperationHandle: op})
			require.NoError(t, err)
			if tc.mine {
				require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, exec.Status.StatusCode, exec.Status.GetErrorMessage())
				require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, state.Status.StatusCode, state.Status.GetErrorMessage())
			} else {
				require.Contains(t, exec.Status.GetErrorMessage(), "Invalid SessionHandle")
				require.Contains(t, state.Status.GetErrorMessage(), "Invalid OperationHandle")
			}
		})
	}
}
