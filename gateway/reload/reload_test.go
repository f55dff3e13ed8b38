package reload

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestChanged(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	_, err := Watch(one)
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, path := range []string{one, two} {
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	}
	f, err := Watch(one, two)
	require.NoError(t, err)
	changed := func() bool {
		f.Looked = time.Time{} // as if a second had gone by
		yes, err := f.Changed()
		require.NoError(t, err)
		return yes
	}
	require.False(t, changed())
	require.NoError(t, os.WriteFile(two, []byte("longer"), 0o600))
	yes, err := f.Changed()
	require.NoError(t, err)
	require.False(t, yes, "it was looked at just now")
	require.True(t, changed())
	require.False(t, changed(), "a change is told once")

	info, err := os.Stat(one)
	require.NoError(t, err)
	fresh := filepath.Join(dir, "fresh") // of the same size and time, as a rename brings it
	require.NoError(t, os.WriteFile(fresh, []byte("new"), 0o600))
	require.NoError(t, os.Chtimes(fresh, info.ModTime(), info.ModTime()))
	require.NoError(t, os.Rename(fresh, one))
	require.True(t, changed())

	require.NoError(t, os.Remove(one))
	f.Looked = time.Time{}
	yes, err = f.Changed()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.False(t, yes)
	require.NoError(t, os.WriteFile(one, []byte("back"), 0o600))
	require.True(t, changed())
}
