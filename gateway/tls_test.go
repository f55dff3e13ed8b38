package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/config"
)

// writePair writes a certificate of that name, signed by itself, and its key.
func writePair(t *testing.T, cfg config.TLS, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for path, block := range map[string]*pem.Block{cfg.Cert: {Type: "CERTIFICATE", Bytes: der}, cfg.Key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		require.NoError(t, writeFile(path, pem.EncodeToMemory(block)))
	}
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	_, err := newTLS(cfg, tls.NoClientCert, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "tls.cert and tls.key: ")

	writePair(t, cfg, "first")
	var log bytes.Buffer
	f := &tlsFiles{cfg: cfg, log: slog.New(slog.NewTextHandler(&log, nil)), seen: look(cfg)}
	f.conf, err = f.read()
	require.NoError(t, err)
	shows := func() string {
		f.looked = time.Time{} // as if a second had gone by
		leaf, err := x509.ParseCertificate(f.current().Certificates[0].Certificate[0])
		require.NoError(t, err)
		return leaf.Subject.CommonName
	}
	require.Equal(t, "first", shows())
	writePair(t, cfg, "second")
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
	writePair(t, cfg, "third")
	require.Equal(t, "third", shows())
}

func TestTLSClientAuthorities(t *testing.T) {
	dir := t.TempDir()
	cfg := config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem")}
	writePair(t, cfg, "server")
	_, err := newTLS(cfg, tls.RequireAndVerifyClientCert, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "tls.client_ca: open ")
	require.NoError(t, os.WriteFile(cfg.ClientCA, []byte("hello"), 0o600))
	_, err = newTLS(cfg, tls.RequireAndVerifyClientCert, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "holds no certificate in PEM")
	data, err := os.ReadFile(cfg.Cert)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cfg.ClientCA, data, 0o600))
	conf, err := newTLS(cfg, tls.RequireAndVerifyClientCert, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	now, err := conf.GetConfigForClient(nil)
	require.NoError(t, err)
	require.Equal(t, tls.RequireAndVerifyClientCert, now.ClientAuth)
	require.NotNil(t, now.ClientCAs)
}
