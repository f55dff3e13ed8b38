package tcli

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/thrift/lib/go/thrift"
)

// member is the field of the unions TColumn and TColumnValue that carries a type's values. HiveServer2 TCLIService:
// clients read the member their column's type implies, whatever else is set.
type member int

const (
	memberBool member = iota + 1 // field ids of both unions
	memberByte
	memberI16
	memberI32
	memberI64
	memberDouble
	memberString
	memberBinary // TColumn only: before V6 binary travels as a string
)

// memberOf returns the member of a type; all types without one of their own travel as text.
func memberOf(t TTypeId) member {
	switch t {
	case TTypeId_BOOLEAN_TYPE:
		return memberBool
	case TTypeId_TINYINT_TYPE:
		return memberByte
	case TTypeId_SMALLINT_TYPE:
		return memberI16
	case TTypeId_INT_TYPE:
		return memberI32
	case TTypeId_BIGINT_TYPE:
		return memberI64
	case TTypeId_FLOAT_TYPE, TTypeId_DOUBLE_TYPE:
		return memberDouble
	case TTypeId_BINARY_TYPE:
		return memberBinary
	default:
		return memberString
	}
}

// element is the Thrift type of one value.
func (m member) element() thrift.TType {
	return [...]thrift.TType{0, thrift.BOOL, thrift.BYTE, thrift.I16, thrift.I32, thrift.I64, thrift.DOUBLE,
		thrift.STRING, thrift.STRING}[m]
}

// width is the size of one value in bytes, 0 for strings.
func (m member) width() int {
	return [...]int{0, 1, 1, 2, 4, 8, 8, 0, 0}[m]
}

// checkMember tells whether values of an Arrow type fit a member.
func checkMember(m member, t arrow.DataType) error {
	ok := true
	switch m {
	case memberBool:
		ok = t.ID() == arrow.BOOL
	case memberByte, memberI16, memberI32, memberI64:
		ok = arrow.IsInteger(t.ID()) && t.(arrow.FixedWidthDataType).BitWidth() <= 8*m.width()
	case memberDouble:
		ok = t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64
	case memberBinary:
		switch t.ID() {
		case arrow.BINARY, arrow.LARGE_BINARY, arrow.STRING, arrow.LARGE_STRING:
		default:
			ok = false
		}
	case memberString:
		return checkText(t)
	}
	if !ok && t.ID() != arrow.NULL {
		return fmt.Errorf("the Arrow type %s does not fit the declared type", t)
	}
	return nil
}

// AppendRowSet appends the Thrift binary encoding of a TRowSet to dst: the struct's fields and its stop byte. The
// batches, slices included, are the rows in order, all of one schema with as many columns as cols, start is the
// position of the first row in the result. Nothing of the batches is kept. They belong to the call while it runs, because
// Arrow counts an array's nulls when first asked; slices of one batch do not share that count.
//
// HiveServer2 TCLIService V6: rows is an empty list, and columns holds one TColumn per column of the schema even
// without rows; Python clients fail otherwise. Before V6 it is the other way round.
//
// Columns must have passed CheckColumns: one that cannot be encoded panics.
func AppendRowSet(dst []byte, v TProtocolVersion, start int64, cols []Column, batches []arrow.RecordBatch) []byte {
	rows, size := 0, 64
	for _, b := range batches {
		rows += int(b.NumRows())
		size += RowSetSize(cols, b, 0, int(b.NumRows()))
	}
	dst = slices.Grow(dst, size)

	dst = appendFieldHeader(dst, thrift.I64, 1)
	dst = binary.BigEndian.AppendUint64(dst, uint64(start))
	if v < v6 {
		dst = appendFieldHeader(dst, thrift.LIST, 2)
		dst = appendListHeader(dst, thrift.STRUCT, rows)
		for _, b := range batches {
			dst = appendRows(dst, cols, b)
		}
		return append(dst, thrift.STOP)
	}
	dst = appendFieldHeader(dst, thrift.LIST, 2)
	dst = appendListHeader(dst, thrift.STRUCT, 0)
	dst = appendFieldHeader(dst, thrift.LIST, 3)
	dst = appendListHeader(dst, thrift.STRUCT, len(cols))
	for i, c := range cols {
		dst = appendColumn(dst, memberOf(c.Type), i, batches, rows)
	}
	return append(dst, thrift.STOP)
}

// appendFieldHeader starts a struct's field.
func appendFieldHeader(dst []byte, t thrift.TType, id int) []byte {
	return append(dst, byte(t), byte(id>>8), byte(id))
}

// appendListHeader starts a list.
func appendListHeader(dst []byte, t thrift.TType, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, byte(t)), uint32(n))
}

// appendColumn writes one TColumn: a union of a struct of values and the bitmap of nulls.
func appendColumn(dst []byte, m member, col int, batches []arrow.RecordBatch, rows int) []byte {
	dst = appendFieldHeader(dst, thrift.STRUCT, int(m))
	dst = appendFieldHeader(dst, thrift.LIST, 1)
	dst = appendListHeader(dst, m.element(), rows)
	for _, b := range batches {
		if b.NumRows() > 0 {
			dst = appendValues(dst, m, b.Column(col))
		}
	}
	dst = appendFieldHeader(dst, thrift.STRING, 2)
	dst = appendNulls(dst, col, batches, rows)
	return append(dst, thrift.STOP, thrift.STOP)
}

// appendNulls writes the length and the bits of the null bitmap.
//
// HiveServer2 TCLIService: row i is bit i%8, the lowest first, of byte i/8; 1 is null. It has ceil(rows/8) bytes, and
// the bits beyond the last row are 0: PyHive takes each of them for a row.
func appendNulls(dst []byte, col int, batches []arrow.RecordBatch, rows int) []byte {
	n := (rows + 7) / 8
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	dst = slices.Grow(dst, n)
	bitmap := dst[len(dst) : len(dst)+n]
	clear(bitmap)
	at := 0
	for _, b := range batches {
		a := b.Column(col)
		switch {
		case a.DataType().ID() == arrow.NULL:
			bitutil.SetBitsTo(bitmap, int64(at), int64(a.Len()), true)
		case a.NullN() > 0:
			bitutil.InvertBitmap(a.NullBitmapBytes(), a.Data().Offset(), a.Len(), bitmap, at)
		}
		at += a.Len()
	}
	return dst[:len(dst)+n]
}

// appendValues writes the values of one array. A null has a place in the list as well, with a zero or an empty string
// in it, whatever the array holds there.
func appendValues(dst []byte, m member, a arrow.Array) []byte {
	if a.DataType().ID() == arrow.NULL {
		width := m.width()
		if width == 0 {
			width = 4 // an empty string is its length
		}
		dst, out := extend(dst, a.Len()*width)
		clear(out)
		return dst
	}
	switch m {
	case memberString:
		return appendTexts(dst, a)
	case memberBinary:
		return appendBinaries(dst, a)
	}
	start := len(dst)
	switch m {
	case memberBool:
		dst = appendBools(dst, a.(*array.Boolean))
	case memberDouble:
		dst = appendDoubles(dst, a)
	default:
		dst = appendIntegers(dst, a, m.width())
	}
	if a.NullN() > 0 {
		zeroNulls(dst[start:], a, m.width())
	}
	return dst
}

// extend makes room for n more bytes and returns it as well.
func extend(dst []byte, n int) (all, room []byte) {
	dst = slices.Grow(dst, n)
	all = dst[:len(dst)+n]
	return all, all[len(dst):]
}

// zeroNulls overwrites what Arrow left in the places of nulls.
func zeroNulls(out []byte, a arrow.Array, width int) {
	for i := range a.Len() {
		if a.IsNull(i) {
			clear(out[i*width : (i+1)*width])
		}
	}
}

func appendBools(dst []byte, a *array.Boolean) []byte {
	dst, out := extend(dst, a.Len())
	for i := range out {
		out[i] = 0
		if a.Value(i) {
			out[i] = 1
		}
	}
	return dst
}

func appendDoubles(dst []byte, a arrow.Array) []byte {
	dst, out := extend(dst, 8*a.Len())
	switch a := a.(type) {
	case *array.Float64:
		for _, v := range a.Values() {
			binary.BigEndian.PutUint64(out, math.Float64bits(v))
			out = out[8:]
		}
	case *array.Float32:
		for _, v := range a.Values() {
			binary.BigEndian.PutUint64(out, math.Float64bits(widen(v)))
			out = out[8:]
		}
	default:
		panic(misfit(a))
	}
	return dst
}

// misfit is what encoding panics with for a column that CheckColumns would have refused.
func misfit(a arrow.Array) error {
	return fmt.Errorf("tcli: Arrow type %s does not fit the declared type", a.DataType())
}

// appendIntegers writes integers with the width of the column's type, which is that of the array or more.
func appendIntegers(dst []byte, a arrow.Array, width int) []byte {
	switch a := a.(type) {
	case *array.Int8:
		return putIntegers(dst, a.Values(), width)
	case *array.Int16:
		return putIntegers(dst, a.Values(), width)
	case *array.Int32:
		return putIntegers(dst, a.Values(), width)
	case *array.Int64:
		return putIntegers(dst, a.Values(), width)
	case *array.Uint8:
		return putIntegers(dst, a.Values(), width)
	case *array.Uint16:
		return putIntegers(dst, a.Values(), width)
	case *array.Uint32:
		return putIntegers(dst, a.Values(), width)
	case *array.Uint64:
		return putIntegers(dst, a.Values(), width)
	default:
		panic(misfit(a))
	}
}

// putIntegers is one tight loop per width, so that nothing is decided per value.
func putIntegers[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64](dst []byte, vals []T, width int) []byte {
	dst, out := extend(dst, width*len(vals))
	switch width {
	case 1:
		for i, v := range vals {
			out[i] = byte(v)
		}
	case 2:
		for _, v := range vals {
			binary.BigEndian.PutUint16(out, uint16(v))
			out = out[2:]
		}
	case 4:
		for _, v := range vals {
			binary.BigEndian.PutUint32(out, uint32(v))
			out = out[4:]
		}
	case 8:
		for _, v := range vals {
			binary.BigEndian.PutUint64(out, uint64(v))
			out = out[8:]
		}
	}
	return dst
}

// appendTexts writes a column of strings, or of values in their text form.
func appendTexts(dst []byte, a arrow.Array) []byte {
	switch s := a.(type) {
	case *array.String:
		if validUTF8(s.ValueBytes(), s.ValueOffsets()) {
			return appendRaw(dst, a, s.ValueBytes(), s.ValueOffsets())
		}
	case *array.LargeString:
		if validUTF8(s.ValueBytes(), s.ValueOffsets()) {
			return appendRaw(dst, a, s.ValueBytes(), s.ValueOffsets())
		}
	}
	text := newText(a, false)
	for i := range a.Len() {
		start := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		if !a.IsNull(i) {
			dst = text(dst, i)
		}
		binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	}
	return dst
}

// validUTF8 tells whether every string of an array is valid, in one pass over their common bytes: the whole is valid
// and no string starts within a character, hence none ends within one.
func validUTF8[O int32 | int64](blob []byte, offsets []O) bool {
	if !utf8.Valid(blob) {
		return false
	}
	for _, o := range offsets {
		at := int(o - offsets[0])
		if at < len(blob) && !utf8.RuneStart(blob[at]) {
			return false
		}
	}
	return true
}

func appendBinaries(dst []byte, a arrow.Array) []byte {
	switch b := a.(type) {
	case *array.Binary:
		return appendRaw(dst, a, b.ValueBytes(), b.ValueOffsets())
	case *array.LargeBinary:
		return appendRaw(dst, a, b.ValueBytes(), b.ValueOffsets())
	case *array.String:
		return appendRaw(dst, a, b.ValueBytes(), b.ValueOffsets())
	case *array.LargeString:
		return appendRaw(dst, a, b.ValueBytes(), b.ValueOffsets())
	default:
		panic(misfit(a))
	}
}

// appendRaw writes the pieces of blob that the n+1 offsets delimit, each after its length. Offsets count from the
// first.
func appendRaw[O int32 | int64](dst []byte, a arrow.Array, blob []byte, offsets []O) []byte {
	dst, out := extend(dst, 4*a.Len()+len(blob))
	nulls, from := a.NullN() > 0, 0
	for i, o := range offsets[1:] {
		to := int(o - offsets[0])
		piece := blob[from:to]
		from = to
		if nulls && a.IsNull(i) {
			piece = nil
		}
		binary.BigEndian.PutUint32(out, uint32(len(piece)))
		out = out[4+copy(out[4:], piece):]
	}
	return dst[:len(dst)-len(out)] // room is left where nulls have bytes behind them
}
