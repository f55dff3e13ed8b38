package gateway

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/sluicedata/sluice/gateway/config"
)

// Check tries what a configuration names and only the network can tell: each service of each cluster. tell hears what was
// tried, with what is wrong and the next step; ok is whether all is well. Nothing is started and nothing is stored.
func Check(ctx context.Context, cfg config.Config, tell func(what string, err error)) (ok bool) {
	ok = true
	for _, name := range slices.Sorted(maps.Keys(cfg.Clusters)) {
		c := cfg.Clusters[name]
		if c.Kind != "yarn" {
			continue // this machine is asked when an engine starts
		}
		say := func(what string, err error) {
			ok = ok && err == nil
			tell("cluster "+name+": "+what, err)
		}
		at, err := newYARN(cfg, name, c, "", newRuntimes(cfg), slog.New(slog.DiscardHandler))
		if err != nil {
			say("read its configuration", err)
			continue
		}
		at.Check(ctx, say)
		_ = at.Close()
	}
	return ok
}
