package launch

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// Level says among whom an engine is shared.
type Level string

// The share levels, from the narrowest.
const (
	Connection Level = "connection" // one session; the engine ends with it
	User       Level = "user"       // all sessions of a user
	Group      Level = "group"      // all sessions of the members of a group
	Server     Level = "server"     // everybody who asks for it
)

// Levels lists the share levels, from the narrowest.
var Levels = []Level{Connection, User, Group, Server}

// ServiceUser is in whose name engines run that belong to nobody.
const ServiceUser = "sluice"

// ParseLevel reads a share level, in any case.
func ParseLevel(text string) (Level, error) {
	l := Level(strings.ToLower(strings.TrimSpace(text)))
	if !slices.Contains(Levels, l) {
		return "", fmt.Errorf("%q is no share level; it is one of connection, user, group, server", text)
	}
	return l, nil
}

// Key says who may share an engine: two requests with equal keys get the same one.
type Key struct {
	Cluster string
	Kind    engines.Kind
	Level   Level
	Owner   string // the session, user or group; empty for the level server
	Name    string // parts engines of one owner, as a subdomain does
	Runtime string // the engine's software, by its name in the configuration; empty for the default one
	Profile string // a named bundle of settings, or empty
	Queue   string // of the cluster; empty for the cluster's own default
}

// String writes the key so that ParseKey reads it back.
func (k Key) String() string {
	parts := []string{k.Cluster, string(k.Kind), string(k.Level), k.Owner, k.Name, k.Runtime, k.Profile}
	if k.Queue != "" {
		parts = append(parts, k.Queue)
	}
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// ParseKey reads what String wrote.
func ParseKey(text string) (Key, error) {
	parts := strings.Split(text, "/")
	if len(parts) == 7 {
		parts = append(parts, "") // no queue
	}
	if len(parts) != 8 {
		return Key{}, fmt.Errorf("%q is no share key", text)
	}
	for i, p := range parts {
		var err error
		if parts[i], err = url.PathUnescape(p); err != nil {
			return Key{}, fmt.Errorf("%q is no share key: %w", text, err)
		}
	}
	return Key{Cluster: parts[0], Kind: engines.Kind(parts[1]), Level: Level(parts[2]), Owner: parts[3], Name: parts[4],
		Runtime: parts[5], Profile: parts[6], Queue: parts[7]}, nil
}

// Owner says whose an engine of a level is, and in whose name it runs.
func (l Level) Owner(session, user string, groups []string) (owner, runAs string, err error) {
	switch l {
	case Connection:
		return session, user, nil
	case Group:
		if len(groups) == 0 {
			return "", "", errors.New("the share level group needs a group, and " + user + " is in none")
		}
		return groups[0], groups[0], nil
	case Server:
		return "", ServiceUser, nil
	}
	return user, user, nil
}
