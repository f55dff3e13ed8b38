package tcli

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// variantType is how Spark sends a VARIANT.
var variantType = arrow.StructOf(
	arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary},
	arrow.Field{Name: "metadata", Type: arrow.BinaryTypes.Binary,
		Metadata: arrow.MetadataFrom(map[string]string{"variant": "true"})},
)

func TestColumnOfType(t *testing.T) {
	micros := arrow.FixedWidthTypes.Timestamp_us
	for name, tc := range map[string]struct {
		in   arrow.DataType
		want Column
	}{
		"null":            {arrow.Null, Column{Type: TTypeId_NULL_TYPE}},
		"boolean":         {arrow.FixedWidthTypes.Boolean, Column{Type: TTypeId_BOOLEAN_TYPE}},
		"tinyint":         {arrow.PrimitiveTypes.Int8, Column{Type: TTypeId_TINYINT_TYPE}},
		"smallint":        {arrow.PrimitiveTypes.Int16, Column{Type: TTypeId_SMALLINT_TYPE}},
		"int":             {arrow.PrimitiveTypes.Int32, Column{Type: TTypeId_INT_TYPE}},
		"bigint":          {arrow.PrimitiveTypes.Int64, Column{Type: TTypeId_BIGINT_TYPE}},
		"unsigned byte":   {arrow.PrimitiveTypes.Uint8, Column{Type: TTypeId_SMALLINT_TYPE}},
		"unsigned long":   {arrow.PrimitiveTypes.Uint64, Column{Type: TTypeId_DECIMAL_TYPE, Precision: 20}},
		"float":           {arrow.PrimitiveTypes.Float32, Column{Type: TTypeId_FLOAT_TYPE}},
		"double":          {arrow.PrimitiveTypes.Float64, Column{Type: TTypeId_DOUBLE_TYPE}},
		"decimal":         {&arrow.Decimal128Type{Precision: 10, Scale: 2}, Column{Type: TTypeId_DECIMAL_TYPE, Precision: 10, Scale: 2}},
		"string":          {arrow.BinaryTypes.String, Column{Type: TTypeId_STRING_TYPE}},
		"large string":    {arrow.BinaryTypes.LargeString, Column{Type: TTypeId_STRING_TYPE}},
		"binary":          {arrow.BinaryTypes.Binary, Column{Type: TTypeId_BINARY_TYPE}},
		"date":            {arrow.FixedWidthTypes.Date32, Column{Type: TTypeId_DATE_TYPE}},
		"timestamp":       {micros, Column{Type: TTypeId_TIMESTAMP_TYPE}},
		"timestamp ntz":   {&arrow.TimestampType{Unit: arrow.Microsecond}, Column{Type: TTypeId_TIMESTAMP_TYPE}},
		"timestamp nanos": {arrow.FixedWidthTypes.Timestamp_ns, Column{Type: TTypeId_STRING_TYPE}},
		"geometry":        {geometryType("geometry"), Column{Type: TTypeId_STRING_TYPE}},
		"geography":       {geometryType("geography"), Column{Type: TTypeId_STRING_TYPE}},
		"geometry, no":    {geometryType("other"), Column{Type: TTypeId_STRUCT_TYPE}},
		"time":            {arrow.FixedWidthTypes.Time64ns, Column{Type: TTypeId_STRING_TYPE}},
		"year-month":      {arrow.FixedWidthTypes.MonthInterval, Column{Type: TTypeId_INTERVAL_YEAR_MONTH_TYPE}},
		"day-time":        {arrow.FixedWidthTypes.Duration_us, Column{Type: TTypeId_INTERVAL_DAY_TIME_TYPE}},
		"calendar":        {arrow.FixedWidthTypes.MonthDayNanoInterval, Column{Type: TTypeId_STRING_TYPE}},
		"array":           {arrow.ListOf(micros), Column{Type: TTypeId_ARRAY_TYPE}},
		"map":             {arrow.MapOf(arrow.BinaryTypes.String, micros), Column{Type: TTypeId_MAP_TYPE}},
		"struct":          {arrow.StructOf(), Column{Type: TTypeId_STRUCT_TYPE}},
		"variant":         {variantType, Column{Type: TTypeId_STRING_TYPE}},
		"variant, unsaid": {arrow.StructOf(arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary}, arrow.Field{Name: "metadata", Type: arrow.BinaryTypes.Binary}), Column{Type: TTypeId_STRUCT_TYPE}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.want.Name = "c"
			assert.Equal(t, tc.want, ColumnOf(arrow.Field{Name: "c", Type: tc.in}))
		})
	}
}

func TestColumnOfMetadata(t *testing.T) {
	text := arrow.BinaryTypes.String
	for name, tc := range map[string]struct {
		in   arrow.DataType
		meta string
		want Column
	}{
		"comment":           {text, `{"comment":"who"}`, Column{Type: TTypeId_STRING_TYPE, Comment: "who"}},
		"char":              {text, `{"__CHAR_VARCHAR_TYPE_STRING":"char(5)"}`, Column{Type: TTypeId_CHAR_TYPE, Length: 5}},
		"varchar":           {text, `{"__CHAR_VARCHAR_TYPE_STRING":"varchar(10)","comment":"x"}`, Column{Type: TTypeId_VARCHAR_TYPE, Length: 10, Comment: "x"}},
		"upper case":        {text, `{"__CHAR_VARCHAR_TYPE_STRING":"VARCHAR(10)"}`, Column{Type: TTypeId_VARCHAR_TYPE, Length: 10}},
		"char in an array":  {arrow.ListOf(text), `{"__CHAR_VARCHAR_TYPE_STRING":"array<char(5)>"}`, Column{Type: TTypeId_ARRAY_TYPE}},
		"unknown declared":  {text, `{"__CHAR_VARCHAR_TYPE_STRING":"clob(5)"}`, Column{Type: TTypeId_STRING_TYPE}},
		"no length":         {text, `{"__CHAR_VARCHAR_TYPE_STRING":"char"}`, Column{Type: TTypeId_STRING_TYPE}},
		"length too long":   {text, `{"__CHAR_VARCHAR_TYPE_STRING":"char(99999999999)"}`, Column{Type: TTypeId_STRING_TYPE}},
		"comment no string": {text, `{"comment":{"a":1},"other":[1]}`, Column{Type: TTypeId_STRING_TYPE}},
		"no JSON":           {text, `{`, Column{Type: TTypeId_STRING_TYPE}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.want.Name = "c"
			meta := arrow.MetadataFrom(map[string]string{"SPARK::metadata::json": tc.meta})
			assert.Equal(t, tc.want, ColumnOf(arrow.Field{Name: "c", Type: tc.in, Metadata: meta}))
		})
	}
}

func TestSchemaGatesTypesByVersion(t *testing.T) {
	const first = TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V1
	for name, tc := range map[string]struct {
		in    TTypeId
		since TProtocolVersion
		older TTypeId
	}{
		"string":    {TTypeId_STRING_TYPE, first, 0},
		"decimal":   {TTypeId_DECIMAL_TYPE, first, 0},
		"binary":    {TTypeId_BINARY_TYPE, first, 0},
		"varchar":   {TTypeId_VARCHAR_TYPE, v3, TTypeId_STRING_TYPE},
		"char":      {TTypeId_CHAR_TYPE, v4, TTypeId_STRING_TYPE},
		"interval":  {TTypeId_INTERVAL_YEAR_MONTH_TYPE, v8, TTypeId_STRING_TYPE},
		"duration":  {TTypeId_INTERVAL_DAY_TIME_TYPE, v8, TTypeId_STRING_TYPE},
		"timestamp": {TTypeId_TIMESTAMPLOCALTZ_TYPE, v11, TTypeId_TIMESTAMP_TYPE},
	} {
		t.Run(name, func(t *testing.T) {
			for v := first; v <= MaxVersion; v++ {
				want := tc.in
				if v < tc.since {
					want = tc.older
				}
				desc := Schema([]Column{{Type: tc.in}}, v).Columns[0].TypeDesc
				require.Len(t, desc.Types, 1)
				assert.Equal(t, want, desc.Types[0].PrimitiveEntry.Type, v)
			}
		})
	}
}

func TestSchemaQualifiers(t *testing.T) {
	number := func(n int32) *TTypeQualifierValue { return &TTypeQualifierValue{I32Value: &n} }
	for name, tc := range map[string]struct {
		col  Column
		v    TProtocolVersion
		want map[string]*TTypeQualifierValue
	}{
		"decimal":        {Column{Type: TTypeId_DECIMAL_TYPE, Precision: 10, Scale: 2}, v6, map[string]*TTypeQualifierValue{"precision": number(10), "scale": number(2)}},
		"decimal, V3":    {Column{Type: TTypeId_DECIMAL_TYPE, Precision: 10, Scale: 2}, v3, nil},
		"char":           {Column{Type: TTypeId_CHAR_TYPE, Length: 5}, v6, map[string]*TTypeQualifierValue{"characterMaximumLength": number(5)}},
		"char, V3":       {Column{Type: TTypeId_CHAR_TYPE, Length: 5}, v3, nil},
		"varchar, V3":    {Column{Type: TTypeId_VARCHAR_TYPE, Length: 7}, v3, map[string]*TTypeQualifierValue{"characterMaximumLength": number(7)}},
		"varchar, older": {Column{Type: TTypeId_VARCHAR_TYPE, Length: 7}, v3 - 1, nil},
		"string":         {Column{Type: TTypeId_STRING_TYPE}, v6, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := Schema([]Column{tc.col}, tc.v).Columns[0].TypeDesc.Types[0].PrimitiveEntry.TypeQualifiers
			if tc.want == nil {
				assert.Nil(t, got)
				return
			}
			assert.Equal(t, tc.want, got.GetQualifiers())
		})
	}
}

func TestSchemaNamesAndPositions(t *testing.T) {
	got := Schema([]Column{{Name: "a", Comment: "first"}, {Name: "b"}}, v6).Columns
	require.Len(t, got, 2)
	assert.Equal(t, "a", got[0].ColumnName)
	assert.Equal(t, "first", got[0].GetComment())
	assert.EqualValues(t, 0, got[0].Position)
	assert.EqualValues(t, 1, got[1].Position)
	assert.True(t, got[1].IsSetComment(), "no comment is an empty one")
}

func TestNegotiateVersion(t *testing.T) {
	i64 := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		in   TOpenSessionReq
		want TProtocolVersion
	}{
		"PyHive":               {TOpenSessionReq{ClientProtocol: v6}, v6},
		"Hue":                  {TOpenSessionReq{ClientProtocol: v11}, v11},
		"later than ours":      {TOpenSessionReq{ClientProtocol: 99}, v11},
		"vendor's in field 1":  {TOpenSessionReq{ClientProtocol: 0xA508}, v10},
		"vendor's in its own":  {TOpenSessionReq{ClientProtocol: -7, ClientProtocolI64: i64(0xA508)}, v10},
		"zero beside vendor's": {TOpenSessionReq{ClientProtocol: 0, ClientProtocolI64: i64(0xA501)}, v10},
		"negative":             {TOpenSessionReq{ClientProtocol: -7}, v10},
		"first":                {TOpenSessionReq{ClientProtocol: 0}, 0},
		"none":                 {*NewTOpenSessionReq(), v10},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, NegotiateVersion(&tc.in)) })
	}
}
