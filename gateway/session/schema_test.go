package session

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
)

// shape is a struct of two fields of the given names within an array, a map and a struct.
func shape(first, second string) *arrow.Schema {
	st := arrow.StructOf(arrow.Field{Name: first, Type: arrow.PrimitiveTypes.Int32, Nullable: true}, arrow.Field{Name: second, Type: arrow.BinaryTypes.String, Nullable: true})
	return arrow.NewSchema([]arrow.Field{
		{Name: "list", Type: arrow.ListOf(st), Nullable: true},
		{Name: "map", Type: arrow.MapOf(arrow.BinaryTypes.String, st), Nullable: true},
		{Name: "struct", Type: arrow.StructOf(arrow.Field{Name: "in", Type: st, Nullable: true}), Nullable: true},
		{Name: "plain", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
}

func TestBatchesTakeTheNamesOfTheSchema(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	const rows = `[{"list":[{"a_0":1,"a_1":"x"}],"map":[{"key":"k","value":{"a_0":2,"a_1":null}}],"struct":{"in":{"a_0":3,"a_1":"z"}},"plain":7}]`
	b, _, err := array.RecordFromJSON(mem, shape("a_0", "a_1"), strings.NewReader(rows))
	require.NoError(t, err)
	written := shape("a", "a")
	got := withSchema(b, written)
	defer got.Release()
	require.Equal(t, written, got.Schema())
	require.Equal(t, "a", got.Column(0).(*array.List).ListValues().DataType().(*arrow.StructType).Field(1).Name)
	list := got.Column(0).(*array.List).ListValues().(*array.Struct)
	require.Equal(t, int32(1), list.Field(0).(*array.Int32).Value(0))
	require.Equal(t, "z", got.Column(2).(*array.Struct).Field(0).(*array.Struct).Field(1).(*array.String).Value(0))
	require.Equal(t, int64(7), got.Column(3).(*array.Int64).Value(0))
}
