//go:build e2e

package replicas

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/tests/storetest"
)

// The same suite that SQLite passes, each test on a database of its own.
func TestPostgres(t *testing.T) {
	storetest.Conformance(t, func(t *testing.T) *store.Store {
		s, err := store.Open(t.Context(), pg.Database(t))
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
