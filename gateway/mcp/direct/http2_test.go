package direct

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheServerChoosesTheProtocol by ALPN, at each handshake, and the connection at which it has chosen
// serves the request.
func TestTheServerChoosesTheProtocol(t *testing.T) {
	own, _ := certificate()
	var http2 atomic.Bool
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Proto+" "+string(body))
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	server.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		conns.Add(1)
		c := &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
		if http2.Load() {
			c.NextProtos = []string{"h2", "http/1.1"}
		}
		return c, nil
	}
	server.StartTLS()
	defer server.Close()
	p := &peer{Transport: New(optionsFor(t, server.Listener.Addr().String(), true))}
	defer p.Close()
	for _, step := range []struct {
		http2 bool
		conns int32
	}{{false, 1}, {true, 2}, {false, 3}, {true, 4}} {
		http2.Store(step.http2)
		want := "HTTP/1.1 "
		if step.http2 {
			want = "HTTP/2.0 "
		}
		for _, size := range []int{1, 100, 100 << 10} {
			message := strings.Repeat("m", size)
			got, err := p.ask(t.Context(), message)
			require.NoError(t, err)
			require.Equal(t, want+message, got)
			response, err := p.Open(t.Context(), &Request{Method: http.MethodPost, Header: http.Header{}, Body: []byte(message)})
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, want+message, string(body))
			if step.http2 {
				require.Equal(t, step.conns, conns.Load(), "all share one connection")
			}
		}
		require.Empty(t, p.parked)
		server.CloseClientConnections()
		if !step.http2 {
			conns.Store(step.conns)
		}
		eventually(t, "the connections to be of no use", func() bool { return p.idle.take() == nil })
		p.through.CloseIdleConnections()
	}
}

// TestAConnectionThatNobodyTakesIsClosed: another request may have opened one for HTTP/2 meanwhile.
func TestAConnectionThatNobodyTakesIsClosed(t *testing.T) {
	tr := New(optionsFor(t, "127.0.0.1:1", true))
	ours, theirs := net.Pipe()
	end := tr.park(ours)
	end()
	_, err := theirs.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	ours, _ = net.Pipe()
	defer tr.park(ours)()
	got, err := tr.take(t.Context(), tr.address)
	require.NoError(t, err)
	require.Same(t, ours, got)
	require.Empty(t, tr.parked)
}
