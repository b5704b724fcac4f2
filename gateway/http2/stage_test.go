package http2

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	xhttp2 "golang.org/x/net/http2"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// patience of the tests: longer than a busy machine stops a process.
const patience = 30 * time.Second

// stage is a server behind a real socket and TLS.
type stage struct {
	t       *testing.T
	server  *Server
	addr    string
	trusted *tls.Config
	served  chan error
	running atomic.Int32 // handlers
	most    atomic.Int32 // of them at once
	suspect atomic.Pointer[string]
}

func newStage(t *testing.T, handle http.HandlerFunc, change func(*http.Server)) *stage {
	t.Helper()
	s := &stage{t: t, served: make(chan error, 1)}
	ours, trusted := gatewaytest.TLS(t)
	s.trusted = trusted

	base := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for n, m := s.running.Add(1), s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
			}
			defer s.running.Add(-1)
			handle(w, r)
		}),
		ReadHeaderTimeout: patience,
		ReadTimeout:       patience,
		IdleTimeout:       patience,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	if change != nil {
		change(base)
	}
	s.server = New(base)
	s.server.Suspect = func(_ net.Addr, what string) { s.suspect.CompareAndSwap(nil, &what) }
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = listener.Addr().String()
	rest := s.server.Split(tls.NewListener(listener, ours))
	go func() { s.served <- s.server.Serve() }()
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the other server") }))
	_ = other.Listener.Close()
	other.Listener = rest
	other.Start()
	t.Cleanup(func() {
		other.CloseClientConnections()
		other.Close()
		require.NoError(t, s.server.Close())
		require.ErrorIs(t, <-s.served, http.ErrServerClosed)
	})
	return s
}

func (s *stage) await(what string, done func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("no end of the wait for %s", what)
		}
	}
}

// told is what the server says first about a client that it suspects; "" if it suspects none.
func (s *stage) told() string {
	if what := s.suspect.Load(); what != nil {
		return *what
	}
	return ""
}

// client returns one of Go's.
func (s *stage) client(protocols ...string) *http.Client {
	config := s.trusted.Clone()
	config.NextProtos = protocols
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: slices.Contains(protocols, "h2")}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func (s *stage) url(path string) string { return "https://" + s.addr + path }

func (s *stage) dial(settings ...xhttp2.Setting) *gatewaytest.HTTP2 {
	s.t.Helper()
	return gatewaytest.DialHTTP2(s.t, s.addr, s.trusted, settings...)
}

// stream is the id of the nth stream.
func stream(n int) uint32 { return uint32(2*n + 1) }
