//go:build e2e

// Command bench measures a part of Sluice against its limit or its peers, all of them in one interleaved run, and
// writes the figures to build/bench/AREA.json. Run it on a quiet machine: make bench AREA=hs2.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/tests/testbed"
)

// Figure is one line of a bench. Spread is half the distance between the quartiles.
type Figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Median float64 `json:"median"`
	Spread float64 `json:"spread"`
	Peer   string  `json:"peer,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"` // median over the peer's
}

var areas = map[string]func(t *testbed.Suite, wanted func(part string) bool) []Figure{"hs2": hs2}

func main() {
	area := flag.String("area", "hs2", "what to measure")
	only := flag.String("only", "", "parts of the area, with commas between them; all if empty")
	flag.Parse()
	measure, ok := areas[*area]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: there is no area %q\n", *area)
		os.Exit(2)
	}
	s := &testbed.Suite{}
	figures := measure(s, func(part string) bool { return *only == "" || slices.Contains(strings.Split(*only, ","), part) })
	s.End()
	for _, f := range figures {
		line := fmt.Sprintf("%-42s %10.3f ± %-8.3f %s", f.Name, f.Median, f.Spread, f.Unit)
		if f.Peer != "" {
			line += fmt.Sprintf("   %.2f × %s", f.Ratio, f.Peer)
		}
		fmt.Println(line)
	}
	file := filepath.Join(testbed.Root(), "build", "bench", *area+".json")
	data, err := json.MarshalIndent(figures, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if err == nil {
		err = os.WriteFile(file, append(data, '\n'), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
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

func seconds(f func()) float64 {
	began := time.Now()
	f()
	return time.Since(began).Seconds()
}
