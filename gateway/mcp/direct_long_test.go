package mcp

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// longPing is a message that no buffer between the gateway and a server takes whole,
// where size is large enough.
func longPing(size int) string { return strings.Replace(ping, "ping", strings.Repeat("y", size), 1) }

// newLongGateway takes messages of many MB.
func newLongGateway(t *testing.T, timeout time.Duration, server *grants.Server) *gateway {
	t.Helper()
	c := testConfig()
	c.Limits.MaxBody = 64 << 20
	c.Upstreams = map[string]config.Upstream{"up": {Timeout: timeout, ConnectTimeout: 5 * time.Second}}
	return newGateway(t, c, server)
}

func TestLongMessagesArriveWholeOverOneConnection(t *testing.T) {
	var got []string
	server := newWireServer(t, func(w io.Writer, body string) bool {
		got = append(got, body)
		answerWith(w, "", pong)
		return true
	})
	g := newLongGateway(t, time.Minute, server.Server)
	var want []string
	for _, size := range []int{smallMessage, smallMessage + 1, 64 << 10, 1 << 20, 4 << 20} {
		want = append(want, longPing(size))
		require.Equal(t, pong, g.Ask(t, want[len(want)-1]).Body)
	}
	require.Equal(t, want, got)
	require.Equal(t, 1, server.accepted())
}

// hold is a server that reads no more than a request's header, until release is
// closed. Then it reads the rest, and answers if it is told to.
func hold(t *testing.T, release <-chan struct{}, answers bool) *grants.Server {
	t.Helper()
	return rawServer(t, func(w io.Writer) {
		<-release
		conn := w.(net.Conn)
		buffer := make([]byte, 1<<20)
		for read := 0; read < 31<<20; {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			read += n
		}
		if answers {
			answerWith(w, "", pong)
		}
		_, _ = io.Copy(io.Discard, conn)
	})
}

// TestTheTimeoutBeginsWhenALongMessageIsSent: a slow network is not a slow server.
func TestTheTimeoutBeginsWhenALongMessageIsSent(t *testing.T) {
	const timeout = time.Second
	release := make(chan struct{})
	time.AfterFunc(2*timeout, func() { close(release) })
	g := newLongGateway(t, timeout, hold(t, release, true))
	got := g.Ask(t, longPing(32<<20))
	require.Equal(t, http.StatusOK, got.Status, got.Body)
}

func TestAServerThatIsSilentAfterALongMessageIsA504(t *testing.T) {
	release := make(chan struct{})
	close(release)
	g := newLongGateway(t, time.Second, hold(t, release, false))
	got := g.Ask(t, longPing(32<<20))
	require.Equal(t, http.StatusGatewayTimeout, got.Status, got.Body)
}

func TestALongMessageMayBeAnsweredBeforeItsEnd(t *testing.T) {
	server := rawServer(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, w.(net.Conn)) // until the gateway gives up
	})
	g := newLongGateway(t, time.Minute, server)
	require.Equal(t, http.StatusRequestEntityTooLarge, g.Ask(t, longPing(32<<20)).Status)
}

// TestAConnectionOnWhichAMessageWaitsServesNoOther: the rest of it would be read as the
// next request.
func TestAConnectionOnWhichAMessageWaitsServesNoOther(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	server := rawServer(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		<-release // nothing is read
	})
	g := newLongGateway(t, time.Minute, server)
	require.Equal(t, http.StatusRequestEntityTooLarge, g.Ask(t, longPing(32<<20)).Status)
	require.Zero(t, g.idle(t, server).count())
}

func TestALongMessageThatWaitsEndsWithARevocation(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	server := rawServer(t, func(io.Writer) { close(asked); <-release })
	g := newLongGateway(t, time.Minute, server)
	go func() { <-asked; g.cut("alice") }()
	got := g.Ask(t, longPing(32<<20))
	require.Equal(t, http.StatusUnauthorized, got.Status, got.Body)
}
