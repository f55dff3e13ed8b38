//go:build e2e

// Command bench measures a part of Sluice against its limit or its peers, all of them in one interleaved run, and
// writes the figures to build/bench/AREA.json. Run it on a quiet machine: make bench AREA=hs2.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sluicedata/sluice/tests/testbed"
)

var areas = map[string]func(t *testbed.Suite, wanted func(part string) bool) []Figure{
	"hs2": hs2, "yarn": onYARN, "kubernetes": onKubernetes, "capacity": capacity, "router": onRouter,
	"shuffle": onShuffle,
}

// notes are figures that this run cannot make.
var notes = map[string]string{"hs2": `
Apache Kyuubi 1.12, whose server comes as no artifact that can be fetched here, was measured on a machine like this one in one
round with Spark's Thrift server (H) and straight Connect (C):
  SELECT 1, p50                 32 ms (H 22, C 22)
  1 M rows                      1.34 s over Thrift, 0.77 s over Arrow with its own driver (H 1.14, C 0.42)
  1 M rows, CPU of its server   0.24 s over Thrift, 0.10 s over Arrow
  open and close                72/s in turn, 102/s by 8 clients (H 42, 54)
  memory                        170 MiB idle, 397 MiB after the runs; 115 kB of heap a session
  exec to the open port         3 s
  cold engine to first row      14 s (C 7-9)
`, "kubernetes": `
Limits: submissions 0.8 of straight client-go's; their CPU 1/200 of spark-submit's; 0.3 s of a cold start; 50 engines again in 2 s.
`}

func main() {
	area := flag.String("area", "hs2", "what to measure")
	only := flag.String("only", "", "parts of the area, with commas between them; all if empty")
	engine := flag.Bool("engine", false, "be a process in place of an engine, in a container of the areas yarn and kubernetes")
	watching := flag.Bool("watching", false, "be a process that watches pods: ours or plain, KUBECONFIG, NAMESPACE")
	touch := flag.Int("touch", 0, "be a process that has the host back so many bytes of memory")
	rawDir := flag.String("rawshuffle", "", "be a process that does the least that a shuffle server must, in this directory")
	flag.Parse()
	if *touch > 0 || *rawDir != "" {
		err := error(nil)
		if *touch > 0 {
			err = touchMemory(*touch)
		} else {
			err = rawShuffle(*rawDir)
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if *engine {
		fmt.Fprintln(os.Stderr, "bench:", standInEngine())
		os.Exit(1)
	}
	if *watching {
		if err := watchPods(flag.Arg(0), flag.Arg(1), flag.Arg(2)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	measure, ok := areas[*area]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: there is no area %q\n", *area)
		os.Exit(2)
	}
	s := &testbed.Suite{}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		s.Fatalf("stopped") // with all that was started
	}()
	figures := measure(s, func(part string) bool { return *only == "" || slices.Contains(strings.Split(*only, ","), part) })
	s.End()
	for _, f := range figures {
		line := fmt.Sprintf("%-58s %10.3f ± %-8.3f %-3s", f.Name, f.Median, f.Spread, f.Unit)
		if f.Peer != "" {
			line += fmt.Sprintf("   %.3g × %s", f.Ratio, f.Peer)
		}
		for _, name := range slices.Sorted(maps.Keys(f.CPU)) {
			line += fmt.Sprintf("   %s %.4g CPU s", name, f.CPU[name])
		}
		fmt.Println(line)
	}
	fmt.Print(notes[*area])
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
