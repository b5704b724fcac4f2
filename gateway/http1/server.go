package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves HTTP/1.1 and HTTP/1.0. Its fields mean what those of [http.Server] mean, and must
// not change while it serves. Writes are bounded by the connections that the listener returns.
type Server struct {
	Handler http.Handler

	ReadHeaderTimeout time.Duration // from a request's first byte, for which a new connection has as long
	ReadTimeout       time.Duration // of a whole request, from its first byte
	IdleTimeout       time.Duration // between two requests
	MaxHeaderBytes    int           // of the request line and all fields; there is no default

	// ConnContext runs in the connection's goroutine.
	ConnContext func(ctx context.Context, conn net.Conn) context.Context

	// NextProto gets a connection over TLS with another protocol than HTTP/1.1 (ALPN) after the
	// handshake, without a deadline. True: it is the hook's from now on. Otherwise it ends.
	NextProto func(conn *tls.Conn) bool

	ErrorLog *log.Logger // there is no default

	draining, closed atomic.Bool
	lookout          lookout

	mu       sync.Mutex
	listener net.Listener // nil: Serve does not run
	conns    map[*conn]struct{}
}

// Serve accepts connections until the listener fails or the server ends. It runs once.
func (s *Server) Serve(listener net.Listener) error {
	s.mu.Lock()
	s.listener, s.conns = listener, make(map[*conn]struct{})
	if s.draining.Load() {
		_ = listener.Close()
	}
	s.mu.Unlock()
	defer s.leave(nil)
	for pause := 5 * time.Millisecond; ; {
		accepted, err := listener.Accept()
		var passing net.Error
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			s.start(accepted)
		case s.draining.Load():
			return http.ErrServerClosed
		case errors.As(err, &passing) && passing.Temporary(): //nolint:staticcheck // such as no free descriptor
			s.ErrorLog.Printf("http: Accept error: %v; retrying in %v", err, pause)
			<-time.After(pause)
			pause = min(2*pause, time.Second)
		default:
			return err
		}
	}
}

func (s *Server) start(accepted net.Conn) {
	c := &conn{server: s, net: accepted}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		_ = accepted.Close()
		return
	}
	s.conns[c] = struct{}{}
	go func() {
		defer s.leave(c)
		c.serve()
	}()
}

// leave notes that a connection has ended, or Serve.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.conns, c); c == nil {
		s.listener = nil
	}
}

// drain closes the listener, and has f called for each connection.
func (s *Server) drain(f func(c *conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	if s.listener != nil {
		_ = s.listener.Close()
	}
	for c := range s.conns {
		f(c)
	}
}

// Shutdown ends the server in good order. Each request that has arrived is answered, and its answer
// ends its connection. The error is that of the context.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain((*conn).hurry)
	for {
		s.mu.Lock()
		empty := s.listener == nil && len(s.conns) == 0
		s.mu.Unlock()
		if empty {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the server at once, and cancels the requests in flight.
func (s *Server) Close() error {
	s.closed.Store(true)
	s.drain((*conn).kill)
	return nil
}
