package session

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// Profile is a named bundle of what sessions and their engines are given. What a session says itself wins.
type Profile struct {
	Cluster, Runtime, ShareLevel string
	Memory                       string // heap of the engines' drivers
	Conf                         map[string]string
	InitSQL                      string // statements that each session begins with on an engine
	Engines                      int    // that share the work of a key
}

// apply fills in what a session does not say itself.
func (p Profile) apply(conf map[string]string) {
	defaults := maps.Clone(p.Conf)
	if defaults == nil {
		defaults = map[string]string{}
	}
	for key, value := range map[string]string{ClusterKey: p.Cluster, RuntimeKey: p.Runtime, ShareKey: p.ShareLevel} {
		if value != "" {
			defaults[key] = value
		}
	}
	for k, v := range defaults {
		if _, said := conf[k]; !said {
			conf[k] = v
		}
	}
}

// profile finds the profile that a session asks for, if it asks for one.
func (m *Manager) profile(conf map[string]string) (Profile, error) {
	name, wanted := conf[ProfileKey]
	if !wanted {
		return Profile{}, nil
	}
	p, ok := m.opt.Profiles[name]
	if !ok {
		names := slices.Sorted(maps.Keys(m.opt.Profiles))
		return Profile{}, &Failure{Class: "SLUICE_NO_PROFILE", SQLState: "42704",
			Message: fmt.Sprintf("%s: there is no profile %q; profiles are: %s", ProfileKey, name, strings.Join(names, ", "))}
	}
	return p, nil
}

// initialize runs the profile's statements in a session that is new on its engine.
func (m *Manager) initialize(ctx context.Context, remote engines.Session, conf map[string]string) error {
	p, err := m.profile(conf)
	if err != nil {
		return err
	}
	c := &Catalog{remote}
	for _, text := range split(p.InitSQL) {
		if err := c.do(ctx, text); err != nil {
			return fmt.Errorf("profiles.%s.init_sql: %q: %w", conf[ProfileKey], text, err)
		}
	}
	return nil
}
