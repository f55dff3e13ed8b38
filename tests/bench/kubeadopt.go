//go:build e2e

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicedata/sluice/tests/testbed"
)

// adopt is how soon a gateway that was killed has its engines again, as on YARN: in the drivers' containers, where Spark would
// run, this program listens and answers who it is; all else is real: the pods on three nodes, the gateway, its store.
func (p *place) adopt() []Figure {
	const many, runs = 50, 5
	g, config, env := p.gateway([]string{"driver_cpu: 10m", "max_drivers: 60", `evictable: ""`, "driver_tolerations: sluice/evictable", "driver_template: " + p.standIn()}, nil,
		fmt.Sprintf("profiles:\n  many: {share_level: user, warm: true, warm_for: ann, engines: %d}\n", many))
	testbed.Until(p.t, 4*time.Minute, "all engines are ready", func() bool { return strings.Count(g.Log(), "engine ready") == many })
	var took, cpu series
	for range runs {
		g.Kill()
		began := time.Now()
		g = g.Restart(config, env...)
		testbed.Until(p.t, time.Minute, "all engines are taken over", func() bool { return strings.Count(g.Log(), "engine taken over") == many })
		took = append(took, time.Since(began).Seconds())
		cpu = append(cpu, testbed.CPUSeconds(g.Cmd.Process.Pid))
	}
	on := map[string]int{}
	for _, pod := range p.list("spark-role=driver") {
		on[pod.Spec.NodeName]++
	}
	if len(on) != len(p.k.Nodes) || on["node1"]+on["node2"]+on["node3"] != many {
		p.t.Fatalf("there are drivers on %v", on)
	}
	g.Stop() // and its engines with it
	p.none()
	adopted := took.figure(fmt.Sprintf("exec of a gateway until it has its %d engines again, stand-ins", many), "s").against(Figure{Name: "the limit", Median: 2})
	adopted.CPU = map[string]float64{"gateway": cpu.quantile(0.5)}
	return []Figure{adopted, identify(p.t, many)}
}

// standIn is a template of drivers in which this program runs, whatever the image would.
func (p *place) standIn() string {
	self, err := os.Executable()
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	return p.template("driver", fmt.Sprintf(`
spec:
  containers:
  - name: spark-kubernetes-driver
    command: [/bench, -engine]
    volumeMounts: [{name: bench, mountPath: /bench, readOnly: true}]
  volumes: [{name: bench, hostPath: {path: %q, type: File}}]
`, self))
}

// template writes one of pods.
func (p *place) template(name, text string) string {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	p.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatalf("%v", err)
	}
	return file
}
