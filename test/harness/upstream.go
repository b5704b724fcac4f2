package harness

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"vault-plugin-secrets-mcp/bootstrap/demo"
)

// Upstream is an MCP server, in the test's own process, that remembers every
// request it sees.
type Upstream struct {
	// URL is its address, as in its registration.
	URL string

	server *httptest.Server

	mu       sync.Mutex
	requests []Request
}

// Request is a request that an upstream saw.
type Request struct {
	Method string
	Path   string // with the query
	Host   string
	Header http.Header
	Body   []byte
}

// StartUpstream serves a handler, and records its requests. Nil means the demo calculator,
// which speaks both eras at the path /mcp.
func (h *Harness) StartUpstream(handler http.Handler) *Upstream {
	h.t.Helper()
	return h.StartUpstreamAt("127.0.0.1:0", handler)
}

// StartUpstreamAt is StartUpstream at an address of the test's own process. Port 0
// lets the kernel choose.
func (h *Harness) StartUpstreamAt(address string, handler http.Handler) *Upstream {
	h.t.Helper()
	if handler == nil {
		handler = demo.Handler(demo.Calculator())
	}
	u := &Upstream{}
	listener, err := (&net.ListenConfig{}).Listen(h.t.Context(), "tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	u.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		u.mu.Lock()
		u.requests = append(u.requests, Request{
			Method: r.Method, Path: r.URL.RequestURI(), Host: r.Host, Header: r.Header.Clone(), Body: body,
		})
		u.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	_ = u.server.Listener.Close() // the one that it has chosen
	u.server.Listener = listener
	u.server.Start()
	u.URL = u.server.URL + demo.Path
	h.t.Cleanup(func() {
		u.server.CloseClientConnections() // streams would hold Close
		u.server.Close()
	})
	h.mu.Lock()
	h.upstreams = append(h.upstreams, u)
	h.mu.Unlock()
	return u
}

// Requests are those seen so far, in order.
func (u *Upstream) Requests() []Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.requests)
}

// Count is the number of requests so far.
func (u *Upstream) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// Forget drops the recorded requests.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests = nil
}

// wire is the whole request, as text to search.
func (r *Request) wire() []byte {
	var all bytes.Buffer
	fmt.Fprintf(&all, "%s %s\n", r.Method, r.Path)
	_ = r.Header.Write(&all)
	all.Write(r.Body)
	return all.Bytes()
}
