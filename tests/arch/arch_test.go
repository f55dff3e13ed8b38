// Package arch enforces which room may import which; docs/architecture.md says why.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/sluicedata/sluice/"

// rules say what each room may import of ours. A room that is not here may import nothing, so a new one needs a line.
var rules = map[string][]string{
	"cmd/sluice":              {"gateway", "gateway/auth", "gateway/config", "gateway/route", "engines/local", "engines/spark/dist", "router", "router/cases", "router/replay", "router/rules", "shuffle/master", "shuffle/rpc", "shuffle/store", "shuffle/tier", "shuffle/wire", "shuffle/wire/pb", "shuffle/worker"},
	"engines":                 {},
	"engines/hadoop":          {},
	"engines/files":           {"engines"},
	"engines/kept":            {"engines"},
	"engines/kube":            {"engines", "engines/files", "engines/hadoop", "engines/kept"},
	"engines/launch":          {"engines"},
	"engines/local":           {"engines"},
	"engines/spark":           {"engines", "engines/spark/connectpb"},
	"engines/spark/connectpb": {},
	"engines/spark/dist":      {},
	"engines/yarn":            {"engines", "engines/files", "engines/hadoop", "engines/kept"},
	"gateway": {"engines", "engines/hadoop", "engines/kept", "engines/kube", "engines/launch", "engines/local", "engines/spark", "engines/spark/dist", "engines/yarn", "gateway/admission", "gateway/auth",
		"gateway/config", "gateway/event", "gateway/hs2", "gateway/ops", "gateway/reload", "gateway/replica", "gateway/rest", "gateway/route", "gateway/session", "gateway/spool", "gateway/store",
		"router", "router/rules", "router/watch"},
	"gateway/admission":     {"router/rules"},
	"gateway/auth":          {"gateway/reload"},
	"gateway/config":        {"gateway/auth", "router/rules"},
	"gateway/event":         {"gateway/store"},
	"gateway/hs2":           {"gateway/auth", "gateway/hs2/tcli", "gateway/session"},
	"gateway/hs2/tcli":      {},
	"gateway/ops":           {"gateway/auth"},
	"gateway/reload":        {},
	"gateway/replica":       {"engines", "engines/launch", "gateway/store"},
	"gateway/rest":          {"gateway/auth", "gateway/route", "router", "router/cases", "router/rules"},
	"gateway/route":         {"gateway/reload", "gateway/store", "router", "router/replay", "router/rules", "router/watch"},
	"gateway/session":       {"engines", "engines/launch", "gateway/admission", "gateway/auth", "gateway/spool", "gateway/store", "router", "router/rules", "router/sql"},
	"gateway/spool":         {},
	"gateway/store":         {"gateway/admission"},
	"router":                {"router/sql"},
	"router/cases":          {"router", "router/rules", "router/sql"},
	"router/policy":         {"router"},
	"router/replay":         {"router", "router/rules"},
	"router/rules":          {"router", "router/policy", "router/sql"},
	"router/sql":            {},
	"router/watch":          {"router"},
	"shuffle/rpc":           {"shuffle/wire"},
	"shuffle/store":         {"shuffle/store/storepb", "shuffle/tier", "shuffle/wire", "shuffle/wire/pb"},
	"shuffle/store/storepb": {},
	"shuffle/tier":          {},
	"shuffle/wire":          {"shuffle/wire/pb"},
	"shuffle/wire/pb":       {},
	"shuffle/worker":        {"shuffle/rpc", "shuffle/store", "shuffle/wire", "shuffle/wire/pb"},
	"shuffle/master":        {"shuffle/rpc", "shuffle/wire", "shuffle/wire/pb"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...").Output()
	require.NoError(t, err)
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		seen[room] = true
		if strings.HasPrefix(room, "tests/") {
			continue // tests may use everything, and nothing but tests imports them: no rule allows it
		}
		allowed, known := rules[room]
		require.True(t, known, "the room %s has no import rule; add it here and to docs/architecture.md", room)
		for _, imp := range p.Imports {
			if other, ours := strings.CutPrefix(imp, module); ours {
				require.True(t, slices.Contains(allowed, other), "%s may not import %s", room, other)
			}
		}
	}
	for room := range rules {
		require.True(t, seen[room], "there is a rule for %s, but no such room", room)
	}
}
