package mcp

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// wireServer serves each connection with a function, and counts them.
type wireServer struct {
	*grants.Server
	mu    sync.Mutex
	conns []net.Conn
}

// newWireServer calls serve with each request of each connection, until it
// reports false.
func newWireServer(t *testing.T, serve func(w io.Writer, body string) (more bool)) *wireServer {
	t.Helper()
	listener := gatewaytest.Listen(t)
	s := &wireServer{Server: &grants.Server{
		Name: "up", ID: "1", Transport: grants.TransportHTTP, URL: "http://" + listener.Addr().String() + "/mcp",
	}}
	gatewaytest.Serve(listener, func(conn net.Conn) {
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		gatewaytest.AnswerEach(conn, serve)
	})
	return s
}

// accepted is how many connections there were.
func (s *wireServer) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// upstream is the gateway's side of the server.
func (g *gateway) upstream(t *testing.T, server *grants.Server) *upstream {
	t.Helper()
	l, err := g.link(server)
	require.NoError(t, err)
	return l.(*proxy).upstream
}

func answerWith(w io.Writer, header, body string) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", header, len(body), body)
}
