package hs2

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/session"
)

// A client may act for another user in three ways, of which the first that is used counts: doAs in the URL over HTTP, the
// authorization identity of SASL PLAIN, and a setting of its session. Whoever logged in stays the owner of the sessions:
// neither the other user nor anybody else who may act for it can use them.

// proxyKey asks for a session in another's name.
const proxyKey = "hive.server2.proxy.user"

// doAs finds the user to act for in a URL. The case of the parameter's name does not count, as in HiveServer2.
func doAs(query url.Values) string {
	for key, values := range query {
		if strings.EqualFold(key, "doAs") && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// actFor returns the identity of the client when it acts for another user, or of the client itself if that is nobody
// else. Names are compared with their case, unlike in HiveServer2: here Bob and bob are two users.
func (h *handler) actFor(ctx context.Context, target string) (auth.Identity, error) {
	real := *h.identity
	if target == "" || target == real.User {
		return real, nil
	}
	// What the other one may do follows from its groups. Those of the real user would give it engines and rights that
	// it does not have.
	acting := auth.Identity{User: target, RealUser: real.User}
	if groups, ok := h.server.opt.Auth.(auth.Groups); ok {
		var err error
		if acting.Groups, err = groups.Groups(ctx, target); err != nil {
			h.log.Error("cannot look up a user's groups", "of", target, "error", err)
			return acting, proxyDenied(real.User, target, errors.New("its groups cannot be looked up at the moment"))
		}
	}
	var err error
	switch opt := h.server.opt; {
	case opt.Proxies != nil:
		err = opt.Proxies.Check(ctx, real, target, acting.Groups, h.client)
	case !opt.OpenProxy:
		err = fmt.Errorf("nobody may act for others here; add auth.proxy_users.%s", real.User)
	}
	if err != nil {
		return acting, proxyDenied(real.User, target, err)
	}
	return acting, nil
}

// proxyDenied has the words and the SQLSTATE of HiveServer2, which clients know, and then ours.
func proxyDenied(real, target string, why error) error {
	return &session.Failure{Class: "SLUICE_PROXY_DENIED", SQLState: "08S01",
		Message: fmt.Sprintf("Failed to validate proxy privilege of %s for %s: %v", real, target, why)}
}

// mine says whether this connection's client may use a session: its own, or one in which it acts for somebody. A client
// that says for whom it acts, a trusted proxy that passes others' calls on, may use that one's sessions only.
func (h *handler) mine(s *session.Session) bool {
	owner := s.Identity.RealUser
	if owner == "" {
		owner = s.Identity.User
	}
	return owner == h.identity.User && (h.target == "" || h.target == s.Identity.User)
}
