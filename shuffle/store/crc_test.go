package store

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJoined(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		b := make([]byte, r.IntN(100_000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		at := r.IntN(len(b) + 1)
		require.Equal(t, crc32.Checksum(b, castagnoli), joined(crc32.Checksum(b[:at], castagnoli), crc32.Checksum(b[at:], castagnoli), int64(len(b)-at)))
	}
	require.EqualValues(t, 7, joined(0, 7, 0))
	require.EqualValues(t, 7, joined(7, 0, 0))
}

func BenchmarkJoined(b *testing.B) {
	for i := range b.N {
		joined(uint32(i), 5, int64(60_000+i%5000))
	}
}
