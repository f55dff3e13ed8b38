package spark

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// Arrow has a_0 and a_1 where the statement says a twice, at any depth.
func TestStructsKeepTheNamesAsWritten(t *testing.T) {
	integer := &connectpb.DataType{Kind: &connectpb.DataType_Integer{}}
	structOf := func(names ...string) *connectpb.DataType {
		st := &connectpb.DataType_Struct{}
		for _, n := range names {
			st.Fields = append(st.Fields, &connectpb.DataType_StructField{Name: n, DataType: integer})
		}
		return &connectpb.DataType{Kind: &connectpb.DataType_Struct_{Struct: st}}
	}
	arrowOf := func(names ...string) arrow.DataType {
		var fields []arrow.Field
		for _, n := range names {
			fields = append(fields, arrow.Field{Name: n, Type: arrow.PrimitiveTypes.Int32, Nullable: true})
		}
		return arrow.StructOf(fields...)
	}
	array := func(e *connectpb.DataType) *connectpb.DataType {
		return &connectpb.DataType{Kind: &connectpb.DataType_Array_{Array: &connectpb.DataType_Array{ElementType: e}}}
	}
	sparkMap := func(k, v *connectpb.DataType) *connectpb.DataType {
		return &connectpb.DataType{Kind: &connectpb.DataType_Map_{Map: &connectpb.DataType_Map{KeyType: k, ValueType: v}}}
	}
	twice, unique, once := structOf("a", "a", "b"), arrowOf("a_0", "a_1", "b"), arrowOf("a", "a", "b")
	for name, tc := range map[string]struct {
		in    arrow.DataType
		spark *connectpb.DataType
		want  arrow.DataType
	}{
		"struct":    {unique, twice, once},
		"array":     {arrow.ListOf(unique), array(twice), arrow.ListOf(once)},
		"two deep":  {arrow.ListOf(arrow.ListOf(unique)), array(array(twice)), arrow.ListOf(arrow.ListOf(once))},
		"map value": {arrow.MapOf(arrow.PrimitiveTypes.Int32, unique), sparkMap(integer, twice), arrow.MapOf(arrow.PrimitiveTypes.Int32, once)},
		"map key":   {arrow.MapOf(unique, arrow.PrimitiveTypes.Int32), sparkMap(twice, integer), arrow.MapOf(once, arrow.PrimitiveTypes.Int32)},
		"other":     {unique, structOf("x"), unique}, // not what was described: left alone
	} {
		t.Run(name, func(t *testing.T) { require.True(t, arrow.TypeEqual(tc.want, withNames(tc.in, tc.spark))) })
	}
	same := arrow.ListOf(arrowOf("x", "y"))
	require.Same(t, same, withNames(same, array(structOf("x", "y"))), "nothing to change")
}
