package gateway

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

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
		checkShuffle(ctx, c.Shuffle, say)
	}
	return ok
}

// checkShuffle tries the masters of a shuffle service, and looks for the client's jars on this machine. Engines reach the
// service, and not the gateway, so that an address that only they can reach is no mistake; but mostly it is one.
func checkShuffle(ctx context.Context, s config.Shuffle, say func(string, error)) {
	for _, at := range s.MasterList() {
		soon, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := new(net.Dialer).DialContext(soon, "tcp", at)
		cancel()
		if err == nil {
			_ = conn.Close()
		}
		say("shuffle master "+at, err)
	}
	jars := append(slices.Collect(maps.Values(s.Clients)), s.Client)
	slices.Sort(jars)
	for _, jar := range slices.Compact(jars) {
		if strings.HasPrefix(jar, "/") {
			_, err := os.Stat(jar)
			say("shuffle client "+jar, err)
		}
	}
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
