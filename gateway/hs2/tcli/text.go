package tcli

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// textFunc appends the text of row i, which is not null, the way Spark's Thrift server prints it. It allocates
// nothing per row beyond what dst needs, remembers things between rows (a zone's offset, room to sort a map in), and
// so serves one goroutine.
type textFunc func(dst []byte, i int) []byte

// newText picks the text form of an array's values. Whatever is fixed for a column, its time zone above all, is
// resolved here and not per row. Inside of arrays, maps and structs (nested), strings are quoted.
//
// It panics for a type or a zone that CheckColumns refuses.
func newText(a arrow.Array, nested bool) textFunc {
	switch a := a.(type) {
	case *array.Null:
		return func(dst []byte, _ int) []byte { return append(dst, "null"...) }
	case *array.Boolean:
		return func(dst []byte, i int) []byte { return strconv.AppendBool(dst, a.Value(i)) }
	case *array.String:
		return newString(a, nested)
	case *array.LargeString:
		return newString(a, nested)
	case *array.Binary:
		return newString(a, false)
	case *array.LargeBinary:
		return newString(a, false)
	case *array.Decimal32:
		scale := scaleOf(a)
		return func(dst []byte, i int) []byte { return appendSmallDecimal(dst, int64(a.Value(i)), scale) }
	case *array.Decimal64:
		scale := scaleOf(a)
		return func(dst []byte, i int) []byte { return appendSmallDecimal(dst, int64(a.Value(i)), scale) }
	case *array.Decimal128:
		scale := scaleOf(a)
		return func(dst []byte, i int) []byte { return appendDecimal(dst, a.Value(i), scale) }
	case *array.Decimal256:
		scale := scaleOf(a)
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i).ToString(scale)...) }
	}
	if f := newNumberText(a); f != nil {
		return f
	}
	if f := newTimeText(a); f != nil {
		return f
	}
	if f := newNestedText(a, nested); f != nil {
		return f
	}
	panic(fmt.Errorf("tcli: no text form for Arrow type %s", a.DataType()))
}

func scaleOf(a arrow.Array) int32 {
	return a.DataType().(arrow.DecimalType).GetScale()
}

// newNumberText serves numbers inside of other values, and top-level ones whose column is declared a STRING.
func newNumberText(a arrow.Array) textFunc {
	switch a := a.(type) {
	case *array.Int8:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }
	case *array.Int16:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }
	case *array.Int32:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }
	case *array.Int64:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, a.Value(i), 10) }
	case *array.Uint8:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, uint64(a.Value(i)), 10) }
	case *array.Uint16:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, uint64(a.Value(i)), 10) }
	case *array.Uint32:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, uint64(a.Value(i)), 10) }
	case *array.Uint64:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, a.Value(i), 10) }
	case *array.Float32:
		return func(dst []byte, i int) []byte { return appendJavaFloat(dst, float64(a.Value(i)), 32) }
	case *array.Float64:
		return func(dst []byte, i int) []byte { return appendJavaFloat(dst, a.Value(i), 64) }
	default:
		return nil
	}
}

// newTimeText serves dates, times, timestamps and intervals.
func newTimeText(a arrow.Array) textFunc {
	switch a := a.(type) {
	case *array.Date32:
		return func(dst []byte, i int) []byte { return appendDate(dst, int64(a.Value(i))) }
	case *array.Date64:
		return func(dst []byte, i int) []byte {
			days, _ := floorDiv(int64(a.Value(i)), secondsPerDay*1000)
			return appendDate(dst, days)
		}
	case *array.Timestamp:
		return newTimestampText(a)
	case *array.Time32:
		per := unitsPerSecond(a.DataType().(*arrow.Time32Type).Unit)
		return func(dst []byte, i int) []byte { return appendTime(dst, int64(a.Value(i)), per) }
	case *array.Time64:
		per := unitsPerSecond(a.DataType().(*arrow.Time64Type).Unit)
		return func(dst []byte, i int) []byte { return appendTime(dst, int64(a.Value(i)), per) }
	case *array.MonthInterval:
		return func(dst []byte, i int) []byte { return appendYearMonth(dst, int64(a.Value(i))) }
	case *array.Duration:
		per := unitsPerSecond(a.DataType().(*arrow.DurationType).Unit)
		return func(dst []byte, i int) []byte { return appendDayTime(dst, int64(a.Value(i)), per) }
	case *array.DayTimeInterval:
		return func(dst []byte, i int) []byte {
			v := a.Value(i)
			return appendDayTime(dst, int64(v.Days)*secondsPerDay*1000+int64(v.Milliseconds), 1000)
		}
	case *array.MonthDayNanoInterval:
		return func(dst []byte, i int) []byte { return appendCalendar(dst, a.Value(i)) }
	default:
		return nil
	}
}

// newTimestampText renders in the zone that the Arrow type names, or as it stands where it names none.
func newTimestampText(a *array.Timestamp) textFunc {
	t := a.DataType().(*arrow.TimestampType)
	var clock zoneClock
	if t.TimeZone != "" {
		loc, err := Zone(t.TimeZone)
		if err != nil {
			panic(fmt.Errorf("tcli: %w", err))
		}
		clock.loc = loc
	}
	per := unitsPerSecond(t.Unit)
	return func(dst []byte, i int) []byte { return clock.appendTimestamp(dst, int64(a.Value(i)), per) }
}

// appendTime writes HH:mm:ss and the fraction, if any.
func appendTime(dst []byte, v, perSecond int64) []byte {
	sec, frac := floorDiv(v, perSecond)
	return appendFraction(appendClock(dst, sec), frac*(nanosPerSec/perSecond))
}

// byteArray is what the four string-like arrays have in common. Value's type differs, hence the parameter.
type byteArray[T string | []byte] interface {
	arrow.Array
	Value(i int) T
}

// newString renders strings, and binary values as the UTF-8 text Spark takes them for. Quotes inside of a quoted
// string are not escaped: Spark does not, either.
func newString[T string | []byte](a byteArray[T], quoted bool) textFunc {
	if !quoted {
		return func(dst []byte, i int) []byte { return appendUTF8(dst, a.Value(i)) }
	}
	return func(dst []byte, i int) []byte {
		return append(appendUTF8(append(dst, '"'), a.Value(i)), '"')
	}
}

// appendUTF8 appends text with what is not UTF-8 replaced by U+FFFD: Python clients give up on a string that does not
// decode.
func appendUTF8[T string | []byte](dst []byte, s T) []byte {
	start := len(dst)
	dst = append(dst, s...)
	if utf8.Valid(dst[start:]) {
		return dst
	}
	dst = dst[:start]
	for rest := []byte(s); len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			n = broken(rest)
		}
		dst, rest = utf8.AppendRune(dst, r), rest[n:]
	}
	return dst
}

// broken says how many bytes at the start of s, where no character of UTF-8 stands, are replaced as one. It is what
// Java does: as many as could have begun a character, and all three of a surrogate.
func broken(s []byte) int {
	goesOn := func(i int) bool { return i < len(s) && s[i]&0xC0 == 0x80 }
	switch first := s[0]; {
	case first < 0xE0 || first > 0xF4 || !goesOn(1):
		return 1
	case first == 0xE0 && s[1] < 0xA0 || first == 0xF0 && s[1] < 0x90 || first == 0xF4 && s[1] >= 0x90:
		return 1 // too small or too large for its length
	case !goesOn(2) || first < 0xF0 && first != 0xED:
		return 2
	default:
		return 3
	}
}

// CheckColumns tells whether rows of schema s can be encoded as the columns described. A front end asks once per
// result, before its first AppendRowSet: the types come from an engine, and one of a later version may send what is
// not known here.
func CheckColumns(cols []Column, s *arrow.Schema) error {
	if len(cols) != s.NumFields() {
		return fmt.Errorf("result has %d columns, its description %d", s.NumFields(), len(cols))
	}
	for i, c := range cols {
		if err := checkMember(memberOf(c.Type), s.Field(i).Type); err != nil {
			return fmt.Errorf("column %d (%s): %w", i+1, c.Name, err)
		}
	}
	return nil
}

// checkText tells whether newText knows the type, those within it and their zones.
func checkText(t arrow.DataType) error {
	switch t := t.(type) {
	case *arrow.TimestampType:
		if t.TimeZone == "" {
			return nil
		}
		_, err := Zone(t.TimeZone)
		return err
	case *arrow.StructType:
		for _, f := range t.Fields() {
			if err := checkText(f.Type); err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
		return nil
	case *arrow.MapType:
		if err := checkText(t.KeyType()); err != nil {
			return err
		}
		return checkText(t.ItemType())
	case *arrow.ListType, *arrow.LargeListType, *arrow.FixedSizeListType:
		return checkText(t.(arrow.ListLikeType).Elem())
	}
	if slices.Contains(plainTypes, t.ID()) {
		return nil
	}
	return fmt.Errorf("the Arrow type %s is not supported", t)
}

// plainTypes are the types newText knows that have no parts and no zone.
var plainTypes = []arrow.Type{
	arrow.NULL, arrow.BOOL, arrow.STRING, arrow.LARGE_STRING, arrow.BINARY, arrow.LARGE_BINARY,
	arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
	arrow.FLOAT32, arrow.FLOAT64, arrow.DECIMAL32, arrow.DECIMAL64, arrow.DECIMAL128, arrow.DECIMAL256,
	arrow.DATE32, arrow.DATE64, arrow.TIME32, arrow.TIME64, arrow.DURATION,
	arrow.INTERVAL_MONTHS, arrow.INTERVAL_DAY_TIME, arrow.INTERVAL_MONTH_DAY_NANO,
}
