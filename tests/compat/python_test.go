//go:build e2e

package compat

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

// python runs a program in an environment with the packages of python/NAME.txt, all of them pinned.
func python(t *testing.T, packages, script string, args ...string) sections {
	t.Helper()
	return program(t, pythonOf(t, packages), append([]string{file("python", script)}, args...)...)
}

func pythonOf(t *testing.T, packages string) string {
	t.Helper()
	data, err := os.ReadFile(file("python", packages+".txt"))
	require.NoError(t, err)
	return testbed.Python(t, strings.Fields(string(data))...)
}

const pythonTypes = `(True, -7, -300, 70000, 5000000000, 0.1, 2.5, Decimal('12345678901234567890.123456789012345678'), 'käse', b'\x00\xff\x10', `

func TestPyHive(t *testing.T) {
	out := python(t, "clients", "pyhive_client.py")
	const name = "PyHive 0.7"
	can := out.can(t, name, "")
	linked := []string{"[('compat', 'py')]", "[('spark.sql.shuffle.partitions', '6')]", "[]", `[(5, "it's")]`}
	can("connect", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("HTTP", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("types", func(t *testing.T, said []string) {
		require.Equal(t, `[('b', 'BOOLEAN_TYPE'), ('i8', 'TINYINT_TYPE'), ('i16', 'SMALLINT_TYPE'), ('i32', 'INT_TYPE'), ('i64', 'BIGINT_TYPE'), ('f', 'FLOAT_TYPE'), ('d', 'DOUBLE_TYPE'), ('dec', 'DECIMAL_TYPE'), ('s', 'STRING_TYPE'), ('bin', 'BINARY_TYPE'), ('day', 'DATE_TYPE'), ('ts', 'TIMESTAMP_TYPE'), ('ntz', 'TIMESTAMP_TYPE'), ('arr', 'ARRAY_TYPE'), ('m', 'MAP_TYPE'), ('st', 'STRUCT_TYPE'), ('ym', 'STRING_TYPE'), ('dt', 'STRING_TYPE'), ('n', 'NULL_TYPE')]`, said[0])
		require.Equal(t, pythonTypes+`'2026-02-28', datetime.datetime(2026, 2, 28, 13, 14, 15, 123456), datetime.datetime(1999, 12, 31, 23, 59, 59), '[1,null,3]', '{"k":1.5}', '{"x":1,"y":"z"}', '1-2', '1 02:03:04.000000000', None)`, said[1])
		require.Equal(t, "("+strings.Repeat("None, ", 18)+"None)", said[2])
	})
	can("pages", func(t *testing.T, said []string) {
		require.Equal(t, []string{"2501 3121251 [2498, None, None] row 2500"}, said)
	})
	can("errors", func(t *testing.T, said []string) {
		requireCauses(t, said[:len(causes)])
		require.Equal(t, []string{"[('goes on',)]"}, said[len(causes):])
	})
	can("cancel", func(t *testing.T, said []string) { require.Equal(t, []string{"CANCELED_STATE True", "[(2,)]"}, said) })
	can("log", requireLog)
	can("timeout", func(t *testing.T, said []string) { requireTimeout(t, said, "HYT00") })
	can("TLS", func(t *testing.T, said []string) { require.Equal(t, []string{"[(1,)]", "refused"}, said) })
	idle(t)
}

// requireLog wants what was read of the log of an endless statement until its job ran.
func requireLog(t *testing.T, said []string) {
	t.Helper()
	require.GreaterOrEqual(t, len(said), 2)
	require.Equal(t, "INFO  : Total jobs = 1", said[0])
	require.Regexp(t, `^INFO  : Stage \d+: \d+ of 16 tasks`, said[1])
}

// requireTimeout wants the time limit that the session asked for.
func requireTimeout(t *testing.T, said []string, state string) {
	t.Helper()
	require.Len(t, said, 1)
	require.Contains(t, said[0], state)
	require.Contains(t, said[0], "time limit of 2s")
}

func TestImpyla(t *testing.T) {
	out := python(t, "clients", "impyla_client.py")
	const name = "impyla 0.24"
	can := out.can(t, name, "")
	linked := []string{"[('compat',)]", "[('spark.sql.shuffle.partitions', '6')]", `[(5, "it's")]`, "[('spark.sql.shuffle.partitions', '7')]"}
	can("connect", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("HTTP", func(t *testing.T, said []string) { require.Equal(t, linked, said) })
	can("types", func(t *testing.T, said []string) {
		require.Equal(t, `[('b', 'BOOLEAN'), ('i8', 'TINYINT'), ('i16', 'SMALLINT'), ('i32', 'INT'), ('i64', 'BIGINT'), ('f', 'FLOAT'), ('d', 'DOUBLE'), ('dec', 'DECIMAL'), ('s', 'STRING'), ('bin', 'BINARY'), ('day', 'DATE'), ('ts', 'TIMESTAMP'), ('ntz', 'TIMESTAMP'), ('arr', 'ARRAY'), ('m', 'MAP'), ('st', 'STRUCT'), ('ym', 'STRING'), ('dt', 'STRING'), ('n', 'NULL')]`, said[0])
		// impyla takes an array for bytes, and a map for text
		require.Equal(t, pythonTypes+`datetime.date(2026, 2, 28), datetime.datetime(2026, 2, 28, 13, 14, 15, 123456), datetime.datetime(1999, 12, 31, 23, 59, 59), b'[1,null,3]', '{"k":1.5}', '{"x":1,"y":"z"}', '1-2', '1 02:03:04.000000000', None)`, said[1])
		require.Equal(t, "("+strings.Repeat("None, ", 18)+"None)", said[2])
	})
	can("pages", func(t *testing.T, said []string) {
		require.Equal(t, []string{"2501 3121251 [2498, None, None] row 2500"}, said)
	})
	can("errors", func(t *testing.T, said []string) {
		requireClasses(t, said[:len(causes)])
		require.Equal(t, []string{"[('goes on',)]"}, said[len(causes):])
	})
	can("cancel", func(t *testing.T, said []string) { require.Equal(t, []string{"CANCELED_STATE True", "[(2,)]"}, said) })
	can("log", requireLog)
	can("timeout", func(t *testing.T, said []string) { requireTimeout(t, said, "") })
	can("TLS", func(t *testing.T, said []string) { require.Equal(t, []string{"[(1,)]", "[(1,)]"}, said) })
	can("metadata", func(t *testing.T, said []string) {
		require.Equal(t, []string{"databases ['compat', 'default']", "exists True False True", "tables ['looked', 'seen']",
			"columns [('id', 'INT'), ('name', 'VARCHAR(10)'), ('price', 'DECIMAL(10,2)'), ('tags', 'ARRAY<STRING>')]", "functions True"}, said)
	})
	idle(t)
}

func TestSQLAlchemy(t *testing.T) {
	out := python(t, "clients", "sqlalchemy_client.py")
	const name = "SQLAlchemy 2.0"
	record.Can(t, name, "connect", func(t *testing.T) {
		require.Equal(t, []string{`[('compat', "it's")]`, "[('spark.sql.shuffle.partitions', '6')]"}, out.lines(t, "connect"))
	})
	record.Can(t, name, "metadata", func(t *testing.T) {
		require.Equal(t, []string{"True True True", "id INTEGER", "name VARCHAR", "price DECIMAL", "tags VARCHAR", "['id']", "[(1, 'one')]"}, out.lines(t, "metadata"))
	})
}

func TestSuperset(t *testing.T) {
	out := python(t, "clients", "superset_loop.py")
	record.Can(t, "Superset", "progress", func(t *testing.T) {
		require.Equal(t, []string{"[(1000,)]", "moved True within True url False"}, out.lines(t, "progress"))
	})
	record.Can(t, "Superset", "stop", func(t *testing.T) {
		require.Equal(t, []string{"CANCELED_STATE"}, out.lines(t, "stop"))
		idle(t)
	})
}
