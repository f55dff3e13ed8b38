package tcli

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Column describes one result column as HiveServer2 clients see it.
type Column struct {
	Name             string
	Type             TTypeId
	Precision, Scale int32  // of DECIMAL, in digits
	Length           int32  // of CHAR and VARCHAR, in characters
	Comment          string // "" for none
}

// Spark's keys: sparkMetadataKey holds a field's metadata, a JSON object, in the metadata of the Arrow field; in it,
// comment is the column's comment and charVarcharKey the type as declared, where the data type only says string.
const (
	sparkMetadataKey = "SPARK::metadata::json"
	commentKey       = "comment"
	charVarcharKey   = "__CHAR_VARCHAR_TYPE_STRING"
)

// ColumnOf describes an Arrow field, for results of which only the Arrow schema is known. A type HiveServer2 has no
// name for is a STRING.
func ColumnOf(f arrow.Field) Column {
	c := Column{Name: f.Name, Type: typeOf(f.Type)}
	if d, ok := f.Type.(arrow.DecimalType); ok {
		c.Precision, c.Scale = d.GetPrecision(), d.GetScale()
	}
	if f.Type.ID() == arrow.UINT64 {
		c.Precision = 20
	}
	raw, ok := f.Metadata.GetValue(sparkMetadataKey)
	if !ok {
		return c
	}
	meta := sparkMetadata(raw)
	c.Comment = meta[commentKey]
	if declared := meta[charVarcharKey]; declared != "" && c.Type == TTypeId_STRING_TYPE {
		c.Type, c.Length = charType(declared)
	}
	return c
}

// typeOf maps an Arrow type. HiveServer2 TCLIService: a client asks for a value by the type named here, so the types
// of Spark that HiveServer2 lacks (TIME, VARIANT, GEOMETRY, calendar intervals) are STRING.
func typeOf(t arrow.DataType) TTypeId {
	switch t.ID() {
	case arrow.NULL:
		return TTypeId_NULL_TYPE
	case arrow.BOOL:
		return TTypeId_BOOLEAN_TYPE
	case arrow.INT8:
		return TTypeId_TINYINT_TYPE
	case arrow.INT16, arrow.UINT8:
		return TTypeId_SMALLINT_TYPE
	case arrow.INT32, arrow.UINT16:
		return TTypeId_INT_TYPE
	case arrow.INT64, arrow.UINT32:
		return TTypeId_BIGINT_TYPE
	case arrow.FLOAT32:
		return TTypeId_FLOAT_TYPE
	case arrow.FLOAT64:
		return TTypeId_DOUBLE_TYPE
	case arrow.DECIMAL32, arrow.DECIMAL64, arrow.DECIMAL128, arrow.DECIMAL256, arrow.UINT64:
		return TTypeId_DECIMAL_TYPE
	case arrow.BINARY, arrow.LARGE_BINARY:
		return TTypeId_BINARY_TYPE
	case arrow.DATE32, arrow.DATE64:
		return TTypeId_DATE_TYPE
	case arrow.TIMESTAMP:
		if t.(*arrow.TimestampType).Unit == arrow.Nanosecond {
			return TTypeId_STRING_TYPE // Spark says so too, and clients that read six digits would fail on nine
		}
		return TTypeId_TIMESTAMP_TYPE
	case arrow.INTERVAL_MONTHS:
		return TTypeId_INTERVAL_YEAR_MONTH_TYPE
	case arrow.DURATION, arrow.INTERVAL_DAY_TIME:
		return TTypeId_INTERVAL_DAY_TIME_TYPE
	case arrow.LIST, arrow.LARGE_LIST, arrow.FIXED_SIZE_LIST:
		return TTypeId_ARRAY_TYPE
	case arrow.MAP:
		return TTypeId_MAP_TYPE
	case arrow.STRUCT:
		if isVariant(t) || isGeometry(t) {
			return TTypeId_STRING_TYPE
		}
		return TTypeId_STRUCT_TYPE
	default:
		return TTypeId_STRING_TYPE
	}
}

// sparkMetadata reads the string members of Spark's metadata object. The rest is the user's, of any shape, and so is
// no reason to fail.
func sparkMetadata(raw string) map[string]string {
	var all map[string]any
	if json.Unmarshal([]byte(raw), &all) != nil {
		return nil
	}
	texts := make(map[string]string, 2)
	for _, k := range []string{commentKey, charVarcharKey} {
		if s, ok := all[k].(string); ok {
			texts[k] = s
		}
	}
	return texts
}

// charType reads "char(5)" and "varchar(10)". A longer declaration is that of a column with a CHAR inside of it, which
// has no HiveServer2 form.
func charType(declared string) (TTypeId, int32) {
	name, rest, _ := strings.Cut(strings.ToLower(strings.TrimSpace(declared)), "(")
	digits, end, closed := strings.Cut(rest, ")")
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
	if err != nil || !closed || end != "" || n <= 0 {
		return TTypeId_STRING_TYPE, 0
	}
	switch strings.TrimSpace(name) {
	case "char":
		return TTypeId_CHAR_TYPE, int32(n)
	case "varchar":
		return TTypeId_VARCHAR_TYPE, int32(n)
	default:
		return TTypeId_STRING_TYPE, 0
	}
}

// Schema renders the column descriptors for a client of version v: types that came with a later version are described
// by their older stand-in. The values' form does not change with that.
//
// HiveServer2 TCLIService: every type, nested ones included, is a single primitive entry, and positions start at 0 as
// Spark's do.
func Schema(cols []Column, v TProtocolVersion) *TTableSchema {
	descs := make([]*TColumnDesc, len(cols))
	for i, c := range cols {
		entry := &TPrimitiveTypeEntry{Type: gate(c.Type, v)}
		entry.TypeQualifiers = qualifiers(c, entry.Type, v)
		comment := c.Comment
		descs[i] = &TColumnDesc{
			ColumnName: c.Name,
			TypeDesc:   &TTypeDesc{Types: []*TTypeEntry{{PrimitiveEntry: entry}}},
			Position:   int32(i),
			Comment:    &comment,
		}
	}
	return &TTableSchema{Columns: descs}
}

// gate replaces a type the client's version does not know.
func gate(t TTypeId, v TProtocolVersion) TTypeId {
	switch t {
	case TTypeId_VARCHAR_TYPE:
		if v < v3 {
			return TTypeId_STRING_TYPE
		}
	case TTypeId_CHAR_TYPE:
		if v < v4 {
			return TTypeId_STRING_TYPE
		}
	case TTypeId_INTERVAL_YEAR_MONTH_TYPE, TTypeId_INTERVAL_DAY_TIME_TYPE:
		if v < v8 {
			return TTypeId_STRING_TYPE
		}
	case TTypeId_TIMESTAMPLOCALTZ_TYPE:
		if v < v11 {
			return TTypeId_TIMESTAMP_TYPE
		}
	}
	return t
}

// qualifiers returns what a client must know beyond the type's name, or nil. impyla fails on a DECIMAL without them.
func qualifiers(c Column, t TTypeId, v TProtocolVersion) *TTypeQualifiers {
	switch {
	case t == TTypeId_DECIMAL_TYPE && v >= v4:
		return &TTypeQualifiers{Qualifiers: map[string]*TTypeQualifierValue{
			PRECISION: {I32Value: &c.Precision},
			SCALE:     {I32Value: &c.Scale},
		}}
	case t == TTypeId_CHAR_TYPE || t == TTypeId_VARCHAR_TYPE:
		return &TTypeQualifiers{Qualifiers: map[string]*TTypeQualifierValue{
			CHARACTER_MAXIMUM_LENGTH: {I32Value: &c.Length},
		}}
	default:
		return nil
	}
}
