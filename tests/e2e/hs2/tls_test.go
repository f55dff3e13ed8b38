//go:build e2e

package hs2

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// dialTLS opens a session over a TLS connection.
func dialTLS(t *testing.T, g *testbed.Gateway, conf *tls.Config) (*testbed.HS2, *tls.Conn, error) {
	t.Helper()
	conf.ServerName = "gateway.test"
	conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", g.Thrift)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	c, err := testbed.HS2On(t, conn, "", "ann", "x")
	if err != nil {
		return nil, nil, err
	}
	c.Session = c.Open(nil)
	return c, conn.(*tls.Conn), nil
}

func shows(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].Subject.CommonName }

func TestTLS(t *testing.T) {
	ca := testbed.NewAuthority(t, t.TempDir())
	pair := ca.Issue("first", "gateway.test", "127.0.0.1", "localhost")
	g := testbed.StartGateway(t, "tls: {cert: "+pair.Cert+", key: "+pair.Key+"}\n")

	c, conn, err := dialTLS(t, g, ca.Config())
	require.NoError(t, err)
	require.Equal(t, "first", shows(conn))
	require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"))

	t.Run("over HTTP", func(t *testing.T) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Config()}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+g.HTTP+"/cliservice", bytes.NewReader(message(t)))
		require.NoError(t, err)
		req.SetBasicAuth("ann", "x")
		resp, err := client.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.True(t, isReply(body))
		require.True(t, resp.Cookies()[0].Secure)
	})
	t.Run("who does not trust it, or wants another host", func(t *testing.T) {
		_, err := (&tls.Dialer{Config: &tls.Config{ServerName: "gateway.test"}}).DialContext(t.Context(), "tcp", g.Thrift)
		var unknown x509.UnknownAuthorityError
		require.ErrorAs(t, err, &unknown)
		conf := ca.Config()
		conf.ServerName = "other.test"
		_, err = (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", g.Thrift)
		var host x509.HostnameError
		require.ErrorAs(t, err, &host)
		old := ca.Config()
		old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
		_, _, err = dialTLS(t, g, old)
		require.ErrorContains(t, err, "protocol version")
	})
	t.Run("a client without TLS", func(t *testing.T) {
		conn := g.Connect()
		defer func() { _ = conn.Close() }()
		testbed.Within(t, 10*time.Second, "refusing it", func() {
			_, _ = conn.Write(testbed.Message(1, "PLAIN"))
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			_, err := io.Copy(io.Discard, conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		})
		testbed.Until(t, 5*time.Second, "the log says why", func() bool {
			return strings.Contains(g.Log(), "first record does not look like a TLS handshake")
		})
	})
	t.Run("a renewed certificate", func(t *testing.T) {
		renewed := ca.Issue("second", "gateway.test")
		require.NoError(t, os.Rename(renewed.Key, pair.Key))
		require.NoError(t, os.Rename(renewed.Cert, pair.Cert))
		testbed.Until(t, 20*time.Second, "a new connection is shown it", func() bool {
			_, conn, err := dialTLS(t, g, ca.Config())
			return err == nil && shows(conn) == "second"
		})
		require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"), "who is inside stays")
	})
	t.Run("a vanished client is noticed", func(t *testing.T) {
		c, conn, err := dialTLS(t, g, ca.Config())
		require.NoError(t, err)
		c.All("SELECT 2")
		pid := g.Engines()[0]
		go func() {
			_, _ = c.ExecuteStatement(context.Background(), &tcli.TExecuteStatementReq{SessionHandle: c.Session, Statement: endless})
		}()
		testbed.Until(t, time.Minute, "the job runs", func() bool { return testbed.Busy(pid) > 0.5 })
		require.NoError(t, conn.Close())
		testbed.Until(t, 15*time.Second, "the job ends", func() bool { return testbed.Busy(pid) < 0.3 })
	})
}

func TestClientCertificates(t *testing.T) {
	ca := testbed.NewAuthority(t, t.TempDir())
	pair := ca.Issue("server", "gateway.test", "127.0.0.1")
	g := testbed.StartGateway(t, "tls: {cert: "+pair.Cert+", key: "+pair.Key+", client_ca: "+ca.CA()+"}\n")
	stranger := testbed.NewAuthority(t, t.TempDir()).Issue("stranger")
	ann := ca.Issue("ann")

	_, _, err := dialTLS(t, g, ca.Config())
	require.Error(t, err)
	_, _, err = dialTLS(t, g, ca.Config(stranger))
	require.Error(t, err)
	c, _, err := dialTLS(t, g, ca.Config(ann))
	require.NoError(t, err)
	require.Equal(t, [][]string{{"1"}}, c.All("SELECT 1"))

	code := func(method, path string, pairs ...testbed.Pair) int {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Config(pairs...)}}
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+g.HTTP+path, bytes.NewReader(message(t)))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, code(http.MethodGet, "/healthz"), "a health check has no certificate")
	require.Equal(t, http.StatusUnauthorized, code(http.MethodPost, "/cliservice"))
	require.Equal(t, http.StatusOK, code(http.MethodPost, "/cliservice", ann))
}

// What JDBC users write, with Beeline.
func TestBeelineOverTLS(t *testing.T) {
	ca := testbed.NewAuthority(t, t.TempDir())
	trust := ca.TrustStore()
	pair := ca.Issue("server", "127.0.0.1")
	g := testbed.StartGateway(t, "tls: {cert: "+pair.Cert+", key: "+pair.Key+"}\n")
	ssl := ";ssl=true;sslTrustStore=" + trust + ";trustStorePassword=" + testbed.TrustStorePassword
	for name, url := range map[string]string{"binary": g.Thrift + "/default" + ssl, "http": g.HTTP + "/default" + ssl + ";transportMode=http;httpPath=cliservice"} {
		t.Run(name, func(t *testing.T) {
			r := testbed.BeelineTo(t, url, "ann", "--outputformat=csv2", "--showHeader=false", "--silent=true", "-e", "SELECT 1")
			require.Zero(t, r.Code, r.Err)
			require.Regexp(t, `(?m)(^| )1$`, r.Out)
		})
	}
	_, port, _ := strings.Cut(g.HTTP, ":") // over HTTP this driver looks at the name, too
	r := testbed.BeelineTo(t, "localhost:"+port+"/default"+ssl+";transportMode=http;httpPath=cliservice", "ann", "-e", "SELECT 1")
	require.NotZero(t, r.Code, "the certificate is not for that name")
	r = testbed.BeelineTo(t, g.Thrift+"/default;ssl=true", "ann", "-e", "SELECT 1")
	require.NotZero(t, r.Code, "without the trust store")
	require.Contains(t, r.Err, "PKIX path building failed")
}
