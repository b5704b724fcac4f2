package reliability

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

var serial int64

func newCertificate(t *testing.T, template *x509.Certificate, parent *authority) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	template.SerialNumber = big.NewInt(serial)
	template.Subject = pkix.Name{CommonName: fmt.Sprint("certificate ", serial)}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.certificate, parent.key
	}
	der, err = x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	der, key := newCertificate(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate: certificate, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// issue signs a certificate for 127.0.0.1, for servers and clients alike, and
// returns it and its key in PEM.
func (a *authority) issue(t *testing.T) (certificate, key []byte) {
	t.Helper()
	der, made := newCertificate(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
	raw, err := x509.MarshalECPrivateKey(made)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func (a *authority) pair(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

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
func secureClient(t *testing.T, trusted *authority, shown ...tls.Certificate) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted.pool(), Certificates: shown, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: impatience}
}

// TestCertificatesChangeWhileTheGatewayRuns: the gateway's own, the authority of
// its clients', and what it shows to a server.
func TestCertificatesChangeWhileTheGatewayRuns(t *testing.T) {
	s := newStage(t)
	ours, clients, strangers := newAuthority(t), newAuthority(t), newAuthority(t)
	gatewayCert, gatewayKey := ours.issue(t)
	shownCert, shownKey := clients.issue(t)
	s.files(t, map[string][]byte{
		"tls.crt": gatewayCert, "tls.key": gatewayKey, "clients.crt": clients.pem,
		"ours.crt": ours.pem, "shown.crt": shownCert, "shown.key": shownKey,
	})
	secure := httptest.NewUnstartedServer(demo.Handler(demo.Calculator()))
	secure.TLS = &tls.Config{
		Certificates: []tls.Certificate{ours.pair(t)}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.pool(),
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
	shown := clients.pair(t)
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
	refused("a client with somebody else's certificate", secureClient(t, ours, strangers.pair(t)))
	if a := (&caller{client: secureClient(t, ours, shown), url: url}).decided(t.Context(), unissued(t)); a.status != http.StatusUnauthorized {
		t.Errorf("a certificate without a good token is answered %d: %v", a.status, a.err)
	}

	// Another certificate, and another authority: what is open stays open.
	open := secureClient(t, ours, shown)
	works("before the change", open)
	newcomers := newAuthority(t)
	gatewayCert, gatewayKey = newcomers.issue(t)
	s.files(t, map[string][]byte{"tls.crt": gatewayCert, "tls.key": gatewayKey, "clients.crt": newcomers.pem})
	s.reload(t, g)
	works("on a connection from before the change", open)
	works("a client of the new authority", secureClient(t, newcomers, newcomers.pair(t)))
	refused("a client of the old authority", secureClient(t, newcomers, shown))
	refused("a client that trusts the old certificate", secureClient(t, ours, newcomers.pair(t)))

	// A certificate that cannot be read changes nothing.
	s.files(t, map[string][]byte{"tls.crt": []byte("garbage")})
	s.reload(t, g)
	works("after a certificate that cannot be read", secureClient(t, newcomers, newcomers.pair(t)))

	// What the gateway shows to the server: a renewed one is used at the next
	// handshake, and one that the server does not know is refused.
	for name, test := range map[string]struct {
		by     *authority
		status int
	}{"renewed": {clients, http.StatusOK}, "of strangers": {strangers, http.StatusBadGateway}} {
		shownCert, shownKey = test.by.issue(t)
		s.files(t, map[string][]byte{"shown.crt": shownCert, "shown.key": shownKey})
		secure.CloseClientConnections()
		c := &caller{client: secureClient(t, newcomers, newcomers.pair(t)), url: url}
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
