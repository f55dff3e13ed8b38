package router

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamed(t *testing.T) {
	clusters := []State{{Name: "yarn1", Kind: "yarn"}, {Name: "local", Kind: "local"}}
	for name, tc := range map[string]struct {
		request Request
		want    string
		err     string
	}{
		"the default":    {Request{User: "ann"}, "local", ""},
		"the named one":  {Request{User: "ann", Cluster: "yarn1"}, "yarn1", ""},
		"an unknown one": {Request{User: "ann", Cluster: "yran1"}, "", `there is no cluster "yran1"; sluice.cluster may be one of: local, yarn1`},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Named{Default: "local"}.Pick(tc.request, clusters)
			if tc.err != "" {
				require.EqualError(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, d.Cluster)
			require.NotEmpty(t, d.Reason)
		})
	}
}
