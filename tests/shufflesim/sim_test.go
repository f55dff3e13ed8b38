package shufflesim_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/shufflesim"
)

func number(t *testing.T, env string, otherwise int) int {
	v, set := os.LookupEnv(env)
	if !set {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err, env)
	return n
}

// TestSeeds runs one world per seed. SLUICE_SIM_SEEDS says how many, SLUICE_SIM_SEED runs one and tells what happens in it.
func TestSeeds(t *testing.T) {
	if one := number(t, "SLUICE_SIM_SEED", -1); one >= 0 {
		s := shufflesim.New(uint64(one))
		s.Trace = os.Stderr
		s.Run()
		require.Empty(t, s.Problems)
		return
	}
	reads, losses, failed, bad := 0, 0, 0, 0
	for seed := range number(t, "SLUICE_SIM_SEEDS", 300) {
		s := shufflesim.New(uint64(seed))
		s.Run()
		for _, p := range s.Problems {
			t.Errorf("seed %d: %s", seed, p)
		}
		reads, losses, failed = reads+s.Reads, losses+s.Losses, failed+len(s.Failed)
		if len(s.Problems) > 0 {
			bad++
		}
		if bad == 10 {
			break
		}
	}
	t.Logf("%d partitions read, %d explicit losses, %d jobs gave up", reads, losses, failed)
	require.Positive(t, reads)
	require.Positive(t, losses, "faults that harm nobody prove little")
}

// TestDeterministic: a seed gives the same run, to the last event.
func TestDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		a, b := shufflesim.New(seed), shufflesim.New(seed)
		a.Run()
		b.Run()
		require.Equal(t, a.Hash(), b.Hash(), "seed %d", seed)
		require.Equal(t, a.Reads, b.Reads)
	}
}
