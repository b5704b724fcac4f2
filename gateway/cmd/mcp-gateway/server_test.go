package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// pingRequest is a request as it stands on the wire.
func pingRequest(lines ...string) string {
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(gatewaytest.Ping)))
	return "POST /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + goodToken +
		"\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" + gatewaytest.Ping
}

// raw sends a request, and returns all bytes of the answer.
func (s *stage) raw(request string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
	require.NoError(s.t, err)
	defer conn.Close()
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, request)
	require.NoError(s.t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(s.t, err)
	return string(answer)
}

// A client behind a load balancer, which speaks TLS with a certificate of its own, is served like
// any other; and when it goes, its request ends at the server, although that is silent.
func TestRequestEndsAtItsServerWhenItsClientGoes(t *testing.T) {
	for name, layered := range map[string]bool{"in the clear": false, "through the PROXY protocol and TLS": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			asked, ended := make(chan struct{}), make(chan time.Time)
			s.serve = func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-r.Context().Done()
				ended <- time.Now()
			}
			connect := func() net.Conn {
				conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
				require.NoError(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				return conn
			}
			file := ""
			if layered {
				roots := issue(t, s.dir, "server").Pool()
				clients := filepath.Join(s.dir, "clients.crt")
				require.NoError(t, os.WriteFile(clients, issue(t, s.dir, "client").PEM, 0o600))
				certificate, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "client.crt"), filepath.Join(s.dir, "client.key"))
				require.NoError(t, err)
				file = fmt.Sprintf("listener {\n proxy_protocol = true\n trusted_proxies = [\"127.0.0.1\"]\n tls_cert_file = %q\n tls_key_file = %q\n tls_client_ca_file = %q\n}\n",
					s.dir+"/server.crt", s.dir+"/server.key", clients)
				inTheClear := connect
				connect = func() net.Conn {
					conn := inTheClear()
					_, err := io.WriteString(conn, "PROXY TCP4 198.51.100.7 127.0.0.1 4711 443\r\n")
					require.NoError(t, err)
					return tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{certificate}})
				}
			}
			s.start(file)
			s.ready()
			var took []time.Duration
			for range 10 {
				conn := connect()
				_, err := io.WriteString(conn, pingRequest())
				require.NoError(t, err)
				<-asked
				gone := time.Now()
				require.NoError(t, conn.Close())
				took = append(took, (<-ended).Sub(gone))
			}
			t.Log(took)
			require.Less(t, slices.Min(took), 50*time.Millisecond) // a busy machine may keep some of them waiting
			s.stop()
			s.awaitEnd()
			audit, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
			require.NoError(t, err)
			require.Equal(t, layered, strings.Contains(string(audit), `"source":"198.51.100.7"`))
		})
	}
}

// hostile is a server that sends the same bytes for each request.
func hostile(t *testing.T, answer string) string {
	t.Helper()
	listener := gatewaytest.Listen(t)
	gatewaytest.Serve(listener, func(conn net.Conn) {
		gatewaytest.AnswerEach(conn, func(w io.Writer, _ string) (more bool) {
			_, _ = io.WriteString(w, answer)
			return false
		})
	})
	return "http://" + listener.Addr().String()
}

func TestNoHeaderOfAServerBreaksALineOfTheAnswer(t *testing.T) {
	for name, line := range map[string]string{
		"a bare CR":     "X-Vendor: a\rSet-Cookie: stolen",
		"two bare CRs":  "X-Vendor: a\r\rSet-Cookie: stolen",
		"a NUL":         "X-Vendor: a\x00Set-Cookie: stolen",
		"a bare LF":     "X-Vendor: a\nSet-Cookie: stolen",
		"a folded line": "X-Vendor: a\r\n Set-Cookie: stolen",
		"an odd name":   "X-Ven\x00dor: a\r\nSet-Cookie: stolen",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.vault.AddServer("files", hostile(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%s\r\nContent-Length: %d\r\n\r\n%s", line, len(gatewaytest.Pong), gatewaytest.Pong)))
			s.start("")
			s.ready()
			answer := s.raw(pingRequest("Connection: close"))
			header, _, found := strings.Cut(answer, "\r\n\r\n")
			require.True(t, found, answer)
			require.NotContains(t, header, "\x00")
			require.NotContains(t, strings.ReplaceAll(header, "\r\n", ""), "\r")
			require.NotContains(t, strings.ReplaceAll(header, "\r\n", ""), "\n")
			response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Empty(t, response.Header["Set-Cookie"], answer)
		})
	}
}

// What Go's own server hands to the gate, the gate refuses, with an id; the gateway's server refuses
// it before.
func TestGosOwnServerServesWhereItIsChosen(t *testing.T) {
	for setting, hasID := range map[string]bool{"": false, "net/http": true} {
		t.Run(setting, func(t *testing.T) {
			s := newStage(t)
			s.start(fmt.Sprintf("listener {\n http1 = %q\n}\n", setting))
			s.ready()
			s.works(http.DefaultClient, s.url("http"))
			answer := s.raw("POST /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")
			require.True(t, strings.HasPrefix(answer, "HTTP/1.1 400 "), answer)
			require.Equal(t, hasID, strings.Contains(answer, "request_id"), answer)
			require.Equal(t, 1, s.upstream.Count())
			s.stop()
			s.awaitEnd()
		})
	}
}
