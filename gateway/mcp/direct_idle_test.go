package mcp

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	s := &wireServer{Server: &grants.Server{
		Name: "up", ID: "1", Transport: grants.TransportHTTP, URL: "http://" + listener.Addr().String() + "/mcp",
	}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			go serveWire(conn, serve)
		}
	}()
	return s
}

func serveWire(conn net.Conn, serve func(w io.Writer, body string) bool) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !serve(conn, string(body)) {
			return
		}
	}
}

// accepted is how many connections there were.
func (s *wireServer) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// first is the first of them.
func (s *wireServer) first() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[0]
}

// upstream is the gateway's side of the server.
func (g *gateway) upstream(t *testing.T, server *grants.Server) *upstream {
	t.Helper()
	l, err := g.link(server)
	require.NoError(t, err)
	return l.(*proxy).upstream
}

// idle are the gateway's idle connections to the server.
func (g *gateway) idle(t *testing.T, server *grants.Server) *idleConns {
	t.Helper()
	return &g.upstream(t, server).idle
}

func (i *idleConns) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.conns)
}

func answerWith(w io.Writer, header, body string) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", header, len(body), body)
}

func TestWhichConnectionsServeAnotherRequest(t *testing.T) {
	tests := map[string]struct {
		answer  func(w io.Writer, body string) bool
		accepts int // connections for three requests
	}{
		"after an answer of known length": {func(w io.Writer, _ string) bool { answerWith(w, "", pong); return true }, 1},
		"after an answer in chunks": {func(w io.Writer, _ string) bool {
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(pong), pong)
			return true
		}, 1},
		"after a stream with an end": {func(w io.Writer, _ string) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nb\r\ndata: 1234\n\r\n0\r\n\r\n")
			return true
		}, 1},
		"after an answer without a body": {func(w io.Writer, _ string) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
			return true
		}, 1},
		"not after the server has closed it": {func(w io.Writer, _ string) bool { answerWith(w, "", pong); return false }, 3},
		"not after the server says it will": {func(w io.Writer, _ string) bool {
			answerWith(w, "Connection: close\r\n", pong)
			return true
		}, 3},
		"not after an answer that ends with its connection": {func(w io.Writer, _ string) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"+pong)
			return false
		}, 3},
		"not after an answer with something behind it": {func(w io.Writer, _ string) bool {
			answerWith(w, "", pong+strings.Repeat(" ", 8))
			answerWith(w, "X-Of: another\r\n", `{"stolen":true}`)
			return true
		}, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := newWireServer(t, test.answer)
			g := newGateway(t, testConfig(), server.Server)
			for i := range 3 {
				got := g.Ask(t, ping)
				require.Less(t, got.Status, 300, got.Body)
				require.NotContains(t, got.Body, "stolen")
				require.Empty(t, got.Header.Get("X-Of"))
				if test.accepts == 3 {
					// What comes late must have come, or it would prove nothing.
					gatewaytest.Eventually(t, "the connection to be of no use", func() bool {
						conn := g.idle(t, server.Server).take()
						if conn != nil {
							g.idle(t, server.Server).put(conn)
						}
						return conn == nil
					})
				}
				require.Equal(t, min(i+1, test.accepts), server.accepted())
			}
		})
	}
}

func TestWhatComesUnaskedIsNobodysAnswer(t *testing.T) {
	server := newWireServer(t, func(w io.Writer, _ string) bool { answerWith(w, "", pong); return true })
	g := newGateway(t, testConfig(), server.Server)
	require.Equal(t, pong, g.Ask(t, ping).Body)
	answerWith(server.first(), "", `{"stolen":true}`)

	idle := g.idle(t, server.Server)
	gatewaytest.Eventually(t, "it to arrive", func() bool {
		idle.mu.Lock()
		defer idle.mu.Unlock()
		return !idle.conns[0].quiet()
	})
	require.Equal(t, pong, g.Ask(t, ping, ":token", "bob").Body)
	require.Equal(t, 2, server.accepted())
}

func TestARequestThatIsCutLeavesNoConnection(t *testing.T) {
	asked := make(chan struct{})
	release := make(chan struct{})
	server := newWireServer(t, func(io.Writer, string) bool { close(asked); <-release; return false })
	g := newGateway(t, testConfig(), server.Server)
	go func() {
		<-asked
		g.cut("alice")
	}()
	require.Equal(t, http.StatusUnauthorized, g.Ask(t, ping).Status)
	close(release)
	require.Zero(t, g.idle(t, server.Server).count())
}

func TestConnectionsEndWithTheRegistration(t *testing.T) {
	server := newWireServer(t, func(w io.Writer, _ string) bool { answerWith(w, "", pong); return true })
	g := newGateway(t, testConfig(), server.Server)
	g.Ask(t, ping)
	idle := g.idle(t, server.Server)
	require.Equal(t, 1, idle.count())
	g.registry.watch(grants.End{Server: server.Server})
	require.Zero(t, idle.count())
	idle.put(newDirectConn(server.first(), connBuffer))
	require.Zero(t, idle.count(), "one that comes back later is closed too")
}

func TestConnectionsThatWaitForTooLongAreClosed(t *testing.T) {
	server := newWireServer(t, func(w io.Writer, _ string) bool { answerWith(w, "", pong); return true })
	g := newGateway(t, testConfig(), server.Server)
	g.Ask(t, ping)
	idle := g.idle(t, server.Server)
	idle.expire()
	require.Equal(t, 1, idle.count())
	idle.mu.Lock()
	idle.conns[0].since = time.Now().Add(-idleConnTimeout)
	idle.mu.Unlock()
	idle.expire()
	require.Zero(t, idle.count())
}
