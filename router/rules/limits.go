package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// The scopes of limits.
const (
	Everybody = "everybody"
	PerUser   = "user"
	PerGroup  = "group"
	PerQueue  = "queue"
	PerPlace  = "cluster"
)

// Scopes are the scopes of limits.
var Scopes = []string{Everybody, PerUser, PerGroup, PerQueue, PerPlace}

// Limit is what one user, group, queue or cluster may have at a time, on all gateways together. 0 is no limit.
type Limit struct {
	Line  int
	Scope string
	Name  string // Each is every one of them, by itself; the name of one wins over it
	Sessions, Engines, Running,
	Waiting int // statements that wait for a running one of this limit to end
	Rate  float64 // statements a second
	Burst int     // of them at once
}

// Each is the name of a limit that holds for everyone by himself.
const Each = "*"

// String is the limit's name in words.
func (l Limit) String() string {
	switch {
	case l.Scope == Everybody:
		return "everybody together"
	case l.Name == Each:
		return "each " + l.Scope
	}
	return l.Scope + " " + l.Name
}

func (r *reader) limit(n *yaml.Node) {
	l := Limit{Line: n.Line}
	scopes := 0
	const most = 1 << 30
	read := map[string]func(*yaml.Node){
		"sessions": r.whole(&l.Sessions, 1, most), "engines": r.whole(&l.Engines, 1, most), "running": r.whole(&l.Running, 1, most),
		"waiting": r.whole(&l.Waiting, 1, most), "burst": r.whole(&l.Burst, 1, most),
		"rate": func(n *yaml.Node) {
			var err error
			if l.Rate, err = rate(n.Value); err != nil {
				r.wrong(n, "%s", err)
			}
		},
	}
	for _, scope := range Scopes {
		read[scope] = func(n *yaml.Node) {
			scopes++
			l.Scope, l.Name = scope, n.Value
			switch {
			case scope == Everybody:
				l.Name = ""
			case n.Kind != yaml.ScalarNode || n.Value == "":
				r.wrong(n, "must be a name, or \"*\" for each %s by itself", scope)
			case scope == PerPlace && n.Value != Each:
				r.cluster(n)
			}
		}
	}
	r.each(n, "a limit", read)
	switch {
	case scopes != 1:
		r.wrong(n, "a limit must say whose it is, with one of %s", strings.Join(Scopes, ", "))
	case l.Sessions+l.Engines+l.Running+l.Waiting == 0 && l.Rate == 0:
		r.wrong(n, "a limit must say of what: sessions, engines, running, waiting or rate")
	case l.Waiting > 0 && l.Running == 0:
		r.wrong(n, "waiting bounds those who wait because of running, which is not limited here")
	case l.Engines > 0 && l.Scope == PerGroup:
		r.wrong(n, "engines: an engine belongs to a user, runs on a cluster and in a queue, and is of no group; limit those")
	case l.Sessions > 0 && (l.Scope == PerQueue || l.Scope == PerPlace):
		r.wrong(n, "sessions: a session has no %s until its first statement; limit running or engines", l.Scope)
	}
	if l.Rate > 0 && l.Burst == 0 {
		l.Burst = max(1, int(l.Rate))
	}
	for _, other := range r.set.Limits {
		if other.Scope == l.Scope && other.Name == l.Name && scopes == 1 {
			r.wrong(n, "%s has a limit in line %d already", l, other.Line)
		}
	}
	r.set.Limits = append(r.set.Limits, l)
}

// rate reads 10/s, 300/m or 1000/h, in statements a second.
func rate(text string) (float64, error) {
	number, unit, _ := strings.Cut(text, "/")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[strings.TrimSpace(unit)]
	if err != nil || v <= 0 || per == 0 {
		return 0, fmt.Errorf("%q is no rate; write it like 10/s, 300/m or 1000/h", text)
	}
	return v / per.Seconds(), nil
}
