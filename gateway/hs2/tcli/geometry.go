package tcli

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// isGeometry tells Spark's GEOMETRY and GEOGRAPHY from other structs: srid and wkb, the latter marked in its Arrow
// metadata.
func isGeometry(t arrow.DataType) bool {
	st, ok := t.(*arrow.StructType)
	if !ok || st.NumFields() != 2 {
		return false
	}
	srid, wkb := st.Field(0), st.Field(1)
	if srid.Name != "srid" || srid.Type.ID() != arrow.INT32 || wkb.Name != "wkb" || wkb.Type.ID() != arrow.BINARY {
		return false
	}
	geometry, _ := wkb.Metadata.GetValue("geometry")
	geography, _ := wkb.Metadata.GetValue("geography")
	return geometry == "true" || geography == "true"
}

// newGeometryText renders shapes as well-known text, SRID=4326;POINT(1 2), the way Spark prints them; an SRID of 0 stays
// unsaid.
func newGeometryText(a *array.Struct, quoted bool) textFunc {
	srids, shapes := a.Field(0).(*array.Int32), a.Field(1).(*array.Binary)
	return func(dst []byte, i int) []byte {
		if quoted {
			dst = append(dst, '"')
		}
		if srid := srids.Value(i); srid != 0 {
			dst = append(strconv.AppendInt(append(dst, "SRID="...), int64(srid), 10), ';')
		}
		r := wkbReader{rest: shapes.Value(i)}
		start := len(dst)
		if dst = r.shape(dst, true, 0); r.failed {
			dst = append(dst[:start], "unreadable geometry"...) // as with variants: a row's text cannot report an error
		}
		if quoted {
			dst = append(dst, '"')
		}
		return dst
	}
}

// wkbReader turns well-known binary into text. It stops at the first thing that is none.
type wkbReader struct {
	rest   []byte
	order  binary.ByteOrder
	dims   int // numbers of a point
	failed bool
}

// The codes of well-known binary; a thousand more say Z, two thousand M, three thousand both.
const (
	wkbPoint = iota + 1
	wkbLine
	wkbPolygon
	wkbMultiPoint
	wkbMultiLine
	wkbMultiPolygon
	wkbCollection
)

var (
	shapeNames = [...]string{"", "POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION"}
	dimNames   = [...]string{"", " Z", " M", " ZM"}
	dimCounts  = [...]int{2, 3, 3, 4}
)

// maxShapes bounds how deep collections may hold each other.
const maxShapes = 64

func (r *wkbReader) fail(dst []byte) []byte {
	r.failed, r.rest = true, nil
	return dst
}

// shape writes one geometry: with its name, or as a part of one that says what its parts are.
func (r *wkbReader) shape(dst []byte, named bool, depth int) []byte {
	if len(r.rest) < 1 || r.rest[0] > 1 || depth > maxShapes {
		return r.fail(dst)
	}
	r.order = binary.ByteOrder(binary.LittleEndian)
	if r.rest[0] == 0 {
		r.order = binary.BigEndian
	}
	r.rest = r.rest[1:]
	code := r.count()
	kind, dim := code%1000, code/1000
	if kind < wkbPoint || kind > wkbCollection || int(dim) >= len(dimNames) {
		return r.fail(dst)
	}
	r.dims = dimCounts[dim]
	if named {
		dst = append(append(dst, shapeNames[kind]...), dimNames[dim]...)
	}
	start := len(dst)
	if named && dim > 0 {
		dst = append(dst, ' ')
	}
	dst = append(dst, '(')
	var empty bool
	if dst, empty = r.content(dst, kind, depth); !empty {
		return append(dst, ')')
	}
	if dst = dst[:start]; named {
		dst = append(dst, ' ')
	}
	return append(dst, "EMPTY"...)
}

// content writes what stands between the brackets of a shape.
func (r *wkbReader) content(dst []byte, kind uint32, depth int) ([]byte, bool) {
	if kind == wkbPoint {
		return r.point(dst)
	}
	n := r.count()
	for i := uint32(0); i < n && !r.failed; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch kind {
		case wkbLine:
			dst, _ = r.point(dst)
		case wkbPolygon:
			dst, _ = r.content(append(dst, '('), wkbLine, depth)
			dst = append(dst, ')')
		default:
			dst = r.shape(dst, kind == wkbCollection, depth+1)
		}
	}
	return dst, n == 0
}

func (r *wkbReader) count() uint32 {
	if len(r.rest) < 4 {
		r.fail(nil)
		return 0
	}
	n := r.order.Uint32(r.rest)
	r.rest = r.rest[4:]
	return n
}

// point writes the numbers of one point. Well-known binary has no empty point, so one of NaN stands for it.
func (r *wkbReader) point(dst []byte) ([]byte, bool) {
	if len(r.rest) < 8*r.dims {
		return r.fail(dst), false
	}
	empty := true
	for i := range r.dims {
		if i > 0 {
			dst = append(dst, ' ')
		}
		f := math.Float64frombits(r.order.Uint64(r.rest[8*i:]))
		empty = empty && math.IsNaN(f)
		dst = appendCoordinate(dst, f)
	}
	r.rest = r.rest[8*r.dims:]
	return dst, empty
}

// appendCoordinate writes whole numbers without a fraction.
func appendCoordinate(dst []byte, f float64) []byte {
	if f == math.Floor(f) && f >= math.MinInt64 && f < math.MaxInt64 {
		return strconv.AppendInt(dst, int64(f), 10)
	}
	return appendJavaFloat(dst, f, 64)
}
