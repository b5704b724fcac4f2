package mcp

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/direct"
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

// slowReader is a server that takes a message of 32 MB in steps, with a pause before each,
// and answers if it is told to.
func slowReader(t *testing.T, pause time.Duration, answers bool) *grants.Server {
	t.Helper()
	return rawServer(t, func(w io.Writer) {
		conn := w.(net.Conn)
		buffer := make([]byte, 3<<20)
		for read := 0; read < 31<<20; {
			<-time.After(pause) // the pause is what is tried
			n, err := io.ReadAtLeast(conn, buffer, 1)
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
	const timeout = 2 * time.Second
	g := newLongGateway(t, timeout, slowReader(t, timeout/8, true))
	started := time.Now()
	got := g.Ask(t, longPing(32<<20))
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	require.Greater(t, time.Since(started), timeout, "it has to take longer than the timeout, or it proves nothing")
}

func TestAServerThatIsSilentAfterALongMessageIsA504(t *testing.T) {
	g := newLongGateway(t, time.Second, slowReader(t, 0, false))
	got := g.Ask(t, longPing(32<<20))
	require.Equal(t, http.StatusGatewayTimeout, got.Status, got.Body)
}

func TestAServerThatTakesNothingOfALongMessageIsA504(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	g := newLongGateway(t, time.Second, rawServer(t, func(io.Writer) { <-release }))
	got := g.Ask(t, longPing(32<<20))
	require.Equal(t, http.StatusGatewayTimeout, got.Status, got.Body)
	require.Contains(t, got.Body, "did not answer in time")
}

// TestAMessageThatAStreamsServerDoesNotReadStillCounts: its memory is not free before.
func TestAMessageThatAStreamsServerDoesNotReadStillCounts(t *testing.T) {
	for name, c := range map[string]struct{ reads, released bool }{
		"a server that has read it": {true, true},
		"a server that does not":    {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			server := rawServer(t, func(w io.Writer) {
				if c.reads {
					_, _ = io.CopyN(io.Discard, w.(net.Conn), 31<<20)
				}
				_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
				if c.reads {
					_, _ = io.CopyN(io.Discard, w.(net.Conn), 1<<20)
				}
				<-release
			})
			g := newLongGateway(t, time.Minute, server)
			u := g.upstream(t, server)
			b := newBuffer(64 << 20)
			b.data = append(b.data, longPing(32<<20)...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			q := &proxied{Answer: &Answer{}, proxy: &proxy{upstream: u}}
			q.body, q.method = b, http.MethodPost
			out := &direct.Request{Method: http.MethodPost, Header: http.Header{}, Body: b.data, Memory: b}
			response, err := u.send(ctx, out, false)
			require.NoError(t, err)
			defer response.Body.Close()
			q.response = response
			if c.released {
				gatewaytest.Eventually(t, "the message to be sent", q.isSent)
			} else {
				require.False(t, q.isSent())
			}
		})
	}
}

func TestALongMessageMayBeAnsweredBeforeItsEnd(t *testing.T) {
	server := rawServer(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, w.(net.Conn)) // until the gateway gives up
	})
	g := newLongGateway(t, time.Minute, server)
	require.Equal(t, http.StatusRequestEntityTooLarge, g.Ask(t, longPing(32<<20)).Status)
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
