//go:build e2e

package hs2

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

func pattern(s string) *tcli.TPatternOrIdentifier { return (*tcli.TPatternOrIdentifier)(&s) }

// asker makes metadata calls in short.
type asker struct {
	*testbed.HS2
	t *testing.T
}

// rows fetches a result to its end.
func (a asker) rows(op *tcli.TOperationHandle, st *tcli.TStatus, err error) [][]string {
	a.t.Helper()
	requireOK(a.t, st, err)
	var out [][]string
	for {
		page := a.Fetch(op, next, 1000, 0)
		requireOK(a.t, page.Status, nil)
		got := testbed.Texts(page.Results)
		if len(got) == 0 {
			return out
		}
		out = append(out, got...)
	}
}

func (a asker) catalogs() [][]string {
	r, err := a.GetCatalogs(context.Background(), &tcli.TGetCatalogsReq{SessionHandle: a.Session})
	return a.rows(r.GetOperationHandle(), r.GetStatus(), err)
}

func (a asker) schemas(catalog, schema *string) [][]string {
	r, err := a.GetSchemas(context.Background(), &tcli.TGetSchemasReq{SessionHandle: a.Session, CatalogName: (*tcli.TIdentifier)(catalog), SchemaName: (*tcli.TPatternOrIdentifier)(schema)})
	return a.rows(r.GetOperationHandle(), r.GetStatus(), err)
}

func (a asker) tables(catalog, schema, table *string, types ...string) [][]string {
	r, err := a.GetTables(context.Background(), &tcli.TGetTablesReq{SessionHandle: a.Session, CatalogName: (*tcli.TPatternOrIdentifier)(catalog),
		SchemaName: (*tcli.TPatternOrIdentifier)(schema), TableName: (*tcli.TPatternOrIdentifier)(table), TableTypes: types})
	return a.rows(r.GetOperationHandle(), r.GetStatus(), err)
}

func (a asker) columns(catalog, schema, table, column *string) [][]string {
	r, err := a.GetColumns(context.Background(), &tcli.TGetColumnsReq{SessionHandle: a.Session, CatalogName: (*tcli.TIdentifier)(catalog),
		SchemaName: (*tcli.TPatternOrIdentifier)(schema), TableName: (*tcli.TPatternOrIdentifier)(table), ColumnName: (*tcli.TPatternOrIdentifier)(column)})
	return a.rows(r.GetOperationHandle(), r.GetStatus(), err)
}

func (a asker) functions(schema *string, name string) [][]string {
	r, err := a.GetFunctions(context.Background(), &tcli.TGetFunctionsReq{SessionHandle: a.Session, SchemaName: (*tcli.TPatternOrIdentifier)(schema), FunctionName: tcli.TPatternOrIdentifier(name)})
	return a.rows(r.GetOperationHandle(), r.GetStatus(), err)
}

func ptr[T any](v T) *T { return &v }

// names are the values of one column.
func names(rows [][]string, column int) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, r[column])
	}
	return out
}

// layouts are the columns of each metadata result, with the numbers of their types.
func TestLayoutsOfMetadata(t *testing.T) {
	ctx := context.Background()
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	s := c.Session
	layout := func(op *tcli.TOperationHandle, st *tcli.TStatus, err error) string {
		t.Helper()
		requireOK(t, st, err)
		require.True(t, op.HasResultSet)
		meta, err := c.GetResultSetMetadata(ctx, &tcli.TGetResultSetMetadataReq{OperationHandle: op})
		requireOK(t, meta.GetStatus(), err)
		var out []string
		for _, col := range meta.Schema.Columns {
			require.Len(t, col.TypeDesc.Types, 1)
			out = append(out, fmt.Sprintf("%s:%d", col.ColumnName, col.TypeDesc.Types[0].PrimitiveEntry.Type))
		}
		page := c.Fetch(op, next, 10, 0)
		require.Len(t, page.Results.Columns, len(out), "as many columns as described, without rows too")
		return strings.Join(out, " ")
	}
	catalogs, err := c.GetCatalogs(ctx, &tcli.TGetCatalogsReq{SessionHandle: s})
	require.Equal(t, "TABLE_CAT:7", layout(catalogs.OperationHandle, catalogs.Status, err))
	schemas, err := c.GetSchemas(ctx, &tcli.TGetSchemasReq{SessionHandle: s})
	require.Equal(t, "TABLE_SCHEM:7 TABLE_CATALOG:7", layout(schemas.OperationHandle, schemas.Status, err))
	tables, err := c.GetTables(ctx, &tcli.TGetTablesReq{SessionHandle: s})
	require.Equal(t, "TABLE_CAT:7 TABLE_SCHEM:7 TABLE_NAME:7 TABLE_TYPE:7 REMARKS:7 TYPE_CAT:7 TYPE_SCHEM:7 TYPE_NAME:7 SELF_REFERENCING_COL_NAME:7 REF_GENERATION:7",
		layout(tables.OperationHandle, tables.Status, err))
	types, err := c.GetTableTypes(ctx, &tcli.TGetTableTypesReq{SessionHandle: s})
	require.Equal(t, "TABLE_TYPE:7", layout(types.OperationHandle, types.Status, err))
	columns, err := c.GetColumns(ctx, &tcli.TGetColumnsReq{SessionHandle: s, SchemaName: pattern("none")})
	require.Equal(t, "TABLE_CAT:7 TABLE_SCHEM:7 TABLE_NAME:7 COLUMN_NAME:7 DATA_TYPE:3 TYPE_NAME:7 COLUMN_SIZE:3 BUFFER_LENGTH:1 DECIMAL_DIGITS:3 NUM_PREC_RADIX:3 "+
		"NULLABLE:3 REMARKS:7 COLUMN_DEF:7 SQL_DATA_TYPE:3 SQL_DATETIME_SUB:3 CHAR_OCTET_LENGTH:3 ORDINAL_POSITION:3 IS_NULLABLE:7 SCOPE_CATALOG:7 SCOPE_SCHEMA:7 "+
		"SCOPE_TABLE:7 SOURCE_DATA_TYPE:2 IS_AUTO_INCREMENT:7", layout(columns.OperationHandle, columns.Status, err))
	functions, err := c.GetFunctions(ctx, &tcli.TGetFunctionsReq{SessionHandle: s, FunctionName: "none"})
	require.Equal(t, "FUNCTION_CAT:7 FUNCTION_SCHEM:7 FUNCTION_NAME:7 REMARKS:7 FUNCTION_TYPE:3 SPECIFIC_NAME:7", layout(functions.OperationHandle, functions.Status, err))
	info, err := c.GetTypeInfo(ctx, &tcli.TGetTypeInfoReq{SessionHandle: s})
	require.Equal(t, "TYPE_NAME:7 DATA_TYPE:3 PRECISION:3 LITERAL_PREFIX:7 LITERAL_SUFFIX:7 CREATE_PARAMS:7 NULLABLE:2 CASE_SENSITIVE:0 SEARCHABLE:2 "+
		"UNSIGNED_ATTRIBUTE:0 FIXED_PREC_SCALE:0 AUTO_INCREMENT:0 LOCAL_TYPE_NAME:7 MINIMUM_SCALE:2 MAXIMUM_SCALE:2 SQL_DATA_TYPE:3 SQL_DATETIME_SUB:3 NUM_PREC_RADIX:3",
		layout(info.OperationHandle, info.Status, err))
	keys, err := c.GetPrimaryKeys(ctx, &tcli.TGetPrimaryKeysReq{SessionHandle: s})
	require.Equal(t, "TABLE_CAT:7 TABLE_SCHEM:7 TABLE_NAME:7 COLUMN_NAME:7 KEQ_SEQ:3 PK_NAME:7", layout(keys.OperationHandle, keys.Status, err))
	cross, err := c.GetCrossReference(ctx, &tcli.TGetCrossReferenceReq{SessionHandle: s})
	require.Equal(t, "PKTABLE_CAT:7 PKTABLE_SCHEM:7 PKTABLE_NAME:7 PKCOLUMN_NAME:7 FKTABLE_CAT:7 FKTABLE_SCHEM:7 FKTABLE_NAME:7 FKCOLUMN_NAME:7 KEQ_SEQ:3 "+
		"UPDATE_RULE:3 DELETE_RULE:3 FK_NAME:7 PK_NAME:7 DEFERRABILITY:3", layout(cross.OperationHandle, cross.Status, err))
}

func TestPatternsOfMetadata(t *testing.T) {
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("CREATE DATABASE IF NOT EXISTS pat")
	for _, name := range []string{"a_b", "axb", "other"} {
		c.All("CREATE TABLE IF NOT EXISTS pat." + name + " (id INT, `Größe` STRING) USING parquet COMMENT 'of " + name + "'")
	}
	c.All("CREATE OR REPLACE VIEW pat.v COMMENT 'a view' AS SELECT 1 AS one")
	c.All("CREATE OR REPLACE TEMPORARY VIEW temp_v AS SELECT 2 AS two")
	a := asker{c, t}
	all := []string{"a_b", "axb", "other", "v", "temp_v"}
	c.All("DROP TABLE IF EXISTS pat.typed")
	for p, want := range map[string][]string{
		"%": all, "*": all, ".*": all, "": all, "a_b": {"a_b", "axb"}, `a\_b`: {"a_b"}, "A%": {"a_b", "axb"},
		"other|v": {"other", "v"}, "%v": {"v", "temp_v"}, "[": {}, "(": {}, `\`: {}, "none": {},
	} {
		require.ElementsMatch(t, want, names(a.tables(nil, ptr("pat"), &p), 2), "%q", p)
	}
	require.ElementsMatch(t, all, names(a.tables(nil, ptr("pat"), nil), 2))
	require.ElementsMatch(t, []string{"v", "temp_v"}, names(a.tables(nil, ptr("pat"), nil, "VIEW"), 2))
	require.ElementsMatch(t, []string{"a_b", "axb", "other"}, names(a.tables(nil, ptr("pat"), nil, "TABLE", "SYSTEM TABLE"), 2))
	require.Empty(t, a.tables(nil, ptr("pat"), nil, "SYSTEM TABLE"))
	require.Equal(t, [][]string{{"", "pat", "a_b", "TABLE", "of a_b", "NULL", "NULL", "NULL", "NULL", "NULL"}}, a.tables(nil, ptr("pat"), ptr(`a\_b`)))
	require.Equal(t, [][]string{{"", "pat", "v", "VIEW", "a view", "NULL", "NULL", "NULL", "NULL", "NULL"}}, a.tables(nil, ptr("pat"), ptr("v")))
	require.Equal(t, [][]string{{"", "NULL", "temp_v", "VIEW", "", "NULL", "NULL", "NULL", "NULL", "NULL"}}, a.tables(nil, nil, ptr("temp_v")), "once, although every schema shows it")

	require.Equal(t, [][]string{{"pat", ""}}, a.schemas(nil, ptr("PA_")))
	require.Contains(t, names(a.schemas(nil, nil), 0), "global_temp")
	require.Equal(t, []string{"id", "Größe"}, names(a.columns(nil, ptr("pat"), ptr(`a\_b`), nil), 3))
	require.Equal(t, []string{"1", "2"}, names(a.columns(nil, ptr("pat"), ptr(`a\_b`), ptr("%")), 16))
	require.Equal(t, []string{"Größe"}, names(a.columns(nil, ptr("pat"), ptr(`a\_b`), ptr("gr%")), 3))

	c.All("CREATE TABLE IF NOT EXISTS pat.typed (id BIGINT COMMENT 'key', price DECIMAL(10,2), tags ARRAY<STRING>, code CHAR(3)) USING parquet")
	typed := a.columns(nil, ptr("pat"), ptr("typed"), nil)
	require.Equal(t, []string{"NULL", "pat", "typed", "id", "-5", "BIGINT", "8", "NULL", "NULL", "10", "1", "key"}, typed[0][:12])
	require.Equal(t, []string{"price", "3", "DECIMAL(10,2)", "8", "NULL", "2", "10"}, typed[1][3:10])
	require.Equal(t, []string{"tags", "2003", "ARRAY<STRING>"}, typed[2][3:6])
	require.Equal(t, []string{"code", "1", "CHAR(3)", "3"}, typed[3][3:7])

	abs := a.functions(ptr("pat"), "ab_")
	require.Len(t, abs, 1)
	require.Regexp(t, `^Usage: abs\(expr\) - Returns the absolute value of the numeric or interval value\.\nExtended Usage:\n`, abs[0][3])
	require.Equal(t, []string{"", "pat", "abs", "0", "org.apache.spark.sql.catalyst.expressions.Abs"}, append(abs[0][:3:3], abs[0][4:]...))
	require.Greater(t, len(a.functions(ptr("pat"), "%")), 400)
	require.Empty(t, a.functions(ptr("no_such_schema"), "abs"))
	require.Empty(t, a.catalogs(), "as from Spark's own server where there is one catalogue alone")
}

// Ten thousand tables are read in bounded memory, and so are the columns of all of them. They are in a catalogue beside
// Spark's own, which is listed before anybody has used it.
func TestManyTablesAndCatalogs(t *testing.T) {
	const tables = 10_000
	shop := filepath.Join(t.TempDir(), "shop")
	made := testbed.Run(t, testbed.Java(t), "-cp", testbed.SparkHome(t)+"/jars/*", "-Dderby.stream.error.file=/dev/null", filepath.Join(testbed.Root(), "tests/e2e/hs2/Fill.java"), shop, strconv.Itoa(tables))
	require.Zero(t, made.Code, made.Err)
	a := asker{testbed.DialHS2(t, shared.Thrift, "ann", "x", map[string]string{
		"spark.sql.catalog.shop":        "org.apache.spark.sql.execution.datasources.v2.jdbc.JDBCTableCatalog",
		"spark.sql.catalog.shop.url":    "jdbc:derby:" + shop,
		"spark.sql.catalog.shop.driver": "org.apache.derby.iapi.jdbc.AutoloadedDriver",
	}), t}
	require.Equal(t, [][]string{{"shop"}, {"spark_catalog"}}, a.catalogs())
	require.Equal(t, [][]string{{"shop", "APP", "T77", "TABLE", "", "NULL", "NULL", "NULL", "NULL", "NULL"}}, a.tables(ptr("shop"), ptr("APP"), ptr("t77")))
	columns := a.columns(ptr("shop"), ptr("APP"), ptr("T77"), nil)
	require.Equal(t, []string{"ID", "WORDS", "PRICE"}, names(columns, 3))
	require.Equal(t, []string{"shop", "APP", "T77", "ID", "4", "INT"}, columns[0][:6])
	require.Contains(t, a.schemas(ptr("shop"), nil), []string{"APP", "shop"})
	require.Contains(t, a.schemas(ptr("%"), nil), []string{"default", "spark_catalog"})
	require.Contains(t, a.schemas(ptr("%"), nil), []string{"APP", "shop"})
	require.Equal(t, []string{"shop"}, names(a.tables(ptr("%"), nil, ptr("T77")), 0))
	require.Empty(t, a.tables(nil, ptr("APP"), nil), "that schema is not in the current catalogue")
	a.All("USE shop.APP")
	require.Equal(t, [][]string{{"", "APP", "T77", "TABLE"}}, [][]string{a.tables(nil, ptr("APP"), ptr("T77"))[0][:4]}, "now it is")

	before := testbed.PeakMemory(shared.Cmd.Process.Pid)
	began := time.Now()
	require.Len(t, a.tables(ptr("shop"), ptr("%"), ptr("T%")), tables)
	t.Logf("%d tables in %s", tables, time.Since(began))
	began = time.Now()
	require.Len(t, a.columns(ptr("shop"), ptr("APP"), ptr("T%"), ptr("%")), 3*tables)
	t.Logf("%d columns in %s", 3*tables, time.Since(began))
	grown := testbed.PeakMemory(shared.Cmd.Process.Pid) - before
	t.Logf("the gateway's peak grew by %d MiB", grown>>20)
	require.Less(t, grown, int64(64<<20))
}
