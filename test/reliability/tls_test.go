package reliability

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
)

// files are in the harness's folder, named after what is in them.
func (s *stage) files(t *testing.T, contents map[string][]byte) {
	t.Helper()
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(s.Dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// secureClient is an HTTP client that trusts an authority, and shows a
// certificate if it is given one.
func secureClient(t *testing.T, trusted *harness.Authority, shown ...tls.Certificate) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted.Pool(), Certificates: shown, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: impatience}
}

// TestCertificatesChangeWhileTheGatewayRuns: the gateway's own, the authority of its
// clients', and the one that it presents to a server.
func TestCertificatesChangeWhileTheGatewayRuns(t *testing.T) {
	s := newStage(t)
	ours, clients, strangers := harness.NewAuthority(t), harness.NewAuthority(t), harness.NewAuthority(t)
	gatewayCert, gatewayKey := ours.Issue(t)
	shownCert, shownKey := clients.Issue(t)
	s.files(t, map[string][]byte{
		"tls.crt": gatewayCert, "tls.key": gatewayKey, "clients.crt": clients.PEM,
		"ours.crt": ours.PEM, "shown.crt": shownCert, "shown.key": shownKey,
	})
	secure := httptest.NewUnstartedServer(demo.Handler(demo.Calculator()))
	secure.TLS = &tls.Config{
		Certificates: []tls.Certificate{ours.Pair(t)}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.Pool(),
	}
	secure.StartTLS()
	t.Cleanup(func() { secure.CloseClientConnections(); secure.Close() })
	s.Write("mcp/servers/secure", harness.Map{"transport": "http", "url": secure.URL + demo.Path})

	in := func(name string) string { return filepath.Join(s.Dir, name) }
	g := s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"listener":          fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q\ntls_client_ca_file = %q", in("tls.crt"), in("tls.key"), in("clients.crt")),
		`upstream "secure"`: fmt.Sprintf("ca_cert_file = %q\nclient_cert_file = %q\nclient_key_file = %q", in("ours.crt"), in("shown.crt"), in("shown.key")),
	}})
	token := s.CreateClient("c", harness.Map{"allowed_servers": "*"})
	url := strings.Replace(g.ServerURL("secure"), "http://", "https://", 1)
	shown := clients.Pair(t)
	works := func(what string, client *http.Client) {
		t.Helper()
		if a := (&caller{client: client, url: url}).decided(t.Context(), token); a.status != http.StatusOK || a.err != nil {
			t.Errorf("%s: answered %d: %v", what, a.status, a.err)
		}
	}
	refused := func(what string, client *http.Client) {
		t.Helper()
		if a := (&caller{client: client, url: url}).call(t.Context(), token); a.status != 0 {
			t.Errorf("%s: answered %d", what, a.status)
		}
	}
	works("a client with a certificate and a token", secureClient(t, ours, shown))
	refused("a client without a certificate", secureClient(t, ours))
	refused("a client with somebody else's certificate", secureClient(t, ours, strangers.Pair(t)))
	if a := (&caller{client: secureClient(t, ours, shown), url: url}).decided(t.Context(), harness.UnissuedToken(t)); a.status != http.StatusUnauthorized {
		t.Errorf("a certificate without a good token is answered %d: %v", a.status, a.err)
	}

	// Another certificate, and another authority: open connections stay open.
	open := secureClient(t, ours, shown)
	works("before the change", open)
	newcomers := harness.NewAuthority(t)
	gatewayCert, gatewayKey = newcomers.Issue(t)
	s.files(t, map[string][]byte{"tls.crt": gatewayCert, "tls.key": gatewayKey, "clients.crt": newcomers.PEM})
	s.reload(t, g)
	works("on a connection from before the change", open)
	works("a client of the new authority", secureClient(t, newcomers, newcomers.Pair(t)))
	refused("a client of the old authority", secureClient(t, newcomers, shown))
	refused("a client that trusts the old certificate", secureClient(t, ours, newcomers.Pair(t)))

	// A certificate that cannot be read changes nothing.
	s.files(t, map[string][]byte{"tls.crt": []byte("garbage")})
	s.reload(t, g)
	works("after a certificate that cannot be read", secureClient(t, newcomers, newcomers.Pair(t)))

	// The certificate that the gateway presents to the server: a renewed one is used at
	// the next handshake, and one that the server does not know is refused.
	for name, test := range map[string]struct {
		by     *harness.Authority
		status int
	}{"renewed": {clients, http.StatusOK}, "of strangers": {strangers, http.StatusBadGateway}} {
		shownCert, shownKey = test.by.Issue(t)
		s.files(t, map[string][]byte{"shown.crt": shownCert, "shown.key": shownKey})
		secure.CloseClientConnections()
		c := &caller{client: secureClient(t, newcomers, newcomers.Pair(t)), url: url}
		s.Within(impatience, "with a certificate "+name, func() error {
			if a := c.call(t.Context(), token); a.status != test.status {
				return fmt.Errorf("answered %d: %w", a.status, errors.Join(a.err))
			}
			return nil
		})
	}
}

// reload has a gateway read its files again, and waits until it has.
func (s *stage) reload(t *testing.T, g *harness.Gateway) {
	t.Helper()
	count := func() int {
		log, err := os.ReadFile(g.Process.Log())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), "reloaded the configuration") + strings.Count(string(log), "the old one stays in effect")
	}
	before := count()
	if err := g.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.Within(impatience, "the gateway has read its files", func() error {
		if count() == before {
			return errors.New("it has not")
		}
		return nil
	})
}
