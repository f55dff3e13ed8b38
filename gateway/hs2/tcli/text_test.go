package tcli

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/variant"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fromJSON builds an array from its JSON form.
func fromJSON(t testing.TB, dt arrow.DataType, text string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, dt, strings.NewReader(text))
	require.NoError(t, err)
	return a
}

func TestText(t *testing.T) {
	prim, fixed := arrow.PrimitiveTypes, arrow.FixedWidthTypes
	micros := func(zone string) arrow.DataType { return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: zone} }
	text := arrow.BinaryTypes.String
	for name, tc := range map[string]struct {
		dt     arrow.DataType
		json   string // an array of one value
		top    string
		nested string // "" when the same as top
	}{
		"boolean":                {fixed.Boolean, `[true]`, "true", ""},
		"tinyint":                {prim.Int8, `[-128]`, "-128", ""},
		"bigint":                 {prim.Int64, `[-9223372036854775808]`, "-9223372036854775808", ""},
		"unsigned":               {prim.Uint64, `[18446744073709551615]`, "18446744073709551615", ""},
		"float":                  {prim.Float32, `[0.1]`, "0.1", ""},
		"double":                 {prim.Float64, `[1e10]`, "1.0E10", ""},
		"string":                 {text, `["a\"b\n"]`, "a\"b\n", "\"a\"b\n\""},
		"large string":           {arrow.BinaryTypes.LargeString, `["x"]`, "x", `"x"`},
		"binary":                 {arrow.BinaryTypes.Binary, `["aMOk"]`, "hä", ""},
		"date":                   {fixed.Date32, `["2024-02-29"]`, "2024-02-29", ""},
		"date before the epoch":  {fixed.Date32, `["1969-12-31"]`, "1969-12-31", ""},
		"date64":                 {fixed.Date64, `["1960-01-02"]`, "1960-01-02", ""},
		"timestamp ntz":          {micros(""), `["2024-01-02 03:04:05.120000"]`, "2024-01-02 03:04:05.12", ""},
		"timestamp no fraction":  {micros(""), `["2024-01-02 03:04:05"]`, "2024-01-02 03:04:05", ""},
		"timestamp before 1970":  {micros("UTC"), `[-1]`, "1969-12-31 23:59:59.999999", ""},
		"timestamp in a zone":    {micros("Asia/Shanghai"), `[1704124800000000]`, "2024-01-02 00:00:00", ""},
		"timestamp in summer":    {micros("Europe/Paris"), `[1719792000000000]`, "2024-07-01 02:00:00", ""},
		"timestamp seconds":      {&arrow.TimestampType{Unit: arrow.Second}, `["2024-01-02 03:04:05"]`, "2024-01-02 03:04:05", ""},
		"timestamp nanos":        {&arrow.TimestampType{Unit: arrow.Nanosecond}, `["2024-01-02 03:04:05.000000001"]`, "2024-01-02 03:04:05.000000001", ""},
		"time":                   {fixed.Time64ns, `["01:02:03.004500000"]`, "01:02:03.0045", ""},
		"time, whole":            {fixed.Time32s, `["23:59:59"]`, "23:59:59", ""},
		"years":                  {fixed.MonthInterval, `[{"months":14}]`, "1-2", ""},
		"months, negative":       {fixed.MonthInterval, `[{"months":-3}]`, "-0-3", ""},
		"days and milliseconds":  {fixed.DayTimeInterval, `[{"days":1,"milliseconds":-1}]`, "0 23:59:59.999000000", ""},
		"array":                  {arrow.ListOf(prim.Int32), `[[1,null,3]]`, "[1,null,3]", ""},
		"array of shorts":        {arrow.ListOf(prim.Int16), `[[-1,2]]`, "[-1,2]", ""},
		"array of unsigned":      {arrow.ListOf(prim.Uint8), `[[1,255]]`, "[1,255]", ""},
		"array of u. shorts":     {arrow.ListOf(prim.Uint16), `[[65535]]`, "[65535]", ""},
		"array of u. integers":   {arrow.ListOf(prim.Uint32), `[[4294967295]]`, "[4294967295]", ""},
		"array, empty":           {arrow.ListOf(prim.Int32), `[[]]`, "[]", ""},
		"array of strings":       {arrow.LargeListOf(text), `[["a","b"]]`, `["a","b"]`, ""},
		"array of fixed size":    {arrow.FixedSizeListOf(2, prim.Float64), `[[1,2.5]]`, `[1.0,2.5]`, ""},
		"array of arrays":        {arrow.ListOf(arrow.ListOf(fixed.Date32)), `[[["2024-01-01"],null,[]]]`, `[[2024-01-01],null,[]]`, ""},
		"map, sorted":            {arrow.MapOf(text, prim.Int32), `[[{"key":"b","value":1},{"key":"a","value":null}]]`, `{"a":null,"b":1}`, ""},
		"map, sorted as text":    {arrow.MapOf(prim.Int32, text), `[[{"key":9,"value":"x"},{"key":10,"value":"y"}]]`, `{10:"y",9:"x"}`, ""},
		"map of maps":            {arrow.MapOf(text, arrow.MapOf(text, prim.Int8)), `[[{"key":"k","value":[{"key":"z","value":1},{"key":"y","value":2}]}]]`, `{"k":{"y":2,"z":1}}`, ""},
		"struct":                 {arrow.StructOf(arrow.Field{Name: "a", Type: prim.Int32, Nullable: true}, arrow.Field{Name: "b c", Type: text, Nullable: true}), `[{"a":1,"b c":null}]`, `{"a":1,"b c":null}`, ""},
		"struct without fields":  {arrow.StructOf(), `[{}]`, `{}`, ""},
		"array of decimals":      {arrow.ListOf(&arrow.Decimal128Type{Precision: 5, Scale: 2}), `[["1.5"]]`, `[1.50]`, ""},
		"array of nulls":         {arrow.ListOf(arrow.Null), `[[null,null]]`, `[null,null]`, ""},
		"array of not quite UTF": {arrow.ListOf(arrow.BinaryTypes.Binary), `[["Yf9i"]]`, "[a\uFFFDb]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := fromJSON(t, tc.dt, tc.json)
			require.NoError(t, checkText(tc.dt))
			assert.Equal(t, tc.top, string(newText(a, false)(nil, 0)))
			if tc.nested == "" {
				tc.nested = tc.top
			}
			assert.Equal(t, tc.nested, string(newElementText(a)(nil, 0)), "nested")
		})
	}
}

// Arrow's own conversions know no Java zone ids, and must not be on the way.
func TestTextInJavaZones(t *testing.T) {
	for zone, want := range map[string]string{
		"GMT+8": "2024-01-02 00:00:00", "PST": "2024-01-01 08:00:00", "-01:30": "2024-01-01 14:30:00", "Z": "2024-01-01 16:00:00",
	} {
		zoned := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: zone}
		plain := fromJSON(t, fixedMicros, `[1704124800000000]`).Data()
		a := array.MakeFromData(array.NewData(zoned, 1, plain.Buffers(), nil, 0, 0))
		assert.Equal(t, want, string(newText(a, false)(nil, 0)), zone)

		st := arrow.StructOf(arrow.Field{Name: "t", Type: zoned})
		within := array.MakeFromData(array.NewData(st, 1, []*memory.Buffer{nil}, []arrow.ArrayData{a.Data()}, 0, 0))
		assert.Equal(t, `{"t":`+want+`}`, string(newText(within, false)(nil, 0)), zone)
	}
}

var fixedMicros = &arrow.TimestampType{Unit: arrow.Microsecond}

func TestTextOfDates(t *testing.T) {
	for want, days := range map[string]int64{
		"1970-01-01": 0, "1969-12-31": -1, "2000-02-29": 11016, "2000-03-01": 11017, "1900-03-01": -25508,
		"0001-01-01": -719162, "0000-12-31": -719163, "0000-01-01": -719528, "-0001-12-31": -719529,
		"9999-12-31": 2932896, "+10000-01-01": 2932897,
		"+5881580-07-11": math.MaxInt32, "-5877641-06-23": math.MinInt32,
	} {
		assert.Equal(t, want, string(appendDate(nil, days)))
	}
	for days := int64(-800_000); days < 3_000_000; days += 97 {
		when := time.Unix(days*secondsPerDay, 0).UTC()
		y, m, d := civil(days)
		require.Equal(t, [3]int64{int64(when.Year()), int64(when.Month()), int64(when.Day())}, [3]int64{y, m, d}, days)
	}
}

func TestTextOfTimestampsAtTheEdges(t *testing.T) {
	utc := zoneClock{loc: time.UTC}
	for want, micros := range map[string]int64{
		"1970-01-01 00:00:00":           0,
		"1969-12-31 23:59:59.999999":    -1,
		"+294247-01-10 04:00:54.775807": math.MaxInt64,
		"-290308-12-21 19:59:05.224192": math.MinInt64,
		"+10000-01-01 00:00:00":         253402300800000000,
		"0001-01-01 00:00:00.5":         -62135596800000000 + 500000,
		"2024-01-01 00:00:00.1":         1704067200100000,
		"2024-01-01 00:00:00.000001":    1704067200000001,
		"2024-12-31 23:59:59.9":         1735689599900000,
		"-0001-12-31 00:00:00":          -719529 * secondsPerDay * 1_000_000,
		"1582-10-14 12:00:00":           -12219335999999999 - 1,
		"1900-01-01 00:00:00":           -2208988800000000,
		"2038-01-19 03:14:08":           2147483648000000,
		"0000-01-01 00:00:00":           -719528 * secondsPerDay * 1_000_000,
		"9999-12-31 23:59:59.999999":    253402300799999999,
		"1970-01-01 00:00:00.01":        10000,
		"1970-01-01 00:00:00.123456":    123456,
		"1970-01-01 00:01:00":           60000000,
		"1970-01-02 00:00:00":           86400000000,
		"1969-12-31 00:00:00":           -86400000000,
		"1969-12-30 23:59:59.999999":    -86400000001,
		"1970-01-01 23:59:59.999999":    86399999999,
		"1970-01-01 12:34:56.7":         45296700000,
		"2024-02-29 00:00:00":           1709164800000000,
		"2024-03-01 00:00:00":           1709251200000000,
		"2023-12-31 23:59:59.999":       1704067199999000,
		"1999-12-31 23:59:59":           946684799000000,
		"2000-01-01 00:00:00":           946684800000000,
		"2100-02-28 23:59:59":           4107542399000000,
		"2100-03-01 00:00:00":           4107542400000000,
	} {
		assert.Equal(t, want, string(utc.appendTimestamp(nil, micros, 1_000_000)))
	}
}

func TestZoneClockAcrossTransitions(t *testing.T) {
	for _, id := range []string{"Europe/Paris", "America/New_York", "Asia/Shanghai", "Pacific/Apia", "Asia/Kathmandu", "+05:30"} {
		loc, err := Zone(id)
		require.NoError(t, err)
		clock := zoneClock{loc: loc}
		for sec := int64(-5_000_000_000); sec < 5_000_000_000; sec += 3_000_017 {
			got := string(clock.appendTimestamp(nil, sec, 1))
			require.Equal(t, time.Unix(sec, 0).In(loc).Format("2006-01-02 15:04:05"), got, id)
		}
	}
}

func TestTextOfFloats(t *testing.T) {
	for want, f := range map[string]float64{
		"0.0": 0, "-0.0": math.Copysign(0, -1), "1.0": 1, "0.1": 0.1, "-1.5": -1.5, "0.001": 0.001, "9.99E-4": 0.000999,
		"9999999.0": 9999999, "1.0E7": 1e7, "1.2345678E7": 12345678, "1.0E-5": 1e-5, "1.7976931348623157E308": math.MaxFloat64,
		"4.9E-324": 4.9e-324, "NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1), "1.0E100": 1e100,
		"123456.789": 123456.789, "-1.0E10": -1e10,
	} {
		assert.Equal(t, want, string(appendJavaFloat(nil, f, 64)))
	}
	assert.Equal(t, "3.4028235E38", string(appendJavaFloat(nil, math.MaxFloat32, 32)))
	assert.Equal(t, "1.0E10", string(appendJavaFloat(nil, float64(float32(1e10)), 32)))
	assert.Equal(t, "0.1", string(appendJavaFloat(nil, float64(float32(0.1)), 32)))
	assert.Equal(t, "1.4E-45", string(appendJavaFloat(nil, math.SmallestNonzeroFloat32, 32)))
}

func TestWiden(t *testing.T) {
	for _, f := range []float32{0, 1, -1, 0.1, -0.1, 16777216, 16777217, 3.4028235e38, 1.1754944e-38, 0.33333334, 1e10, 123456.79} {
		want, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
		require.NoError(t, err)
		assert.Equal(t, want, widen(f), f)
	}
	assert.Equal(t, 1.4e-45, widen(math.SmallestNonzeroFloat32), "Java writes two digits where one would do")
	assert.True(t, math.IsNaN(widen(float32(math.NaN()))))
	assert.True(t, math.IsInf(widen(float32(math.Inf(-1))), -1))
	assert.True(t, math.Signbit(widen(float32(math.Copysign(0, -1)))))
}

func TestTextOfDecimals(t *testing.T) {
	for name, tc := range map[string]struct {
		unscaled string
		scale    int32
		want     string
	}{
		"zero":            {"0", 0, "0"},
		"zero, scaled":    {"0", 3, "0.000"},
		"integer":         {"-12", 0, "-12"},
		"padded":          {"5", 3, "0.005"},
		"padded by one":   {"123", 3, "0.123"},
		"negative":        {"-5", 2, "-0.05"},
		"trailing zeros":  {"12300", 2, "123.00"},
		"64 bits":         {"18446744073709551615", 4, "1844674407370955.1615"},
		"65 bits":         {"18446744073709551616", 18, "18.446744073709551616"},
		"low chunk short": {"100000000000000000000000000000000000001", 0, "100000000000000000000000000000000000001"},
		"largest":         {"99999999999999999999999999999999999999", 38, "0.99999999999999999999999999999999999999"},
		"smallest":        {"-99999999999999999999999999999999999999", 37, "-9.9999999999999999999999999999999999999"},
		"negative scale":  {"12", -3, "12000"},
		"zero neg. scale": {"0", -3, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			n, ok := new(big.Int).SetString(tc.unscaled, 10)
			require.True(t, ok)
			assert.Equal(t, tc.want, string(appendDecimal(nil, decimal128.FromBigInt(n), tc.scale)))
			if n.IsInt64() {
				assert.Equal(t, tc.want, string(appendSmallDecimal(nil, n.Int64(), tc.scale)))
			}
		})
	}
	assert.Equal(t, "-170141183460469231731687303715884105728", string(appendDecimal(nil, decimal128.New(math.MinInt64, 0), 0)))
	assert.Equal(t, "-9223372036854775808", string(appendSmallDecimal(nil, math.MinInt64, 0)))
}

func TestTextOfIntervals(t *testing.T) {
	for want, micros := range map[string]int64{
		"0 00:00:00.000000000":          0,
		"1 02:03:04.000000000":          93784000000,
		"-0 00:00:00.000001000":         -1,
		"-106751991 04:00:54.775808000": math.MinInt64,
	} {
		assert.Equal(t, want, string(appendDayTime(nil, micros, 1_000_000)))
	}
	assert.Equal(t, "-178956970-8", string(appendYearMonth(nil, math.MinInt32)))
	for want, v := range map[string]arrow.MonthDayNanoInterval{
		"0 seconds":                                     {},
		"1 years 2 months 3 days":                       {Months: 14, Days: 3},
		"-1 years -2 months 3 days":                     {Months: -14, Days: 3},
		"1 hours 2 minutes 3.5 seconds":                 {Nanoseconds: 3_723_500_000_000},
		"-1 hours -2 minutes -3.5 seconds":              {Nanoseconds: -3_723_500_000_000},
		"-0.000001 seconds":                             {Nanoseconds: -1000},
		"2562047 hours 47 minutes 16.854775807 seconds": {Nanoseconds: math.MaxInt64},
	} {
		assert.Equal(t, want, string(appendCalendar(nil, v)))
		assert.Equal(t, "x"+want, string(appendCalendar([]byte("x"), v)))
	}
}

func TestWhatIsNoUTF8IsReplacedAsInJava(t *testing.T) {
	const mark = "\uFFFD"
	for in, want := range map[string]string{
		"\xFF": mark, "\x80": mark, "\xC3": mark, "\xC3(": mark + "(", "a\xFFb": "a" + mark + "b", "\xC0\xAF": mark + mark,
		"\xE2": mark, "\xE2\x82": mark, "\xE2\x82x": mark + "x", "\xE2(\xA1": mark + "(" + mark, "\xE0\x80\x9F": mark + mark + mark,
		"\xED\xA0\x80": mark, "\xED\xBF\xBFA": mark + "A", "\xED\xA0": mark, "\xED\xA0A": mark + "A",
		"\xF0": mark, "\xF0\x9F": mark, "\xF0\x9F\x98": mark, "\xF0\x9F\x98x": mark + "x", "\xF0\x80\x80\x80": mark + mark + mark + mark,
		"\xF0(\x8C\xBC": mark + "(" + mark + mark, "\xF4\x90\x80\x80": mark + mark + mark + mark, "\xF5\x80": mark + mark,
		"\xF8\xA1\xA1\xA1\xA0": mark + mark + mark + mark + mark, "\xF0\x9F\x98\x80": "\U0001F600", mark: mark,
	} {
		assert.Equal(t, want, string(appendUTF8(nil, in)), "%x", in)
	}
}

func TestMapsSortAsJavaSortsStrings(t *testing.T) {
	assert.Negative(t, compareUTF16([]byte("a"), []byte("b")))
	assert.Negative(t, compareUTF16([]byte("a"), []byte("ab")))
	assert.Zero(t, compareUTF16([]byte("a"), []byte("a")))
	assert.Negative(t, compareUTF16([]byte("\U00010000"), []byte("\uE000")), "surrogates come before the private use area")
	assert.Negative(t, compareUTF16([]byte("\uD7FF"), []byte("\U00010000")))
	assert.Positive(t, compareUTF16([]byte("\uFFFD"), []byte("\U0010FFFF")))
}

func TestTextOfVariants(t *testing.T) {
	for name, tc := range map[string]struct {
		build func(b *variant.Builder) error
		want  string
	}{
		"null":       {func(b *variant.Builder) error { return b.AppendNull() }, `null`},
		"boolean":    {func(b *variant.Builder) error { return b.AppendBool(true) }, `true`},
		"integer":    {func(b *variant.Builder) error { return b.AppendInt(-300) }, `-300`},
		"double":     {func(b *variant.Builder) error { return b.AppendFloat64(1) }, `1.0`},
		"infinity":   {func(b *variant.Builder) error { return b.AppendFloat64(math.Inf(1)) }, `"Infinity"`},
		"string":     {func(b *variant.Builder) error { return b.AppendString("a\"\\\n\x01é") }, `"a\"\\\n\u0001é"`},
		"no string":  {func(b *variant.Builder) error { return b.AppendString("") }, `""`},
		"long text":  {func(b *variant.Builder) error { return b.AppendString(strings.Repeat("x", 100)) }, `"` + strings.Repeat("x", 100) + `"`},
		"binary":     {func(b *variant.Builder) error { return b.AppendBinary([]byte{1, 2}) }, `"AQI="`},
		"date":       {func(b *variant.Builder) error { return b.AppendDate(19723) }, `"2024-01-01"`},
		"instant":    {func(b *variant.Builder) error { return b.AppendTimestamp(1704067200500000, true, true) }, `"2024-01-01 00:00:00.5+00:00"`},
		"wall clock": {func(b *variant.Builder) error { return b.AppendTimestamp(1704067200000000, true, false) }, `"2024-01-01 00:00:00"`},
		"decimal":    {func(b *variant.Builder) error { return b.AppendDecimal4(2, 110) }, `1.1`},
		"whole":      {func(b *variant.Builder) error { return b.AppendDecimal8(2, 10000) }, `100`},
		"float":      {func(b *variant.Builder) error { return b.AppendFloat32(0.5) }, `0.5`},
		"short":      {func(b *variant.Builder) error { return b.AppendInt(-3) }, `-3`},
		"int":        {func(b *variant.Builder) error { return b.AppendInt(100_000) }, `100000`},
		"long":       {func(b *variant.Builder) error { return b.AppendInt(10_000_000_000) }, `10000000000`},
		"nanos":      {func(b *variant.Builder) error { return b.AppendTimestamp(1704067200000000001, false, true) }, `"2024-01-01 00:00:00.000000001+00:00"`},
		"nanos ntz":  {func(b *variant.Builder) error { return b.AppendTimestamp(1704067200000000001, false, false) }, `"2024-01-01 00:00:00.000000001"`},
		"time":       {func(b *variant.Builder) error { return b.AppendTimeMicro(3_600_000_000) }, `"01:00:00"`},
		"large":      {func(b *variant.Builder) error { return b.AppendDecimal16(0, decimal128.FromI64(-7)) }, `-7`},
		"uuid":       {func(b *variant.Builder) error { return b.AppendUUID(uuid.UUID{15: 1}) }, `"00000000-0000-0000-0000-000000000001"`},
		"nested": {func(b *variant.Builder) error {
			return b.Append(map[string]any{"b": []any{int8(1), nil, "x"}, "a": map[string]any{}})
		}, `{"a":{},"b":[1,null,"x"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			var b variant.Builder
			require.NoError(t, tc.build(&b))
			v, err := b.Build()
			require.NoError(t, err)
			a := variantArray(t, v.Bytes(), v.Metadata().Bytes())
			assert.Equal(t, tc.want, string(newText(a, false)(nil, 0)))
		})
	}
	empty := []byte{0x01, 0x00, 0x00}
	long := variantArray(t, []byte{0x40, 0, 0, 0, 0}, empty)
	assert.Equal(t, `""`, string(newText(long, false)(nil, 0)), "an empty string in the long form")
	bad := variantArray(t, []byte{0xff, 0xff}, empty)
	assert.Equal(t, `"unreadable variant"`, string(newText(bad, false)(nil, 0)))
}

func variantArray(t *testing.T, value, meta []byte) arrow.Array {
	t.Helper()
	b := array.NewStructBuilder(memory.DefaultAllocator, variantType)
	b.Append(true)
	b.FieldBuilder(0).(*array.BinaryBuilder).Append(value)
	b.FieldBuilder(1).(*array.BinaryBuilder).Append(meta)
	return b.NewArray()
}

func TestCheckColumns(t *testing.T) {
	zoned := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Mars/Olympus"}
	for name, tc := range map[string]struct {
		declared TTypeId
		dt       arrow.DataType
		want     string // "" for no error
	}{
		"same":              {TTypeId_INT_TYPE, arrow.PrimitiveTypes.Int32, ""},
		"wider":             {TTypeId_BIGINT_TYPE, arrow.PrimitiveTypes.Int32, ""},
		"null":              {TTypeId_BIGINT_TYPE, arrow.Null, ""},
		"as text":           {TTypeId_STRING_TYPE, arrow.PrimitiveTypes.Int32, ""},
		"narrower":          {TTypeId_INT_TYPE, arrow.PrimitiveTypes.Int64, "column 1 (c): the Arrow type int64 does not fit the declared type"},
		"text for a number": {TTypeId_INT_TYPE, arrow.BinaryTypes.String, "column 1 (c): the Arrow type utf8 does not fit the declared type"},
		"boolean":           {TTypeId_BOOLEAN_TYPE, arrow.PrimitiveTypes.Int8, "column 1 (c): the Arrow type int8 does not fit the declared type"},
		"double":            {TTypeId_DOUBLE_TYPE, arrow.PrimitiveTypes.Int8, "column 1 (c): the Arrow type int8 does not fit the declared type"},
		"binary":            {TTypeId_BINARY_TYPE, arrow.PrimitiveTypes.Int8, "column 1 (c): the Arrow type int8 does not fit the declared type"},
		"unknown type":      {TTypeId_STRING_TYPE, arrow.FixedWidthTypes.Float16, "column 1 (c): the Arrow type float16 is not supported"},
		"unknown zone":      {TTypeId_TIMESTAMP_TYPE, zoned, `column 1 (c): time zone "Mars/Olympus": unknown time zone Mars/Olympus`},
		"zone within":       {TTypeId_STRUCT_TYPE, arrow.StructOf(arrow.Field{Name: "f", Type: arrow.ListOf(arrow.MapOf(arrow.BinaryTypes.String, zoned))}), `column 1 (c): field f: time zone "Mars/Olympus": unknown time zone Mars/Olympus`},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckColumns([]Column{{Name: "c", Type: tc.declared}}, arrow.NewSchema([]arrow.Field{{Name: "c", Type: tc.dt}}, nil))
			if tc.want == "" {
				assert.NoError(t, err)
				return
			}
			assert.EqualError(t, err, tc.want)
		})
	}
	assert.Error(t, CheckColumns(nil, arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.Null}}, nil)))
}
