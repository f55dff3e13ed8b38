package session

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// withSchema gives a batch the schema that knows Spark's own types, and the names in it, taking over the reference.
func withSchema(b arrow.RecordBatch, schema *arrow.Schema) arrow.RecordBatch {
	if schema == nil || b.Schema() == schema {
		return b
	}
	defer b.Release()
	columns := make([]arrow.Array, b.NumCols())
	for i, c := range b.Columns() {
		columns[i] = c
		if want := schema.Field(i).Type; !arrow.TypeEqual(c.DataType(), want) {
			data := withType(c.Data(), want)
			columns[i] = array.MakeFromData(data)
			data.Release()
			defer columns[i].Release()
		}
	}
	return array.NewRecordBatch(schema, columns, b.NumRows())
}

// withType gives the same data a type that differs in the names of struct fields.
func withType(d arrow.ArrayData, want arrow.DataType) arrow.ArrayData {
	nested, ok := want.(arrow.NestedType)
	if !ok {
		d.Retain()
		return d
	}
	children := make([]arrow.ArrayData, len(d.Children()))
	for i, f := range nested.Fields() {
		children[i] = withType(d.Children()[i], f.Type)
		defer children[i].Release()
	}
	return array.NewData(want, d.Len(), d.Buffers(), children, d.NullN(), d.Offset())
}
