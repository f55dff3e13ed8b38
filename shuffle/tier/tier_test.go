package tier_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/tier"
)

// TestConformance holds every kind of file system to the same contract.
func TestConformance(t *testing.T) {
	for name, fsys := range map[string]tier.FS{
		"disk":   tier.OS{},
		"memory": tier.NewMem(),
		"faulty": &tier.Faulty{FS: tier.NewMem(), Fail: func(tier.Op, string) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			root := path.Join(t.TempDir(), "a")
			_, err := fsys.List(root)
			require.ErrorIs(t, err, fs.ErrNotExist)
			_, err = fsys.Create(path.Join(root, "x"))
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, fsys.MkdirAll(path.Join(root, "d")))
			require.NoError(t, fsys.MkdirAll(path.Join(root, "d")))
			usable, total, err := fsys.Space(root)
			require.NoError(t, err)
			require.Positive(t, usable)
			require.GreaterOrEqual(t, total, usable)

			_, err = fsys.Open(path.Join(root, "d/f"))
			require.ErrorIs(t, err, fs.ErrNotExist)
			f, err := fsys.Create(path.Join(root, "d/f"))
			require.NoError(t, err)
			_, err = fsys.Create(path.Join(root, "d/f"))
			require.ErrorIs(t, err, fs.ErrExist)

			var want []byte
			r := rand.New(rand.NewPCG(1, 2))
			for range 20 {
				bufs := make([][]byte, r.IntN(2000)) // more than one system call takes, and none at all
				at := int64(len(want))
				for i := range bufs {
					bufs[i] = make([]byte, r.IntN(50))
					for j := range bufs[i] {
						bufs[i][j] = byte(r.Uint32())
					}
					want = append(want, bufs[i]...)
				}
				require.NoError(t, f.WriteV(bufs, at))
			}
			size, err := f.Size()
			require.NoError(t, err)
			require.EqualValues(t, len(want), size)
			got := make([]byte, len(want)+10)
			n, err := f.ReadAt(got, 0)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, want, got[:n])
			n, err = f.ReadAt(got[:7], 100)
			require.NoError(t, err)
			require.Equal(t, want[100:107], got[:n])
			_, err = f.ReadAt(got[:1], size)
			require.ErrorIs(t, err, io.EOF)

			require.NoError(t, f.WriteV([][]byte{[]byte("over")}, 2), "what is there can be written over")
			require.NoError(t, f.Sync())
			again, err := fsys.Open(path.Join(root, "d/f"))
			require.NoError(t, err)
			_, err = again.ReadAt(got[:4], 2)
			require.NoError(t, err)
			require.Equal(t, "over", string(got[:4]))
			require.NoError(t, again.Truncate(5))
			size, err = f.Size()
			require.NoError(t, err)
			require.EqualValues(t, 5, size)

			names, err := fsys.List(path.Join(root, "d"))
			require.NoError(t, err)
			require.Equal(t, []string{"f"}, names)
			require.NoError(t, fsys.RemoveAll(root))
			require.NoError(t, fsys.RemoveAll(root))
			_, err = fsys.Open(path.Join(root, "d/f"))
			require.ErrorIs(t, err, fs.ErrNotExist)
			_, err = f.ReadAt(got[:5], 0)
			require.NoError(t, err, "an open file stays readable")
			require.NoError(t, f.Close())
			require.NoError(t, again.Close())
			_, err = f.ReadAt(got[:1], 0)
			require.ErrorIs(t, err, fs.ErrClosed)
			require.Error(t, f.WriteV([][]byte{{1}}, 0))
		})
	}
}

func TestMemIsFull(t *testing.T) {
	m := tier.NewMem()
	m.Capacity = 10
	require.NoError(t, m.MkdirAll("/d"))
	f, err := m.Create("/d/f")
	require.NoError(t, err)
	require.NoError(t, f.WriteV([][]byte{make([]byte, 8)}, 0))
	err = f.WriteV([][]byte{make([]byte, 3)}, 8)
	require.True(t, tier.IsFull(err), "%v", err)
	require.NoError(t, m.RemoveAll("/d"))
	require.NoError(t, f.WriteV([][]byte{make([]byte, 9)}, 0), "an open file goes on")
	usable, _, err := m.Space("/d")
	require.NoError(t, err)
	require.EqualValues(t, 10, usable)
}

func TestFaulty(t *testing.T) {
	broken := errors.New("broken")
	var fail error
	f := &tier.Faulty{FS: tier.NewMem(), Fail: func(op tier.Op, _ string) error {
		if op == tier.OpWrite {
			return fail
		}
		return nil
	}}
	require.NoError(t, f.MkdirAll("/d"))
	file, err := f.Create("/d/f")
	require.NoError(t, err)
	fail = broken
	require.ErrorIs(t, file.WriteV([][]byte{[]byte("abcd")}, 0), broken)
	size, err := file.Size()
	require.NoError(t, err)
	require.EqualValues(t, 2, size, "half of it is there")
}

// TestWitness: what was just written is in memory, and another's write is noticed.
func TestWitness(t *testing.T) {
	name := path.Join(t.TempDir(), "f")
	f, err := tier.OS{}.Create(name)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	require.NoError(t, f.WriteV([][]byte{make([]byte, 1<<20)}, 0))
	w := f.(tier.Witness)
	before, err := w.Stamp()
	require.NoError(t, err)
	if !w.Cached(0, 4096) {
		t.Skip("this kernel does not say what is cached")
	}
	require.True(t, w.Cached(5000, 1<<20-5000))
	require.False(t, w.Cached(0, 2<<20), "there is no more")
	again, err := tier.OS{}.Open(name)
	require.NoError(t, err)
	_, err = again.ReadAt(make([]byte, 100), 0)
	require.NoError(t, err)
	same, err := w.Stamp()
	require.NoError(t, err)
	require.Equal(t, before, same, "reading changes nothing")
	require.Eventually(t, func() bool { // a clock may stand still for some milliseconds
		require.NoError(t, again.WriteV([][]byte{{1}}, 7))
		after, err := w.Stamp()
		require.NoError(t, err)
		return after != before
	}, time.Second, time.Millisecond)
	require.NoError(t, again.Close())
}

func TestErrors(t *testing.T) {
	require.True(t, tier.IsFull(&fs.PathError{Err: syscall.ENOSPC}))
	require.False(t, tier.IsFull(syscall.EIO))
	require.True(t, tier.IsTransient(&fs.PathError{Err: syscall.EMFILE}))
	require.False(t, tier.IsTransient(syscall.EIO))
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	c, err := tier.OS{}.Lock(dir)
	require.NoError(t, err)
	_, err = tier.OS{}.Lock(dir)
	require.ErrorContains(t, err, "another process uses")
	require.NoError(t, c.Close())
	c, err = tier.OS{}.Lock(dir)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// TestMemRemovesWhatIsWritten: removing a file while it grows stops neither.
func TestMemRemovesWhatIsWritten(t *testing.T) {
	m := tier.NewMem()
	require.NoError(t, m.MkdirAll("/d"))
	for range 200 {
		f, err := m.Create("/d/f")
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			var err error
			for i := range int64(50) {
				err = errors.Join(err, f.WriteV([][]byte{{1}}, i))
			}
			done <- err
		}()
		require.NoError(t, m.RemoveAll("/d/f"))
		require.NoError(t, <-done)
	}
}
