package http2

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Bounds of a connection.
const (
	// MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS: how many requests a client may have open
	// on one connection. RFC 9113, section 6.5.2, recommends no fewer than 100, and clients
	// that want more open further connections, which are bounded as well.
	MaxStreams = 100

	// maxFrame is SETTINGS_MAX_FRAME_SIZE, the least that there is: a connection keeps a
	// buffer of the size of the largest frame that came.
	maxFrame = 16 << 10

	// streamWindow and connectionWindow bound the bytes of bodies that a client has sent and
	// no handler has read yet.
	streamWindow     = 128 << 10
	connectionWindow = 512 << 10
)

// Server serves HTTP/2 on connections that others have accepted.
type Server struct {
	inner *http.Server
	taken taken

	// Suspect is called when a client's frames have used up one of the accounts. It has to be
	// set before the first connection comes; nil: nobody is told.
	Suspect func(remote net.Addr, what string)
}

// New returns a server with the settings of base, which the caller must not use from now on. Its
// timeouts have the same meaning as for HTTP/1.1: ReadTimeout that of a request's body,
// IdleTimeout that of a connection without a request.
func New(base *http.Server) *Server {
	s := &Server{inner: base, taken: taken{conns: make(chan net.Conn), closed: make(chan struct{})}}
	base.Protocols = new(http.Protocols)
	base.Protocols.SetUnencryptedHTTP2(true)
	base.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          MaxStreams,
		MaxReadFrameSize:              maxFrame,
		MaxReceiveBufferPerStream:     streamWindow,
		MaxReceiveBufferPerConnection: connectionWindow,
	}
	next, connContext := base.Handler, base.ConnContext
	base.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			r.TLS = &c.state
		}
		next.ServeHTTP(w, r)
	})
	base.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		return context.WithValue(ctx, connKey{}, c)
	}
	return s
}

type connKey struct{}

// Serve serves the connections that Take gets, until the server ends. It runs once.
func (s *Server) Serve() error { return s.inner.Serve(&s.taken) }

// Take gives the server a connection whose client has chosen HTTP/2, after the handshake. It reports
// whether the server has taken it: one that ends takes none.
func (s *Server) Take(t *tls.Conn) bool {
	select {
	case s.taken.conns <- newConn(t, s):
		return true
	case <-s.taken.closed:
		return false
	}
}

// Shutdown ends the server in good order: it tells each client by GOAWAY which requests it serves,
// and waits for these. The error is that of the context.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.taken.Close()
	return s.inner.Shutdown(ctx)
}

// Close ends the server at once, with all connections.
func (s *Server) Close() error {
	defer s.taken.Close()
	return s.inner.Close()
}

// taken is the listener of the connections that the server has taken.
type taken struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (t *taken) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

func (t *taken) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

// Addr is nobody's: the connections come from other listeners.
func (t *taken) Addr() net.Addr { return &net.TCPAddr{} }
