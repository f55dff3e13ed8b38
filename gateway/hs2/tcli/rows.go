package tcli

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/thrift/lib/go/thrift"
)

// cell writes row i of a column as the content of a TColumnValue: the union's member, a struct of one optional value.
type cell func(dst []byte, i int) []byte

// appendRows writes one TRow per row.
//
// HiveServer2 TCLIService before V6: a TRow is a list of TColumnValue, one per column; a null is a member whose value
// is not set. There is no member for binary.
func appendRows(dst []byte, cols []Column, b arrow.RecordBatch) []byte {
	if b.NumRows() == 0 {
		return dst
	}
	cells := make([]cell, len(cols))
	for i, c := range cols {
		cells[i] = newCell(memberOf(c.Type), b.Column(i))
	}
	for i := range int(b.NumRows()) {
		dst = appendFieldHeader(dst, thrift.LIST, 1)
		dst = appendListHeader(dst, thrift.STRUCT, len(cells))
		for _, c := range cells {
			dst = append(c(dst, i), thrift.STOP)
		}
		dst = append(dst, thrift.STOP)
	}
	return dst
}

// newCell picks the way to write a column's values.
func newCell(m member, a arrow.Array) cell {
	if m == memberBinary {
		m = memberString
	}
	allNull := a.DataType().ID() == arrow.NULL
	var value cell
	if !allNull {
		value = newCellValue(m, a)
	}
	return func(dst []byte, i int) []byte {
		dst = appendFieldHeader(dst, thrift.STRUCT, int(m))
		if !allNull && !a.IsNull(i) {
			dst = value(appendFieldHeader(dst, m.element(), 1), i)
		}
		return append(dst, thrift.STOP)
	}
}

// newCellValue writes the bare value.
func newCellValue(m member, a arrow.Array) cell {
	switch m {
	case memberString:
		text := newText(a, false)
		return func(dst []byte, i int) []byte {
			start := len(dst)
			dst = text(append(dst, 0, 0, 0, 0), i)
			binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
			return dst
		}
	case memberBool:
		bools := a.(*array.Boolean)
		return func(dst []byte, i int) []byte {
			if bools.Value(i) {
				return append(dst, 1)
			}
			return append(dst, 0)
		}
	case memberDouble:
		double := doubleAt(a)
		return func(dst []byte, i int) []byte {
			return binary.BigEndian.AppendUint64(dst, math.Float64bits(double(i)))
		}
	default:
		integer, width := integerAt(a), m.width()
		return func(dst []byte, i int) []byte {
			for v, shift := integer(i), 8*(width-1); shift >= 0; shift -= 8 {
				dst = append(dst, byte(v>>shift))
			}
			return dst
		}
	}
}

func doubleAt(a arrow.Array) func(int) float64 {
	switch a := a.(type) {
	case *array.Float64:
		return a.Value
	case *array.Float32:
		return func(i int) float64 { return widen(a.Value(i)) }
	default:
		panic(misfit(a))
	}
}

func integerAt(a arrow.Array) func(int) int64 {
	switch a := a.(type) {
	case *array.Int8:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Int16:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Int32:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Int64:
		return a.Value
	case *array.Uint8:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Uint16:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Uint32:
		return func(i int) int64 { return int64(a.Value(i)) }
	default:
		panic(misfit(a))
	}
}
