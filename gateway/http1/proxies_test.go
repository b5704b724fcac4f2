package http1

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxyStreams is how many streams that are made up go through each proxy.
const proxyStreams = 100

// TestProxiesSmuggleNothing sends hostile streams through nginx and HAProxy, each of which gives
// every request that it sees an id. What reaches the server has exactly one, and the proxy's own
// method and target; no body holds one; and each answer is that of its request. So what the proxy
// takes for requests are those of the server, and end where those end.
func TestProxiesSmuggleNothing(t *testing.T) {
	t.Parallel()
	nginx, haproxy := program(t, "nginx"), program(t, "haproxy")
	dir, err := os.MkdirTemp("", "http1") //nolint:usetesting // a socket's path must be short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	behind := &backend{seen: make(map[string]*http.Request)}
	behind.serve(t, filepath.Join(dir, "backend"))
	start(t, nginx, "-p", dir, "-c", configure(t, dir, "nginx.conf"), "-e", filepath.Join(dir, "nginx.log"))
	start(t, haproxy, "-db", "-f", configure(t, dir, "haproxy.cfg"))
	for _, proxy := range []string{"nginx", "nginx-streaming", "nginx-1.0", "haproxy", "haproxy-lenient"} {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(dir, proxy)
			require.Eventually(t, func() bool {
				answers, err := exchangeBytes(socket, []byte(closingRequest))
				return err == nil && bytes.HasPrefix(answers, []byte("HTTP/1.1 200 "))
			}, patience, 20*time.Millisecond, "the proxy does not serve")
			behind.attack(t, socket)
		})
	}
}

const closingRequest = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

// program finds a proxy. Debian keeps them off the PATH of others than root.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	if os.Getenv("TEST_FIELD") == "required" {
		t.Fatalf("%s is missing on this machine (scripts/field.sh install)", name)
	}
	t.Skipf("%s is missing on this machine", name)
	return ""
}

func configure(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte("DIR"), []byte(dir)), 0o600))
	return file
}

func start(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, &output)
		}
	})
}

// backend is what is behind the proxies.
type backend struct {
	mu      sync.Mutex
	seen    map[string]*http.Request // by their ids
	strange []string
}

func (b *backend) serve(t *testing.T, socket string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &Server{Handler: b, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.Error(t, <-served)
	})
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body []byte
	if !strings.Contains(r.RequestURI, "early") { // else it answers before the body has come
		body, _ = io.ReadAll(r.Body)
	}
	ids := r.Header["X-Proxy-Id"]
	id := strings.Join(ids, " and ")
	w.Header()["X-Backend-Id"] = ids
	_, _ = io.WriteString(w, "answer to "+id)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(ids) != 1 || b.seen[id] != nil:
		b.strange = append(b.strange, fmt.Sprintf("a request that the proxy has not sent: %q %q %q", r.Method, r.RequestURI, r.Header))
	case bytes.Contains(body, []byte("X-Proxy-Id")):
		b.strange = append(b.strange, fmt.Sprintf("a request within the body of another: %q", body))
	case r.Method != r.Header.Get("X-Proxy-Method") || r.RequestURI != r.Header.Get("X-Proxy-Target"):
		b.strange = append(b.strange, fmt.Sprintf("another request: %q %q %q", r.Method, r.RequestURI, r.Header))
	}
	b.seen[id] = r
}

// attack sends the streams, and looks at their answers. A proxy forgets a connection that waits for
// more, so many are open at once.
func (b *backend) attack(t *testing.T, socket string) {
	t.Helper()
	var streams [][]byte
	for _, stream := range append(seeds(), attacks()...) {
		streams = append(streams, []byte(stream+closingRequest))
	}
	for i := range proxyStreams {
		streams = append(streams, append(newGenerator(2, uint64(i)).stream(), closingRequest...))
	}
	var senders sync.WaitGroup
	var answered atomic.Int64
	slots := make(chan struct{}, 200)
	for _, stream := range streams {
		slots <- struct{}{}
		senders.Go(func() {
			defer func() { <-slots }()
			answers, err := exchangeBytes(socket, stream)
			if err == nil {
				var n int
				n, err = checkAnswers(answers)
				answered.Add(int64(n))
			}
			if err != nil {
				t.Errorf("%v\nafter %q:\n%q", err, stream, answers)
			}
		})
	}
	senders.Wait()
	t.Logf("%d streams, %d answers", len(streams), answered.Load())
	require.Greater(t, int(answered.Load()), len(streams)/2, "the proxy lets too little through")
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.strange)
}

// exchangeBytes sends a stream, and returns all answers. A reset may have taken some with it.
func exchangeBytes(socket string, stream []byte) ([]byte, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = conn.Write(stream) // the proxy may have gone
	}()
	answers, err := io.ReadAll(conn)
	_ = conn.Close()
	<-written
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() { //nolint:errorlint // of the connection itself
		return answers, fmt.Errorf("the proxy keeps the connection: %w", err)
	}
	return answers, nil
}

// checkAnswers compares the ids in answers: what the proxy, the server and the body say. It returns
// the number of answers of the server.
func checkAnswers(answers []byte) (n int, err error) {
	from := bufio.NewReader(bytes.NewReader(answers))
	for first := true; ; first = false {
		if start, err := from.Peek(7); len(start) == 0 || first && err == nil && string(start) != "HTTP/1." {
			return n, nil // no more answers; or the proxy speaks HTTP/0.9 here, or HTTP/2
		}
		head, _ := from.Peek(from.Buffered())
		request, _ := http.NewRequestWithContext(context.Background(), method(head), "/", http.NoBody)
		response, err := http.ReadResponse(from, request)
		if err != nil {
			return n, fmt.Errorf("an answer is not valid: %w", err)
		}
		body, _ := io.ReadAll(response.Body) // it may be cut, with the connection
		id := response.Header.Get("X-Proxy-Id")
		switch ours := response.Header["X-Backend-Id"]; {
		case response.StatusCode == http.StatusContinue || len(ours) == 0: // the proxy's own, or a refusal
		case len(ours) != 1 || ours[0] != id:
			return n, fmt.Errorf("the answer to %q is given to %q", ours, id)
		case len(body) > 0 && !strings.HasPrefix("answer to "+id, string(body)):
			return n, fmt.Errorf("the answer to %q has the body %q", id, body)
		default:
			n++
		}
	}
}

// method is that of the request, as the proxy says in its answer.
func method(head []byte) string {
	head, _, _ = bytes.Cut(head, []byte("\r\n\r\n"))
	_, rest, found := bytes.Cut(bytes.ToLower(head), []byte("\nx-proxy-method: "))
	if !found {
		return http.MethodGet
	}
	line, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return strings.ToUpper(string(line))
}

// attacks are requests with another one in their bodies, by every means that is known to have worked
// between some proxy and some server.
func attacks() (all []string) {
	const inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	chunks := "0\r\n\r\n" + inner
	for _, line := range framing {
		all = append(all,
			post(chunks, line, fmt.Sprintf("Content-Length: %d", len(chunks))), post(chunks, fmt.Sprintf("Content-Length: %d", len(chunks)), line),
			post(chunks, "Transfer-Encoding: chunked", line), post(chunks, line, "Transfer-Encoding: chunked"), post(chunks, line))
	}
	for _, extension := range extensions {
		all = append(all, post("2"+extension+"\r\nab\r\n"+chunks, "Transfer-Encoding: chunked"), post("0"+extension+"\r\n\r\n"+inner, "Transfer-Encoding: chunked"))
	}
	for _, end := range ends {
		all = append(all, post("2"+end+"ab\r\n"+chunks, "Transfer-Encoding: chunked"), post("2\r\nab"+end+chunks, "Transfer-Encoding: chunked"),
			post("0"+end+"\r\n"+inner, "Transfer-Encoding: chunked"), post("0\r\n"+end+inner, "Transfer-Encoding: chunked"), post(chunks, "X: y"+end+"Transfer-Encoding: chunked"))
	}
	for _, trailer := range trailers {
		all = append(all, post("2\r\nab\r\n0\r\n"+trailer+"\r\n\r\n"+inner, "Transfer-Encoding: chunked"))
	}
	for _, line := range fieldLines {
		all = append(all, post(inner, line, fmt.Sprintf("Content-Length: %d", len(inner))), post("0\r\n\r\n", line, "Transfer-Encoding: chunked"))
	}
	early := func(body string, lines ...string) string {
		return strings.Replace(post(body, lines...), "/mcp", "/early", 1)
	}
	return append(all,
		early(inner), early(inner, "Expect: 100-continue", fmt.Sprintf("Content-Length: %d", len(inner))), early("2\r\nab\r\n"+chunks, "Transfer-Encoding: chunked"),
		early(strings.Repeat(inner, 10000)), early(inner, "Content-Length: 400000"), strings.Replace(early(inner), "POST", "GET", 1), strings.Replace(early(inner), "POST", "HEAD", 1),
		strings.Replace(post(inner), "POST", "GET", 1), strings.Replace(post(inner), "POST", "HEAD", 1), strings.Replace(post(inner), "POST", "OPTIONS", 1),
		strings.Replace(post(inner), "HTTP/1.1", "HTTP/1.0", 1), strings.Replace(post(chunks, "Transfer-Encoding: chunked"), "HTTP/1.1", "HTTP/1.0", 1),
		post(inner, "Connection: Content-Length", fmt.Sprintf("Content-Length: %d", len(inner))), post(chunks, "Connection: Transfer-Encoding", "Transfer-Encoding: chunked"),
		"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"+inner,
	)
}
