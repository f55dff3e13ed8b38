package master

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
)

// seat is a worker as the placing sees it. The order of seats is the order of preference.
type seat struct {
	group  int     // what fails together: its host, or its rack
	weight float64 // its fair share; 1 is a full one
	room   int     // copies that it can hold
	free   float64 // bytes, which decide when there is not room for all
}

// apportion deals total copies to seats by weight, none more than its room as long as there is room for all. Equal seats differ by
// one at most, in the order of preference.
func apportion(total int, seats []seat) []int {
	out := make([]int, len(seats))
	room := 0
	for _, s := range seats {
		room = min(room+s.room, math.MaxInt32)
	}
	weight := func(i int) float64 { return seats[i].weight }
	limit := func(i int) int { return seats[i].room }
	if room < total {
		weight = func(i int) float64 { return seats[i].free + 1 }
		limit = func(int) int { return total }
	}
	var open []int
	for i := range seats {
		open = append(open, i)
	}
	for {
		sum := 0.0
		for _, i := range open {
			sum += weight(i)
		}
		filled := 0
		kept := open[:0:0]
		for _, i := range open {
			if float64(total)*weight(i)/sum >= float64(limit(i)) {
				out[i] = limit(i)
				filled += out[i]
			} else {
				kept = append(kept, i)
			}
		}
		if len(kept) == len(open) || len(kept) == 0 {
			remainders(total, open, weight, sum, limit, out)
			return out
		}
		open, total = kept, total-filled
		if total <= 0 {
			return out
		}
	}
}

// remainders gives every open seat the whole part of its share, and what is left to the largest rests.
func remainders(total int, open []int, weight func(int) float64, sum float64, limit func(int) int, out []int) {
	rest := make([]float64, len(out))
	left := total
	for _, i := range open {
		share := float64(total) * weight(i) / sum
		out[i] = min(int(share), limit(i))
		rest[i] = math.Round((share-float64(out[i]))*1e9) / 1e9 // equal shares have equal rests
		left -= out[i]
	}
	order := slices.Clone(open)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for left > 0 {
		given := false
		for _, i := range order {
			if left > 0 && out[i] < limit(i) {
				out[i]++
				left--
				given = true
			}
		}
		if !given {
			return
		}
	}
}

// place chooses a seat for the primary of each of n partitions and, replicated, one of another group for its replica. There must
// be two groups for that.
func place(n int, replicate bool, seats []seat) (primaries, replicas []int) {
	if !replicate {
		return deal(apportion(n, seats), n), nil
	}
	total := capGroups(n, seats, apportion(2*n, seats))
	first, second := make([]int, len(seats)), make([]int, len(seats))
	up := true
	for i, t := range total {
		first[i] = t / 2
		if t%2 == 1 {
			if up {
				first[i]++
			}
			up = !up
		}
		second[i] = t - first[i]
	}
	return pair(n, seats, first, second)
}

// deal gives partitions out in rounds, so that neighbours, which one reader often wants, are on different workers.
func deal(quota []int, n int) []int {
	out := make([]int, 0, n)
	for len(out) < n {
		for i := range quota {
			if quota[i] > 0 {
				quota[i]--
				out = append(out, i)
			}
		}
	}
	return out
}

// capGroups sees to it that no group has more copies than there are partitions: it could not have them without two of one.
func capGroups(n int, seats []seat, total []int) []int {
	sums := map[int]int{}
	for i, t := range total {
		sums[seats[i].group] += t
	}
	for i := range seats { // at most one group has more than half of all copies
		if g := seats[i].group; sums[g] > n {
			in, out := split(seats, g)
			return merge(len(total), in, apportion(n, pick(seats, in)), out, apportion(n, pick(seats, out)))
		}
	}
	return total
}

func split(seats []seat, group int) (in, out []int) {
	for i, s := range seats {
		if s.group == group {
			in = append(in, i)
		} else {
			out = append(out, i)
		}
	}
	return in, out
}

func pick(seats []seat, which []int) []seat {
	out := make([]seat, len(which))
	for k, i := range which {
		out[k] = seats[i]
	}
	return out
}

func merge(size int, a, as, b, bs []int) []int {
	out := make([]int, size)
	for k, i := range a {
		out[i] = as[k]
	}
	for k, i := range b {
		out[i] = bs[k]
	}
	return out
}

// group is what is still to be given out within a group of seats.
type group struct {
	seats         []int
	first, second int // primaries and replicas left
	atFirst       int // where in seats the next primary is looked for
	atSecond      int
	index         int
}

// groups is a heap: the group with the most left comes first. Serving it always keeps every group's rest small enough to find
// partners elsewhere.
type groups []*group

func (g groups) Len() int { return len(g) }
func (g groups) Less(i, j int) bool {
	a, b := g[i].first+g[i].second, g[j].first+g[j].second
	return a > b || a == b && g[i].index < g[j].index
}
func (g groups) Swap(i, j int) { g[i], g[j] = g[j], g[i] }

// Push is heap.Interface's.
func (g *groups) Push(x any) { *g = append(*g, x.(*group)) }

// Pop is heap.Interface's.
func (g *groups) Pop() any {
	last := (*g)[len(*g)-1]
	*g = (*g)[:len(*g)-1]
	return last
}

// pair joins primaries and replicas of different groups. No group has more than n of both together.
func pair(n int, seats []seat, first, second []int) (primaries, replicas []int) {
	byGroup := map[int]*group{}
	var open groups
	for i, s := range seats {
		g := byGroup[s.group]
		if g == nil {
			g = &group{index: len(open)}
			byGroup[s.group] = g
			open = append(open, g)
		}
		g.seats = append(g.seats, i)
		g.first += first[i]
		g.second += second[i]
	}
	heap.Init(&open)
	for range n {
		x := heap.Pop(&open).(*group)
		var passed []*group
		for {
			y := heap.Pop(&open).(*group)
			passed = append(passed, y)
			a, b := x.first > 0 && y.second > 0, x.second > 0 && y.first > 0 // x could have the primary, the replica
			if !a && !b {
				continue
			}
			p, r := x, y
			if b && (!a || x.first < x.second) {
				p, r = y, x
			}
			primaries = append(primaries, p.take(first, &p.first, &p.atFirst))
			replicas = append(replicas, r.take(second, &r.second, &r.atSecond))
			break
		}
		heap.Push(&open, x)
		for _, y := range passed {
			heap.Push(&open, y)
		}
	}
	return primaries, replicas
}

// take gives out one copy of the group's next seat that has one left.
func (g *group) take(left []int, sum, at *int) int {
	for {
		i := g.seats[*at%len(g.seats)]
		*at++
		if left[i] > 0 {
			left[i]--
			*sum--
			return i
		}
	}
}
