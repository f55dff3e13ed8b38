package tcli

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// appendJavaFloat writes a float of bits 32 or 64 as Java's toString does: always with a fraction, and in scientific
// notation below 10⁻³ and from 10⁷ on. The digits are the shortest that read back the same, as of JDK 19; older ones
// print one digit more for some values.
func appendJavaFloat(dst []byte, f float64, bits int) []byte {
	switch abs := math.Abs(f); {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case abs == 0 || abs >= 1e-3 && abs < 1e7:
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, bits)
		if bytes.IndexByte(dst[start:], '.') < 0 {
			dst = append(dst, ".0"...)
		}
		return dst
	default:
		return appendScientific(dst, f, bits)
	}
}

// appendScientific turns Go's 1e+07 and 1.5e-05 into Java's 1.0E7 and 1.5E-5. Java prints two digits at least, and the
// best two: 4.9E-324 for the smallest double, where one digit would do.
func appendScientific(dst []byte, f float64, bits int) []byte {
	var buf [32]byte
	text := strconv.AppendFloat(buf[:0], f, 'e', -1, bits)
	if bytes.IndexByte(text, '.') < 0 {
		text = strconv.AppendFloat(buf[:0], f, 'e', 1, bits)
	}
	e := bytes.IndexByte(text, 'e')
	dst = append(append(dst, text[:e]...), 'E')
	if text[e+1] == '-' {
		dst = append(dst, '-')
	}
	return append(dst, bytes.TrimLeft(text[e+2:], "0")...)
}

// widen returns the double that Java's text of f reads as: 0.1 for the float 0.1, where a conversion would show clients
// 0.10000000149011612.
func widen(f float32) float64 {
	d := float64(f)
	if d == math.Trunc(d) && math.Abs(d) < 1<<24 || d != d || math.IsInf(d, 0) {
		return d
	}
	var buf [32]byte
	text := appendJavaFloat(buf[:0], d, 32)
	shortest, _ := strconv.ParseFloat(string(text), 64) // what was just written is valid
	return shortest
}

// appendDecimal writes an unscaled number as plain text with scale digits after the point. A scale below zero stands
// for zeros before the point.
func appendDecimal(dst []byte, v decimal128.Num, scale int32) []byte {
	hi, lo := uint64(v.HighBits()), v.LowBits()
	if v.Sign() < 0 {
		dst = append(dst, '-')
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	start := len(dst)
	return placePoint(appendUint128(dst, hi, lo), start, scale)
}

// appendSmallDecimal is appendDecimal for unscaled numbers of 64 bits.
func appendSmallDecimal(dst []byte, v int64, scale int32) []byte {
	abs := uint64(v)
	if v < 0 {
		dst = append(dst, '-')
		abs = -abs
	}
	start := len(dst)
	return placePoint(strconv.AppendUint(dst, abs, 10), start, scale)
}

// appendUint128 writes the digits of a number below 2¹²⁷ + 1, the range of a decimal's absolute value.
func appendUint128(dst []byte, hi, lo uint64) []byte {
	if hi == 0 {
		return strconv.AppendUint(dst, lo, 10)
	}
	const chunk = 1e19 // the largest power of ten in 64 bits
	quo, rem := bits.Div64(hi, lo, chunk)
	dst = strconv.AppendUint(dst, quo, 10)
	var buf [20]byte
	low := strconv.AppendUint(buf[:0], rem, 10)
	dst = append(dst, "0000000000000000000"[len(low):]...)
	return append(dst, low...)
}

// placePoint puts the decimal point into the digits from start on, after padding them with zeros on the left.
func placePoint(dst []byte, start int, scale int32) []byte {
	if scale <= 0 {
		if dst[start] != '0' {
			dst = appendZeros(dst, int(-scale))
		}
		return dst
	}
	digits := len(dst) - start
	if pad := int(scale) + 1 - digits; pad > 0 {
		dst = appendZeros(dst, pad)
		copy(dst[start+pad:], dst[start:start+digits])
		for i := range min(pad, digits) {
			dst[start+i] = '0'
		}
	}
	point := len(dst) - int(scale)
	dst = append(dst, 0)
	copy(dst[point+1:], dst[point:])
	dst[point] = '.'
	return dst
}

func appendZeros(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, '0')
	}
	return dst
}
