package gateway

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/hadoop"
	"github.com/sluicedata/sluice/engines/kept"
	"github.com/sluicedata/sluice/engines/local"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/engines/spark/dist"
	"github.com/sluicedata/sluice/engines/yarn"
	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/gateway/session"
)

func profiles(cfg config.Config) map[string]session.Profile {
	out := map[string]session.Profile{}
	for name, p := range cfg.Profiles {
		out[name] = session.Profile{Cluster: p.Cluster, Runtime: p.Runtime, ShareLevel: p.ShareLevel, Memory: p.Memory, Conf: p.Conf, InitSQL: p.InitSQL, Engines: p.Engines}
	}
	return out
}

// keepWarm tells the launcher which engines are to be ready before anybody asks.
func (g *Gateway) keepWarm() error {
	for _, name := range slices.Sorted(maps.Keys(g.cfg.Profiles)) {
		p := g.cfg.Profiles[name]
		if !p.Warm {
			continue
		}
		for _, owner := range strings.Split(p.WarmFor, ",") {
			req, err := g.sessions.WarmRequest(name, strings.TrimSpace(owner))
			if err != nil {
				return fmt.Errorf("profiles.%s.warm: %w", name, err)
			}
			g.launcher.KeepWarm(req)
		}
	}
	return nil
}

func newClusters(cfg config.Config, secret []byte, supervise []string, log *slog.Logger) (map[string]engines.Cluster, error) {
	out := map[string]engines.Cluster{}
	instance := "sluice-" + hex.EncodeToString(derive(secret, "instance"))[:16]
	runtimes := newRuntimes(cfg)
	for name, c := range cfg.Clusters {
		var err error
		switch c.Kind {
		case "yarn":
			out[name], err = newYARN(cfg, name, c, instance, runtimes, log)
		case "kubernetes":
			out[name], err = newKube(cfg, name, c, instance, derive(secret, "files"), log)
		default:
			out[name] = local.New(local.Options{
				Name: name, Dir: cmp.Or(c.Dir, filepath.Join(cfg.DataDir, "clusters", name)), Cores: c.Cores, Lease: cfg.Engine.Lease, Supervise: supervise,
				Runtime: runtimes.find, Closed: c.ClosedNetwork, Shuffle: shuffleOf(name, c), Log: log,
			})
		}
		if err != nil {
			delete(out, name) // a nil pointer is no nil interface
			return out, err
		}
	}
	return out, nil
}

func newYARN(cfg config.Config, name string, c config.Cluster, instance string, rts runtimes, log *slog.Logger) (*yarn.Cluster, error) {
	y := c.YARN
	h, err := yarn.ReadHadoop(y.HadoopConf)
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.yarn.hadoop_conf: %w", name, err)
	}
	if y.ResourceManagers != "" {
		h.ResourceManagers = nil
		for _, at := range strings.Split(y.ResourceManagers, ",") {
			h.ResourceManagers = append(h.ResourceManagers, strings.TrimSuffix(strings.TrimSpace(at), "/"))
		}
	}
	ports, err := engines.ReadPorts(y.Ports)
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.yarn.ports: %w", name, err)
	}
	login, err := loginOf("clusters."+name+".yarn", y.HadoopConf, h.Conf, y.Principal, y.Keytab, y.Krb5Conf)
	if err != nil {
		return nil, err
	}
	user := cmp.Or(y.ServiceUser, login.Short(), "sluice")
	at, err := yarn.New(yarn.Options{
		Name: name, Instance: instance, Hadoop: h, User: user, Login: login, Shared: cmp.Or(y.SharedDir, "/user/"+user+"/sluice"),
		Queue: queueOf(y), DriverLabel: y.DriverLabel, ExecutorLabel: y.ExecutorLabel, Conf: y.Conf, Archives: y.Archives,
		Closed: c.ClosedNetwork, Shuffle: shuffleOf(name, c), Ready: spark.Ready, Ports: ports, Lease: cfg.Engine.Lease, Logs: kept.Dir(filepath.Join(cfg.DataDir, "logs", name)),
		Runtime: func(ctx context.Context, name string, report func(string)) (yarn.Runtime, error) {
			if uri := y.Archives[cmp.Or(name, config.DefaultRuntime)]; uri != "" {
				return yarn.Runtime{Archive: uri, Version: rts[name].Version}, nil
			}
			home, version, err := rts.spark(ctx, name, report)
			return yarn.Runtime{Home: home, Version: version}, err
		},
		Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.yarn: %w", name, err)
	}
	return at, nil
}

// shuffleOf says which shuffle service a runtime of a cluster uses; nil is none.
func shuffleOf(name string, c config.Cluster) func(runtime string) *engines.Shuffle {
	return func(runtime string) *engines.Shuffle {
		s := c.Shuffle
		jar, key := s.ClientOf(runtime)
		if masters := s.MasterList(); len(masters) > 0 && jar != config.NoClient {
			return &engines.Shuffle{Masters: masters, Jar: jar, Client: strings.TrimPrefix(jar, "local://"), Key: "clusters." + name + ".shuffle." + key,
				Replicate: s.Replicate, Fallback: s.Fallback == "auto"}
		}
		return nil
	}
}

// queueOf is the queue of those who name none.
func queueOf(y config.YARN) string { return cmp.Or(y.Queue, "default") }

// loginOf is how the gateway proves who it is to a Hadoop, if that asks; section is that of the configuration.
func loginOf(section, dir string, conf hadoop.Conf, principal, keytab, krb5 string) (*hadoop.Login, error) {
	key, file := section+".kerberos_principal", filepath.Join(dir, "core-site.xml")
	switch {
	case conf.Secure() && principal == "":
		return nil, fmt.Errorf("%s: %s asks for Kerberos: give a principal and its keytab", key, file)
	case !conf.Secure() && principal != "":
		return nil, fmt.Errorf("%s: hadoop.security.authentication in %s is not kerberos: remove the principal, or use the cluster's own files", key, file)
	case principal == "":
		return nil, nil
	}
	return &hadoop.Login{Principal: principal, Keytab: keytab, Config: cmp.Or(krb5, "/etc/krb5.conf")}, nil
}

// runtimes are the Sparks that engines may run from, by their names; the default one has none.
type runtimes map[string]dist.Wanted

func newRuntimes(cfg config.Config) runtimes {
	out := runtimes{"": dist.Default(cfg.Spark.Home, cfg.Spark.Version, cfg.Spark.JavaHome)}
	for name, r := range cfg.Runtimes {
		out[name] = dist.Wanted{Key: "runtimes." + name, Home: r.Home, Version: r.Version, JavaHome: r.JavaHome}
	}
	return out
}

func (r runtimes) find(ctx context.Context, name string, report func(string)) (local.Runtime, error) {
	home, version, err := r.spark(ctx, name, report)
	if err != nil {
		return local.Runtime{}, err
	}
	java, err := r[name].Java(version)
	return local.Runtime{Home: home, Version: version, Java: java}, err
}

// spark finds a distribution on this machine, fetching it if need be.
func (r runtimes) spark(ctx context.Context, name string, report func(string)) (home, version string, err error) {
	wanted, ok := r[name]
	if !ok {
		return "", "", fmt.Errorf("runtimes.%s: there is no such runtime any more", name)
	}
	return wanted.Spark(ctx, report)
}
