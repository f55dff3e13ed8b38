package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/sluicedata/sluice/engines"
)

// Catalog reads the engine's catalogues for metadata calls. A catalogue without a name is the session's current one.
type Catalog struct{ remote engines.Session }

// Table is a table or view of a schema.
type Table struct {
	Catalog   string // as it was asked for
	Schema    string // empty for a temporary view
	Name      string
	View      bool
	Temporary bool
	Comment   string
}

// Column is a column of a table, with its type in Spark's words.
type Column = engines.TableColumn

// Function is a function that can be called in a schema. Its usage is in Spark's words, the long description among them
// unless there are many functions.
type Function struct{ Name, Usage, Class string }

// Catalog runs f with the catalogues of the session's engine.
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

// OwnCatalog is the catalogue that every Spark has.
const OwnCatalog = "spark_catalog"

// catalogSetting is the setting that defines a catalogue; longer keys are options of it.
var catalogSetting = regexp.MustCompile(`^spark\.sql\.catalog\.([^.]+)$`)

// Catalogs lists the catalogues in alphabetical order, those that nobody has used yet too: SHOW CATALOGS leaves them out.
func (c *Catalog) Catalogs(ctx context.Context) ([]string, error) {
	out := []string{OwnCatalog}
	err := c.each(ctx, engines.Query{SQL: "SHOW CATALOGS"}, 1, func(row []string) { out = append(out, row[0]) })
	if err != nil {
		return nil, err
	}
	err = c.each(ctx, engines.Query{SQL: "SET"}, 1, func(row []string) {
		if m := catalogSetting.FindStringSubmatch(row[0]); m != nil {
			out = append(out, m[1])
		}
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// Schemas lists the schemas of a catalogue.
func (c *Catalog) Schemas(ctx context.Context, catalog string) ([]string, error) {
	sql := "SHOW NAMESPACES"
	if catalog != "" {
		sql += " IN " + QuoteName(catalog)
	}
	var out []string
	err := c.each(ctx, engines.Query{SQL: sql}, 1, func(row []string) { out = append(out, row[0]) })
	return out, err
}

// maxComments is for how many tables of a schema their comments are read. That takes milliseconds for each, against
// microseconds for a name, so a schema beyond it is listed without.
const maxComments = 1000

// TableNames lists the tables and views of a schema whose names match, temporary views among them, by their names alone.
func (c *Catalog) TableNames(ctx context.Context, catalog, schema string, match func(string) bool) ([]Table, error) {
	tables, _, err := c.tables(ctx, catalog, schema, match)
	return tables, err
}

func (c *Catalog) tables(ctx context.Context, catalog, schema string, match func(string) bool) (matching []Table, all int, err error) {
	err = c.each(ctx, engines.Query{SQL: "SHOW TABLES IN " + QuoteName(qualified(catalog, schema)...)}, 2, func(row []string) {
		all++
		if match(row[1]) {
			matching = append(matching, Table{Catalog: catalog, Schema: row[0], Name: row[1], Temporary: row[0] == ""})
		}
	})
	if err != nil {
		return nil, 0, err // not a part
	}
	return matching, all, nil
}

// Tables lists them with what kind of table each is, and with their comments unless the schema has very many.
func (c *Catalog) Tables(ctx context.Context, catalog, schema string, match func(string) bool) ([]Table, error) {
	out, all, err := c.tables(ctx, catalog, schema, match)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	in := QuoteName(qualified(catalog, schema)...)
	if pattern := patternOf(out, all); pattern != "" {
		err := c.describe(ctx, "SHOW TABLE EXTENDED IN "+in+" LIKE '"+pattern+"'", out)
		if err == nil || PassOver(ctx, err) != nil {
			return out, err
		} // one table that cannot be read spoils that list: the names are had all the same
	}
	views := map[string]bool{}
	err = c.each(ctx, engines.Query{SQL: "SHOW VIEWS IN " + in}, 2, func(row []string) { views[row[1]] = true })
	if err != nil && !lacksViews(err) {
		return nil, err
	}
	for i := range out {
		out[i].View = views[out[i].Name] || out[i].Temporary
	}
	return out, nil
}

// plainName is one that means itself in the pattern of SHOW TABLE EXTENDED.
var plainName = regexp.MustCompile(`^\w+$`)

// patternOf is a pattern for a list that holds the tables, and few others; empty if it were too long a list.
func patternOf(tables []Table, all int) string {
	const few = 50
	names := make([]string, len(tables))
	plain := len(tables) <= few
	for i, t := range tables {
		names[i] = t.Name
		plain = plain && plainName.MatchString(t.Name)
	}
	switch {
	case plain:
		return strings.Join(names, "|")
	case all <= maxComments:
		return "*"
	}
	return ""
}

// describe adds to the tables what a list with details says of them.
func (c *Catalog) describe(ctx context.Context, sql string, tables []Table) error {
	details := map[string]Table{}
	err := c.each(ctx, engines.Query{SQL: sql}, 4, func(row []string) {
		t := Table{}
		t.View, t.Comment = readDetails(row[3])
		details[row[0]+"."+row[1]] = t
	})
	if err != nil {
		return err
	}
	for i, t := range tables {
		d := details[t.Schema+"."+t.Name]
		tables[i].View, tables[i].Comment = d.View || t.Temporary, d.Comment
	}
	return nil
}

// lacksViews says that a catalogue has no views, which is no failure.
func lacksViews(err error) bool {
	var e *engines.Error
	return errors.As(err, &e) && strings.HasPrefix(e.Class, "MISSING_CATALOG_ABILITY")
}

// PassOver returns nil for an error of an engine that does not like one question, because the answers to the others
// are of use, and all other errors: an engine that does not answer has none.
func PassOver(ctx context.Context, err error) error {
	var e *engines.Error
	if errors.As(err, &e) && !errors.Is(err, engines.ErrLost) && ctx.Err() == nil {
		return nil
	}
	return err
}

// Columns calls f with the columns of each table, in the order of the tables. One table that cannot be read, or that
// somebody has just dropped, must not hide the others, so it is left out.
func (c *Catalog) Columns(ctx context.Context, tables []Table, f func(Table, []Column) error) error {
	const atOnce = 4 // of a question that takes the engine milliseconds, mostly to find the table in a catalogue far away
	const ahead = 64
	for part := range slices.Chunk(tables, ahead) {
		columns := make([][]Column, len(part))
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(atOnce)
		for i, t := range part {
			group.Go(func() error {
				var err error
				columns[i], err = c.remote.TableSchema(ctx, t.parts()...)
				return PassOver(ctx, err)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for i, t := range part {
			if err := f(t, columns[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t Table) parts() []string {
	if t.Schema == "" {
		return []string{t.Name}
	}
	return append(qualified(t.Catalog, t.Schema), t.Name)
}

// maxDescribed is for how many functions the long description is read, a statement for each.
const maxDescribed = 50

// Functions lists the functions that can be called in a schema and whose names match, built-in ones too.
func (c *Catalog) Functions(ctx context.Context, catalog, schema string, match func(string) bool) ([]Function, error) {
	var out []Function
	err := c.each(ctx, engines.Query{Functions: qualified(catalog, schema)}, engines.FunctionClass+1, func(row []string) {
		if match(row[engines.FunctionName]) {
			out = append(out, Function{Name: row[engines.FunctionName], Usage: "Usage: " + row[engines.FunctionUsage], Class: row[engines.FunctionClass]})
		}
	})
	if err != nil || len(out) > maxDescribed {
		return out, err
	}
	for i, f := range out {
		err := c.each(ctx, engines.Query{SQL: "DESCRIBE FUNCTION EXTENDED " + QuoteName(f.Name)}, 1, func(row []string) {
			if strings.HasPrefix(row[0], "Extended Usage:") {
				out[i].Usage += "\n" + row[0]
			}
		})
		if err := PassOver(ctx, err); err != nil { // operators cannot be described under every name
			return nil, err
		}
	}
	return out, nil
}

// each asks the engine and calls f with the first n columns of every row; null is an empty text.
func (c *Catalog) each(ctx context.Context, q engines.Query, n int, f func([]string)) error {
	exec, err := c.remote.Start(ctx, uuid.New(), q)
	if err != nil {
		return err
	}
	defer func() { _ = exec.Release(context.WithoutCancel(ctx)) }()
	for {
		b, _, err := exec.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if int(b.NumCols()) < n {
			b.Release()
			return fmt.Errorf("%s gave %d columns where %d were expected", q.SQL, b.NumCols(), n)
		}
		for i := range int(b.NumRows()) {
			row := make([]string, n)
			for j := range row {
				if col := b.Column(j); !col.IsNull(i) {
					row[j] = col.ValueStr(i)
				}
			}
			f(row)
		}
		b.Release()
	}
}

// do runs a statement whose rows nobody wants.
func (c *Catalog) do(ctx context.Context, sql string) error {
	return c.each(ctx, engines.Query{SQL: sql}, 0, func([]string) {})
}

// readDetails reads what SHOW TABLE EXTENDED says of a table: lines of `Key: value`, of which the kind stands before the
// comment, whose text may look like anything.
func readDetails(information string) (view bool, comment string) {
	for line := range strings.Lines(information) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "Type":
			view = strings.Contains(value, "VIEW")
		case "Comment":
			return view, value
		}
	}
	return view, ""
}

func qualified(catalog, schema string) []string {
	if catalog == "" {
		return []string{schema}
	}
	return []string{catalog, schema}
}

// QuoteName writes a name of several parts as SQL does.
func QuoteName(parts ...string) string { return engines.QuoteName(parts...) }
