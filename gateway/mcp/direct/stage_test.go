package direct

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// ways are those to a server.
var ways = map[string]bool{"in the clear": false, "over TLS": true}

// peer is a server whose connections are served by a function, and counted.
type peer struct {
	*Transport
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
}

// certificate is one for 127.0.0.1, and who trusts it.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s.TLS.Certificates[0], pool
})

// optionsFor are those of a transport to an address.
func optionsFor(t testing.TB, address string, secure bool) Options {
	t.Helper()
	scheme := map[bool]string{false: "http", true: "https"}[secure]
	at, err := url.Parse(scheme + "://" + address + "/mcp?key=1")
	require.NoError(t, err)
	_, pool := certificate()
	return Options{
		URL: at, Dial: new(net.Dialer).DialContext, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		HandshakeTimeout: 10 * time.Second, HeaderTimeout: time.Minute,
	}
}

// newPeer serves each connection with a function.
func newPeer(t testing.TB, secure bool, serve func(conn net.Conn)) *peer {
	t.Helper()
	listener := gatewaytest.Listen(t)
	if secure {
		own, _ := certificate()
		listener = tls.NewListener(listener, &tls.Config{
			Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequestClientCert, // so that tickets come when the client's handshake is over
		})
	}
	p := &peer{Transport: New(optionsFor(t, listener.Addr().String(), secure)), listener: listener}
	t.Cleanup(p.Close)
	gatewaytest.Serve(listener, func(conn net.Conn) {
		p.mu.Lock()
		p.conns = append(p.conns, conn)
		p.mu.Unlock()
		serve(conn)
	})
	return p
}

// newAnsweringPeer calls answer with the body of each request of each connection, until it reports
// false.
func newAnsweringPeer(t testing.TB, secure bool, answer func(w io.Writer, body string) (more bool)) *peer {
	t.Helper()
	return newPeer(t, secure, func(conn net.Conn) { gatewaytest.AnswerEach(conn, answer) })
}

// accepted is how many connections there were.
func (p *peer) accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// first is the server's end of the first of them.
func (p *peer) first() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns[0]
}

// send posts a message.
func (p *peer) send(ctx context.Context, message string) (*http.Response, error) {
	return p.Send(ctx, &Request{Method: http.MethodPost, Header: http.Header{}, Body: []byte(message)})
}

// ask posts a message, and returns the body of the answer, as far as it came.
func (p *peer) ask(ctx context.Context, message string) (string, error) {
	response, err := p.send(ctx, message)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func (p *pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// answerWith writes a whole answer, with more lines in its header.
func answerWith(w io.Writer, lines, body string) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", lines, len(body), body)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 5*time.Second, time.Millisecond, what)
}
