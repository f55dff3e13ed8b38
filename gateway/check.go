package gateway

import (
	"context"
	"log/slog"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/gateway/config"
)

// Check tries what a configuration names and only the network can tell: each service of each cluster. tell hears what was
// tried, with what is wrong and the next step; ok is whether all is well. Nothing is started and nothing is stored.
func Check(ctx context.Context, cfg config.Config, tell func(what string, err error)) (ok bool) {
	ok = true
	for _, name := range cfg.ClusterNames() {
		c := cfg.Clusters[name]
		say := func(what string, err error) {
			ok = ok && err == nil
			tell("cluster "+name+": "+what, err)
		}
		var err error
		switch c.Kind { // this machine is asked when an engine starts
		case "yarn":
			err = checkYARN(ctx, cfg, name, say)
		case "kubernetes":
			err = checkKube(ctx, cfg, name, say)
		}
		if err != nil {
			say("read its configuration", err)
		}
	}
	return ok
}

func checkYARN(ctx context.Context, cfg config.Config, name string, say func(string, error)) error {
	at, err := newYARN(cfg, name, cfg.Clusters[name], "", newRuntimes(cfg), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	at.Check(ctx, say)
	return at.Close()
}

func checkKube(ctx context.Context, cfg config.Config, name string, say func(string, error)) error {
	at, err := newKube(cfg, name, cfg.Clusters[name], "check", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	at.Check(ctx, func(p engines.Platform) (engines.Launch, error) {
		return spark.Driver{}.Plan(engines.Spec{ID: "check", User: "check", Name: "check", Memory: cfg.Engine.Memory, Token: "check", Conf: cfg.Engine.Conf}, p)
	}, say)
	return at.Close()
}
