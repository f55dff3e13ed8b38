package store_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/store"
)

// TestMemory: who asks for more than there is waits, is served in order, and may go away; what is kept for later is never more than
// the rest.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := 0
		m := store.NewMemory(8<<10, func() { woken++ })
		first, err := m.Get(t.Context(), 5<<10)
		require.NoError(t, err)
		require.Equal(t, 1, woken, "more than half is in use")
		require.True(t, m.Pressed())
		_, err = m.Get(t.Context(), 9<<10)
		require.ErrorContains(t, err, "--memory")

		ask := func(ctx context.Context, n int) <-chan *store.Buffer {
			out := make(chan *store.Buffer, 1)
			go func() {
				b, _ := m.Get(ctx, n)
				out <- b
			}()
			synctest.Wait()
			return out
		}
		gone, cancel := context.WithCancel(t.Context())
		large := ask(gone, 8<<10)
		second := ask(t.Context(), 8<<10)
		small := ask(t.Context(), 1<<10)
		require.Nil(t, m.TryGet(1), "nobody overtakes those who wait, though it would fit")
		cancel()
		require.Nil(t, <-large)
		synctest.Wait()
		require.Empty(t, small, "it would fit, and is not its turn")
		first.Release()
		b := <-second
		synctest.Wait()
		require.Empty(t, small)
		require.Len(t, b.Bytes(), 8<<10)
		b.Retain()
		b.Release()
		require.EqualValues(t, 8<<10, m.Used())
		b.Release()
		c := <-small
		c.Release()
		require.Zero(t, m.Used())
		require.False(t, m.Pressed())
		require.Panics(t, c.Release)
	})
}

// TestMemoryOfServedAndGone: a buffer that was given to somebody who had gone at that moment is not lost.
func TestMemoryOfServedAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			m := store.NewMemory(1<<10, func() {})
			held, err := m.Get(t.Context(), 1)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan *store.Buffer, 1)
			go func() {
				b, _ := m.Get(ctx, 1)
				got <- b
			}()
			synctest.Wait()
			cancel()
			held.Release()
			if b := <-got; b != nil {
				b.Release()
			}
			require.Zero(t, m.Used())
		}
	})
}
