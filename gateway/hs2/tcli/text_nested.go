package tcli

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// newNestedText serves arrays, maps and structs, in a form like JSON without its escapes, and the types of Spark that
// Arrow has as structs. It returns nil for others.
func newNestedText(a arrow.Array, nested bool) textFunc {
	switch a := a.(type) {
	case *array.Map:
		return newMapText(a)
	case *array.List, *array.LargeList, *array.FixedSizeList:
		return newListText(a.(array.ListLike))
	case *array.Struct:
		if isVariant(a.DataType()) {
			return newVariantText(a)
		}
		if isGeometry(a.DataType()) {
			return newGeometryText(a, nested)
		}
		return newStructText(a)
	default:
		return nil
	}
}

// newElementText renders a value within another, which may be null.
func newElementText(a arrow.Array) textFunc {
	text := newText(a, true)
	return func(dst []byte, i int) []byte {
		if a.IsNull(i) {
			return append(dst, "null"...)
		}
		return text(dst, i)
	}
}

func newListText(a array.ListLike) textFunc {
	element := newElementText(a.ListValues())
	return func(dst []byte, i int) []byte {
		dst = append(dst, '[')
		from, to := a.ValueOffsets(i)
		for j := from; j < to; j++ {
			if j > from {
				dst = append(dst, ',')
			}
			dst = element(dst, int(j))
		}
		return append(dst, ']')
	}
}

func newStructText(a *array.Struct) textFunc {
	fields := a.DataType().(*arrow.StructType).Fields()
	heads := make([]string, len(fields)) // what stands before each value
	values := make([]textFunc, len(fields))
	for j, f := range fields {
		heads[j] = `,"` + f.Name + `":`
		if j == 0 {
			heads[j] = heads[j][1:]
		}
		values[j] = newElementText(a.Field(j))
	}
	return func(dst []byte, i int) []byte {
		dst = append(dst, '{')
		for j, value := range values {
			dst = value(append(dst, heads[j]...), i)
		}
		return append(dst, '}')
	}
}

// mapEntry is the place of a rendered entry in the scratch buffer.
type mapEntry struct{ from, to int }

// newMapText renders the entries of a map sorted by their text: Spark's maps have no order of their own, so sorting
// makes equal maps read the same.
func newMapText(a *array.Map) textFunc {
	entries := a.ListValues().(*array.Struct)
	key, value := newElementText(entries.Field(0)), newElementText(entries.Field(1))
	var scratch []byte
	var order []mapEntry
	return func(dst []byte, i int) []byte {
		scratch, order = scratch[:0], order[:0]
		from, to := a.ValueOffsets(i)
		for j := int(from); j < int(to); j++ {
			start := len(scratch)
			scratch = value(append(key(scratch, j), ':'), j)
			order = append(order, mapEntry{start, len(scratch)})
		}
		slices.SortFunc(order, func(x, y mapEntry) int {
			return compareUTF16(scratch[x.from:x.to], scratch[y.from:y.to])
		})
		dst = append(dst, '{')
		for j, e := range order {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, scratch[e.from:e.to]...)
		}
		return append(dst, '}')
	}
}

// compareUTF16 orders UTF-8 texts as Java orders strings, by UTF-16 units. That differs from the order of the bytes in
// one case: what takes four bytes (surrogates in UTF-16, from D800 on) comes before U+E000 to U+FFFF.
func compareUTF16(x, y []byte) int {
	n := min(len(x), len(y))
	for i := range n {
		if x[i] != y[i] {
			return rank16(x[i]) - rank16(y[i])
		}
	}
	return len(x) - len(y)
}

// rank16 moves the lead bytes EE and EF (U+E000 to U+FFFF) behind F0 to F4.
func rank16(b byte) int {
	if b == 0xEE || b == 0xEF {
		return int(b) + 0x10
	}
	return int(b)
}
