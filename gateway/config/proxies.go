package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/gateway/auth"
)

// hadoopPrefix begins the keys of Hadoop's rules.
const hadoopPrefix = "hadoop.proxyuser."

// ProxyRules reads the rules for who may act for whom, in our form and in Hadoop's. Nil means that there are none. The
// error names the key of everything that is wrong.
func (a Auth) ProxyRules() (*auth.Proxies, error) {
	rules := map[string]auth.ProxyRule{}
	for name, r := range a.ProxyUsers {
		rules[name] = auth.ProxyRule{Key: "auth.proxy_users." + name, Users: r.Users, Groups: r.Groups, Hosts: r.Hosts}
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(a.HadoopProxyUsers)) {
		if err := readHadoopRule(rules, a.ProxyUsers, key, a.HadoopProxyUsers[key]); err != nil {
			errs = append(errs, fmt.Errorf("auth.hadoop_proxyusers: %s: %w", key, err))
		}
	}
	p, err := auth.NewProxies(rules, func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	})
	if err = errors.Join(append(errs, err)...); err != nil || len(rules) == 0 {
		return nil, err
	}
	return p, nil
}

// readHadoopRule adds one part of a rule in Hadoop's form. Hadoop passes over keys that it does not know; a misspelt one
// of a pasted file should be told.
func readHadoopRule(rules map[string]auth.ProxyRule, ours map[string]ProxyUser, key, value string) error {
	dot := strings.LastIndexByte(key, '.')
	if !strings.HasPrefix(key, hadoopPrefix) || dot <= len(hadoopPrefix) {
		return errors.New("is no rule; write hadoop.proxyuser.NAME.users, .groups or .hosts")
	}
	name, part := key[len(hadoopPrefix):dot], key[dot+1:]
	if _, twice := ours[name]; twice {
		return fmt.Errorf("%s has a rule in auth.proxy_users too; leave one of them out", name)
	}
	r := rules[name]
	r.Key = "auth.hadoop_proxyusers: " + hadoopPrefix + name
	switch part {
	case "users":
		r.Users = value
	case "groups":
		r.Groups = value
	case "hosts":
		r.Hosts = value
	default:
		return fmt.Errorf("%q is not one of users, groups, hosts%s", part, didYouMean(part, []string{"users", "groups", "hosts"}))
	}
	rules[name] = r
	return nil
}
