package master

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func equalSeats(n, perGroup int) []seat {
	var out []seat
	for i := range n {
		out = append(out, seat{group: i / perGroup, weight: 1, room: 1 << 30, free: 1e12})
	}
	return out
}

func TestApportion(t *testing.T) {
	for name, c := range map[string]struct {
		total int
		seats []seat
		want  []int
	}{
		"even":                      {7, equalSeats(3, 1), []int{3, 2, 2}},
		"fewer than seats":          {2, equalSeats(4, 1), []int{1, 1, 0, 0}},
		"none":                      {0, equalSeats(2, 1), []int{0, 0}},
		"by weight":                 {9, []seat{{weight: 1, room: 99}, {weight: 0.5, room: 99}}, []int{6, 3}},
		"no more than it can hold":  {10, []seat{{weight: 1, room: 1}, {weight: 1, room: 99}, {weight: 1, room: 99}}, []int{1, 5, 4}},
		"two are full":              {10, []seat{{weight: 1, room: 1}, {weight: 1, room: 0}, {weight: 0.02, room: 99}}, []int{1, 0, 9}},
		"just room for all":         {5, []seat{{weight: 1, room: 2}, {weight: 1, room: 3}}, []int{2, 3}},
		"room for none: by space":   {9, []seat{{weight: 1, room: 1, free: 2e9}, {weight: 1, room: 0, free: 1e9}}, []int{6, 3}},
		"no space at all: evenly":   {4, []seat{{weight: 1}, {weight: 1}}, []int{2, 2}},
		"one seat, more than room":  {4, []seat{{weight: 1, room: 1, free: 5}}, []int{4}},
		"weights that are not even": {10, []seat{{weight: 0.1, room: 99}, {weight: 0.1, room: 99}, {weight: 0.1, room: 99}}, []int{4, 3, 3}},
	} {
		require.Equal(t, c.want, apportion(c.total, c.seats), name)
	}
}

// TestPlaceAnywhere: whatever the seats are, every partition has its copies, no two of one in a group.
func TestPlaceAnywhere(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		seats := make([]seat, 2+r.IntN(12))
		for i := range seats {
			seats[i] = seat{group: r.IntN(1 + r.IntN(len(seats))), weight: max(0.02, r.Float64()), room: r.IntN(40), free: r.Float64() * 1e9}
		}
		if seats[0].group == seats[1].group {
			seats[1].group = len(seats)
		}
		n := r.IntN(60)
		primaries, replicas := place(n, true, seats)
		require.Len(t, primaries, n)
		require.Len(t, replicas, n)
		for k := range n {
			require.NotEqual(t, seats[primaries[k]].group, seats[replicas[k]].group, "seed %d partition %d", seed, k)
		}
		primaries, replicas = place(n, false, seats)
		require.Len(t, primaries, n)
		require.Empty(t, replicas)
	}
}

// TestPlaceEven: equal workers on hosts of equal size differ by one at most, in primaries and in all copies.
func TestPlaceEven(t *testing.T) {
	for _, c := range []struct{ n, workers, perHost int }{{1, 2, 1}, {1, 5, 1}, {3, 5, 1}, {7, 3, 1}, {100, 7, 1}, {100, 8, 2}, {5, 8, 4}, {1000, 30, 3}, {999, 2, 1}} {
		t.Run(fmt.Sprintf("%d on %d by %d", c.n, c.workers, c.perHost), func(t *testing.T) {
			seats := equalSeats(c.workers, c.perHost)
			primaries, replicas := place(c.n, true, seats)
			first, all := make([]int, c.workers), make([]int, c.workers)
			for k := range c.n {
				first[primaries[k]]++
				all[primaries[k]]++
				all[replicas[k]]++
				require.NotEqual(t, seats[primaries[k]].group, seats[replicas[k]].group)
			}
			requireEven(t, first)
			requireEven(t, all)
		})
	}
}

func requireEven(t *testing.T, n []int) {
	t.Helper()
	low, high := n[0], n[0]
	for _, x := range n {
		low, high = min(low, x), max(high, x)
	}
	require.LessOrEqual(t, high-low, 1, "%v", n)
}

// TestPlaceNeighbours: readers of neighbouring partitions do not all go to one worker.
func TestPlaceNeighbours(t *testing.T) {
	primaries, _ := place(100, false, equalSeats(10, 1))
	for k := 1; k < 100; k++ {
		require.NotEqual(t, primaries[k-1], primaries[k])
	}
}
