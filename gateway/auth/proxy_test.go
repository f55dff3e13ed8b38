package auth

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// names is a resolver of a few hosts.
func names(_ context.Context, host string) ([]netip.Addr, error) {
	switch host {
	case "hue-1":
		return []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd00::1")}, nil
	case "mapped":
		return []netip.Addr{netip.MustParseAddr("::ffff:10.1.1.2")}, nil
	}
	return nil, errors.New("no such host")
}

func TestProxies(t *testing.T) {
	allow := ""
	for name, tc := range map[string]struct {
		rule           ProxyRule
		target, groups string
		from           string
		err            string
	}{
		"by user":                     {ProxyRule{Users: "bob, carl", Hosts: "*"}, "carl", "", "10.0.0.1:5", allow},
		"another user":                {ProxyRule{Users: "bob", Hosts: "*"}, "dora", "", "10.0.0.1:5", "hue may not act for dora, who is in no group known here; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"names have a case":           {ProxyRule{Users: "bob", Hosts: "*"}, "Bob", "", "10.0.0.1:5", "hue may not act for Bob, who is in no group known here; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"any user":                    {ProxyRule{Users: "*", Hosts: "*"}, "dora", "", "10.0.0.1:5", allow},
		"a star among names":          {ProxyRule{Users: "bob,*", Hosts: "*"}, "dora", "", "10.0.0.1:5", "hue may not act for dora, who is in no group known here; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"by group":                    {ProxyRule{Groups: "etl,bi", Hosts: "*"}, "bob", "staff,bi", "10.0.0.1:5", allow},
		"another group":               {ProxyRule{Groups: "etl", Hosts: "*"}, "bob", "staff,bi", "10.0.0.1:5", "hue may not act for bob, who is in staff, bi; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"any group":                   {ProxyRule{Groups: " * ", Hosts: "*"}, "bob", "", "10.0.0.1:5", allow},
		"user or group: the user":     {ProxyRule{Users: "bob", Groups: "etl", Hosts: "*"}, "bob", "", "10.0.0.1:5", allow},
		"user or group: the group":    {ProxyRule{Users: "carl", Groups: "etl", Hosts: "*"}, "bob", "etl", "10.0.0.1:5", allow},
		"no user, no group":           {ProxyRule{Hosts: "*"}, "bob", "etl", "10.0.0.1:5", "hue may not act for bob, who is in etl; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"an empty name is no name":    {ProxyRule{Users: ",", Groups: ",", Hosts: "*"}, "", "", "10.0.0.1:5", "hue may not act for , who is in no group known here; add the user to auth.proxy_users.hue.users, or a group of it to auth.proxy_users.hue.groups"},
		"no hosts are nowhere":        {ProxyRule{Users: "*"}, "bob", "", "10.0.0.1:5", "hue may not act for others from 10.0.0.1; add the address to auth.proxy_users.hue.hosts"},
		"an address":                  {ProxyRule{Users: "*", Hosts: "10.0.0.2, 10.0.0.1"}, "bob", "", "10.0.0.1:5", allow},
		"another address":             {ProxyRule{Users: "*", Hosts: "10.0.0.2"}, "bob", "", "10.0.0.1:5", "hue may not act for others from 10.0.0.1; add the address to auth.proxy_users.hue.hosts"},
		"a range":                     {ProxyRule{Users: "*", Hosts: "10.0.0.0/8"}, "bob", "", "10.9.9.9:5", allow},
		"a range, by one of its own":  {ProxyRule{Users: "*", Hosts: "10.0.0.7/8"}, "bob", "", "10.9.9.9:5", allow},
		"outside a range":             {ProxyRule{Users: "*", Hosts: "10.0.0.0/24"}, "bob", "", "10.0.1.1:5", "hue may not act for others from 10.0.1.1; add the address to auth.proxy_users.hue.hosts"},
		"a range's first and last":    {ProxyRule{Users: "*", Hosts: "10.0.0.255/32,10.0.0.0/31"}, "bob", "", "10.0.0.0:5", allow},
		"a host":                      {ProxyRule{Users: "*", Hosts: "none,hue-1"}, "bob", "", "10.1.1.1:5", allow},
		"a host, over IPv6":           {ProxyRule{Users: "*", Hosts: "hue-1"}, "bob", "", "[fd00::1]:5", allow},
		"another host":                {ProxyRule{Users: "*", Hosts: "hue-1"}, "bob", "", "10.1.1.3:5", "hue may not act for others from 10.1.1.3; add the address to auth.proxy_users.hue.hosts"},
		"a host that is not known":    {ProxyRule{Users: "*", Hosts: "none"}, "bob", "", "10.1.1.3:5", "hue may not act for others from 10.1.1.3; add the address to auth.proxy_users.hue.hosts (no address was found for none)"},
		"IPv4 in the form of IPv6":    {ProxyRule{Users: "*", Hosts: "10.0.0.0/8"}, "bob", "", "[::ffff:10.0.0.1]:5", allow},
		"a host's, in that form":      {ProxyRule{Users: "*", Hosts: "mapped"}, "bob", "", "10.1.1.2:5", allow},
		"without a port":              {ProxyRule{Users: "*", Hosts: "10.0.0.1"}, "bob", "", "10.0.0.1", allow},
		"a link-local address's zone": {ProxyRule{Users: "*", Hosts: "fe80::1"}, "bob", "", "[fe80::1%eth0]:5", allow},
		"no address":                  {ProxyRule{Users: "*", Hosts: "10.0.0.1"}, "bob", "", "@", `hue may act for others from known addresses only, and the client's is none: ParseAddr("@"): unable to parse IP`},
		"no address, from anywhere":   {ProxyRule{Users: "*", Hosts: "*"}, "bob", "", "@", allow},
	} {
		t.Run(name, func(t *testing.T) {
			tc.rule.Key = "auth.proxy_users.hue"
			p, err := NewProxies(map[string]ProxyRule{"hue": tc.rule, "other": {Users: "*", Hosts: "*"}}, names)
			require.NoError(t, err)
			err = p.Check(t.Context(), Identity{User: "hue", Groups: []string{"etl", "bi"}}, tc.target, list(tc.groups), tc.from)
			if tc.err == allow {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, tc.err)
			}
		})
	}
}

func TestProxyWithoutARule(t *testing.T) {
	p, err := NewProxies(map[string]ProxyRule{"hue": {Users: "*", Hosts: "*"}}, names)
	require.NoError(t, err)
	err = p.Check(t.Context(), Identity{User: "ann"}, "bob", nil, "10.0.0.1:5")
	require.EqualError(t, err, "there is no rule for ann; add auth.proxy_users.ann, with users or groups for whom it may act and hosts from which it may")
}

func TestBadProxyRules(t *testing.T) {
	_, err := NewProxies(map[string]ProxyRule{"knox": {Key: "knox", Hosts: "10.0.0.0/33"}, "hue": {Key: "hue", Hosts: "10.0.0.1,hosts/8"}}, names)
	require.EqualError(t, err, "hue.hosts: \"hosts/8\" is no range of addresses; write it like 10.0.0.0/8\n"+
		"knox.hosts: \"10.0.0.0/33\" is no range of addresses; write it like 10.0.0.0/8")
}

func TestGroupsOfFile(t *testing.T) {
	file := newAccounts(t, "ann:"+hash(t, "x")+":etl,bi", "bob:"+hash(t, "x"))
	f, _ := newFile(t, file)
	for user, want := range map[string][]string{"ann": {"etl", "bi"}, "bob": nil, "dora": nil} {
		got, err := f.Groups(t.Context(), user)
		require.NoError(t, err)
		require.Equal(t, want, got, user)
	}
	file.write(t, "ann:"+hash(t, "x")+":staff")
	f.lookAgain()
	got, err := f.Groups(t.Context(), "ann")
	require.NoError(t, err)
	require.Equal(t, []string{"staff"}, got, "the file is looked at for changes as for a login")
}
