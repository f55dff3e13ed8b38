package hs2

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/session"
)

func TestDoAs(t *testing.T) {
	for query, want := range map[string]string{"": "", "doAs=bob": "bob", "DOAS=bob&x=1": "bob", "doas=": "", "doAsX=bob": "", "doAs=a%2Fb": "a/b"} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		require.Equal(t, want, doAs(values), query)
	}
}

// A session's owner is who logged in. TCP clients act for many over one connection; a trusted proxy over HTTP passes on
// the calls of many, and each may have its own sessions only.
func TestMine(t *testing.T) {
	for name, tc := range map[string]struct {
		user, real     string // of the session
		client, target string
		mine           bool
	}{
		"my own":                      {"ann", "", "ann", "", true},
		"another's":                   {"ann", "", "bob", "", false},
		"mine, for bob":               {"bob", "hue", "hue", "", true},
		"mine, for bob, by doAs":      {"bob", "hue", "hue", "bob", true},
		"mine, for another than doAs": {"bob", "hue", "hue", "carl", false},
		"my own, but I act for bob":   {"hue", "", "hue", "bob", false},
		"bob himself":                 {"bob", "hue", "bob", "", false},
		"another acting for bob":      {"bob", "hue", "ann", "bob", false},
		"bob's own, by who may act":   {"bob", "", "hue", "bob", false},
		"hue as somebody's target":    {"hue", "ann", "hue", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handler{identity: &auth.Identity{User: tc.client}, target: tc.target}
			require.Equal(t, tc.mine, h.mine(&session.Session{Identity: auth.Identity{User: tc.user, RealUser: tc.real}}))
		})
	}
}

// directory knows the groups of some, and fails for others.
type directory struct{ auth.None }

func (directory) Groups(_ context.Context, user string) ([]string, error) {
	if user == "broken" {
		return nil, errors.New("no answer")
	}
	return map[string][]string{"bob": {"etl"}}[user], nil
}

func TestActFor(t *testing.T) {
	rules, err := auth.NewProxies(map[string]auth.ProxyRule{"hue": {Key: "auth.proxy_users.hue", Groups: "etl", Hosts: "10.0.0.0/8"}}, nil)
	require.NoError(t, err)
	hue := auth.Identity{User: "hue", Groups: []string{"services"}}
	for name, tc := range map[string]struct {
		opt    Options
		target string
		want   auth.Identity
		err    string
	}{
		"nobody":           {Options{Auth: directory{}}, "", hue, ""},
		"itself":           {Options{Auth: directory{}}, "hue", hue, ""},
		"the other's":      {Options{Auth: directory{}, Proxies: rules}, "bob", auth.Identity{User: "bob", RealUser: "hue", Groups: []string{"etl"}}, ""},
		"by no rule":       {Options{Auth: directory{}}, "bob", auth.Identity{}, "Failed to validate proxy privilege of hue for bob: nobody may act for others here; add auth.proxy_users.hue"},
		"against the rule": {Options{Auth: directory{}, Proxies: rules}, "dora", auth.Identity{}, "Failed to validate proxy privilege of hue for dora: hue may not act for dora, who is in no group known here; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"groups unknown":   {Options{Auth: directory{}, Proxies: rules}, "broken", auth.Identity{}, "Failed to validate proxy privilege of hue for broken: its groups cannot be looked up at the moment"},
		"open, no groups":  {Options{Auth: auth.None{}, OpenProxy: true}, "bob", auth.Identity{User: "bob", RealUser: "hue"}, ""},
		"open, but rules":  {Options{Auth: auth.None{}, OpenProxy: true, Proxies: rules}, "bob", auth.Identity{}, "Failed to validate proxy privilege of hue for bob: hue may not act for bob, who is in no group known here; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handler{server: New(tc.opt), identity: &hue, client: "10.0.0.1:5", log: slog.New(slog.DiscardHandler)}
			got, err := h.actFor(t.Context(), tc.target)
			if tc.err == "" {
				require.NoError(t, err)
				require.Equal(t, tc.want, got)
				return
			}
			require.EqualError(t, err, tc.err)
			var f *session.Failure
			require.ErrorAs(t, err, &f)
			require.Equal(t, "08S01", f.SQLState)
		})
	}
}
