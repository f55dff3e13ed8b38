package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/store"
)

// join makes the gateway one of those that share its store. Alone on a store of its own, or started anew in its
// directory, it knows who is gone.
func (g *Gateway) join(ctx context.Context, secret []byte) error {
	if err := g.agree(ctx, secret); err != nil {
		return err
	}
	file := filepath.Join(g.cfg.DataDir, "replica")
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data_dir: %w", err)
	}
	g.replica, err = replica.Join(ctx, replica.Options{
		Store: g.store, Address: g.http.Addr().String(), Timeout: g.cfg.Store.ReplicaTimeout,
		Before: strings.TrimSpace(string(before)), Only: !store.IsPostgres(g.cfg.Store.URL),
		Lost: func(was string) {
			g.sessions.Lost(was)
			if err := g.remember(); err != nil {
				g.log.Warn("cannot keep who we are", "error", err)
			}
		},
		Inherited: func() {
			if err := g.adopt(context.WithoutCancel(ctx)); err != nil {
				g.log.Warn("cannot take over sessions", "error", err)
			}
		},
		Log: g.log,
	})
	if err != nil {
		return err
	}
	return g.remember()
}

// remember keeps who we are for the gateway that is started here after us.
func (g *Gateway) remember() error {
	return writeFile(filepath.Join(g.cfg.DataDir, "replica"), []byte(g.replica.ID()+"\n"))
}

// adopt takes over the sessions that became ours.
func (g *Gateway) adopt(ctx context.Context) error {
	adopted, err := g.sessions.Adopt(ctx)
	g.hs2.Adopted(adopted)
	if err == nil {
		err = g.gate.Adopted(ctx)
	}
	return err
}

// agree makes sure that all gateways on a shared store have the same master secret: with another one they could not reach
// each other's engines.
func (g *Gateway) agree(ctx context.Context, secret []byte) error {
	if !store.IsPostgres(g.cfg.Store.URL) {
		return nil
	}
	mine := hex.EncodeToString(derive(secret, "the same secret"))
	first, err := g.store.Agree(ctx, "secret", mine)
	if err == nil && first != mine {
		err = errors.New("secret: it is not the one that the gateways on store.url have: set the same on each of them")
	}
	return err
}
