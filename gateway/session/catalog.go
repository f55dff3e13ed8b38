package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
)

// Catalog reads the engine's catalogue for metadata calls.
type Catalog struct{ remote engines.Session }

// Table is a table or view of a schema.
type Table struct {
	Schema    string // empty for a temporary view
	Name      string
	View      bool
	Temporary bool
}

// Column is a column of a table, with its type in Spark's words.
type Column = engines.TableColumn

// Catalog runs f with the catalogue of the session's engine.
func (o *Operation) Catalog(ctx context.Context, f func(context.Context, *Catalog) error) error {
	return o.onEngine(ctx, func(ctx context.Context, remote engines.Session) error { return f(ctx, &Catalog{remote}) })
}

// Emit adds rows to the operation's result, taking over the reference.
func (o *Operation) Emit(b arrow.RecordBatch) error {
	o.rec.Rows += b.NumRows()
	if _, err := o.spool.Append(b, ""); err != nil {
		return spoolFailure(err)
	}
	return nil
}

// Schemas lists the schemas of the current catalogue.
func (c *Catalog) Schemas(ctx context.Context) ([]string, error) {
	rows, err := c.texts(ctx, "SHOW NAMESPACES", 1)
	return first(rows), err
}

// Tables lists the tables and views of a schema, temporary views among them.
func (c *Catalog) Tables(ctx context.Context, schema string) ([]Table, error) {
	views, err := c.texts(ctx, "SHOW VIEWS IN "+quoteName(schema), 2)
	if err != nil && !lacksViews(err) {
		return nil, err
	}
	isView := map[string]bool{}
	for _, v := range views {
		isView[v[0]+"."+v[1]] = true
	}
	rows, err := c.texts(ctx, "SHOW TABLES IN "+quoteName(schema), 2)
	if err != nil {
		return nil, err
	}
	var out []Table
	for _, r := range rows {
		out = append(out, Table{Schema: r[0], Name: r[1], View: isView[r[0]+"."+r[1]], Temporary: r[0] == ""})
	}
	return out, nil
}

// lacksViews says that a catalogue has no views, which is no failure.
func lacksViews(err error) bool {
	var e *engines.Error
	return errors.As(err, &e) && strings.HasPrefix(e.Class, "MISSING_CATALOG_ABILITY")
}

// Columns lists the columns of a table or view.
func (c *Catalog) Columns(ctx context.Context, t Table) ([]Column, error) {
	if t.Schema == "" {
		return c.remote.TableSchema(ctx, t.Name)
	}
	return c.remote.TableSchema(ctx, t.Schema, t.Name)
}

// Functions lists all functions, built-in ones too.
func (c *Catalog) Functions(ctx context.Context) ([]string, error) {
	rows, err := c.texts(ctx, "SHOW ALL FUNCTIONS", 1)
	return first(rows), err
}

// texts runs a SHOW statement and returns its first n columns, which are strings.
func (c *Catalog) texts(ctx context.Context, sql string, n int) ([][]string, error) {
	exec, err := c.remote.Start(ctx, uuid.New(), engines.Query{SQL: sql})
	if err != nil {
		return nil, err
	}
	defer func() { _ = exec.Release(context.WithoutCancel(ctx)) }()
	var out [][]string
	for {
		b, _, err := exec.Next(ctx)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if int(b.NumCols()) < n {
			b.Release()
			return nil, fmt.Errorf("%s gave %d columns where %d were expected", sql, b.NumCols(), n)
		}
		for i := range int(b.NumRows()) {
			row := make([]string, n)
			for j := range row {
				row[j] = b.Column(j).ValueStr(i)
			}
			out = append(out, row)
		}
		b.Release()
	}
}

func first(rows [][]string) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r[0]
	}
	return out
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
