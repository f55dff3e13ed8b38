// Package record notes what a run has shown of each client. The table in docs/clients.md is made from it and from
// nothing else.
package record

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sluicedata/sluice/tests/testbed"
)

// Run is what one run of a package has shown.
type Run struct {
	Full    bool                       `json:"full"`    // no test was left out
	Clients map[string]map[string]bool `json:"clients"` // client, capability: whether its test passed
}

var (
	mu  sync.Mutex
	now = Run{Clients: map[string]map[string]bool{}}
)

// Can runs the test of a client's capability and notes how it ended.
func Can(t *testing.T, client, capability string, f func(*testing.T)) {
	t.Helper()
	skipped := false
	passed := t.Run(capability, func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		f(t)
	})
	mu.Lock()
	defer mu.Unlock()
	if skipped {
		now.Full = false
		return
	}
	if now.Clients[client] == nil {
		now.Clients[client] = map[string]bool{}
	}
	before, known := now.Clients[client][capability]
	now.Clients[client][capability] = passed && (before || !known)
}

// Dir is where the runs of all packages are written.
func Dir() string { return filepath.Join(testbed.Root(), "build", "clients") }

// All runs a package's tests and writes what they have shown to build/clients/AREA.json.
func All(m *testing.M, area string) int {
	now.Full = true
	file := filepath.Join(Dir(), area+".json")
	_ = os.Remove(file)
	code := m.Run()
	for _, name := range []string{"test.run", "test.skip"} {
		if flag.Lookup(name).Value.String() != "" {
			now.Full = false
		}
	}
	data, err := json.MarshalIndent(now, "", "  ")
	if err == nil {
		err = os.MkdirAll(Dir(), 0o755)
	}
	if err == nil {
		err = os.WriteFile(file, append(data, '\n'), 0o644)
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}
