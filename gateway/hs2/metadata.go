package hs2

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/session"
)

// layout is the columns of a metadata result. Names, order and types are the protocol; KEQ_SEQ is Hive's spelling.
type layout []arrow.Field

func columns(spec string) layout {
	var out layout
	for _, word := range strings.Fields(spec) {
		name, kind, _ := strings.Cut(word, ":")
		var t arrow.DataType
		switch kind {
		case "int":
			t = arrow.PrimitiveTypes.Int32
		case "short":
			t = arrow.PrimitiveTypes.Int16
		case "byte":
			t = arrow.PrimitiveTypes.Int8
		case "bool":
			t = arrow.FixedWidthTypes.Boolean
		default:
			t = arrow.BinaryTypes.String
		}
		out = append(out, arrow.Field{Name: name, Type: t, Nullable: true})
	}
	return out
}

var (
	catalogColumns  = columns("TABLE_CAT")
	schemaColumns   = columns("TABLE_SCHEM TABLE_CATALOG")
	tableColumns    = columns("TABLE_CAT TABLE_SCHEM TABLE_NAME TABLE_TYPE REMARKS TYPE_CAT TYPE_SCHEM TYPE_NAME SELF_REFERENCING_COL_NAME REF_GENERATION")
	typeColumns     = columns("TABLE_TYPE")
	columnColumns   = columns("TABLE_CAT TABLE_SCHEM TABLE_NAME COLUMN_NAME DATA_TYPE:int TYPE_NAME COLUMN_SIZE:int BUFFER_LENGTH:byte DECIMAL_DIGITS:int NUM_PREC_RADIX:int NULLABLE:int REMARKS COLUMN_DEF SQL_DATA_TYPE:int SQL_DATETIME_SUB:int CHAR_OCTET_LENGTH:int ORDINAL_POSITION:int IS_NULLABLE SCOPE_CATALOG SCOPE_SCHEMA SCOPE_TABLE SOURCE_DATA_TYPE:short IS_AUTO_INCREMENT")
	functionColumns = columns("FUNCTION_CAT FUNCTION_SCHEM FUNCTION_NAME REMARKS FUNCTION_TYPE:int SPECIFIC_NAME")
	infoColumns     = columns("TYPE_NAME DATA_TYPE:int PRECISION:int LITERAL_PREFIX LITERAL_SUFFIX CREATE_PARAMS NULLABLE:short CASE_SENSITIVE:bool SEARCHABLE:short UNSIGNED_ATTRIBUTE:bool FIXED_PREC_SCALE:bool AUTO_INCREMENT:bool LOCAL_TYPE_NAME MINIMUM_SCALE:short MAXIMUM_SCALE:short SQL_DATA_TYPE:int SQL_DATETIME_SUB:int NUM_PREC_RADIX:int")
	keyColumns      = columns("TABLE_CAT TABLE_SCHEM TABLE_NAME COLUMN_NAME KEQ_SEQ:int PK_NAME")
	crossColumns    = columns("PKTABLE_CAT PKTABLE_SCHEM PKTABLE_NAME PKCOLUMN_NAME FKTABLE_CAT FKTABLE_SCHEM FKTABLE_NAME FKCOLUMN_NAME KEQ_SEQ:int UPDATE_RULE:int DELETE_RULE:int FK_NAME PK_NAME DEFERRABILITY:int")
)

// table writes the rows of a metadata result, a batch at a time, so that a large one is not in memory whole.
type table struct {
	b    *array.RecordBuilder
	rows int
	emit func(arrow.RecordBatch) error
}

const batchRows = 1000

func newTable(l layout, emit func(arrow.RecordBatch) error) *table {
	return &table{b: array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(l, nil)), emit: emit}
}

// add adds a row: strings, ints and bools in the order of the columns; nil is null.
func (t *table) add(values ...any) error {
	for i, v := range values {
		f := t.b.Field(i)
		if v == nil {
			f.AppendNull()
			continue
		}
		switch f := f.(type) {
		case *array.StringBuilder:
			f.Append(v.(string))
		case *array.Int32Builder:
			f.Append(int32(v.(int)))
		case *array.Int16Builder:
			f.Append(int16(v.(int)))
		case *array.Int8Builder:
			f.Append(int8(v.(int)))
		case *array.BooleanBuilder:
			f.Append(v.(bool))
		}
	}
	if t.rows++; t.rows < batchRows {
		return nil
	}
	return t.flush()
}

func (t *table) flush() error {
	t.rows = 0
	return t.emit(t.b.NewRecordBatch())
}

// call runs a metadata call. It blocks until there are rows, because clients fetch at once without asking for its state.
func (h *handler) call(ctx context.Context, handle *tcli.TSessionHandle, kind session.Kind, l layout, fill func(context.Context, *session.Operation, *table) error) (*tcli.TStatus, *tcli.TOperationHandle) {
	s, err := h.session(handle)
	if err != nil {
		return h.failed(err), nil
	}
	o, err := s.Call(ctx, kind, func(ctx context.Context, o *session.Operation) error {
		t := newTable(l, o.Emit)
		defer t.b.Release()
		if err := fill(ctx, o, t); err != nil {
			return err
		}
		return t.flush() // an empty one too: it has the columns
	})
	if err != nil {
		return h.failed(err), nil
	}
	watched, stop := h.watch(ctx)
	defer stop()
	if _, err := o.Schema(watched); err != nil {
		_ = o.Close(context.WithoutCancel(ctx))
		return h.failed(err), nil
	}
	return success(), operationHandle(o)
}

func nothing(context.Context, *session.Operation, *table) error { return nil }

// GetCatalogs implements tcli.TCLIService. Where Spark has its own catalogue alone there are no rows, as from Spark's own
// server, and nobody has to choose.
func (h *handler) GetCatalogs(ctx context.Context, req *tcli.TGetCatalogsReq) (*tcli.TGetCatalogsResp, error) {
	st, op := h.call(ctx, req.SessionHandle, "GetCatalogs", catalogColumns, func(ctx context.Context, o *session.Operation, t *table) error {
		return o.Catalog(ctx, func(ctx context.Context, c *session.Catalog) error {
			catalogs, err := c.Catalogs(ctx)
			if err != nil || len(catalogs) == 1 {
				return err
			}
			for _, name := range catalogs {
				if err := t.add(name); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return &tcli.TGetCatalogsResp{Status: st, OperationHandle: op}, nil
}

// inCatalogs calls f for each catalogue that a request means: the one it names, or the session's current one, or all
// for a pattern that every name matches.
func inCatalogs(ctx context.Context, o *session.Operation, name string, f func(ctx context.Context, c *session.Catalog, catalog string) error) error {
	return o.Catalog(ctx, func(ctx context.Context, c *session.Catalog) error {
		if name != "%" && name != "*" {
			return f(ctx, c, name)
		}
		all, err := c.Catalogs(ctx)
		if err != nil {
			return err
		}
		for _, catalog := range all {
			// One catalogue that cannot be reached must not hide the others.
			if err := session.PassOver(ctx, f(ctx, c, catalog)); err != nil {
				return err
			}
		}
		return nil
	})
}

// GetSchemas implements tcli.TCLIService.
func (h *handler) GetSchemas(ctx context.Context, req *tcli.TGetSchemasReq) (*tcli.TGetSchemasResp, error) {
	st, op := h.call(ctx, req.SessionHandle, "GetSchemas", schemaColumns, func(ctx context.Context, o *session.Operation, t *table) error {
		return inCatalogs(ctx, o, string(req.GetCatalogName()), func(ctx context.Context, c *session.Catalog, catalog string) error {
			schemas, err := matching(ctx, c, catalog, (*string)(req.SchemaName))
			if err != nil {
				return err
			}
			for _, s := range schemas {
				if err := t.add(s, catalog); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return &tcli.TGetSchemasResp{Status: st, OperationHandle: op}, nil
}

// globalTemp is the schema of global temporary views, which SHOW NAMESPACES leaves out.
const globalTemp = "global_temp"

// matching lists the schemas of a catalogue that match.
func matching(ctx context.Context, c *session.Catalog, catalog string, pattern *string) ([]string, error) {
	schemas, err := c.Schemas(ctx, catalog)
	match := like(pattern)
	schemas = slices.DeleteFunc(schemas, func(s string) bool { return !match(s) })
	if match(globalTemp) && (catalog == "" || catalog == session.OwnCatalog) {
		schemas = append(schemas, globalTemp)
	}
	return schemas, err
}

// lister lists the tables of a schema, with more or less of what is known of them.
type lister func(c *session.Catalog, ctx context.Context, catalog, schema string, match func(string) bool) ([]session.Table, error)

// eachSchema calls f with the tables of each schema of a request; temporary views, which every schema shows, come once.
func eachSchema(ctx context.Context, o *session.Operation, list lister, catalog string, schema, name *string, f func(context.Context, *session.Catalog, []session.Table) error) error {
	return inCatalogs(ctx, o, catalog, func(ctx context.Context, c *session.Catalog, catalog string) error {
		schemas, err := matching(ctx, c, catalog, schema)
		if err != nil {
			return err
		}
		match := like(name)
		seen := map[string]bool{}
		for _, s := range schemas {
			// Nor must a schema that cannot be read, or that somebody has just dropped.
			tables, err := list(c, ctx, catalog, s, match)
			if err := session.PassOver(ctx, err); err != nil {
				return err
			}
			tables = slices.DeleteFunc(tables, func(tb session.Table) bool {
				again := tb.Temporary && seen[tb.Name]
				seen[tb.Name] = tb.Temporary
				return again
			})
			if err := f(ctx, c, tables); err != nil {
				return err
			}
		}
		return nil
	})
}

// GetTables implements tcli.TCLIService.
func (h *handler) GetTables(ctx context.Context, req *tcli.TGetTablesReq) (*tcli.TGetTablesResp, error) {
	wanted := func(kind string) bool { return len(req.TableTypes) == 0 || slices.Contains(req.TableTypes, kind) }
	st, op := h.call(ctx, req.SessionHandle, "GetTables", tableColumns, func(ctx context.Context, o *session.Operation, t *table) error {
		return eachSchema(ctx, o, (*session.Catalog).Tables, string(req.GetCatalogName()), (*string)(req.SchemaName), (*string)(req.TableName), func(_ context.Context, _ *session.Catalog, tables []session.Table) error {
			for _, tb := range tables {
				kind := "TABLE"
				if tb.View {
					kind = "VIEW"
				}
				if !wanted(kind) {
					continue
				}
				if err := t.add(tb.Catalog, schemaOf(tb), tb.Name, kind, tb.Comment, nil, nil, nil, nil, nil); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return &tcli.TGetTablesResp{Status: st, OperationHandle: op}, nil
}

func schemaOf(t session.Table) any {
	if t.Schema == "" {
		return nil
	}
	return t.Schema
}

// GetTableTypes implements tcli.TCLIService.
func (h *handler) GetTableTypes(ctx context.Context, req *tcli.TGetTableTypesReq) (*tcli.TGetTableTypesResp, error) {
	st, op := h.call(ctx, req.SessionHandle, "GetTableTypes", typeColumns, func(_ context.Context, _ *session.Operation, t *table) error {
		return errors.Join(t.add("TABLE"), t.add("VIEW"))
	})
	return &tcli.TGetTableTypesResp{Status: st, OperationHandle: op}, nil
}

// GetColumns implements tcli.TCLIService.
func (h *handler) GetColumns(ctx context.Context, req *tcli.TGetColumnsReq) (*tcli.TGetColumnsResp, error) {
	match := like((*string)(req.ColumnName))
	st, op := h.call(ctx, req.SessionHandle, "GetColumns", columnColumns, func(ctx context.Context, o *session.Operation, t *table) error {
		return eachSchema(ctx, o, (*session.Catalog).TableNames, string(req.GetCatalogName()), (*string)(req.SchemaName), (*string)(req.TableName), func(ctx context.Context, c *session.Catalog, tables []session.Table) error {
			return c.Columns(ctx, tables, func(tb session.Table, columns []session.Column) error {
				for i, col := range columns {
					if !match(col.Name) {
						continue
					}
					if err := addColumn(t, tb, col, i+1); err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
	return &tcli.TGetColumnsResp{Status: st, OperationHandle: op}, nil
}

func addColumn(t *table, tb session.Table, c session.Column, position int) error {
	k := kindOf(c.Type)
	nullable, isNullable := 0, "NO"
	if c.Nullable {
		nullable, isNullable = 1, "YES"
	}
	var catalog any // Spark's own server leaves it null here
	if tb.Catalog != "" {
		catalog = tb.Catalog
	}
	return t.add(catalog, schemaOf(tb), tb.Name, c.Name, k.jdbc, c.Type, k.size, nil, k.digits, k.radix, nullable, c.Comment,
		nil, nil, nil, nil, position, isNullable, nil, nil, nil, nil, "NO")
}

// sqlKind is what JDBC's metadata tell of a type; nil is null. Numbers are those of java.sql.Types, sizes those of
// Spark's own server.
type sqlKind struct {
	name                string
	jdbc                int
	precision           any // in GetTypeInfo
	size, digits, radix any // in GetColumns
}

// sqlKinds are Spark's types in the order in which its own server lists them.
var sqlKinds = []sqlKind{
	{"VOID", 0, nil, 1, nil, nil},
	{"BOOLEAN", 16, nil, 1, 0, nil},
	{"STRING", 12, nil, nil, nil, nil},
	{"BINARY", -2, nil, nil, nil, nil},
	{"TINYINT", -6, 3, 1, nil, 10},
	{"SMALLINT", 5, 5, 2, nil, 10},
	{"INT", 4, 10, 4, 0, 10},
	{"BIGINT", -5, 19, 8, nil, 10},
	{"FLOAT", 6, 7, 4, 7, 10},
	{"DOUBLE", 8, 15, 8, 15, 10},
	{"DECIMAL", 3, 38, nil, nil, 10},
	{"DATE", 91, nil, 4, nil, nil},
	{"TIMESTAMP", 93, nil, 8, 6, nil},
	{"ARRAY", 2003, nil, nil, nil, nil},
	{"MAP", 2000, nil, nil, nil, nil},
	{"STRUCT", 2002, nil, nil, nil, nil},
	{"CHAR", 1, nil, nil, nil, nil},
	{"VARCHAR", 12, nil, nil, nil, nil},
	{"INTERVAL_YEAR_MONTH", 1111, nil, 4, nil, nil},
	{"INTERVAL_DAY_TIME", 1111, nil, 8, nil, nil},
}

var typeArguments = regexp.MustCompile(`^[A-Z_]+\((\d+)(?:,(\d+))?\)`)

// kindOf reads a type in Spark's words, such as DECIMAL(10,2) or INTERVAL YEAR TO MONTH.
func kindOf(text string) sqlKind {
	base, _, _ := strings.Cut(text, "(")
	base, _, _ = strings.Cut(base, "<")
	base, _, _ = strings.Cut(base, " COLLATE ")
	switch {
	case base == "TIMESTAMP_NTZ":
		base = "TIMESTAMP"
	case base == "INTERVAL":
		return sqlKind{base, 1111, nil, 16, nil, nil}
	case strings.HasPrefix(base, "INTERVAL YEAR"), strings.HasPrefix(base, "INTERVAL MONTH"):
		base = "INTERVAL_YEAR_MONTH"
	case strings.HasPrefix(base, "INTERVAL "):
		base = "INTERVAL_DAY_TIME"
	}
	i := slices.IndexFunc(sqlKinds, func(k sqlKind) bool { return k.name == base })
	if i < 0 {
		return sqlKind{base, 1111, nil, nil, nil, nil}
	}
	k := sqlKinds[i]
	if m := typeArguments.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		switch base {
		case "DECIMAL":
			scale, _ := strconv.Atoi(m[2])
			k.digits, k.size = scale, 8
			if n > 18 {
				k.size = 16
			}
		case "CHAR":
			k.size = n
		}
	}
	return k
}

// GetTypeInfo implements tcli.TCLIService.
func (h *handler) GetTypeInfo(ctx context.Context, req *tcli.TGetTypeInfoReq) (*tcli.TGetTypeInfoResp, error) {
	st, op := h.call(ctx, req.SessionHandle, "GetTypeInfo", infoColumns, func(_ context.Context, _ *session.Operation, t *table) error {
		for _, k := range sqlKinds {
			searchable := 3
			if slices.Contains([]string{"ARRAY", "MAP", "STRUCT"}, k.name) {
				searchable = 0
			}
			if err := t.add(k.name, k.jdbc, k.precision, nil, nil, nil, 1, k.name == "STRING", searchable, k.radix == nil, false, false,
				nil, 0, 0, nil, nil, k.radix); err != nil {
				return err
			}
		}
		return nil
	})
	return &tcli.TGetTypeInfoResp{Status: st, OperationHandle: op}, nil
}

// GetFunctions implements tcli.TCLIService. As from Spark's own server, every schema has the built-in functions too.
func (h *handler) GetFunctions(ctx context.Context, req *tcli.TGetFunctionsReq) (*tcli.TGetFunctionsResp, error) {
	pattern := string(req.FunctionName)
	match := like(&pattern)
	st, op := h.call(ctx, req.SessionHandle, "GetFunctions", functionColumns, func(ctx context.Context, o *session.Operation, t *table) error {
		return inCatalogs(ctx, o, string(req.GetCatalogName()), func(ctx context.Context, c *session.Catalog, catalog string) error {
			schemas, err := matching(ctx, c, catalog, (*string)(req.SchemaName))
			if err != nil {
				return err
			}
			for _, s := range schemas {
				functions, err := c.Functions(ctx, catalog, s, match)
				if err := session.PassOver(ctx, err); err != nil {
					return err
				}
				for _, f := range functions {
					if err := t.add(catalog, s, f.Name, f.Usage, 0, f.Class); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	return &tcli.TGetFunctionsResp{Status: st, OperationHandle: op}, nil
}

// GetPrimaryKeys implements tcli.TCLIService: Spark has none.
func (h *handler) GetPrimaryKeys(ctx context.Context, req *tcli.TGetPrimaryKeysReq) (*tcli.TGetPrimaryKeysResp, error) {
	st, op := h.call(ctx, req.SessionHandle, "GetPrimaryKeys", keyColumns, nothing)
	return &tcli.TGetPrimaryKeysResp{Status: st, OperationHandle: op}, nil
}

// GetCrossReference implements tcli.TCLIService: Spark has none.
func (h *handler) GetCrossReference(ctx context.Context, req *tcli.TGetCrossReferenceReq) (*tcli.TGetCrossReferenceResp, error) {
	st, op := h.call(ctx, req.SessionHandle, "GetCrossReference", crossColumns, nothing)
	return &tcli.TGetCrossReferenceResp{Status: st, OperationHandle: op}, nil
}

// like makes a matcher of a JDBC pattern: % is any text, _ any character, a backslash takes their meaning away. As in
// Spark, case does not matter, `|` separates alternatives, and `*` and `.*` (impyla) are any text too. Nothing, and an
// empty text, match everything.
func like(pattern *string) func(string) bool {
	if pattern == nil || *pattern == "" || *pattern == "%" || *pattern == "*" || *pattern == ".*" {
		return func(string) bool { return true }
	}
	var re strings.Builder
	re.WriteString("(?is)^(?:")
	escaped := false
	for _, r := range *pattern {
		switch {
		case escaped:
			re.WriteString(regexp.QuoteMeta(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		case r == '%', r == '*':
			re.WriteString(".*")
		case r == '_':
			re.WriteString(".")
		case r == '|':
			re.WriteString("|")
		default:
			re.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	re.WriteString(")$")
	return regexp.MustCompile(re.String()).MatchString
}
