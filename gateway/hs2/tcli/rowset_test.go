package tcli

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// decode reads a row set with the generated code, and all of it.
func decode(t testing.TB, encoded []byte) *TRowSet {
	t.Helper()
	buf := thrift.NewTMemoryBufferLen(len(encoded))
	buf.Write(encoded)
	rs := NewTRowSet()
	require.NoError(t, rs.Read(context.Background(), thrift.NewTBinaryProtocolConf(buf, nil)))
	require.Zero(t, buf.Len(), "bytes after the row set")
	return rs
}

// batch makes a record batch of unnamed columns.
func batch(t testing.TB, columns ...arrow.Array) arrow.RecordBatch {
	t.Helper()
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Type: c.DataType(), Nullable: true}
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, int64(columns[0].Len()))
}

// columnsOf describes the columns of a batch.
func columnsOf(b arrow.RecordBatch) []Column {
	cols := make([]Column, b.NumCols())
	for i := range cols {
		cols[i] = ColumnOf(b.Schema().Field(i))
	}
	return cols
}

var rowSetTypes = map[string]struct {
	dt   arrow.DataType
	json string   // a null in second place
	col  TColumn  // what V6 holds
	rows []string // what V5 holds, as text; "" for the null
}{
	"boolean":        {arrow.FixedWidthTypes.Boolean, `[true,null,false]`, TColumn{BoolVal: &TBoolColumn{Values: []bool{true, false, false}, Nulls: []byte{2}}}, []string{"true", "", "false"}},
	"tinyint":        {arrow.PrimitiveTypes.Int8, `[-128,null,127]`, TColumn{ByteVal: &TByteColumn{Values: []int8{-128, 0, 127}, Nulls: []byte{2}}}, []string{"-128", "", "127"}},
	"smallint":       {arrow.PrimitiveTypes.Int16, `[-32768,null,32767]`, TColumn{I16Val: &TI16Column{Values: []int16{-32768, 0, 32767}, Nulls: []byte{2}}}, []string{"-32768", "", "32767"}},
	"int":            {arrow.PrimitiveTypes.Int32, `[-2147483648,null,7]`, TColumn{I32Val: &TI32Column{Values: []int32{math.MinInt32, 0, 7}, Nulls: []byte{2}}}, []string{"-2147483648", "", "7"}},
	"bigint":         {arrow.PrimitiveTypes.Int64, `[-9223372036854775808,null,7]`, TColumn{I64Val: &TI64Column{Values: []int64{math.MinInt64, 0, 7}, Nulls: []byte{2}}}, []string{"-9223372036854775808", "", "7"}},
	"unsigned":       {arrow.PrimitiveTypes.Uint8, `[255,null,0]`, TColumn{I16Val: &TI16Column{Values: []int16{255, 0, 0}, Nulls: []byte{2}}}, []string{"255", "", "0"}},
	"unsigned short": {arrow.PrimitiveTypes.Uint16, `[65535,null,0]`, TColumn{I32Val: &TI32Column{Values: []int32{65535, 0, 0}, Nulls: []byte{2}}}, []string{"65535", "", "0"}},
	"unsigned int":   {arrow.PrimitiveTypes.Uint32, `[4294967295,null,0]`, TColumn{I64Val: &TI64Column{Values: []int64{4294967295, 0, 0}, Nulls: []byte{2}}}, []string{"4294967295", "", "0"}},
	"unsigned long":  {arrow.PrimitiveTypes.Uint64, `[18446744073709551615,null,0]`, texts("18446744073709551615", "", "0"), []string{"18446744073709551615", "", "0"}},
	"decimal18":      {&arrow.Decimal64Type{Precision: 18, Scale: 1}, `["1.5",null,"-3"]`, texts("1.5", "", "-3.0"), []string{"1.5", "", "-3.0"}},
	"large binary":   {arrow.BinaryTypes.LargeBinary, `["/w==",null,"YQ=="]`, TColumn{BinaryVal: &TBinaryColumn{Values: [][]byte{{0xff}, {}, {'a'}}, Nulls: []byte{2}}}, []string{"\uFFFD", "", "a"}},
	"day-time":       {arrow.FixedWidthTypes.Duration_s, `[60,null,-1]`, texts("0 00:01:00.000000000", "", "-0 00:00:01.000000000"), []string{"0 00:01:00.000000000", "", "-0 00:00:01.000000000"}},
	"calendar":       {arrow.FixedWidthTypes.MonthDayNanoInterval, `[{"months":1,"days":0,"nanoseconds":0},null,{"months":0,"days":2,"nanoseconds":0}]`, texts("1 months", "", "2 days"), []string{"1 months", "", "2 days"}},
	"float":          {arrow.PrimitiveTypes.Float32, `[0.1,null,2]`, TColumn{DoubleVal: &TDoubleColumn{Values: []float64{0.1, 0, 2}, Nulls: []byte{2}}}, []string{"0.1", "", "2"}},
	"double":         {arrow.PrimitiveTypes.Float64, `[0.1,null,-1e300]`, TColumn{DoubleVal: &TDoubleColumn{Values: []float64{0.1, 0, -1e300}, Nulls: []byte{2}}}, []string{"0.1", "", "-1e+300"}},
	"string":         {arrow.BinaryTypes.String, `["ä",null,""]`, texts("ä", "", ""), []string{"ä", "", ""}},
	"large":          {arrow.BinaryTypes.LargeString, `["ä",null,"x"]`, texts("ä", "", "x"), []string{"ä", "", "x"}},
	"binary":         {arrow.BinaryTypes.Binary, `["/w==",null,"YQ=="]`, TColumn{BinaryVal: &TBinaryColumn{Values: [][]byte{{0xff}, {}, {'a'}}, Nulls: []byte{2}}}, []string{"\uFFFD", "", "a"}},
	"decimal":        {&arrow.Decimal128Type{Precision: 10, Scale: 2}, `["1.50",null,"-3"]`, texts("1.50", "", "-3.00"), []string{"1.50", "", "-3.00"}},
	"decimal9":       {&arrow.Decimal32Type{Precision: 9, Scale: 2}, `["1.50",null,"-3"]`, texts("1.50", "", "-3.00"), []string{"1.50", "", "-3.00"}},
	"decimal76": {&arrow.Decimal256Type{Precision: 76, Scale: 2}, `["1.50",null,"-3"]`, texts("1.50", "", "-3.00"),
		[]string{"1.50", "", "-3.00"}},
	"date":       {arrow.FixedWidthTypes.Date32, `["2024-01-01",null,"1960-01-01"]`, texts("2024-01-01", "", "1960-01-01"), []string{"2024-01-01", "", "1960-01-01"}},
	"timestamp":  {arrow.FixedWidthTypes.Timestamp_us, `[1,null,0]`, texts("1970-01-01 00:00:00.000001", "", "1970-01-01 00:00:00"), []string{"1970-01-01 00:00:00.000001", "", "1970-01-01 00:00:00"}},
	"year-month": {arrow.FixedWidthTypes.MonthInterval, `[{"months":-13},null,{"months":0}]`, texts("-1-1", "", "0-0"), []string{"-1-1", "", "0-0"}},
	"array":      {arrow.ListOf(arrow.BinaryTypes.String), `[["a",null],null,[]]`, texts(`["a",null]`, "", `[]`), []string{`["a",null]`, "", `[]`}},
	"map":        {arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int8), `[[{"key":"b","value":1},{"key":"a","value":2}],null,[]]`, texts(`{"a":2,"b":1}`, "", `{}`), []string{`{"a":2,"b":1}`, "", `{}`}},
	"struct":     {arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int8, Nullable: true}), `[{"a":1},null,{"a":null}]`, texts(`{"a":1}`, "", `{"a":null}`), []string{`{"a":1}`, "", `{"a":null}`}},
}

// texts is a string column whose second value of three is null.
func texts(values ...string) TColumn {
	return TColumn{StringVal: &TStringColumn{Values: values, Nulls: []byte{2}}}
}

func TestAppendRowSetColumns(t *testing.T) {
	for name, tc := range rowSetTypes {
		t.Run(name, func(t *testing.T) {
			b := batch(t, fromJSON(t, tc.dt, tc.json))
			cols := columnsOf(b)
			require.NoError(t, CheckColumns(cols, b.Schema()))
			prefix := []byte("before")
			got := AppendRowSet(prefix, v6, 42, cols, []arrow.RecordBatch{b})
			require.Equal(t, "before", string(got[:6]))
			rs := decode(t, got[6:])
			assert.EqualValues(t, 42, rs.StartRowOffset)
			assert.NotNil(t, rs.Rows)
			assert.Empty(t, rs.Rows)
			assert.Equal(t, []*TColumn{&tc.col}, rs.Columns)
			assert.False(t, rs.IsSetBinaryColumns())
		})
	}
}

func TestAppendRowSetRows(t *testing.T) {
	for name, tc := range rowSetTypes {
		t.Run(name, func(t *testing.T) {
			b := batch(t, fromJSON(t, tc.dt, tc.json))
			rs := decode(t, AppendRowSet(nil, v6-1, 7, columnsOf(b), []arrow.RecordBatch{b, b.NewSlice(2, 3)}))
			assert.EqualValues(t, 7, rs.StartRowOffset)
			assert.False(t, rs.IsSetColumns())
			require.Len(t, rs.Rows, 4)
			for i, want := range append(tc.rows, tc.rows[2]) {
				require.Len(t, rs.Rows[i].ColVals, 1)
				got, null := cellText(rs.Rows[i].ColVals[0])
				assert.Equal(t, i == 1, null, "null")
				assert.Equal(t, want, got)
			}
		})
	}
}

// cellText is the value of a TColumnValue and whether it is null.
func cellText(v *TColumnValue) (string, bool) {
	of := func(set bool, text string) (string, bool) {
		if !set {
			return "", true
		}
		return text, false
	}
	switch {
	case v.BoolVal != nil:
		return of(v.BoolVal.IsSetValue(), fmt.Sprint(v.BoolVal.GetValue()))
	case v.ByteVal != nil:
		return of(v.ByteVal.IsSetValue(), fmt.Sprint(v.ByteVal.GetValue()))
	case v.I16Val != nil:
		return of(v.I16Val.IsSetValue(), fmt.Sprint(v.I16Val.GetValue()))
	case v.I32Val != nil:
		return of(v.I32Val.IsSetValue(), fmt.Sprint(v.I32Val.GetValue()))
	case v.I64Val != nil:
		return of(v.I64Val.IsSetValue(), fmt.Sprint(v.I64Val.GetValue()))
	case v.DoubleVal != nil:
		return of(v.DoubleVal.IsSetValue(), fmt.Sprint(v.DoubleVal.GetValue()))
	default:
		return of(v.StringVal.IsSetValue(), v.StringVal.GetValue())
	}
}

// The same values, cut into slices with and without an offset, encode to the same bytes.
func TestAppendRowSetDoesNotSeeTheCuts(t *testing.T) {
	for name, tc := range rowSetTypes {
		t.Run(name, func(t *testing.T) {
			inner := tc.json[1 : len(tc.json)-1]
			whole := batch(t, fromJSON(t, tc.dt, "["+strings.Repeat(inner+",", 6)+inner+"]"))
			cols := columnsOf(whole)
			n := whole.NumRows()
			for _, v := range []TProtocolVersion{v6 - 1, v6} {
				want := AppendRowSet(nil, v, 0, cols, []arrow.RecordBatch{whole})
				for cut := int64(0); cut <= n; cut++ {
					second := whole.NewSlice(cut, n)
					parts := []arrow.RecordBatch{whole.NewSlice(0, cut), second.NewSlice(0, (n-cut)/2), second.NewSlice((n-cut)/2, n-cut)}
					require.Equal(t, want, AppendRowSet(nil, v, 0, cols, parts), "cut at %d", cut)
				}
			}
		})
	}
}

func TestNullBitmap(t *testing.T) {
	for n, size := range map[int]int{0: 0, 1: 1, 7: 1, 8: 1, 9: 2, 16: 2, 17: 3} {
		b := array.NewInt32Builder(memory.DefaultAllocator)
		for i := range n {
			if i == 0 || i == n-1 {
				b.AppendNull()
			} else {
				b.Append(int32(i))
			}
		}
		want := make([]byte, size)
		if n > 0 {
			want[0] |= 1
			want[(n-1)/8] |= 1 << ((n - 1) % 8)
		}
		rb := batch(t, b.NewArray())
		dirty := append(make([]byte, 0, 4096), 'x')
		for i := range cap(dirty) {
			dirty[:cap(dirty)][i] = 0xff
		}
		rs := decode(t, AppendRowSet(dirty, v6, 0, columnsOf(rb), []arrow.RecordBatch{rb})[1:])
		got := rs.Columns[0].I32Val
		assert.Len(t, got.Values, n)
		assert.Equal(t, want, append([]byte{}, got.Nulls...), "%d rows", n)
	}
}

func TestAppendRowSetWithoutRows(t *testing.T) {
	cols := []Column{{Type: TTypeId_BIGINT_TYPE}, {Type: TTypeId_STRING_TYPE}, {Type: TTypeId_BINARY_TYPE}, {Type: TTypeId_NULL_TYPE}}
	empty := batch(t, fromJSON(t, arrow.PrimitiveTypes.Int64, `[]`), fromJSON(t, arrow.BinaryTypes.String, `[]`),
		fromJSON(t, arrow.BinaryTypes.Binary, `[]`), array.NewNull(0))
	for name, batches := range map[string][]arrow.RecordBatch{"no batches": nil, "empty batches": {empty, empty}} {
		t.Run(name, func(t *testing.T) {
			rs := decode(t, AppendRowSet(nil, v6, 0, cols, batches))
			require.Len(t, rs.Columns, 4)
			assert.NotNil(t, rs.Columns[0].I64Val)
			assert.NotNil(t, rs.Columns[1].StringVal)
			assert.NotNil(t, rs.Columns[2].BinaryVal)
			assert.Empty(t, rs.Columns[3].StringVal.Values)
			old := decode(t, AppendRowSet(nil, v6-1, 0, cols, batches))
			assert.Empty(t, old.Rows)
			assert.False(t, old.IsSetColumns())
		})
	}
}

func TestAppendRowSetOfNulls(t *testing.T) {
	b := batch(t, array.NewNull(9), array.NewNull(9))
	cols := []Column{{Type: TTypeId_NULL_TYPE}, {Type: TTypeId_SMALLINT_TYPE}}
	rs := decode(t, AppendRowSet(nil, v6, 0, cols, []arrow.RecordBatch{b}))
	assert.Equal(t, &TStringColumn{Values: make([]string, 9), Nulls: []byte{0xff, 1}}, rs.Columns[0].StringVal)
	assert.Equal(t, &TI16Column{Values: make([]int16, 9), Nulls: []byte{0xff, 1}}, rs.Columns[1].I16Val)
	old := decode(t, AppendRowSet(nil, v6-1, 0, cols, []arrow.RecordBatch{b}))
	require.Len(t, old.Rows, 9)
	assert.False(t, old.Rows[8].ColVals[0].StringVal.IsSetValue())
	assert.False(t, old.Rows[8].ColVals[1].I16Val.IsSetValue())
}

// What an engine left in the place of a null is nobody's business.
func TestNullSlotsAreBlank(t *testing.T) {
	ints := array.NewInt32Builder(memory.DefaultAllocator)
	ints.AppendValues([]int32{1, 99, 3}, []bool{true, false, true})
	data := array.NewData(arrow.BinaryTypes.String, 3, []*memory.Buffer{
		memory.NewBufferBytes([]byte{0b101}),
		memory.NewBufferBytes(arrow.Int32Traits.CastToBytes([]int32{0, 1, 7, 8})),
		memory.NewBufferBytes([]byte("asecretb")),
	}, nil, 1, 0)
	b := batch(t, ints.NewArray(), array.NewStringData(data))
	rs := decode(t, AppendRowSet(nil, v6, 0, columnsOf(b), []arrow.RecordBatch{b}))
	assert.Equal(t, []int32{1, 0, 3}, rs.Columns[0].I32Val.Values)
	assert.Equal(t, []string{"a", "", "b"}, rs.Columns[1].StringVal.Values)
}

func TestStringsAreUTF8(t *testing.T) {
	for name, tc := range map[string]struct{ in, want []string }{
		"valid":             {[]string{"a", "ä€😀", ""}, []string{"a", "ä€😀", ""}},
		"a lone byte":       {[]string{"a\xffb", "c"}, []string{"a\uFFFDb", "c"}},
		"cut character":     {[]string{"\xe2\x82", "x"}, []string{"\uFFFD", "x"}},
		"split across rows": {[]string{"a\xc3", "\xa4b"}, []string{"a\uFFFD", "\uFFFDb"}},
		"split at the end":  {[]string{"x", "\xc3", "\xa4"}, []string{"x", "\uFFFD", "\uFFFD"}},
		"surrogate":         {[]string{"\xed\xa0\x80"}, []string{"\uFFFD"}},
	} {
		t.Run(name, func(t *testing.T) {
			sb := array.NewStringBuilder(memory.DefaultAllocator)
			sb.AppendValues(tc.in, nil)
			b := batch(t, sb.NewArray())
			rs := decode(t, AppendRowSet(nil, v6, 0, columnsOf(b), []arrow.RecordBatch{b}))
			assert.Equal(t, tc.want, rs.Columns[0].StringVal.Values)
		})
	}
}

func TestDeclaredTypeDecidesTheMember(t *testing.T) {
	b := batch(t, fromJSON(t, arrow.PrimitiveTypes.Int32, `[5]`), fromJSON(t, arrow.PrimitiveTypes.Int32, `[-5]`),
		fromJSON(t, arrow.BinaryTypes.String, `["x"]`), fromJSON(t, arrow.BinaryTypes.Binary, `["eA=="]`))
	cols := []Column{{Type: TTypeId_STRING_TYPE}, {Type: TTypeId_BIGINT_TYPE}, {Type: TTypeId_BINARY_TYPE}, {Type: TTypeId_STRING_TYPE}}
	require.NoError(t, CheckColumns(cols, b.Schema()))
	rs := decode(t, AppendRowSet(nil, v6, 0, cols, []arrow.RecordBatch{b}))
	assert.Equal(t, []string{"5"}, rs.Columns[0].StringVal.Values)
	assert.Equal(t, []int64{-5}, rs.Columns[1].I64Val.Values)
	assert.Equal(t, [][]byte{[]byte("x")}, rs.Columns[2].BinaryVal.Values)
	assert.Equal(t, []string{"x"}, rs.Columns[3].StringVal.Values)

	for _, v := range []TProtocolVersion{v6 - 1, v6} {
		assert.Panics(t, func() {
			AppendRowSet(nil, v, 0, []Column{{Type: TTypeId_INT_TYPE}}, []arrow.RecordBatch{batch(t, b.Column(2))})
		}, "a column CheckColumns refuses")
	}
}

func TestRowSetSize(t *testing.T) {
	for name, tc := range rowSetTypes {
		t.Run(name, func(t *testing.T) {
			inner := tc.json[1 : len(tc.json)-1]
			b := batch(t, fromJSON(t, tc.dt, "["+strings.Repeat(inner+",", 19)+inner+"]"))
			cols := columnsOf(b)
			n := int(b.NumRows())
			last := 0
			for to := range n + 1 {
				size := RowSetSize(cols, b, 0, to)
				require.GreaterOrEqual(t, size, last, "grows with the rows")
				last = size
			}
			real := len(AppendRowSet(nil, v6, 0, cols, []arrow.RecordBatch{b}))
			assert.LessOrEqual(t, real, last+64)
			assert.Less(t, last, 12*real, "estimate %d of %d", last, real)
			part := b.NewSlice(3, int64(n))
			assert.Equal(t, RowSetSize(cols, b, 5, 11), RowSetSize(cols, part, 2, 8), "a slice costs what its rows cost")
		})
	}
}
