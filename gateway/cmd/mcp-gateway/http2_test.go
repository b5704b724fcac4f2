package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// tlsListener is a block with those lines and a certificate by an authority.
func (s *stage) tlsListener(more string) (block string, trusted *x509.CertPool) {
	trusted = issue(s.t, s.dir, "server").Pool()
	return fmt.Sprintf("listener {\n tls_cert_file = %q\n tls_key_file = %q\n%s\n}\n", s.dir+"/server.crt", s.dir+"/server.key", more), trusted
}

func TestClientsOverTLSGetTheProtocolThatTheyChoose(t *testing.T) {
	for more, want := range map[string]string{
		"":                                    "HTTP/2.0",
		`http1 = "net/http"`:                  "HTTP/2.0",
		"http2 = false":                       "HTTP/1.1",
		"http2 = false\nhttp1 = \"net/http\"": "HTTP/1.1",
	} {
		t.Run(more, func(t *testing.T) {
			s := newStage(t)
			block, trusted := s.tlsListener(more)
			s.start(block)
			s.ready()
			for want, transport := range map[string]*http.Transport{
				want:       {ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trusted}},
				"HTTP/1.1": {TLSClientConfig: &tls.Config{RootCAs: trusted, NextProtos: []string{"http/1.1"}}},
			} {
				response, err := gatewaytest.Client{URL: s.url("https"), Token: goodToken, Transport: transport}.Do(t.Context(), gatewaytest.Ping)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				require.Equal(t, http.StatusOK, response.StatusCode)
				require.Equal(t, want, response.Proto)
				transport.CloseIdleConnections()
			}
		})
	}
}

// A load balancer without HTTP passes the client's HTTP/2 on, behind its header. A client
// certificate is asked for as over HTTP/1.1.
func TestHTTP2HasTheSourceThatAProxyNames(t *testing.T) {
	s := newStage(t)
	clients := filepath.Join(s.dir, "clients.crt")
	require.NoError(t, os.WriteFile(clients, issue(t, s.dir, "client").PEM, 0o600))
	block, trusted := s.tlsListener(fmt.Sprintf("proxy_protocol = true\n trusted_proxies = [\"127.0.0.1\"]\n tls_client_ca_file = %q", clients))
	s.start(block + "limits {\n max_connections_per_source = 2\n}\n")
	s.ready()
	certificate, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "client.crt"), filepath.Join(s.dir, "client.key"))
	require.NoError(t, err)
	header := "PROXY TCP4 198.51.100.7 127.0.0.1 4711 443\r\n"
	settings := &tls.Config{RootCAs: trusted, ServerName: "127.0.0.1", Certificates: []tls.Certificate{certificate}}
	c := gatewaytest.NewHTTP2(t, gatewaytest.DialTLS(t, s.gateway.mainListener.Addr().String(), settings, header))
	require.NoError(t, c.Begin(1, http.MethodPost, "/servers/files/mcp", "authorization", "Bearer "+goodToken, "content-type", "application/json"))
	gatewaytest.Eventually(t, "the first request to be counted", func() bool { return s.metric("requests_in_flight") == "1" })
	require.NoError(t, c.Begin(3, http.MethodGet, "/mcp"))
	require.Contains(t, c.Await("HEADERS 3"), ":status=429", "the connection and the first request are two")
	require.NoError(t, c.WriteData(1, true, []byte(gatewaytest.Ping)))
	require.Contains(t, c.Await("HEADERS 1"), ":status=200")
	s.stop()
	c.AwaitEnd()
	s.awaitEnd()
	audit, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
	require.NoError(t, err)
	require.Contains(t, string(audit), `"source":"198.51.100.7"`)
	require.NotContains(t, string(audit), `"source":"127.0.0.1"`)
}

func TestHTTP2Drains(t *testing.T) {
	for _, more := range []string{"", `http1 = "net/http"`} {
		t.Run(more, func(t *testing.T) {
			s := newStage(t)
			release := make(chan struct{})
			s.serve = func(w http.ResponseWriter, r *http.Request) {
				<-release
				gatewaytest.Pongs(w, r)
			}
			block, trusted := s.tlsListener("drain_delay = \"1ms\"\n" + more)
			s.start(block)
			s.ready()
			c := gatewaytest.DialHTTP2(t, s.gateway.mainListener.Addr().String(), &tls.Config{RootCAs: trusted, ServerName: "127.0.0.1"})
			require.NoError(t, c.Begin(1, http.MethodPost, "/servers/files/mcp", "authorization", "Bearer "+goodToken, "content-type", "application/json"))
			require.NoError(t, c.WriteData(1, true, []byte(gatewaytest.Ping)))
			s.vault.Await("the request at the server", func() bool { return s.upstream.Count() == 1 })
			s.stop()
			require.Contains(t, c.Await("GOAWAY"), "NO_ERROR")
			close(release)
			require.Contains(t, c.Await("HEADERS 1"), ":status=200")
			c.AwaitEnd()
			s.awaitEnd()
		})
	}
}
