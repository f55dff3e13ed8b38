package launch

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeysAreReadBack(t *testing.T) {
	for _, k := range []Key{
		{Cluster: "local", Kind: "spark", Level: User, Owner: "ann"},
		{Cluster: "a/b", Kind: "spark", Level: Group, Owner: "ops %2F", Name: "x/y z", Runtime: "3.5", Profile: "etl/big"},
		{Cluster: "c", Kind: "spark", Level: Server},
		{Cluster: "c", Kind: "spark", Level: Server, Queue: "root.a/b"},
	} {
		got, err := ParseKey(k.String())
		require.NoError(t, err)
		require.Equal(t, k, got)
	}
	_, err := ParseKey("a/b")
	require.Error(t, err)
}

func TestOwners(t *testing.T) {
	for name, tc := range map[string]struct {
		level        Level
		groups       []string
		owner, runAs string
		err          string
	}{
		"connection":    {Connection, nil, "s1", "ann", ""},
		"user":          {User, nil, "ann", "ann", ""},
		"group":         {Group, []string{"etl", "ops"}, "etl", "etl", ""},
		"without group": {Group, nil, "", "", "ann is in none"},
		"server":        {Server, nil, "", ServiceUser, ""},
	} {
		t.Run(name, func(t *testing.T) {
			owner, runAs, err := tc.level.Owner("s1", "ann", tc.groups)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{tc.owner, tc.runAs}, []string{owner, runAs})
		})
	}
	l, err := ParseLevel(" USER ")
	require.NoError(t, err)
	require.Equal(t, User, l)
	_, err = ParseLevel("users")
	require.ErrorContains(t, err, "one of connection, user, group, server")
}
