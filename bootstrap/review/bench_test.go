package review

import (
	"fmt"
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

// counter counts written bytes.
type counter struct{ bytes int }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return io.Discard.Write(p)
}

// BenchmarkRead reads 500 clients, each with its usage, and 100 servers of an engine in this
// process, over HTTP.
func BenchmarkRead(b *testing.B) {
	e := newEngine(b)
	for n := range 100 {
		e.write(fmt.Sprintf("servers/s%d", n), data{"transport": "http", "url": fmt.Sprintf("https://s%d.example.com/mcp", n)})
	}
	for n := range 500 {
		e.write(fmt.Sprintf("clients/c%d", n), data{"allowed_servers": fmt.Sprintf("s%d,s%d", n%100, n%7)})
	}
	b.ReportAllocs()
	for b.Loop() {
		e.requests = 0
		if _, err := Read(b.Context(), e.vault, "mcp"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(e.requests), "requests")
}
