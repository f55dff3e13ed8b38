package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sluicedata/sluice/gateway/config"
)

// tlsFiles are a certificate, its key and perhaps the authorities of clients' certificates. They are read again once
// they have changed, so that renewed ones are used without a restart; broken ones leave what was there in force.
type tlsFiles struct {
	cfg  config.TLS
	auth tls.ClientAuthType
	log  *slog.Logger

	mu     sync.Mutex
	looked time.Time
	seen   []os.FileInfo
	conf   *tls.Config
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// newTLS returns what a listener speaks TLS with. auth is what is asked of clients where tls.client_ca is set.
func newTLS(cfg config.TLS, auth tls.ClientAuthType, log *slog.Logger) (*tls.Config, error) {
	if cfg.ClientCA == "" {
		auth = tls.NoClientCert
	}
	f := &tlsFiles{cfg: cfg, auth: auth, log: log, looked: time.Now(), seen: look(cfg)}
	var err error
	if f.conf, err = f.read(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return f.current(), nil
	}}, nil
}

// look returns what the files are at the moment; nil stands for one that is not there.
func look(cfg config.TLS) []os.FileInfo {
	var out []os.FileInfo
	for _, path := range []string{cfg.Cert, cfg.Key, cfg.ClientCA} {
		info, _ := os.Stat(path)
		out = append(out, info)
	}
	return out
}

func unchanged(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
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
	if time.Since(f.looked) < lookEvery {
		return f.conf
	}
	f.looked = time.Now()
	now := look(f.cfg)
	if slices.EqualFunc(now, f.seen, unchanged) {
		return f.conf
	}
	f.seen = now
	conf, err := f.read()
	if err != nil { // perhaps the half of a change: the rest of it will be seen, too
		f.log.Warn("the TLS files have changed and cannot be used; the certificate from before stays in force", "error", err)
		return f.conf
	}
	f.conf = conf
	f.log.Info("the TLS files have changed and are in use", "cert", f.cfg.Cert)
	return f.conf
}
