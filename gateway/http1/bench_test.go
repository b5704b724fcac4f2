package http1

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

// serving answers a message with one of the same size, as the gateway does it: it reads the body
// into a buffer of its own, and announces the answer's length.
var serving = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	buffer := bodies.Get().(*[]byte)
	defer bodies.Put(buffer)
	n, err := io.ReadFull(r.Body, (*buffer)[:r.ContentLength])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", r.Header.Get("Content-Length"))
	_, _ = w.Write((*buffer)[:n])
})

var bodies = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

func message(size int) string {
	return fmt.Sprintf("POST /servers/calculator/mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: node\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\nAuthorization: Bearer mcpt_0123456789012345678901234567890123456789012345678\r\n"+
		"Mcp-Session-Id: 0123456789\r\nMcp-Protocol-Version: 2025-11-25\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
}

// client asks again and again on its connection, and returns how often it was answered.
func client(conn net.Conn, request string, size int, end time.Time) (n int, err error) {
	from := bufio.NewReaderSize(conn, 128<<10)
	for time.Now().Before(end) {
		if _, err := io.WriteString(conn, request); err != nil {
			return n, err
		}
		for {
			line, err := from.ReadSlice('\n')
			if err != nil {
				return n, err
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := from.Discard(size); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func used() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// round returns requests a second, and allocations and processor time for each.
func round(tb testing.TB, addr string, clients, size int, d time.Duration) (rate, allocations, cpu float64) {
	tb.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	total, request := 0, message(size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, usedBefore := time.Now(), used()
	for range clients {
		conn, err := net.Dial("tcp", addr)
		require.NoError(tb, err)
		all.Go(func() {
			defer conn.Close()
			n, err := client(conn, request, size, began.Add(d))
			mu.Lock()
			defer mu.Unlock()
			total += n
			if err != nil {
				tb.Error(err)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	cpu = float64((used() - usedBefore).Microseconds()) / float64(total)
	runtime.ReadMemStats(&after)
	return float64(total) / took.Seconds(), float64(after.Mallocs-before.Mallocs) / float64(total), cpu
}

// BenchmarkBesideNetHTTP measures both servers in turn, in rounds, and reports the median ratio.
func BenchmarkBesideNetHTTP(b *testing.B) {
	ours, theirs := listen(b), listen(b)
	s := &Server{Handler: serving, MaxHeaderBytes: 32 << 10, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	other := &http.Server{Handler: serving, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	go func() { _ = s.Serve(ours) }()
	go func() { _ = other.Serve(theirs) }()
	defer s.Close()
	defer other.Close()
	for _, size := range []int{200, 64000} {
		for _, clients := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%dB/c=%d", size, clients), func(b *testing.B) {
				var rates, cpus []float64
				var mallocs, theirMallocs float64
				for b.Loop() {
					theirRate, m2, theirCPU := round(b, theirs.Addr().String(), clients, size, 200*time.Millisecond)
					rate, m, cpu := round(b, ours.Addr().String(), clients, size, 200*time.Millisecond)
					rates, cpus = append(rates, rate/theirRate), append(cpus, cpu/theirCPU)
					mallocs, theirMallocs = m, m2
				}
				slices.Sort(rates)
				slices.Sort(cpus)
				b.ReportMetric(rates[len(rates)/2], "×requests/s")
				b.ReportMetric(cpus[len(cpus)/2], "×CPU")
				b.ReportMetric(mallocs, "mallocs")
				b.ReportMetric(theirMallocs, "mallocs-net/http")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func BenchmarkParseHead(b *testing.B) {
	request := []byte(message(200))
	request = request[:len(request)-200]
	scratch := make([]byte, len(request))
	b.ReportAllocs()
	for b.Loop() {
		copy(scratch, request)
		if end, _, err := wire.ScanHead(scratch, 0); err != nil || end != len(scratch) {
			b.Fatal(err)
		}
		var h head
		if err := parseHead(scratch, &h); err != nil {
			b.Fatal(err)
		}
	}
}

// endless is a connection on which the same request comes again and again. It costs nothing itself.
type endless struct {
	stream
	request []byte
	left    int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left--; e.left < 0 {
		return 0, io.EOF
	}
	return copy(p, e.request), nil
}

func (e *endless) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkWarmRequest is what the server itself costs for a request.
func BenchmarkWarmRequest(b *testing.B) {
	s := &Server{Handler: serving, MaxHeaderBytes: 32 << 10, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	c := &conn{server: s, net: &endless{request: []byte(message(200)), left: b.N}}
	b.ReportAllocs()
	b.ResetTimer()
	c.serve()
}
