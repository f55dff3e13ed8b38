package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/gateway/reload"
	"github.com/sluicedata/sluice/tests/testbed"
)

// place puts a certificate and its key where the configuration looks for them.
func place(t *testing.T, cfg config.TLS, pair testbed.Pair) {
	t.Helper()
	require.NoError(t, os.Rename(pair.Cert, cfg.Cert))
	require.NoError(t, os.Rename(pair.Key, cfg.Key))
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	_, err := newTLS(cfg, tls.NoClientCert, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "tls.cert and tls.key: ")

	ca := testbed.NewAuthority(t, dir)
	place(t, cfg, ca.Issue("first"))
	var log bytes.Buffer
	f := &tlsFiles{cfg: cfg, log: slog.New(slog.NewTextHandler(&log, nil))}
	f.files, err = reload.Watch(cfg.Cert, cfg.Key)
	require.NoError(t, err)
	f.conf, err = f.read()
	require.NoError(t, err)
	shows := func() string {
		f.files.Looked = time.Time{} // as if a second had gone by
		leaf, err := x509.ParseCertificate(f.current().Certificates[0].Certificate[0])
		require.NoError(t, err)
		return leaf.Subject.CommonName
	}
	require.Equal(t, "first", shows())
	place(t, cfg, ca.Issue("second"))
	require.Equal(t, "second", shows())

	// Half of a change, and files that are gone, leave what was there.
	require.NoError(t, os.WriteFile(cfg.Cert, []byte("half"), 0o600))
	require.Equal(t, "second", shows())
	require.Contains(t, log.String(), "stays in force")
	log.Reset()
	require.Equal(t, "second", shows())
	require.Empty(t, log.String(), "a change is told of once")
	require.NoError(t, os.Remove(cfg.Cert))
	require.Equal(t, "second", shows())
	place(t, cfg, ca.Issue("third"))
	require.Equal(t, "third", shows())
}

func TestTLSClientAuthorities(t *testing.T) {
	dir := t.TempDir()
	ca := testbed.NewAuthority(t, dir)
	pair := ca.Issue("server")
	cfg := config.TLS{Cert: pair.Cert, Key: pair.Key, ClientCA: filepath.Join(dir, "clients.pem")}
	_, err := newTLS(cfg, tls.RequireAndVerifyClientCert, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "tls.client_ca: open ")
	require.NoError(t, os.WriteFile(cfg.ClientCA, []byte("hello"), 0o600))
	_, err = newTLS(cfg, tls.RequireAndVerifyClientCert, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "holds no certificate in PEM")
	cfg.ClientCA = ca.CA()
	conf, err := newTLS(cfg, tls.RequireAndVerifyClientCert, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	now, err := conf.GetConfigForClient(nil)
	require.NoError(t, err)
	require.Equal(t, tls.RequireAndVerifyClientCert, now.ClientAuth)
	require.NotNil(t, now.ClientCAs)
}
