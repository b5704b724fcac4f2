package jsonscan

import (
	"encoding/binary"
	"math/bits"
)

// Bytes repeated over a word, to compare eight bytes at once.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// blockSize is the number of bytes that the loops below look at before they branch.
const blockSize = 32

// special returns a word that is not zero if one of its eight bytes is special: a quote,
// a backslash or a control character. Its lowest set bit is at the first such byte. Bits
// above that one may be wrong.
//
// Inverting the bit of value two moves a quote right above the control characters, and
// the characters there further up. So one comparison finds quotes and control
// characters. The last step excludes bytes beyond ASCII.
func special(word uint64) uint64 {
	low := (word ^ 2*ones) - 0x21*ones
	slash := (word ^ '\\'*ones) - ones
	return (low | slash) &^ word & highs
}

// plain returns the offset of the first special byte from i on; the text's length if
// there is none. Most of a large message is inside strings, so a scan spends its time in
// this loop.
func plain(data []byte, i int) int {
	for end := min(i+blockSize/2, len(data)-7); i < end; i += 8 { // keys are short
		if hits := special(binary.LittleEndian.Uint64(data[i:])); hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	for ; i+blockSize <= len(data); i += blockSize {
		block := data[i : i+blockSize : i+blockSize]
		a, b := special(binary.LittleEndian.Uint64(block)), special(binary.LittleEndian.Uint64(block[8:]))
		c, d := special(binary.LittleEndian.Uint64(block[16:])), special(binary.LittleEndian.Uint64(block[24:]))
		if a|b|c|d == 0 {
			continue
		}
		switch {
		case a != 0:
			return i + bits.TrailingZeros64(a)/8
		case b != 0:
			return i + 8 + bits.TrailingZeros64(b)/8
		case c != 0:
			return i + 16 + bits.TrailingZeros64(c)/8
		default:
			return i + 24 + bits.TrailingZeros64(d)/8
		}
	}
	for ; i+8 <= len(data); i += 8 {
		if hits := special(binary.LittleEndian.Uint64(data[i:])); hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	for ; i < len(data); i++ {
		if c := data[i]; c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}
