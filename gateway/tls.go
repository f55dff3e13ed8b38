package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/gateway/reload"
)

// tlsFiles are a certificate, its key and perhaps the authorities of clients' certificates. They are read again once
// they have changed, so that renewed ones are used without a restart; broken ones leave what was there in force.
type tlsFiles struct {
	cfg  config.TLS
	auth tls.ClientAuthType
	log  *slog.Logger

	mu    sync.Mutex
	files *reload.Files
	conf  *tls.Config
}

// newTLS returns what a listener speaks TLS with. auth is what is asked of clients where tls.client_ca is set.
func newTLS(cfg config.TLS, auth tls.ClientAuthType, log *slog.Logger) (*tls.Config, error) {
	if cfg.ClientCA == "" {
		auth = tls.NoClientCert
	}
	f := &tlsFiles{cfg: cfg, auth: auth, log: log}
	paths := []string{cfg.Cert, cfg.Key}
	if cfg.ClientCA != "" {
		paths = append(paths, cfg.ClientCA)
	}
	f.files, _ = reload.Watch(paths...) // what is missing is told below, with its key
	var err error
	if f.conf, err = f.read(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return f.current(), nil
	}}, nil
}

func (f *tlsFiles) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.cfg.Cert, f.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.cert and tls.key: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: f.auth}
	if f.cfg.ClientCA == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(f.cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("tls.client_ca: %w", err)
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls.client_ca: %s holds no certificate in PEM", f.cfg.ClientCA)
	}
	return conf, nil
}

// current returns the configuration in force, after a look at the files.
func (f *tlsFiles) current() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed, err := f.files.Changed()
	if !changed && err == nil {
		return f.conf
	}
	var conf *tls.Config
	if err == nil {
		conf, err = f.read()
	}
	if err != nil { // perhaps the half of a change: the rest of it will be seen, too
		f.log.Warn("the TLS files have changed and cannot be used; the certificate from before stays in force", "error", err)
		return f.conf
	}
	f.conf = conf
	f.log.Info("the TLS files have changed and are in use", "cert", f.cfg.Cert)
	return f.conf
}
