//go:build e2e

package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicedata/sluice/tests/testbed"
)

// Figure is one line of a bench. Spread is half the distance between the quartiles.
type Figure struct {
	Name   string             `json:"name"`
	Unit   string             `json:"unit"`
	Median float64            `json:"median"`
	Spread float64            `json:"spread"`
	Peer   string             `json:"peer,omitempty"`
	Ratio  float64            `json:"ratio,omitempty"` // median over the peer's
	CPU    map[string]float64 `json:"cpu,omitempty"`   // seconds of each server process, for one run
}

// series is repeated measurements of one thing.
type series []float64

func (s series) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[int(q*float64(len(sorted)-1))]
}

func (s series) figure(name, unit string) Figure {
	return Figure{Name: name, Unit: unit, Median: s.quantile(0.5), Spread: (s.quantile(0.75) - s.quantile(0.25)) / 2}
}

// against adds the ratio to a peer's figure.
func (f Figure) against(peer Figure) Figure {
	f.Peer, f.Ratio = peer.Name, f.Median/peer.Median
	return f
}

// runner is one side of a race.
type runner struct {
	name    string
	servers map[string]int // processes that work for it
	run     func() float64 // once; what was measured
}

// timed measures in seconds, times the unit.
func timed(unit float64, f func()) func() float64 {
	return func() float64 {
		began := time.Now()
		f()
		return unit * time.Since(began).Seconds()
	}
}

// race lets all sides run in turn, in an order that changes: who comes after a given other one finds the machine's caches
// as that one left them. The others are compared with the first.
func race(title, unit string, warm, rounds int, sides ...runner) []Figure {
	took := make([]series, len(sides))
	cpu := make([]map[string]float64, len(sides))
	order := rand.New(rand.NewPCG(1, 2))
	for round := range warm + rounds {
		for _, i := range order.Perm(len(sides)) {
			before := spent(sides[i].servers)
			v := sides[i].run()
			if round < warm {
				continue
			}
			took[i] = append(took[i], v)
			if cpu[i] == nil {
				cpu[i] = map[string]float64{}
			}
			for name, after := range spent(sides[i].servers) {
				cpu[i][name] += (after - before[name]) / float64(rounds)
			}
		}
	}
	var out []Figure
	for i, side := range sides {
		f := took[i].figure(title+", "+side.name, unit)
		f.CPU = cpu[i]
		if i > 0 {
			f = f.against(out[0])
		}
		out = append(out, f)
	}
	return out
}

// spent is the processor time that processes have used.
func spent(servers map[string]int) map[string]float64 {
	out := make(map[string]float64, len(servers))
	for name, pid := range servers {
		out[name] = testbed.CPUSeconds(pid)
	}
	return out
}
