package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/auth"
)

// What a client says to the gateway among its settings.
const (
	ClusterKey   = "sluice.cluster"           // the cluster of its session
	ShareKey     = "sluice.engine.share"      // the share level of its engine
	ShareNameKey = "sluice.engine.share.name" // parts engines of one owner
	RuntimeKey   = "sluice.runtime"           // the software of its engine, by its name among the runtimes
)

// aliases are Kyuubi's names for settings of ours, so that who comes from there changes host and port only.
var aliases = map[string]string{
	"kyuubi.engine.share.level":            ShareKey,
	"kyuubi.engine.share.level.subdomain":  ShareNameKey,
	"kyuubi.engine.share.level.sub.domain": ShareNameKey,
}

// informative are keys that Kyuubi's clients send about themselves.
var informative = []string{"kyuubi.client.ipAddress", "kyuubi.client.version"}

// translate gives Kyuubi's settings our names; a setting under our own name wins. It returns the ones that mean nothing
// here.
func translate(conf map[string]string) (unknown []string) {
	for k, v := range conf {
		if !strings.HasPrefix(k, "kyuubi.") || slices.Contains(informative, k) {
			continue
		}
		ours, known := aliases[k]
		if !known {
			unknown = append(unknown, k)
			continue
		}
		if _, said := conf[ours]; !said {
			conf[ours] = v
		}
	}
	slices.Sort(unknown)
	return unknown
}

// share says which engine a session may have: everything of the request but its cluster.
func (m *Manager) share(session uuid.UUID, who auth.Identity, conf map[string]string) (launch.Request, error) {
	level := m.opt.ShareLevel
	if wish, ok := conf[ShareKey]; ok {
		var err error
		if level, err = launch.ParseLevel(wish); err != nil {
			return launch.Request{}, fmt.Errorf("%s: %w", ShareKey, err)
		}
	}
	owner, runAs, err := level.Owner(session.String(), who.User, who.Groups)
	if err != nil {
		return launch.Request{}, err
	}
	runtime := conf[RuntimeKey]
	if runtime != "" && !slices.Contains(m.opt.Runtimes, runtime) {
		return launch.Request{}, fmt.Errorf("%s: there is no runtime %q; %s", RuntimeKey, runtime, m.runtimes())
	}
	key := launch.Key{Kind: m.opt.Kind, Level: level, Owner: owner, Name: conf[ShareNameKey], Runtime: runtime}
	return launch.Request{Key: key, User: runAs, Name: "sluice-" + runAs}, nil
}

func (m *Manager) runtimes() string {
	if len(m.opt.Runtimes) == 0 {
		return "the gateway's configuration has none (key runtimes), so leave the setting out"
	}
	return "runtimes are " + strings.Join(m.opt.Runtimes, ", ") + "; without the setting it is the default one"
}

// engineConf is the part of a session's settings that an engine may be started with: what Spark cannot change later.
// SQL settings belong to sessions, and would become defaults of everybody else on that engine.
func engineConf(conf map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range conf {
		static := k == "spark.sql.extensions" || strings.HasPrefix(k, "spark.sql.catalog.")
		if strings.HasPrefix(k, "spark.") && (static || !strings.HasPrefix(k, "spark.sql.")) {
			out[k] = v
		}
	}
	return out
}

// sessionConf is the part that an engine's session gets: settings and variables, not what is said to us or to Hive.
func sessionConf(conf map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range conf {
		if !strings.HasPrefix(k, "sluice.") && !strings.HasPrefix(k, "hive.server2.") && !strings.HasPrefix(k, "kyuubi.") {
			out[k] = v
		}
	}
	return out
}
