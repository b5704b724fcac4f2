package review

import (
	"io"
	"testing"
)

// BenchmarkReview makes and writes a review of 500 clients and 100 servers.
func BenchmarkReview(b *testing.B) {
	s := sample(500, 100)
	b.Run("decide", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			New(s, 30)
		}
	})
	r := New(s, 30)
	for _, format := range Formats() {
		b.Run(format, func(b *testing.B) {
			b.ReportAllocs()
			n := &counter{}
			for b.Loop() {
				n.bytes = 0
				if err := Write(n, format, r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n.bytes), "bytes")
		})
	}
}

// counter counts what is written.
type counter struct{ bytes int }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return io.Discard.Write(p)
}
