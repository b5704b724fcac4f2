package jsonscan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bytewise is plain, byte by byte.
func bytewise(data []byte, i int) int {
	for i < len(data) && data[i] >= ' ' && data[i] != '"' && data[i] != '\\' {
		i++
	}
	return i
}

// wordwise is the former plain: eight bytes at a time, with a comparison for each special
// byte.
func wordwise(data []byte, i int) int {
	for ; i+8 <= len(data); i += 8 {
		word := binary.LittleEndian.Uint64(data[i:])
		quote := word ^ '"'*ones
		slash := word ^ '\\'*ones
		hits := (word-' '*ones)&^word | (quote-ones)&^quote | (slash-ones)&^slash
		if hits &= highs; hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	return bytewise(data, i)
}

func TestPlainFindsEveryByteAtEveryOffset(t *testing.T) {
	for size := range 3 * blockSize {
		for at := range size {
			for c := range 256 {
				data := bytes.Repeat([]byte("x"), size)
				data[at] = byte(c)
				require.Equal(t, bytewise(data, 0), plain(data, 0), "%q", data)
			}
		}
	}
}

func FuzzPlainIsTheByteByByteForm(f *testing.F) {
	f.Add([]byte(`a text of more than thirty-two bytes, and then "quotes"`), uint8(3))
	f.Add(bytes.Repeat([]byte("\xff\x7f!]#\x80"), 20), uint8(0))
	f.Add([]byte("\\\x1f\x00"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, start uint8) {
		for i := min(int(start), len(data)); i <= len(data); i++ {
			if got, want := plain(data, i), bytewise(data, i); got != want {
				t.Fatalf("%q from %d: %d instead of %d", data, i, got, want)
			}
		}
	})
}

// BenchmarkPlain compares the forms in one run, by turns, and reports the medians'
// ratios: how many times as fast plain is.
func BenchmarkPlain(b *testing.B) {
	for name, text := range map[string][]byte{
		"a text of 64 KB":     append(bytes.Repeat([]byte("a line of some text. "), 64<<10/21), '"'),
		"a text of 100 bytes": append(bytes.Repeat([]byte("a line of some text. "), 5), '"'),
		"a key":               []byte(`description":`),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			rounds := max(1, 4<<20/len(text))
			var took [3][]float64
			for b.Loop() {
				for i, form := range [...]func([]byte, int) int{plain, wordwise, bytewise} {
					began := time.Now()
					for range rounds {
						sink += form(text, 0)
					}
					took[i] = append(took[i], float64(time.Since(began)))
				}
			}
			for i := range took {
				slices.Sort(took[i])
			}
			median := func(list []float64) float64 { return list[len(list)/2] }
			b.ReportMetric(median(took[1])/median(took[0]), "x-wordwise")
			b.ReportMetric(median(took[2])/median(took[0]), "x-bytewise")
			b.ReportMetric(float64(len(text)*rounds)/median(took[0]), "GB/s")
		})
	}
}

// sink keeps the compiler from removing the measured code.
var sink int
