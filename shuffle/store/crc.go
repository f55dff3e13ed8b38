package store

import "hash/crc32"

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// joined is the CRC-32C of two runs of bytes one after another, from those of each and the length of the second: what was summed
// while it was in the processor's cache need not be read again when it is known where it lies. (Mark Adler, crc32_combine of zlib 1.2.12.)
func joined(first, second uint32, length int64) uint32 {
	return times(powers(length), first) ^ second
}

// times multiplies polynomials modulo Castagnoli's, bits reversed.
func times(a, b uint32) (product uint32) {
	for m := uint32(1) << 31; m != 0; m >>= 1 {
		if a&m != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}

// squares are x^(2^n) modulo the polynomial, from x^8 on.
var squares = func() (out [61]uint32) {
	p := uint32(1) << 30 // x
	for range 3 {
		p = times(p, p)
	}
	for i := range out {
		out[i] = p // x^(8·2^i)
		p = times(p, p)
	}
	return out
}()

// powers is x^(8n): what n bytes of zero do to a sum.
func powers(n int64) uint32 {
	p := uint32(1) << 31 // 1
	for i := 0; n > 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			p = times(squares[i], p)
		}
	}
	return p
}
