package mcp

import (
	"bufio"
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
)

// rawServer answers each connection with what answer writes, after it has read
// the header of a request.
func rawServer(t *testing.T, answer func(io.Writer)) *grants.Server {
	t.Helper()
	listener := gatewaytest.Listen(t)
	gatewaytest.Serve(listener, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			answer(conn)
		}
	})
	return &grants.Server{Name: "up", ID: "1", Transport: grants.TransportHTTP, URL: "http://" + listener.Addr().String() + "/mcp"}
}

func TestAnswersToTheRequestForAStream(t *testing.T) {
	const stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n"
	tests := map[string]struct {
		answer string
		status int
		body   string
	}{
		"a stream":                        {stream, 200, "data: 1\n\n"},
		"a stream in chunks":              {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n", 200, "data: 1\n\n"},
		"a hint first":                    {"HTTP/1.1 103 Early Hints\r\nLink: x\r\nSet-Cookie: a=b\r\n\r\n" + stream, 200, "data: 1\n\n"},
		"a refusal":                       {"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n", 405, ""},
		"another protocol":                {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502, "cannot be passed on"},
		"a redirect":                      {"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 502, "cannot be passed on"},
		"no HTTP":                         {"220 smtp\r\n", 502, "cannot be reached"},
		"nothing":                         {"", 502, "cannot be reached"},
		"a header without an end":         {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), 502, "cannot be reached"},
		"headers without an end":          {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1<<18), 502, "cannot be reached"},
		"hints without an end":            {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1<<16), 502, "cannot be reached"},
		"a stream that breaks off, early": {"HTTP/1.1 200 OK\r\nContent-Ty", 502, "cannot be reached"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, testConfig(), rawServer(t, func(w io.Writer) { _, _ = io.WriteString(w, test.answer) }))
			got := g.Ask(t, "", ":method", "GET")
			require.Equal(t, test.status, got.Status, got.Body)
			require.Contains(t, got.Body, test.body)
			require.NotContains(t, got.Header, "Set-Cookie")
		})
	}
}

func TestAServerThatDoesNotOpenTheStreamIsA504(t *testing.T) {
	for _, begin := range []string{"", "HTTP/1.1 200 OK\r\nX-H", "HTTP/1.1 200 OK\r\nX-H: y\r\n"} {
		release := make(chan struct{})
		c := testConfig()
		c.Upstreams = map[string]config.Upstream{"up": {Timeout: 50 * time.Millisecond, ConnectTimeout: time.Second}}
		g := newGateway(t, c, rawServer(t, func(w io.Writer) {
			_, _ = io.WriteString(w, begin)
			<-release
		}))
		require.Equal(t, http.StatusGatewayTimeout, g.Ask(t, "", ":method", "GET").Status, begin)
		require.Equal(t, http.StatusGatewayTimeout, g.Ask(t, ping).Status, begin)
		close(release)
	}
}

func TestStreamsGoWhereOtherRequestsMayGoAlone(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/event-stream") })
	c := testConfig()
	c.UpstreamAllow = config.UpstreamAllow{Hosts: []string{"example.com"}}
	g := newGateway(t, c, registration(up))
	require.Equal(t, http.StatusBadGateway, g.Ask(t, "", ":method", "GET").Status)
	require.Zero(t, up.Count())
}

func TestASubscriptionsStreamCarriesItsRequest(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\n")
	})
	g := newGateway(t, testConfig(), registration(up))
	body, header := modern(`"l"`, "subscriptions/listen", "")
	got := g.Ask(t, body, header...)
	require.Equal(t, "data: {}\n\n", got.Body)
	r, sent := up.Last()
	require.Equal(t, body, sent)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.NotContains(t, r.Header, "Authorization")
}
