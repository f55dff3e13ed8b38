package tcli

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/parquet/variant"
	"github.com/google/uuid"
)

// isVariant tells Spark's VARIANT from other structs: a struct of two binary fields, value and metadata, the latter
// marked in its Arrow metadata.
func isVariant(t arrow.DataType) bool {
	st, ok := t.(*arrow.StructType)
	if !ok {
		return false
	}
	meta, ok := st.FieldByName("metadata")
	if !ok {
		return false
	}
	mark, _ := meta.Metadata.GetValue("variant")
	value, ok := st.FieldByName("value")
	return ok && mark == "true" && meta.Type.ID() == arrow.BINARY && value.Type.ID() == arrow.BINARY
}

// unreadable stands for bytes that are no variant known here: a row's text cannot report an error, one bad value must
// not hide the others, and null would be a lie.
const unreadable = `"unreadable variant"`

// newVariantText renders variants as JSON, timestamps in UTC as Spark prints a VARIANT.
func newVariantText(a *array.Struct) textFunc {
	t := a.DataType().(*arrow.StructType)
	at := func(name string) *array.Binary {
		i, _ := t.FieldIdx(name)
		return a.Field(i).(*array.Binary)
	}
	values, metas := at("value"), at("metadata")
	return func(dst []byte, i int) []byte {
		v, err := variant.New(metas.Value(i), values.Value(i))
		if err != nil {
			return append(dst, unreadable...)
		}
		return appendVariant(dst, v)
	}
}

// appendVariant writes a variant as JSON.
func appendVariant(dst []byte, v variant.Value) []byte {
	switch v.Type() {
	case variant.Object:
		return appendVariantObject(dst, v.Value().(variant.ObjectValue))
	case variant.Array:
		dst = append(dst, '[')
		sep := false
		for e := range v.Value().(variant.ArrayValue).Values() {
			if sep {
				dst = append(dst, ',')
			}
			dst, sep = appendVariant(dst, e), true
		}
		return append(dst, ']')
	case variant.String:
		return appendJSONString(dst, variantString(v))
	case variant.TimestampMicros, variant.TimestampMicrosNTZ, variant.TimestampNanos, variant.TimestampNanosNTZ:
		return appendVariantTimestamp(dst, v)
	default:
		return appendVariantScalar(dst, v.Value())
	}
}

func appendVariantObject(dst []byte, o variant.ObjectValue) []byte {
	dst = append(dst, '{')
	sep := false
	for key, field := range o.Values() {
		if sep {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, key), ':')
		dst, sep = appendVariant(dst, field), true
	}
	return append(dst, '}')
}

// variantString guards against an empty string in the long form, one byte of type and four of length: the library
// takes the address of its first byte.
func variantString(v variant.Value) string {
	const header = 5
	if v.BasicType() == variant.BasicPrimitive && len(v.Bytes()) == header {
		return ""
	}
	return v.Value().(string)
}

// appendVariantTimestamp writes a quoted timestamp, with the offset of UTC where the value is an instant.
func appendVariantTimestamp(dst []byte, v variant.Value) []byte {
	per, zone := int64(1_000_000), ""
	switch v.Type() {
	case variant.TimestampMicros:
		zone = "+00:00"
	case variant.TimestampNanos:
		per, zone = nanosPerSec, "+00:00"
	case variant.TimestampNanosNTZ:
		per = nanosPerSec
	}
	var utc zoneClock
	dst = utc.appendTimestamp(append(dst, '"'), int64(v.Value().(arrow.Timestamp)), per)
	return append(append(dst, zone...), '"')
}

func appendVariantScalar(dst []byte, value any) []byte {
	switch x := value.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, x)
	case int8:
		return strconv.AppendInt(dst, int64(x), 10)
	case int16:
		return strconv.AppendInt(dst, int64(x), 10)
	case int32:
		return strconv.AppendInt(dst, int64(x), 10)
	case int64:
		return strconv.AppendInt(dst, x, 10)
	case float32:
		return appendJSONFloat(dst, float64(x), 32)
	case float64:
		return appendJSONFloat(dst, x, 64)
	case variant.DecimalValue[decimal.Decimal32]:
		return appendVariantDecimal(dst, decimal128.FromI64(int64(x.Value.(decimal.Decimal32))), x.Scale)
	case variant.DecimalValue[decimal.Decimal64]:
		return appendVariantDecimal(dst, decimal128.FromI64(int64(x.Value.(decimal.Decimal64))), x.Scale)
	case variant.DecimalValue[decimal.Decimal128]:
		return appendVariantDecimal(dst, x.Value.(decimal128.Num), x.Scale)
	case arrow.Date32:
		return append(appendDate(append(dst, '"'), int64(x)), '"')
	case arrow.Time64:
		return append(appendTime(append(dst, '"'), int64(x), 1_000_000), '"')
	case []byte:
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), x), '"')
	case uuid.UUID:
		return append(append(append(dst, '"'), x.String()...), '"')
	default:
		return fmt.Appendf(dst, `"%v"`, x)
	}
}

// appendVariantDecimal drops the fraction's trailing zeros, as Spark does for decimals within a variant.
func appendVariantDecimal(dst []byte, v decimal128.Num, scale uint8) []byte {
	dst = appendDecimal(dst, v, int32(scale))
	if scale == 0 {
		return dst
	}
	end := len(dst)
	for dst[end-1] == '0' {
		end--
	}
	if dst[end-1] == '.' {
		end--
	}
	return dst[:end]
}

// appendJSONFloat quotes what JSON has no number for.
func appendJSONFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(appendJavaFloat(append(dst, '"'), f, bits), '"')
	}
	return appendJavaFloat(dst, f, bits)
}

// appendJSONString writes a quoted string with the escapes JSON demands, and no others.
func appendJSONString(dst []byte, s string) []byte {
	const short, letters = "\b\t\n\f\r", "btnfr"
	const hex = "0123456789ABCDEF"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= ' ':
			dst = utf8.AppendRune(dst, r)
		default:
			if i := strings.IndexRune(short, r); i >= 0 {
				dst = append(dst, '\\', letters[i])
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
			}
		}
	}
	return append(dst, '"')
}
