package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

func TestProxyProtocolIsBelievedFromTrustedProxiesAlone(t *testing.T) {
	for trusted, want := range map[string]string{"127.0.0.1": "198.51.100.7", "10.0.0.1": "refused"} {
		t.Run(trusted, func(t *testing.T) {
			s := newStage(t)
			s.start(fmt.Sprintf("listener {\n proxy_protocol = true\n trusted_proxies = [%q]\n}\n", trusted))
			s.ready()
			conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			fmt.Fprintf(conn, "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\nPOST /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+
				"Authorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n%s", goodToken, len(gatewaytest.Ping), gatewaytest.Ping)
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			s.stop()
			s.awaitEnd()
			audit, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
			require.NoError(t, err)
			if want == "refused" {
				require.Contains(t, string(answer), "400 Bad Request")
				require.NotContains(t, string(audit), "198.51.100.7")
				return
			}
			require.Contains(t, string(answer), "200 OK")
			require.Contains(t, string(audit), `"source":"`+want+`"`)
		})
	}
}

// A client for whom a trusted proxy connects has the bound of a client.
func TestConnectionsAreBoundedByTheSourceThatAProxyNames(t *testing.T) {
	s := newStage(t)
	s.start("listener {\n proxy_protocol = true\n trusted_proxies = [\"127.0.0.0/8\"]\n}\nlimits {\n max_connections_per_source = 1\n}\n")
	s.ready()
	open := func(header string) string {
		conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "%sGET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n", header)
		require.NoError(t, err)
		status, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSpace(status)
	}
	const unauthorized, tooMany = "HTTP/1.1 401 Unauthorized", "HTTP/1.1 429 Too Many Requests"
	require.Equal(t, unauthorized, open("PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n"))
	require.Equal(t, tooMany, open("PROXY TCP4 198.51.100.7 127.0.0.1 4712 80\r\n"))
	require.Equal(t, unauthorized, open("PROXY TCP4 198.51.100.8 127.0.0.1 4711 80\r\n"))
	require.Equal(t, unauthorized, open("PROXY TCP4 127.0.0.9 127.0.0.1 4711 80\r\n"))
	require.Equal(t, tooMany, open("PROXY TCP4 127.0.0.9 127.0.0.1 4712 80\r\n"), "though the client's address is among the proxies'")
	require.Equal(t, unauthorized, open("PROXY UNKNOWN\r\n"), "the proxy itself")
	require.Equal(t, unauthorized, open("PROXY UNKNOWN\r\n"))
}

// Bodies that are begun and not ended fill a client's share, and nobody else's.
func TestUnfinishedBodiesOfAClientAreBounded(t *testing.T) {
	const share, most, body, sent = 5 << 20, 12 << 20, 1 << 20, 700 << 10
	s := newStage(t)
	s.vault.AddToken("other-token-0123456789", "other", grantstest.Data{"allowed_servers": []string{"files"}})
	s.start("limits {\n max_body = \"1MiB\"\n max_list = \"256KiB\"\n max_buffered = \"12MiB\"\n max_buffered_per_client = \"5MiB\"\n}\n")
	s.ready()
	begin := func(token string) net.Conn {
		conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "POST /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
			"Content-Length: %d\r\n\r\n%s", token, body, strings.Repeat(" ", sent))
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET) // it was refused meanwhile
		}
		return conn
	}
	kept := func() int64 {
		n := s.gateway.memory.Kept()
		require.LessOrEqual(t, n, int64(most))
		return n
	}
	var conns []net.Conn
	for range 3 {
		conns = append(conns, begin(goodToken))
	}
	s.vault.Await("three bodies", func() bool { return kept() >= 3*sent })
	// One more or less may fit while the first ones have not grown to their end.
	refused := make(chan string, 5)
	for range cap(refused) {
		conn := begin(goodToken)
		conns = append(conns, conn)
		go func() {
			answer, _ := io.ReadAll(conn) // until it is refused, or closed below
			refused <- string(answer)
		}()
	}
	answer := ""
	for i := 0; i < cap(refused) && answer == ""; i++ {
		select {
		case answer = <-refused: // empty where the end of the connection overtook it
		case <-time.After(time.Minute):
			t.Fatal("nobody was refused")
		}
	}
	require.Contains(t, answer, "429 Too Many Requests")
	require.Contains(t, answer, "Retry-After:")
	require.LessOrEqual(t, kept(), int64(share))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("http"), strings.NewReader(gatewaytest.Ping+strings.Repeat(" ", sent)))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer other-token-0123456789")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)

	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	s.vault.Await("all to be given back", func() bool { return kept() == 0 })
}
