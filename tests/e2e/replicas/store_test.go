//go:build e2e

package replicas

import (
	"database/sql"
	"fmt"
	"net/url"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/tests/storetest"
	"github.com/sluicedata/sluice/tests/testbed"
)

// The same suite that SQLite passes, each test on a database of its own.
func TestPostgres(t *testing.T) {
	pg := testbed.StartPostgres(t)
	admin, err := sql.Open("pgx", pg.URL)
	require.NoError(t, err)
	defer func() { _ = admin.Close() }()
	n := 0
	storetest.Conformance(t, func(t *testing.T) *store.Store {
		n++
		name := fmt.Sprintf("conformance_%d", n)
		_, err := admin.Exec("CREATE DATABASE " + name)
		require.NoError(t, err)
		at, err := url.Parse(pg.URL)
		require.NoError(t, err)
		at.Path = name
		s, err := store.Open(t.Context(), at.String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
