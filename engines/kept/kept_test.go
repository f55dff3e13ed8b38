package kept

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

func TestKept(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "logs", "prod"))
	at, err := d.Log("a1", "the end\n")
	require.NoError(t, err)
	require.FileExists(t, at)
	require.Equal(t, "the end\n", d.Read("a1"))
	require.NoError(t, d.App(engines.App{Tag: "a1", State: engines.Ended, Outcome: engines.Failed, Log: at}))
	app, found, err := d.Ended("a1")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, engines.App{Tag: "a1", State: engines.Ended, Outcome: engines.Failed, Log: at}, app)
	_, found, err = d.Ended("../a1")
	require.NoError(t, err)
	require.False(t, found)

	require.NoError(t, d.DropOld(time.Now()))
	require.FileExists(t, at)
	require.NoError(t, d.DropOld(time.Now().Add(Age+time.Minute)))
	left, err := os.ReadDir(string(d))
	require.NoError(t, err)
	require.Empty(t, left)
	_, found, err = d.Ended("a1")
	require.NoError(t, err)
	require.False(t, found)
}

func TestNothingIsKeptNowhere(t *testing.T) {
	at, err := Dir("").Log("a1", "text")
	require.NoError(t, err)
	require.Empty(t, at)
	require.Empty(t, Dir("").Read("a1"))
	require.NoError(t, Dir("").DropOld(time.Now()))
}
