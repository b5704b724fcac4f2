package mcp

import (
	"bufio"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

const (
	proxyPassword = "sesame-of-the-proxy"
	upstreamKey   = "key-of-the-upstream"
	// Another name than the loopback's, which is never reached by a proxy.
	proxiedName = "example.com" // is in the certificates of httptest
)

// authorities is a file with the certificate of a server of httptest.
func authorities(t *testing.T, server *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	return path
}

// byProxy is a configuration with the proxy for all servers.
func byProxy(t *testing.T, proxy *gatewaytest.Proxy) *config.Config {
	t.Helper()
	u, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte(proxyPassword+"\n"), 0o600))
	c := testConfig()
	c.UpstreamProxy = &config.Proxy{URL: u, Username: "mcp", PasswordFile: password}
	if u.Scheme == "https" {
		c.UpstreamProxy.CACertFile = authorities(t, proxy.Server)
	}
	return c
}

// TestServersBehindAProxy: with and without TLS on either part of the way, answers and
// streams come as they do directly, a connection serves many requests, and nobody learns
// another's secret.
func TestServersBehindAProxy(t *testing.T) {
	for _, test := range []struct{ proxy, server string }{{"http", "http"}, {"http", "https"}, {"https", "http"}, {"https", "https"}} {
		t.Run(test.server+" by a proxy of "+test.proxy, func(t *testing.T) {
			up := gatewaytest.NewUpstream(t, pongOrStream)
			server := &grants.Server{
				Name: "up", ID: "registration-1", Transport: grants.TransportHTTP,
				URL: test.server + "://" + proxiedName + ":8443/mcp", Headers: map[string]string{"X-Api-Key": upstreamKey},
			}
			address, upstreamCA := up.Listener.Addr().String(), ""
			if test.server == "https" {
				secured := httptest.NewTLSServer(up.Config.Handler)
				t.Cleanup(secured.Close)
				address, upstreamCA = secured.Listener.Addr().String(), authorities(t, secured)
			}
			names := map[string]string{proxiedName + ":8443": address}
			proxy := gatewaytest.NewProxy(t, names)
			if test.proxy == "https" {
				proxy = gatewaytest.NewTLSProxy(t, names)
			}
			proxy.Demand("mcp", proxyPassword)
			c := byProxy(t, proxy)
			c.Upstreams = map[string]config.Upstream{"up": {Timeout: 10 * time.Second, ConnectTimeout: 10 * time.Second, CACertFile: upstreamCA}}
			g := newGateway(t, c, server)

			for range 5 {
				got := g.Ask(t, ping)
				require.Equal(t, http.StatusOK, got.Status, got.Body)
				require.JSONEq(t, pong, got.Body)
			}
			require.Len(t, proxy.Requests(), 1, "a connection serves many requests")

			r, err := g.Do(t.Context(), "", ":method", "GET")
			require.NoError(t, err)
			line, err := bufio.NewReader(r.Body).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "data: 1\n", line, "and the stream is still open")
			require.NoError(t, r.Body.Close())

			for _, r := range proxy.Requests() {
				require.Equal(t, http.MethodConnect, r.Method)
				require.Equal(t, proxiedName+":8443", r.Host)
				require.NotContains(t, headerText(r.Header), upstreamKey)
			}
			for _, r := range up.Requests() {
				require.Equal(t, upstreamKey, r.Header.Get("X-Api-Key"))
				require.NotContains(t, headerText(r.Header), "Proxy")
			}
			if test.server == "https" {
				require.NotContains(t, proxy.Seen(), upstreamKey)
				require.NotContains(t, proxy.Seen(), "jsonrpc")
			}
			require.NotContains(t, proxy.Seen(), proxyPassword)
		})
	}
}

// pongOrStream answers a GET with a stream that says one event, and stays open.
func pongOrStream(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		gatewaytest.Pongs(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "data: 1\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func headerText(h http.Header) string {
	var b strings.Builder
	_ = h.Write(&b)
	return b.String()
}

func TestAServerOfTheOldTransportBehindAProxy(t *testing.T) {
	up := sseServer(t)
	local := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "localhost" // the SDK answers no other on the loopback
		up.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(local.Close)
	proxy := gatewaytest.NewProxy(t, map[string]string{proxiedName + ":80": local.Listener.Addr().String()})
	server := sseRegistration(up)
	server.URL = "http://" + proxiedName + "/"
	c := byProxy(t, proxy)
	g := newGateway(t, c, server)
	got := g.Ask(t, initOnce)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	session := []string{"Mcp-Session-Id", got.Header.Get("Mcp-Session-Id"), "MCP-Protocol-Version", "2025-11-25"}
	got = g.Ask(t, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"greet","arguments":{"name":"you"}}}`, session...)
	require.Contains(t, got.Body, "hello you")
	require.NotEmpty(t, proxy.Requests())
}

func TestAnotherProxyCountsFromTheReloadOn(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	names := map[string]string{proxiedName + ":80": up.Listener.Addr().String()}
	old, next := gatewaytest.NewProxy(t, names), gatewaytest.NewProxy(t, names)
	server := &grants.Server{Name: "up", ID: "registration-1", Transport: grants.TransportHTTP, URL: "http://" + proxiedName + "/mcp"}
	g := newGateway(t, byProxy(t, old), server)
	require.Equal(t, http.StatusOK, g.Ask(t, ping).Status)
	require.Len(t, old.Requests(), 1)

	g.Configure(byProxy(t, next))
	require.Equal(t, http.StatusOK, g.Ask(t, ping).Status)
	require.Len(t, next.Requests(), 1)
	require.Len(t, old.Requests(), 1)

	own := byProxy(t, next)
	own.Upstreams = map[string]config.Upstream{"up": {Timeout: 10 * time.Second, ConnectTimeout: 10 * time.Second, Proxy: byProxy(t, old).UpstreamProxy}}
	g.Configure(own)
	require.Equal(t, http.StatusOK, g.Ask(t, ping).Status)
	require.Len(t, old.Requests(), 2, "a server's own proxy counts first")
}

func TestAProxysRefusalIsInTheAuditLogAndNotToldToTheClient(t *testing.T) {
	proxy := gatewaytest.NewProxy(t, nil)
	proxy.Demand("somebody", "else")
	server := &grants.Server{Name: "up", ID: "registration-1", Transport: grants.TransportHTTP, URL: "https://" + proxiedName + "/mcp", Headers: map[string]string{"X-Api-Key": upstreamKey}}
	g := newGateway(t, byProxy(t, proxy), server)
	got := g.Ask(t, ping)
	require.Equal(t, http.StatusBadGateway, got.Status)
	require.NotContains(t, got.Body, "proxy")
	g.sink.mu.Lock()
	defer g.sink.mu.Unlock()
	require.Len(t, g.sink.outcomes, 1)
	require.ErrorContains(t, g.sink.outcomes[0].Err, "upstream-unreachable: the proxy ")
	require.ErrorContains(t, g.sink.outcomes[0].Err, "refuses the username and the password (status 407)")
	require.NotContains(t, g.sink.outcomes[0].Err.Error(), proxyPassword)
	for _, r := range proxy.Requests() {
		require.NotContains(t, headerText(r.Header), upstreamKey)
	}
}
