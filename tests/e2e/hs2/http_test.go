//go:build e2e

package hs2

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// A trace that begins in a client's HTTP headers is found in the tags of the Spark jobs that its statement made.
func TestATraceReachesSparksJobs(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	ctx := context.Background()
	events := t.TempDir()
	c := testbed.OverHTTP(t, shared, "tina", map[string]string{"traceparent": "00-" + trace + "-00f067aa0ba902b7-01"})
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10,
		Configuration: map[string]string{"spark.eventLog.enabled": "true", "spark.eventLog.dir": "file://" + events, "spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false"}})
	require.NoError(t, err)
	exec, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, Statement: "SELECT count(*) FROM range(0, 1000, 1, 2)"})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, exec.Status.StatusCode, exec.Status.GetErrorMessage())
	rows, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: exec.OperationHandle, MaxRows: 10})
	require.NoError(t, err)
	require.Equal(t, [][]string{{"1000"}}, testbed.Texts(rows.Results))
	testbed.Until(t, 30*time.Second, "the event log tells of the job", func() bool {
		files, _ := filepath.Glob(filepath.Join(events, "*"))
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err == nil && strings.Contains(string(data), "traceparent=00-"+trace+"-") {
				return true
			}
		}
		return false
	})
	closed, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: open.SessionHandle})
	require.NoError(t, err)
	require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, closed.Status.StatusCode)
}

// message is a call that needs no session: opening one.
func message(t *testing.T) []byte {
	t.Helper()
	buf := thrift.NewTMemoryBuffer()
	proto := thrift.NewTBinaryProtocolConf(buf, &thrift.TConfiguration{})
	require.NoError(t, proto.WriteMessageBegin(t.Context(), "OpenSession", thrift.CALL, 7))
	args := &tcli.TCLIServiceOpenSessionArgs{Req: &tcli.TOpenSessionReq{ClientProtocol: v10}}
	require.NoError(t, args.Write(t.Context(), proto))
	return buf.Bytes()
}

// answer is what came back of a request.
type answer struct {
	*http.Response
	body []byte
}

// post sends a request on a connection of its own.
func post(t *testing.T, g *testbed.Gateway, path string, body io.Reader, change func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.HTTP+path, body)
	require.NoError(t, err)
	req.SetBasicAuth("ann", "secret-7")
	if change != nil {
		change(req)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return answer{resp, data}
}

// isReply says that a body holds an answer of Thrift's.
func isReply(body []byte) bool { return bytes.HasPrefix(body, []byte{0x80, 1, 0, 2}) }

func TestHTTPRequests(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret-7"), bcrypt.MinCost)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "passwords")
	require.NoError(t, os.WriteFile(file, []byte("ann:"+string(hash)+"\nbob:"+string(hash)+"\n"), 0o600))
	g := testbed.StartGateway(t, "auth: {mode: file, file: "+file+"}\n")
	msg := message(t)

	for _, path := range []string{"/cliservice", "/cliservice/", "/cliservice/more", "/", "/sql/protocolv1/o/0123/0820-abc-xyz", "/sql/protocolv1/o/0/x/"} {
		resp := post(t, g, path, bytes.NewReader(msg), nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.True(t, isReply(resp.body), path)
		require.Equal(t, "application/x-thrift", resp.Header.Get("Content-Type"))
		require.EqualValues(t, len(resp.body), resp.ContentLength)
	}
	for name, tc := range map[string]struct {
		path   string
		body   io.Reader
		change func(*http.Request)
		code   int
	}{
		"a wrong path":     {"/cliservices", bytes.NewReader(msg), nil, http.StatusNotFound},
		"GET":              {"/cliservice", nil, func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"OPTIONS":          {"/cliservice", nil, func(r *http.Request) { r.Method = http.MethodOptions }, http.StatusMethodNotAllowed},
		"no thrift":        {"/cliservice", strings.NewReader("hello"), nil, http.StatusBadRequest},
		"nothing":          {"/cliservice", nil, nil, http.StatusBadRequest},
		"no password":      {"/cliservice", bytes.NewReader(msg), func(r *http.Request) { r.Header.Del("Authorization") }, http.StatusUnauthorized},
		"a wrong password": {"/cliservice", bytes.NewReader(msg), func(r *http.Request) { r.SetBasicAuth("ann", "x") }, http.StatusUnauthorized},
		"a forged cookie": {"/cliservice", bytes.NewReader(msg), func(r *http.Request) {
			r.Header.Set("Authorization", "")
			r.AddCookie(&http.Cookie{Name: "hive.server2.auth", Value: "cu=ann&rn=1&s=x"})
		}, http.StatusUnauthorized},
		"without a length":       {"/cliservice", io.MultiReader(bytes.NewReader(msg)), nil, http.StatusOK},
		"an empty cookie header": {"/cliservice", bytes.NewReader(msg), func(r *http.Request) { r.Header.Set("Cookie", "") }, http.StatusOK},
		"a header of 40 KiB":     {"/cliservice", bytes.NewReader(msg), func(r *http.Request) { r.Header.Set("X-Ticket", strings.Repeat("t", 40<<10)) }, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			resp := post(t, g, tc.path, tc.body, tc.change)
			require.Equal(t, tc.code, resp.StatusCode, string(resp.body))
			require.Equal(t, tc.code == http.StatusOK, isReply(resp.body))
		})
	}
	t.Run("a cookie in place of the password", func(t *testing.T) {
		resp := post(t, g, "/cliservice", bytes.NewReader(msg), nil)
		require.Len(t, resp.Cookies(), 1)
		with := func(user string) func(*http.Request) {
			return func(r *http.Request) {
				r.Header.Del("Authorization")
				r.AddCookie(resp.Cookies()[0])
				if user != "" {
					r.SetBasicAuth(user, "secret-7")
				}
			}
		}
		second := post(t, g, "/cliservice", bytes.NewReader(msg), with(""))
		require.True(t, isReply(second.body))
		require.Empty(t, second.Cookies(), "once is enough")
		third := post(t, g, "/cliservice", bytes.NewReader(msg), with("bob"))
		require.Len(t, third.Cookies(), 1, "a password of another is looked at")

		// The key is in the data directory, so a cookie outlives the process that gave it.
		g.Kill()
		again := g.Restart("auth: {mode: file, file: " + file + "}\n")
		fourth := post(t, again, "/cliservice", bytes.NewReader(msg), with(""))
		require.Equal(t, http.StatusOK, fourth.StatusCode, string(fourth.body))
	})
}

// impyla waits for the word to go on before it sends a long statement.
func TestHTTPExpectContinue(t *testing.T) {
	msg := message(t)
	for name, tc := range map[string]struct{ path, first string }{
		"it may go on":    {"/cliservice", "HTTP/1.1 100 Continue"},
		"it need not try": {"/nowhere", "HTTP/1.1 404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", shared.HTTP)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-thrift\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", tc.path, len(msg))
			require.NoError(t, err)
			in := bufio.NewReader(conn)
			line, err := in.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, tc.first, strings.TrimSpace(line))
			if tc.path != "/cliservice" {
				return
			}
			_, err = conn.Write(msg)
			require.NoError(t, err)
			_, err = in.ReadString('\n') // the empty line
			require.NoError(t, err)
			resp, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.True(t, isReply(body))
		})
	}
}

// Every request may come over a connection of its own, and in gzip the same bytes come as without.
func TestHTTPConnectionsAndGzip(t *testing.T) {
	c := testbed.DialHTTP(t, shared, "ann", nil)
	op := run(t, c, "SELECT id, 'the same words in every row' AS s FROM range(0, 5000, 1, 1)")
	buf := thrift.NewTMemoryBuffer()
	proto := thrift.NewTBinaryProtocolConf(buf, &thrift.TConfiguration{})
	require.NoError(t, proto.WriteMessageBegin(t.Context(), "FetchResults", thrift.CALL, 7))
	args := &tcli.TCLIServiceFetchResultsArgs{Req: &tcli.TFetchResultsReq{OperationHandle: op, Orientation: first, MaxRows: 5000}}
	require.NoError(t, args.Write(t.Context(), proto))
	plain := post(t, shared, "/cliservice", bytes.NewReader(buf.Bytes()), nil)
	require.Empty(t, plain.Header.Get("Content-Encoding"))
	packed := post(t, shared, "/cliservice", bytes.NewReader(buf.Bytes()), func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip,deflate") })
	require.Equal(t, "gzip", packed.Header.Get("Content-Encoding"))
	require.Less(t, len(packed.body), len(plain.body)/4)
	z, err := gzip.NewReader(bytes.NewReader(packed.body))
	require.NoError(t, err)
	all, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Equal(t, plain.body, all)
}

func TestHandlesOfAnotherOverHTTP(t *testing.T) {
	foreign := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil).Session
	resp, err := testbed.OverHTTP(t, shared, "eve", nil).CloseSession(context.Background(), &tcli.TCloseSessionReq{SessionHandle: foreign})
	requireFailed(t, resp.GetStatus(), err, "Invalid SessionHandle")
}
