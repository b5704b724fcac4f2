package gatewaytest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// Proxy is an HTTP proxy that opens tunnels by CONNECT to the names that it knows, and
// records the bytes in them.
type Proxy struct {
	*httptest.Server
	names map[string]string // host:port as it is asked for, to the address

	mu       sync.Mutex
	user     string // "name:password" that it asks for; "": nothing
	requests []*http.Request
	seen     bytes.Buffer // the bytes in its tunnels, both ways
}

// NewProxy starts a proxy that ends with the test.
func NewProxy(t testing.TB, names map[string]string) *Proxy {
	t.Helper()
	p := newProxy(names)
	p.Start()
	t.Cleanup(p.Close)
	return p
}

// NewTLSProxy starts one that is spoken to with TLS.
func NewTLSProxy(t testing.TB, names map[string]string) *Proxy {
	t.Helper()
	p := newProxy(names)
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func newProxy(names map[string]string) *Proxy {
	p := &Proxy{names: names}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	return p
}

// Demand has it ask for Basic authentication by this user.
func (p *Proxy) Demand(name, password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user = name + ":" + password
}

// Requests are those that have come.
func (p *Proxy) Requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Seen returns the bytes that went through its tunnels.
func (p *Proxy) Seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// Write records the bytes of a tunnel.
func (p *Proxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Write(b)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, r)
	user := p.user
	p.mu.Unlock()
	if user != "" && !authorized(r, user) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	address, known := p.names[r.Host]
	if r.Method != http.MethodConnect || !known {
		http.Error(w, "no way", http.StatusForbidden)
		return
	}
	server, err := net.Dial("tcp", address) //nolint:noctx // the tunnel outlives the request
	if err != nil {
		http.Error(w, "nobody there", http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	client, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	go p.pass(server, io.TeeReader(buffered, p), client)
	p.pass(client, io.TeeReader(server, p), server)
}

// pass hands bytes on in one direction. The end of one side ends the other.
func (*Proxy) pass(to net.Conn, from io.Reader, source net.Conn) {
	_, _ = io.Copy(struct{ io.Writer }{to}, from)
	_ = to.Close()
	_ = source.Close()
}

func authorized(r *http.Request, user string) bool {
	shown := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	name, password, ok := shown.BasicAuth()
	return ok && name+":"+password == user
}
