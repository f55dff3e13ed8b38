package tcli

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Widths of values in text, in bytes: the longest usual form. Only the far past and future are longer.
const (
	dateText      = len("2026-01-01")
	timestampText = len("2026-01-01 00:00:00.000000")
	intervalText  = len("-106751991 04:00:54.775808000")
	numberText    = 24
	calendarText  = 64
)

// columnHead is what a TColumn costs without its values and bitmap, lengthHead what a string does without its bytes.
const (
	columnHead = 20
	lengthHead = 4
)

// RowSetSize estimates how many bytes the rows from (included) to to (excluded) take in a TRowSet of V6 and later, so
// that a server can cap a reply. It looks at widths and at offsets, not at values, grows with to, and is rather too
// high than too low. The exceptions are text that is not UTF-8, whose repair takes more room, and variants, which hold a
// repeated key only once.
func RowSetSize(cols []Column, batch arrow.RecordBatch, from, to int) int {
	rows := to - from
	size := len(cols) * (columnHead + (rows+7)/8)
	for i, c := range cols {
		if w := memberOf(c.Type).width(); w > 0 {
			size += rows * w
		} else {
			size += rows*lengthHead + textSize(batch.Column(i), from, to)
		}
	}
	return size
}

// textSize estimates the text of the values from from to to, as part of another value or not.
func textSize(a arrow.Array, from, to int) int {
	if from >= to {
		return 0
	}
	const around = len("null") // quotes, brackets, or this
	rows := to - from
	switch a := a.(type) {
	case *array.Null:
		return around * rows
	case *array.String, *array.LargeString, *array.Binary, *array.LargeBinary:
		return around*rows + stringBytes(a.(array.BinaryLike), from, to)
	case array.ListLike:
		start, _ := a.ValueOffsets(from)
		_, end := a.ValueOffsets(to - 1)
		n := int(end - start)
		return around*rows + n + textSize(a.ListValues(), int(start), int(end))
	case *array.Struct:
		size := around * rows
		for j, f := range a.DataType().(*arrow.StructType).Fields() {
			size += rows*(len(f.Name)+4) + textSize(a.Field(j), from, to)
		}
		return size
	default:
		return rows * textWidth(a.DataType())
	}
}

// stringBytes is the length of the bytes behind a range of strings. The end of the last one is its start and its
// length, because there is no offset of what follows the last value.
func stringBytes(a array.BinaryLike, from, to int) int {
	return int(a.ValueOffset64(to-1)-a.ValueOffset64(from)) + a.ValueLen(to-1)
}

// textWidth is the room one value of a type without parts takes.
func textWidth(t arrow.DataType) int {
	if d, ok := t.(arrow.DecimalType); ok {
		const signPointZero = 3
		return int(max(d.GetPrecision(), d.GetScale())) + signPointZero
	}
	switch t.ID() {
	case arrow.DATE32, arrow.DATE64:
		return dateText
	case arrow.TIMESTAMP:
		return timestampText
	case arrow.INTERVAL_MONTH_DAY_NANO:
		return calendarText
	case arrow.INTERVAL_MONTHS, arrow.INTERVAL_DAY_TIME, arrow.DURATION:
		return intervalText
	default:
		return numberText
	}
}
