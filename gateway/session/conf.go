package session

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
)

// What a client says to the gateway among its settings.
const (
	ClusterKey   = "sluice.cluster"           // the cluster of its session
	QueueKey     = "sluice.queue"             // the queue of it
	WorkKey      = "sluice.work"              // kind of work: interactive or etl
	TagsKey      = "sluice.tags"              // words for the router's rules, with commas between them
	ClientKey    = "sluice.client"            // what the client is
	ShareKey     = "sluice.engine.share"      // the share level of its engine
	ShareNameKey = "sluice.engine.share.name" // parts engines of one owner
	ProfileKey   = "sluice.profile"           // a named bundle of settings
	RuntimeKey   = "sluice.runtime"           // the software of its engine
	TimeoutKey   = "sluice.query_timeout"     // time limit of its statements
	IdleKey      = "sluice.idle_timeout"      // how long it may be idle
	RetryKey     = "sluice.retry_reads"       // true: what only reads is run again when its engine is lost
)

// aliases are Kyuubi's names for settings of ours, so that who comes from there changes host and port only.
var aliases = map[string]string{
	"kyuubi.engine.share.level":            ShareKey,
	"kyuubi.engine.share.level.subdomain":  ShareNameKey,
	"kyuubi.engine.share.level.sub.domain": ShareNameKey,
	"kyuubi.session.engine.share.level":    ShareKey,
	"kyuubi.session.conf.profile":          ProfileKey,
	"kyuubi.operation.query.timeout":       TimeoutKey,
	"kyuubi.session.idle.timeout":          IdleKey,
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
	p, err := m.profile(conf)
	if err != nil {
		return launch.Request{}, err
	}
	key := launch.Key{Kind: m.opt.Kind, Level: level, Owner: owner, Name: conf[ShareNameKey], Runtime: runtime, Profile: conf[ProfileKey]}
	return launch.Request{Key: key, User: runAs, Name: "sluice-" + runAs, Memory: p.Memory, Pool: p.Engines}, nil
}

// WarmRequest asks for the engines of a profile before any session does, where the rules would have them now. The owner is a
// user or a group, or empty where everybody shares.
func (m *Manager) WarmRequest(profile, owner string) (launch.Request, error) {
	conf := map[string]string{ProfileKey: profile}
	p, err := m.profile(conf)
	if err != nil {
		return launch.Request{}, err
	}
	p.apply(conf)
	who := auth.Identity{User: owner, Groups: []string{owner}}
	r, wanted, err := m.request(store.Session{User: owner, Groups: who.Groups, Conf: conf}, who, nothing)
	if err != nil {
		return launch.Request{}, err
	}
	if wanted.Key.Level == launch.Connection {
		return launch.Request{}, errors.New("engines of one connection cannot be kept warm: nobody else can have them")
	}
	d, err := m.opt.Router.Preview(r)
	at(&wanted, d)
	return wanted, err
}

var isoDuration = regexp.MustCompile(`^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?$`)

// parseDuration reads a time as we write it (90s), in milliseconds, or as Kyuubi does (PT1H30M).
func parseDuration(text string) (time.Duration, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 {
		return time.Duration(ms) * time.Millisecond, nil
	}
	if m := isoDuration.FindStringSubmatch(strings.ToUpper(text)); m != nil {
		var d time.Duration
		for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
			n, _ := strconv.Atoi("0" + m[i+1])
			d += time.Duration(n) * unit
		}
		return d, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is no time; write it like 90s, PT1H30M, or in milliseconds", text)
}

// limit is the smaller of a time limit of the gateway and one of the session; 0 is none. What the session says was looked
// at when it was opened.
func limit(gateway time.Duration, conf map[string]string, key string) time.Duration {
	own, err := parseDuration(conf[key])
	if err != nil || own == 0 || gateway > 0 && gateway < own {
		return gateway
	}
	return own
}

// checkConf looks at what a session says to us.
func checkConf(conf map[string]string) error {
	for _, key := range []string{TimeoutKey, IdleKey} {
		if text, said := conf[key]; said {
			if _, err := parseDuration(text); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	if work, said := conf[WorkKey]; said && !slices.Contains(router.Works, work) {
		return fmt.Errorf("%s: %q is not one of %s", WorkKey, work, strings.Join(router.Works, ", "))
	}
	if text, said := conf[RetryKey]; said {
		if _, err := strconv.ParseBool(text); err != nil {
			return fmt.Errorf("%s: %q is neither true nor false", RetryKey, text)
		}
	}
	return nil
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
