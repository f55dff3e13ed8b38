package config

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/auth"
)

func TestProxyRules(t *testing.T) {
	for name, text := range map[string]string{
		"our form": "auth: {proxy_users: {hue: {users: bob, groups: etl, hosts: \"10.0.0.0/8\"}}}\n",
		"Hadoop's": `
auth:
  hadoop_proxyusers:
    hadoop.proxyuser.hue.users: bob
    hadoop.proxyuser.hue.groups: etl
    hadoop.proxyuser.hue.hosts: 10.0.0.0/8
`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := load(t, text)
			require.NoError(t, cfg.Validate())
			p, err := cfg.Auth.ProxyRules()
			require.NoError(t, err)
			hue := auth.Identity{User: "hue"}
			require.NoError(t, p.Check(t.Context(), hue, "bob", nil, "10.1.2.3:4"))
			require.NoError(t, p.Check(t.Context(), hue, "carl", []string{"etl"}, "10.1.2.3:4"))
			require.ErrorContains(t, p.Check(t.Context(), hue, "carl", nil, "10.1.2.3:4"), "hue.users, or a group of it to ")
			require.ErrorContains(t, p.Check(t.Context(), hue, "bob", nil, "11.1.2.3:4"), "hue.hosts")
		})
	}
}

func TestNoProxyRules(t *testing.T) {
	p, err := Default().Auth.ProxyRules()
	require.NoError(t, err)
	require.Nil(t, p)
}

// A name of Hadoop's rule is told as it is written there, so that whoever reads the error finds it.
func TestHadoopRulesNameTheirKey(t *testing.T) {
	p, err := Auth{HadoopProxyUsers: map[string]string{"hadoop.proxyuser.first.last.hosts": "*"}}.ProxyRules()
	require.NoError(t, err)
	require.ErrorContains(t, p.Check(t.Context(), auth.Identity{User: "first.last"}, "bob", nil, "10.0.0.1"),
		"add the user to auth.hadoop_proxyusers: hadoop.proxyuser.first.last.users")
}

func TestAuditFile(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	require.Equal(t, "/home/ann/audit.jsonl", load(t, "audit: {file: ~/audit.jsonl}\n").Audit.File)
	for _, stream := range []string{"stdout", "stderr", ""} {
		require.Equal(t, stream, load(t, "audit: {file: \""+stream+"\"}\n").Audit.File, "a stream is no path")
	}
}
