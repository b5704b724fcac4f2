package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"
)

// overTLS returns a listener, and what its clients need. The client has a certificate.
func overTLS(t *testing.T) (net.Listener, *tls.Config) {
	t.Helper()
	lender := httptest.NewTLSServer(nil) // of a certificate
	defer lender.Close()
	certificates := lender.TLS.Certificates
	roots := lender.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	server := &tls.Config{Certificates: certificates, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	return tls.NewListener(listen(t), server), &tls.Config{RootCAs: roots, Certificates: certificates, ServerName: "example.com", MinVersion: tls.VersionTLS13}
}

func TestTLSIsServedWithTheClientsCertificate(t *testing.T) {
	t.Parallel()
	listener, config := overTLS(t)
	s := newStageOn(t, listener, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) != 1 || r.TLS.PeerCertificates[0].DNSNames[0] != "example.com" {
			http.Error(w, "no certificate", http.StatusForbidden)
			return
		}
		echo(w, r)
	})
	conn := tls.Client(s.dial(), config)
	from := bufio.NewReader(conn)
	for _, body := range []string{"short", strings.Repeat("long", 50_000), "last"} {
		_, err := io.WriteString(conn, post(body))
		require.NoError(t, err)
		response, got := answer(t, from, "POST")
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, body, got)
	}
	require.Contains(t, s.raw(get), "Client sent an HTTP request to an HTTPS server.")
	require.Contains(t, <-s.logged.c, "TLS handshake error")
}

func TestHandshakeIsBounded(t *testing.T) {
	t.Parallel()
	listener, _ := overTLS(t)
	s := newStageOn(t, listener, echo, func(s *Server) { s.ReadHeaderTimeout = 50 * time.Millisecond })
	require.Empty(t, s.raw(""))
}

func TestRequestOverTLSIsCancelledWhenItsClientGoes(t *testing.T) {
	t.Parallel()
	listener, config := overTLS(t)
	cancelled := make(chan struct{})
	s := newStageOn(t, listener, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(cancelled)
	})
	conn := tls.Client(s.dial(), config)
	_, err := io.WriteString(conn, get)
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	<-cancelled
}

type contextKey struct{}

func TestAddressIsTheOneThatAProxyNames(t *testing.T) {
	t.Parallel()
	cancelled := make(chan struct{})
	s := newStageOn(t, &proxyproto.Listener{Listener: listen(t), ReadHeaderTimeout: time.Second}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RemoteAddr+" "+r.Context().Value(contextKey{}).(string))
		if r.Method == http.MethodPost {
			<-r.Context().Done()
			close(cancelled)
		}
	}, func(s *Server) {
		s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, contextKey{}, conn.RemoteAddr().Network())
		}
	})
	const header = "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n"
	_, body := answer(t, bufio.NewReader(strings.NewReader(s.raw(header+get))), "GET")
	require.Equal(t, "198.51.100.7:4711 tcp", body)
	conn := s.dial()
	_, err := io.WriteString(conn, header+post("x"))
	require.NoError(t, err)
	<-time.After(30 * time.Millisecond)
	require.NoError(t, conn.Close())
	<-cancelled
}

// Another goroutine may still read the body when the handler has answered.
func TestBodyMayBeReadBeyondTheHandler(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
		reading := make(chan struct{})
		go func() {
			_, _ = io.ReadFull(r.Body, make([]byte, 1))
			close(reading)
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
		}()
		<-reading
		<-time.After(5 * time.Millisecond) // it waits for more, or will
	})
	conn := s.dial()
	_, err := io.WriteString(conn, post("x", "Content-Length: 100"))
	require.NoError(t, err)
	from := bufio.NewReader(conn)
	response, _ := answer(t, from, "POST")
	require.True(t, response.Close)
	require.Error(t, <-ended)
	_, err = from.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

// Another protocol that its client has chosen takes the connection over, and ends it.
func TestConnectionOfAnotherProtocolLeavesTheServer(t *testing.T) {
	t.Parallel()
	for name, takes := range map[string]bool{"is taken over": true, "ends where nobody takes it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := listen(t)
			_, config := overTLS(t)
			server := &tls.Config{Certificates: config.Certificates, NextProtos: []string{"other", "http/1.1"}, MinVersion: tls.VersionTLS13}
			taken := make(chan *tls.Conn, 1)
			s := newStageOn(t, tls.NewListener(inner, server), echo, func(s *Server) {
				s.ReadHeaderTimeout = time.Hour
				s.NextProto = func(conn *tls.Conn) bool {
					taken <- conn
					return takes
				}
			})
			config.NextProtos = []string{"other"}
			conn := tls.Client(s.dial(), config)
			require.NoError(t, conn.HandshakeContext(t.Context()))
			theirs := <-taken
			require.NoError(t, s.server.Shutdown(t.Context()), "the server does not wait for it")
			if takes {
				_, err := io.WriteString(theirs, "hello")
				require.NoError(t, err)
				require.NoError(t, theirs.Close())
			}
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, takes, string(got) == "hello")
		})
	}
}
