package ops

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/auth"
)

// known is an authenticator that knows two users, and whose directory may be gone.
type known struct{ gone bool }

func (k known) Authenticate(_ context.Context, user, password string) (auth.Identity, error) {
	if k.gone {
		return auth.Identity{}, errors.New("the directory does not answer")
	}
	if password != user+"-secret" {
		return auth.Identity{}, auth.ErrDenied
	}
	return auth.Identity{User: user}, nil
}

func TestProfilesAreForAdministrators(t *testing.T) {
	for name, tc := range map[string]struct {
		admins, user, password string
		gone                   bool
		code                   int
		text                   string
	}{
		"an administrator":       {"root", "root", "root-secret", false, http.StatusOK, "goroutine profile: total"},
		"a wrong password":       {"root", "root", "x", false, http.StatusUnauthorized, "the password is wrong"},
		"nobody":                 {"root", "", "", false, http.StatusUnauthorized, "the password is wrong"},
		"somebody else":          {"root", "ann", "ann-secret", false, http.StatusForbidden, "auth.admin_users"},
		"there are none":         {"", "root", "root-secret", false, http.StatusForbidden, "auth.admin_users"},
		"it cannot be found out": {"root", "root", "root-secret", true, http.StatusServiceUnavailable, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			h := Handler(Options{Registry: prometheus.NewRegistry(), Admin: NewAdmin(known{tc.gone}, auth.NewAdmins(tc.admins, ""))})
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/goroutine?debug=1", nil)
			if tc.user != "" {
				req.SetBasicAuth(tc.user, tc.password)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			require.Equal(t, tc.code, rec.Code)
			require.Contains(t, rec.Body.String(), tc.text)
			require.Equal(t, tc.code == http.StatusUnauthorized, rec.Header().Get("WWW-Authenticate") != "")
		})
	}
}
