package session

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/auth"
)

func TestTheRuntimeOfASession(t *testing.T) {
	for name, tc := range map[string]struct {
		runtimes []string
		wish     string
		err      string
	}{
		"none":        {nil, "", ""},
		"known":       {[]string{"old", "older"}, "old", ""},
		"unknown":     {[]string{"old", "older"}, "odl", `sluice.runtime: there is no runtime "odl"; runtimes are old, older; without the setting it is the default one`},
		"none to ask": {nil, "old", `sluice.runtime: there is no runtime "old"; the gateway's configuration has none (key runtimes), so leave the setting out`},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Manager{opt: Options{ShareLevel: launch.User, Runtimes: tc.runtimes}}
			req, err := m.share(uuid.New(), auth.Identity{User: "ann"}, map[string]string{RuntimeKey: tc.wish})
			if tc.err != "" {
				require.EqualError(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, launch.Key{Level: launch.User, Owner: "ann", Runtime: tc.wish}, req.Key)
		})
	}
}
