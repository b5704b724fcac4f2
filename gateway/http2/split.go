package http2

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Split returns a listener without the connections whose clients choose HTTP/2, which the server
// takes. It is for servers that know of no other protocol than theirs.
func (s *Server) Split(listener net.Listener) net.Listener {
	l := &splitter{Listener: listener, server: s, rest: taken{conns: make(chan net.Conn), closed: make(chan struct{})}, failed: make(chan error)}
	go l.run()
	return l
}

type splitter struct {
	net.Listener
	server *Server
	rest   taken
	failed chan error
}

func (l *splitter) run() {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			select {
			case l.failed <- err: // the accepting loop decides whether to go on
			case <-l.rest.closed:
				return
			}
			continue
		}
		go l.sort(conn)
	}
}

// sort shakes hands, and hands the connection on.
func (l *splitter) sort(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		_ = t.SetDeadline(time.Now().Add(l.server.inner.ReadHeaderTimeout))
		if err := t.HandshakeContext(context.Background()); err != nil {
			l.server.inner.ErrorLog.Printf("http: TLS handshake error from %s: %v", c.RemoteAddr(), err)
			_ = c.Close()
			return
		}
		_ = t.SetDeadline(time.Time{})
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			if !l.server.Take(t) {
				_ = c.Close()
			}
			return
		}
	}
	select {
	case l.rest.conns <- c:
	case <-l.rest.closed:
		_ = c.Close()
	}
}

func (l *splitter) Accept() (net.Conn, error) {
	select {
	case c := <-l.rest.conns:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.rest.closed:
		return nil, net.ErrClosed
	}
}

func (l *splitter) Close() error {
	err := l.Listener.Close()
	_ = l.rest.Close()
	return err
}
