package tcli

import (
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// geometryType is how Spark sends a GEOMETRY or a GEOGRAPHY.
func geometryType(mark string) *arrow.StructType {
	return arrow.StructOf(
		arrow.Field{Name: "srid", Type: arrow.PrimitiveTypes.Int32},
		arrow.Field{Name: "wkb", Type: arrow.BinaryTypes.Binary, Metadata: arrow.MetadataFrom(map[string]string{mark: "true", "srid": "0"})},
	)
}

func geometryArray(t *testing.T, srid int32, wkb string) arrow.Array {
	t.Helper()
	shape, err := hex.DecodeString(wkb)
	require.NoError(t, err)
	b := array.NewStructBuilder(memory.DefaultAllocator, geometryType("geometry"))
	defer b.Release()
	b.Append(true)
	b.FieldBuilder(0).(*array.Int32Builder).Append(srid)
	b.FieldBuilder(1).(*array.BinaryBuilder).Append(shape)
	return b.NewArray()
}

// The texts are those of Spark 4.3's own Thrift server.
func TestTextOfGeometries(t *testing.T) {
	const one, two, nan = "000000000000f03f", "0000000000000040", "000000000000f87f"
	point := "0101000000" + one + two
	line := "010200000002000000" + one + one + two + two
	ring := "03000000" + one + one + two + one + one + one
	for name, tc := range map[string]struct{ wkb, want string }{
		"point":                 {point, "POINT(1 2)"},
		"big endian":            {"00000000013ff00000000000004000000000000000", "POINT(1 2)"},
		"fractions":             {"01010000009a9999999999b93f00000000d0126341", "POINT(0.1 10000000)"},
		"scientific":            {"0101000000f168e388b5f8e43eb6f37d54346f9d41", "POINT(1.0E-5 1.23456789123E8)"},
		"no negative zero":      {"0101000000000000000000008000000000008066c0", "POINT(0 -180)"},
		"beyond whole numbers":  {"010100000050efe2d6e41a4b4492d54d06cff080c4", "POINT(1.0E21 -1.0E22)"},
		"point z":               {"01e9030000" + one + two + one, "POINT Z (1 2 1)"},
		"point m":               {"01d1070000" + one + two + one, "POINT M (1 2 1)"},
		"point zm":              {"01b90b0000" + one + two + one + two, "POINT ZM (1 2 1 2)"},
		"empty point":           {"0101000000" + nan + nan, "POINT EMPTY"},
		"empty point z":         {"01e9030000" + nan + nan + nan, "POINT Z EMPTY"},
		"line":                  {line, "LINESTRING(1 1,2 2)"},
		"empty line":            {"010200000000000000", "LINESTRING EMPTY"},
		"polygon":               {"010300000002000000" + ring + ring, "POLYGON((1 1,2 1,1 1),(1 1,2 1,1 1))"},
		"points":                {"010400000002000000" + point + "0101000000" + nan + nan, "MULTIPOINT((1 2),EMPTY)"},
		"lines":                 {"010500000001000000" + line, "MULTILINESTRING((1 1,2 2))"},
		"polygons":              {"010600000001000000" + "010300000001000000" + ring, "MULTIPOLYGON(((1 1,2 1,1 1)))"},
		"collection":            {"010700000002000000" + point + line, "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(1 1,2 2))"},
		"collection z":          {"01ef03000001000000" + "01e9030000" + one + two + one, "GEOMETRYCOLLECTION Z (POINT Z (1 2 1))"},
		"empty collection":      {"010700000000000000", "GEOMETRYCOLLECTION EMPTY"},
		"collection within one": {"010700000001000000" + "010700000001000000" + point, "GEOMETRYCOLLECTION(GEOMETRYCOLLECTION(POINT(1 2)))"},
		"cut":                   {"0101000000" + one, "unreadable geometry"},
		"nothing":               {"", "unreadable geometry"},
		"no such shape":         {"0108000000", "unreadable geometry"},
		"more than there is":    {"0104000000ffffffff" + point, "unreadable geometry"},
	} {
		t.Run(name, func(t *testing.T) {
			a := geometryArray(t, 0, tc.wkb)
			require.NoError(t, checkText(a.DataType()))
			assert.Equal(t, tc.want, string(newText(a, false)(nil, 0)))
			assert.Equal(t, fmt.Sprintf("%q", tc.want), string(newElementText(a)(nil, 0)))
		})
	}
	assert.Equal(t, "SRID=4326;POINT(1 2)", string(newText(geometryArray(t, 4326, point), false)(nil, 0)))
}
