package cases

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/router/rules"
)

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*_cases.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		n, err := Run(f, func(name, why string, trace *rules.Trace) {
			var b strings.Builder
			trace.Write(&b)
			t.Errorf("%s: %s: %s\n%s", f, name, why, b.String())
		})
		require.NoError(t, err)
		require.Positive(t, n)
	}
}
