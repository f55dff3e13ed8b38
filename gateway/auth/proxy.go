package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Groups is what an authenticator may be able to do besides: tell a user's groups without a password. A user that it does
// not know is in no group, which is no error. It is safe for concurrent use.
type Groups interface {
	Groups(ctx context.Context, user string) ([]string, error)
}

// ProxyRule says for whom a user may act, and from where. Each is a list with commas; * alone is everybody, or everywhere.
// As with Hadoop's hadoop.proxyuser.*, one of Users and Groups is enough, and what is not said is not allowed.
type ProxyRule struct {
	Key    string // where the rule is configured, for the errors
	Users  string
	Groups string
	Hosts  string // addresses, ranges like 10.0.0.0/8, and names of hosts
}

// Resolver finds the addresses of a host.
type Resolver func(ctx context.Context, host string) ([]netip.Addr, error)

// Proxies are the rules for who may act for whom. Nothing but the names of hosts is looked up, when a client comes.
type Proxies struct {
	rules   map[string]proxyRule
	resolve Resolver
}

type proxyRule struct {
	key           string
	users, groups []string
	hosts         []string // as written
	anybody       bool
	anywhere      bool
}

// NewProxies reads the rules, by the name of the user who logs in. The error names every rule that is wrong.
func NewProxies(rules map[string]ProxyRule, resolve Resolver) (*Proxies, error) {
	p := &Proxies{rules: map[string]proxyRule{}, resolve: resolve}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		r := rules[name]
		p.rules[name] = proxyRule{
			key: r.Key, users: list(r.Users), groups: list(r.Groups), hosts: list(r.Hosts),
			// Hadoop takes * for everybody in either list, and only where it stands alone.
			anybody: isAll(r.Users) || isAll(r.Groups), anywhere: isAll(r.Hosts),
		}
		for _, h := range list(r.Hosts) {
			if err := checkHost(h); err != nil {
				errs = append(errs, fmt.Errorf("%s.hosts: %w", r.Key, err))
			}
		}
	}
	return p, errors.Join(errs...)
}

func isAll(text string) bool { return strings.TrimSpace(text) == "*" }

func list(text string) []string {
	var out []string
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func checkHost(h string) error {
	if !strings.Contains(h, "/") {
		return nil // an address, or a name
	}
	if _, err := netip.ParsePrefix(h); err != nil {
		return fmt.Errorf("%q is no range of addresses; write it like 10.0.0.0/8", h)
	}
	return nil
}

// Check says whether a user who has logged in may act for another one, who is in the given groups, from the address of
// its client. As in Hadoop it looks at the user first and at the address then. The error says what to add, and where.
func (p *Proxies) Check(ctx context.Context, real Identity, target string, groups []string, address string) error {
	rule, ok := p.rules[real.User]
	key := rule.key
	switch {
	case !ok:
		return fmt.Errorf("there is no rule for %s; add auth.proxy_users.%s, with users or groups for whom it may act and hosts from which it may", real.User, real.User)
	case !rule.anybody && !slices.Contains(rule.users, target) && !meet(rule.groups, groups):
		return fmt.Errorf("%s may not act for %s, who is in %s; add the user to %s.users, or a group of it to %s.groups", real.User, target, groupNames(groups), key, key)
	}
	if rule.anywhere {
		return nil
	}
	return rule.from(ctx, address, real.User, p.resolve)
}

// from says whether the client's address is one of the rule's hosts.
func (r proxyRule) from(ctx context.Context, address, user string, resolve Resolver) error {
	ip, err := clientIP(address)
	if err != nil {
		return fmt.Errorf("%s may act for others from known addresses only, and the client's is none: %w", user, err)
	}
	var unknown []string // hosts that have no address: they allow nothing, as in Hadoop
	for _, h := range r.hosts {
		if prefix, err := netip.ParsePrefix(h); err == nil {
			if prefix.Contains(ip) {
				return nil
			}
			continue
		}
		if addr, err := netip.ParseAddr(h); err == nil {
			if addr.Unmap() == ip {
				return nil
			}
			continue
		}
		addrs, err := resolve(ctx, h)
		if err != nil {
			unknown = append(unknown, h)
		}
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap() == ip }) {
			return nil
		}
	}
	hint := ""
	if len(unknown) > 0 {
		hint = fmt.Sprintf(" (no address was found for %s)", strings.Join(unknown, ", "))
	}
	return fmt.Errorf("%s may not act for others from %s; add the address to %s.hosts%s", user, ip, r.key, hint)
}

// clientIP reads an address with or without a port. One of IPv4 that comes in IPv6's form is the IPv4 one.
func clientIP(address string) (netip.Addr, error) {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	ip, err := netip.ParseAddr(address)
	return ip.Unmap().WithZone(""), err
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

func groupNames(groups []string) string {
	if len(groups) == 0 {
		return "no group known here"
	}
	return strings.Join(groups, ", ")
}
