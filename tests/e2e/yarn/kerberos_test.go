//go:build e2e

package yarn

import (
	"path"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// renewal is for how long a delegation token is good until it is renewed.
const renewal = 20 * time.Second

// On a cluster that asks for proof, the gateway proves who it is, and an engine runs as its user: with a token, which is
// renewed, and which goes with it.
func anEngineUnderKerberos(t *testing.T, h *testbed.Hadoop) {
	explain(t, h)
	r := check(t, config(h, "root.etl"))
	require.Zero(t, r.Code, r.Out+r.Err)
	require.Contains(t, r.Out, "Kerberos: log in as sluice/localhost")
	g := startGateway(t, config(h, "root.etl"))
	began := time.Now()
	c := onYARN(t, g, "ann")
	rows := c.All(join)
	require.Len(t, rows, 7)
	require.Equal(t, [][]string{{"ann"}}, c.All("SELECT current_user()"))
	write := func(dir string) {
		c.All("INSERT OVERWRITE DIRECTORY 'hdfs://" + h.NameNode + dir + "' USING parquet SELECT id FROM range(0, 100, 1, 2)")
	}
	write("/user/ann/first")
	testbed.Until(t, 2*time.Minute, "the token would have expired twice", func() bool { return time.Since(began) > 3*renewal })
	write("/user/ann/second")
	for _, name := range []string{"first", "second"} {
		infos, err := h.HDFS("ann").ReadDir("/user/ann/" + name)
		require.NoError(t, err)
		require.Greater(t, len(infos), 1)
		for _, i := range infos {
			require.Equal(t, "ann", i.(interface{ Owner() string }).Owner(), path.Join(name, i.Name()))
		}
	}
	_, st := c.Exec("INSERT OVERWRITE DIRECTORY 'hdfs://" + h.NameNode + "/user/bob/mine' USING parquet SELECT 1")
	require.Contains(t, st.GetErrorMessage(), "Permission denied: user=ann")

	require.Len(t, applications(t, h, "ann"), 1)
	_, st = onYARN(t, g, "eve").Exec("SELECT 1 FROM range(1)")
	require.Contains(t, st.GetErrorMessage(), "/user/eve must be there on HDFS and belong to eve")
	g.Stop()
	testbed.Until(t, time.Minute, "nothing of the gateway's runs", func() bool { return len(applications(t, h, "ann")) == 0 })
	testbed.Until(t, 20*time.Second, "nothing is left on HDFS", func() bool { return len(staged(t, h, "ann")) == 0 })
}
