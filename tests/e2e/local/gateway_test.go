//go:build e2e

package local

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

func TestPasswords(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "passwords")
	require.NoError(t, os.WriteFile(file, []byte("# people\nann:"+string(hash)+":etl\n"), 0o600))
	g := testbed.StartGateway(t, "auth:\n  mode: file\n  file: "+file+"\n")

	c, err := testbed.TryDialHS2(t, g.Thrift, "ann", "right")
	require.NoError(t, err)
	c.Session = c.Open(nil)
	require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"))
	for name, login := range map[string][2]string{"wrong password": {"ann", "not-the-one"}, "unknown user": {"eve", "right"}} {
		t.Run(name, func(t *testing.T) {
			_, err := testbed.TryDialHS2(t, g.Thrift, login[0], login[1])
			require.ErrorIs(t, err, testbed.ErrRefused)
			require.ErrorContains(t, err, "the user name or the password is wrong")
		})
	}
	resp, err := c.OpenSession(context.Background(), &tcli.TOpenSessionReq{Configuration: map[string]string{"hive.server2.proxy.user": "bob"}})
	require.NoError(t, err)
	require.Contains(t, resp.Status.GetErrorMessage(), "Failed to validate proxy privilege of ann for bob: nobody may act for others here; add auth.proxy_users.ann")

	r := testbed.Beeline(t, g, "/default", "ann", "-p", "not-the-one", "-e", "SELECT 1")
	require.NotZero(t, r.Code)
	require.Contains(t, r.Err, "the user name or the password is wrong")
	require.NotContains(t, g.Log(), "not-the-one", "passwords are not logged")
}

func TestBareThrift(t *testing.T) {
	g := testbed.StartGateway(t, "", "SLUICE_HS2_SASL=false")
	r := testbed.Beeline(t, g, "/default;auth=noSasl", "ann", "--outputformat=csv2", "--showHeader=false", "--silent=true", "-e", "SELECT 1")
	require.Zero(t, r.Code, r.Err)
	require.Contains(t, r.Out, "1")
}

func TestHealthReadinessMetrics(t *testing.T) {
	code, body := shared.Get("/healthz")
	require.Equal(t, http.StatusOK, code, body)
	code, body = shared.Get("/readyz")
	require.Equal(t, http.StatusOK, code, body)
	require.Contains(t, body, `"cluster local":"ok"`)
	require.Contains(t, body, `"store":"ok"`)
	testbed.DialHS2(t, shared.Thrift, "ann", "x", nil).All("SELECT 1")
	_, body = shared.Get("/metrics")
	for _, name := range []string{"sluice_sessions ", "sluice_hs2_connections ", `sluice_operations_total{kind="STATEMENT",state="FINISHED"}`,
		"sluice_hs2_rows_sent_total ", `sluice_engines{state="idle"}`, `sluice_hs2_call_duration_seconds_bucket{method="ExecuteStatement"`, "go_goroutines "} {
		require.Contains(t, body, name)
	}
}

func TestASecondGatewayOnTheSameData(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), testbed.Binary(t), "gateway")
	cmd.Env = append(os.Environ(), "SLUICE_DATA_DIR="+shared.DataDir, "SLUICE_LISTEN_THRIFT=127.0.0.1:0", "SLUICE_LISTEN_HTTP=127.0.0.1:0")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "another gateway uses "+shared.DataDir)
}

func TestAPortThatIsTaken(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), testbed.Binary(t), "gateway")
	cmd.Env = append(os.Environ(), "SLUICE_DATA_DIR="+t.TempDir(), "SLUICE_LISTEN_THRIFT="+shared.Thrift, "SLUICE_LISTEN_HTTP=127.0.0.1:0")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "listen.thrift")
	require.Contains(t, string(out), "SLUICE_LISTEN_THRIFT")
}

func TestConfigurationErrorsAreToldAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	require.NoError(t, os.WriteFile(file, []byte("listen:\n  trift: 127.0.0.1:1\nengine:\n  lease: soon\n"), 0o600))
	cmd := exec.CommandContext(t.Context(), testbed.Binary(t), "gateway", "--config", file)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit))
	require.Contains(t, string(out), file+":2: listen.trift: there is no such key; did you mean listen.thrift?")
	require.Contains(t, string(out), file+`:4: engine.lease: "soon" is no duration`)
}

func TestAGracefulStopLeavesNothing(t *testing.T) {
	g := testbed.StartGateway(t, "")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	require.Equal(t, [][]string{{"2"}}, c.All("SELECT 2"))
	c.Async(endless)
	testbed.Within(t, 30*time.Second, "stopping", g.Stop)
	require.Zero(t, g.ExitCode(), g.Log())
	require.Empty(t, g.Processes(), "engine, catalogue and supervisors are gone")
	_, err := os.Stat(filepath.Join(g.DataDir, "endpoints.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotContains(t, strings.ToLower(g.Log()), "panic")
}

func TestRunningStatementsMayEnd(t *testing.T) {
	g := testbed.StartGateway(t, "", "SLUICE_SHUTDOWN_GRACE=30s")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	c.All("SELECT 2")
	op := c.Async("SELECT count(*) FROM range(0, 3000, 1, 1) WHERE java_method('java.lang.Thread', 'sleep', 1L) IS NOT NULL")
	testbed.Until(t, 20*time.Second, "the job runs", func() bool { return started(c, op) })
	require.NoError(t, g.Cmd.Process.Signal(os.Interrupt))
	testbed.Until(t, 5*time.Second, "new work is refused", func() bool {
		_, st := c.Exec("SELECT 1")
		return strings.Contains(st.GetErrorMessage(), "the gateway is stopping")
	})
	require.Equal(t, tcli.TOperationState_FINISHED_STATE, c.WaitState(op, 20*time.Second).GetOperationState(), "what ran may end")
	require.Equal(t, [][]string{{"3000"}}, testbed.Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results), "and its rows be read")
	_, err := c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op})
	require.NoError(t, err)
	testbed.Within(t, 15*time.Second, "stopping then", g.Stop)
	require.Zero(t, g.ExitCode(), g.Log())
}

// Whoever runs SQL can read an engine's environment and memory of settings, so our secrets must not be there.
func TestEnginesDoNotKnowTheMasterSecret(t *testing.T) {
	const secret = "a-master-secret-of-at-least-32-characters"
	g := testbed.StartGateway(t, "", "SLUICE_SECRET="+secret)
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	require.Equal(t, [][]string{{"null"}}, c.All("SELECT java_method('java.lang.System', 'getenv', 'SLUICE_SECRET')"))
	for _, pid := range g.Processes() {
		for _, file := range []string{"environ", "cmdline"} {
			data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
			if err == nil {
				require.NotContains(t, string(data), secret)
			}
		}
	}
}

// A client that is slow to log in, or says nothing, is not waited for.
func TestASlowHandshake(t *testing.T) {
	g := testbed.StartGateway(t, "", "SLUICE_HS2_LOGIN_TIMEOUT=1s")
	for name, hello := range map[string][]byte{"silent": nil, "a byte at a time": testbed.Message(1, "PLAIN")} {
		t.Run(name, func(t *testing.T) {
			conn := g.Connect()
			defer func() { _ = conn.Close() }()
			began := time.Now()
			go func() {
				for _, b := range hello {
					if _, err := conn.Write([]byte{b}); err != nil {
						return
					}
					<-time.After(300 * time.Millisecond)
				}
			}()
			require.NoError(t, conn.SetReadDeadline(began.Add(10*time.Second)))
			_, err := io.Copy(io.Discard, conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server ends the connection")
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
	require.Equal(t, [][]string{{"1"}}, testbed.DialHS2(t, g.Thrift, "ann", "x", nil).All("SELECT 1"))
}
