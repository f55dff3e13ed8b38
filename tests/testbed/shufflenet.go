package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Island is a network namespace of its own, joined to this one by a cable that can be pulled: nothing that is sent over it then
// comes back, not even a reset, as when a node loses its power.
type Island struct {
	Name  string
	Inner string // address of what runs inside
	Outer string // address of this side
	cable string
	t     T
}

// NewIsland makes one. It needs the tests to run in a namespace of their own, as InNamespace gives them, and to be root.
func NewIsland(t T, n int) (*Island, error) {
	t.Helper()
	i := &Island{Name: fmt.Sprintf("sluice-%d-%d", os.Getpid(), n), Inner: fmt.Sprintf("10.231.%d.2", n), Outer: fmt.Sprintf("10.231.%d.1", n), cable: fmt.Sprintf("slc%d", n), t: t}
	inner := i.cable + "i"
	for _, args := range [][]string{
		{"netns", "add", i.Name},
		{"link", "add", i.cable, "type", "veth", "peer", "name", inner},
		{"link", "set", inner, "netns", i.Name},
		{"addr", "add", i.Outer + "/24", "dev", i.cable},
		{"link", "set", i.cable, "up"},
		{"-n", i.Name, "addr", "add", i.Inner + "/24", "dev", inner},
		{"-n", i.Name, "link", "set", "lo", "up"},
		{"-n", i.Name, "link", "set", inner, "up"},
		{"-n", i.Name, "route", "add", "default", "via", i.Outer},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			i.remove()
			return nil, fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	t.Cleanup(i.remove)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil { // islands reach each other
		return nil, err
	}
	return i, nil
}

func (i *Island) remove() {
	_ = exec.Command("ip", "link", "del", i.cable).Run()
	_ = exec.Command("ip", "netns", "del", i.Name).Run()
}

// Pull pulls the cable.
func (i *Island) Pull() {
	i.t.Helper()
	if err := run("ip", "-n", i.Name, "link", "set", i.cable+"i", "down"); err != nil {
		i.t.Fatalf("%v", err)
	}
	// The neighbour's address stays known here, so that what is sent vanishes, as behind a switch.
	if err := run("ip", "neigh", "replace", i.Inner, "lladdr", "02:00:00:00:00:01", "dev", i.cable, "nud", "permanent"); err != nil {
		i.t.Fatalf("%v", err)
	}
}
