package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/gateway/hs2"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/session"
	"github.com/sluicedata/sluice/gateway/spool"
	"github.com/sluicedata/sluice/gateway/store"
)

// openData locks the directories that are the gateway's alone, and opens the store. It returns the master secret.
func (g *Gateway) openData(ctx context.Context) (secret []byte, err error) {
	for _, d := range []struct{ key, dir, env string }{{"data_dir", g.cfg.DataDir, "SLUICE_DATA_DIR"}, {"spool.dir", g.spoolDir(), "SLUICE_SPOOL_DIR"}} {
		lock, err := lockDir(d.key, d.dir, d.env)
		if err != nil {
			return nil, err
		}
		g.locks = append(g.locks, lock)
	}
	if secret, err = masterSecret(g.cfg); err != nil {
		return nil, err
	}
	at := g.cfg.Store.URL
	if at == "" {
		at = filepath.Join(g.cfg.DataDir, "sluice.db")
	}
	if g.store, err = store.Open(ctx, at); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return secret, nil
}

func (g *Gateway) spoolDir() string {
	if g.cfg.Spool.Dir != "" {
		return g.cfg.Spool.Dir
	}
	return filepath.Join(g.cfg.DataDir, "spool")
}

// lockDir makes a directory and keeps a second gateway out of it.
func lockDir(key, dir, env string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: another gateway uses %s; stop it, or give this one a directory of its own with %s", key, dir, env)
	}
	return f, nil
}

// masterSecret is the configured one, or one that is made once and kept.
func masterSecret(cfg config.Config) ([]byte, error) {
	if cfg.Secret != "" {
		return []byte(cfg.Secret), nil
	}
	file := filepath.Join(cfg.DataDir, "secret")
	data, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(data))) >= 32 {
		return []byte(strings.TrimSpace(string(data))), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the master secret: %w", err)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	secret := []byte(hex.EncodeToString(raw))
	return secret, writeFile(file, append(secret, '\n'))
}

// derive makes a key for one purpose from the master secret, so that no two purposes share one.
func derive(secret []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

func (g *Gateway) newLauncher(secret []byte) *launch.Launcher {
	return launch.New(launch.Options{
		Clusters: g.clusters, Drivers: map[engines.Kind]engines.Driver{spark.Kind: spark.Driver{}},
		Store: replica.Engines{Replica: g.replica, Limits: g.engineLimits}, Secret: secret, Memory: g.cfg.Engine.Memory, Conf: g.cfg.Engine.Conf,
		StartTimeout: g.cfg.Engine.StartTimeout, IdleTimeout: g.cfg.Engine.IdleTimeout, MaxLifetime: g.cfg.Engine.MaxLifetime,
		DrainTimeout: g.cfg.Engine.DrainTimeout, Lease: g.cfg.Engine.Lease, Hooks: g.tried(g.metrics.launch()), Log: g.log,
	})
}

func (g *Gateway) newSessions() *session.Manager {
	return session.NewManager(session.Options{
		Store: g.store, Replica: g.replica.ID, Engines: g.launcher, Kind: spark.Kind, ShareLevel: launch.Level(g.cfg.Engine.ShareLevel), Router: g.router, Gate: g.gate,
		Profiles: profiles(g.cfg), Runtimes: slices.Sorted(maps.Keys(g.cfg.Runtimes)), Limits: session.Limits(g.cfg.Limits),
		Spool: spool.Limits{Dir: g.spoolDir(), Memory: int64(g.cfg.Spool.Memory), Disk: int64(g.cfg.Spool.Disk),
			TotalMemory: int64(g.cfg.Spool.TotalMemory), TotalDisk: int64(g.cfg.Spool.TotalDisk)},
		LogLines: g.cfg.Session.LogLines, QueryTimeout: g.cfg.Session.QueryTimeout, IdleTimeout: g.cfg.Session.IdleTimeout,
		OperationIdleTimeout: g.cfg.Session.OperationIdleTimeout, Hooks: g.audit.sessions(g.metrics.sessions()), Log: g.log,
	})
}

func (g *Gateway) newHS2(secret []byte) (_ *hs2.Server, err error) {
	if g.auth, err = newAuthenticator(g.cfg, g.log); err != nil {
		return nil, err
	}
	proxies, err := g.cfg.Auth.ProxyRules()
	if err != nil {
		return nil, err
	}
	return hs2.New(hs2.Options{
		Sessions: g.sessions, Auth: g.auth, Proxies: proxies, OpenProxy: g.cfg.Auth.Mode == "none", SASL: g.cfg.HS2.SASL,
		MaxMessage: int64(g.cfg.HS2.MaxMessageSize), MaxConnections: g.cfg.HS2.MaxConnections, LoginTimeout: g.cfg.HS2.LoginTimeout,
		PollTimeout: g.cfg.HS2.PollTimeout, FetchBytes: int64(g.cfg.HS2.FetchBytes), StackTraces: g.cfg.HS2.StackTraces,
		CloseOnDisconnect: g.cfg.HS2.CloseOnDisconnect, DisconnectGrace: g.cfg.HS2.DisconnectGrace,
		MessageTimeout: g.cfg.HS2.MessageTimeout,
		HTTP: hs2.HTTPOptions{CookieKey: derive(secret, "hs2 cookies"), CookieAge: g.cfg.HS2.HTTPCookieAge,
			Secure: g.cfg.TLS.Cert != "", ClientCert: g.cfg.TLS.ClientCA != "", Compress: g.cfg.HS2.HTTPCompression},
		SparkVersion: g.cfg.Spark.Version, Hooks: g.audit.hs2(g.metrics.hs2()), Log: g.log,
	}), nil
}

func newAuthenticator(cfg config.Config, log *slog.Logger) (auth.Authenticator, error) {
	if cfg.Auth.Mode == "file" {
		return auth.NewFile(cfg.Auth.File, log)
	}
	return auth.None{}, nil
}
