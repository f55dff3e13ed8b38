package spark

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

const (
	// metadataKey is the Arrow field metadata in which Spark keeps a column's own metadata, a JSON object.
	metadataKey = "SPARK::metadata::json"
	// charVarcharKey holds, in that JSON, the declared type of a column that Spark carries as a string.
	charVarcharKey = "__CHAR_VARCHAR_TYPE_STRING"
)

// withSparkTypes completes an Arrow schema with what Arrow cannot say: names as written (Arrow's are made unique inside
// structs), the columns' comments, and the length of CHAR and VARCHAR.
func withSparkTypes(schema *arrow.Schema, spark *connectpb.DataType_Struct) *arrow.Schema {
	if spark == nil || len(spark.Fields) != schema.NumFields() {
		return schema
	}
	fields := schema.Fields()
	for i, sf := range spark.Fields {
		fields[i].Name, fields[i].Type = sf.Name, withNames(fields[i].Type, sf.DataType)
		meta := map[string]any{}
		if sf.Metadata != nil {
			_ = json.Unmarshal([]byte(*sf.Metadata), &meta) // an unreadable comment is no reason to fail
		}
		switch t := sf.DataType.GetKind().(type) {
		case *connectpb.DataType_Char_:
			meta[charVarcharKey] = fmt.Sprintf("char(%d)", t.Char.Length)
		case *connectpb.DataType_VarChar_:
			meta[charVarcharKey] = fmt.Sprintf("varchar(%d)", t.VarChar.Length)
		}
		if len(meta) == 0 {
			continue
		}
		text, err := json.Marshal(meta)
		if err != nil {
			continue
		}
		m := fields[i].Metadata.ToMap()
		m[metadataKey] = string(text)
		fields[i].Metadata = arrow.MetadataFrom(m)
	}
	md := schema.Metadata()
	return arrow.NewSchema(fields, &md)
}

// withNames gives the fields of structs within a type their names as written. A type that stays as it is stays the same.
func withNames(t arrow.DataType, spark *connectpb.DataType) arrow.DataType {
	switch k := spark.GetKind().(type) {
	case *connectpb.DataType_Udt:
		return withNames(t, k.Udt.SqlType)
	case *connectpb.DataType_Array_:
		if list, ok := t.(*arrow.ListType); ok {
			elem := list.ElemField()
			if elem.Type = withNames(elem.Type, k.Array.ElementType); elem.Type != list.Elem() {
				return arrow.ListOfField(elem)
			}
		}
	case *connectpb.DataType_Map_:
		if m, ok := t.(*arrow.MapType); ok {
			key, item := m.KeyField(), m.ItemField()
			key.Type, item.Type = withNames(key.Type, k.Map.KeyType), withNames(item.Type, k.Map.ValueType)
			if key.Type != m.KeyType() || item.Type != m.ItemType() {
				return arrow.MapOfFields(key, item)
			}
		}
	case *connectpb.DataType_Struct_:
		if st, ok := t.(*arrow.StructType); ok && st.NumFields() == len(k.Struct.Fields) {
			fields, changed := st.Fields(), false
			for i, sf := range k.Struct.Fields {
				was := fields[i]
				fields[i].Name, fields[i].Type = sf.Name, withNames(was.Type, sf.DataType)
				changed = changed || fields[i].Name != was.Name || fields[i].Type != was.Type
			}
			if changed {
				return arrow.StructOf(fields...)
			}
		}
	}
	return t
}

func tableColumns(st *connectpb.DataType_Struct) []engines.TableColumn {
	var cols []engines.TableColumn
	for _, f := range st.GetFields() {
		c := engines.TableColumn{Name: f.Name, Nullable: f.Nullable}
		var meta struct {
			Comment string `json:"comment"`
			Char    string `json:"__CHAR_VARCHAR_TYPE_STRING"`
		}
		if f.Metadata != nil && json.Unmarshal([]byte(*f.Metadata), &meta) == nil {
			c.Comment = meta.Comment
		}
		c.Type = (&speller{charTypes(meta.Char)}).text(f.DataType)
		cols = append(cols, c)
	}
	return cols
}

var (
	yearMonth = [...]string{"YEAR", "MONTH"}
	dayTime   = [...]string{"DAY", "HOUR", "MINUTE", "SECOND"}
)

// stringType finds the types in a declaration that Spark carries as strings. What a user has named comes before a colon.
var stringType = regexp.MustCompile(`(string(?: collate \w+)?|char\(\d+\)|varchar\(\d+\))(?:[,>]|$)`)

// charTypes lists the string types of a declaration in their order, such as map<string,char(2)>.
func charTypes(declared string) []string {
	var out []string
	for _, m := range stringType.FindAllStringSubmatch(declared, -1) {
		out = append(out, strings.ToUpper(m[1]))
	}
	return out
}

// speller writes a type whose strings were declared as something else, in the order in which they stand.
type speller struct{ strings []string }

// text is a type as Spark SQL writes it, in upper case.
func (s *speller) text(t *connectpb.DataType) string {
	switch k := t.GetKind().(type) {
	case *connectpb.DataType_String_:
		if len(s.strings) > 0 {
			next := s.strings[0]
			s.strings = s.strings[1:]
			return next
		}
		if c := k.String_.GetCollation(); c != "" && c != "UTF8_BINARY" {
			return "STRING COLLATE " + c
		}
	case *connectpb.DataType_Null:
		return "VOID"
	case *connectpb.DataType_Binary:
		return "BINARY"
	case *connectpb.DataType_Boolean:
		return "BOOLEAN"
	case *connectpb.DataType_Byte:
		return "TINYINT"
	case *connectpb.DataType_Short:
		return "SMALLINT"
	case *connectpb.DataType_Integer:
		return "INT"
	case *connectpb.DataType_Long:
		return "BIGINT"
	case *connectpb.DataType_Float:
		return "FLOAT"
	case *connectpb.DataType_Double:
		return "DOUBLE"
	case *connectpb.DataType_Decimal_:
		return fmt.Sprintf("DECIMAL(%d,%d)", orElse(k.Decimal.Precision, 10), orElse(k.Decimal.Scale, 0))
	case *connectpb.DataType_Char_:
		return fmt.Sprintf("CHAR(%d)", k.Char.Length)
	case *connectpb.DataType_VarChar_:
		return fmt.Sprintf("VARCHAR(%d)", k.VarChar.Length)
	case *connectpb.DataType_Date:
		return "DATE"
	case *connectpb.DataType_Timestamp:
		return "TIMESTAMP"
	case *connectpb.DataType_TimestampNtz:
		return "TIMESTAMP_NTZ"
	case *connectpb.DataType_CalendarInterval:
		return "INTERVAL"
	case *connectpb.DataType_YearMonthInterval_:
		return intervalText(yearMonth[:], k.YearMonthInterval.StartField, k.YearMonthInterval.EndField)
	case *connectpb.DataType_DayTimeInterval_:
		return intervalText(dayTime[:], k.DayTimeInterval.StartField, k.DayTimeInterval.EndField)
	case *connectpb.DataType_Variant:
		return "VARIANT"
	case *connectpb.DataType_Time_:
		return fmt.Sprintf("TIME(%d)", orElse(k.Time.Precision, 6))
	case *connectpb.DataType_Array_:
		return "ARRAY<" + s.text(k.Array.ElementType) + ">"
	case *connectpb.DataType_Map_:
		return "MAP<" + s.text(k.Map.KeyType) + ", " + s.text(k.Map.ValueType) + ">"
	case *connectpb.DataType_Struct_:
		parts := make([]string, len(k.Struct.Fields))
		for i, f := range k.Struct.Fields {
			parts[i] = f.Name + ": " + s.text(f.DataType)
		}
		return "STRUCT<" + strings.Join(parts, ", ") + ">"
	case *connectpb.DataType_Udt:
		return s.text(k.Udt.SqlType)
	case *connectpb.DataType_Unparsed_:
		return strings.ToUpper(k.Unparsed.DataTypeString)
	}
	return "STRING" // and whatever kinds later versions add
}

func intervalText(fields []string, start, end *int32) string {
	from, to := orElse(start, 0), orElse(end, int32(len(fields)-1))
	if from < 0 || to < from || int(to) >= len(fields) {
		return "INTERVAL"
	}
	if from == to {
		return "INTERVAL " + fields[from]
	}
	return "INTERVAL " + fields[from] + " TO " + fields[to]
}

func orElse(p *int32, d int32) int32 {
	if p == nil {
		return d
	}
	return *p
}
