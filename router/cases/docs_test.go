package cases

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/router/rules"
)

// What docs/routing.md shows is what loads and runs: every block that begins with `# rules` is a file of rules, and every one
// that begins with `# cases` a file of cases, each of which may name the file that it is, too.
func TestTheExamplesOfTheManual(t *testing.T) {
	page, err := os.ReadFile("../../docs/routing.md")
	require.NoError(t, err)
	dir := t.TempDir()
	var cases []string
	found := map[string]int{}
	for _, block := range strings.Split(string(page), "```yaml\n")[1:] {
		text, _, closed := strings.Cut(block, "```")
		require.True(t, closed)
		head, _, _ := strings.Cut(text, "\n")
		kind, name, _ := strings.Cut(strings.TrimPrefix(head, "# "), ": ")
		found[kind]++
		switch kind {
		case "rules":
			_, err := rules.Load([]byte(text), []string{"k8s1", "k8s2", "yarn1"})
			require.NoError(t, err, head)
		case "cases":
			cases = append(cases, filepath.Join(dir, name))
		default:
			t.Errorf("a block without a test: %s", head)
		}
		if strings.HasSuffix(name, ".yaml") {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	}
	require.GreaterOrEqual(t, found["rules"], 2)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(readme), "```yaml\nrules:")
	short, _, _ := strings.Cut(after, "```")
	_, err = rules.Load([]byte("rules:"+short), []string{"k8s1", "yarn1"})
	require.NoError(t, err)
	require.Len(t, cases, 1)
	for _, f := range cases {
		n, err := Run(f, func(name, why string, trace *rules.Trace) {
			var b strings.Builder
			trace.Write(&b)
			t.Errorf("%s: %s: %s\n%s", f, name, why, b.String())
		})
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, 5)
	}
}
