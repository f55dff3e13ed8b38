package auth

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAdmins(t *testing.T) {
	admins := NewAdmins("root, ops", "wheel")
	for name, tc := range map[string]struct {
		id   Identity
		want bool
	}{
		"by name":             {Identity{User: "ops"}, true},
		"by group":            {Identity{User: "ann", Groups: []string{"staff", "wheel"}}, true},
		"nobody":              {Identity{User: "ann", Groups: []string{"staff", "root"}}, false},
		"nameless":            {Identity{}, false},
		"another one's guise": {Identity{User: "ops", RealUser: "ann"}, false},
		"admin for another":   {Identity{User: "ann", RealUser: "ops"}, false},
	} {
		require.Equal(t, tc.want, admins.Include(tc.id), name)
	}
	require.False(t, NewAdmins("*", "*").Include(Identity{User: "ann", Groups: []string{"staff"}}), "there is no word for everybody")
	require.True(t, NewAdmins(" ,", "").Empty())
}
