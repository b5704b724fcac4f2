package application

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/dial"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/seal"
)

const (
	issuer   = "https://mcp.example.com/sign-in"
	endpoint = "https://mcp.example.com/sign-in/token"
)

// clock is one that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// vendors are the https servers of the applications' vendors: one server that has all of
// their names.
type vendors struct {
	server *httptest.Server
	roots  *x509.CertPool
	asked  atomic.Int64 // requests

	mu    sync.Mutex
	pages map[string]http.HandlerFunc // by URL without https://
}

var vendorNames = []string{"claude.ai", "claude.com", "chatgpt.com", "vscode.dev", "zed.dev", "vendor.example", "evil.example", "localhost"}

func newVendors(t *testing.T) *vendors {
	t.Helper()
	v := &vendors{pages: map[string]http.HandlerFunc{}, roots: x509.NewCertPool()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: vendorNames}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	v.roots.AddCert(certificate)
	v.server = httptest.NewUnstartedServer(http.HandlerFunc(v.serve))
	v.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	v.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	v.server.StartTLS()
	t.Cleanup(v.server.Close)
	return v
}

func (v *vendors) serve(w http.ResponseWriter, r *http.Request) {
	v.asked.Add(1)
	v.mu.Lock()
	page := v.pages[r.Host+r.URL.EscapedPath()]
	v.mu.Unlock()
	if page == nil {
		http.NotFound(w, r)
		return
	}
	page(w, r)
}

// put has a server answer at a URL.
func (v *vendors) put(at string, page http.HandlerFunc) {
	u, err := url.Parse(at)
	if err != nil {
		panic(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pages[u.Host+u.EscapedPath()] = page
}

// JSON has a server answer with a JSON text at a URL.
func (v *vendors) JSON(at string, value any, header ...string) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	v.put(at, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = w.Write(body)
	})
}

// Dial connects to the server, whatever the host is.
func (v *vendors) Dial(string) dial.Func {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, v.server.Listener.Addr().String())
	}
}

// bed is a registry with its surroundings.
type bed struct {
	*Registry
	*vendors
	clock    *clock
	keys     atomic.Pointer[grants.SessionKeys]
	fresh    atomic.Pointer[grants.SessionKeys] // that Vault has
	failed   atomic.Bool                        // Vault cannot be asked
	refresh  atomic.Int64
	settings *config.SignIn
}

func keysOf(first byte) *grants.SessionKeys {
	return &grants.SessionKeys{MountID: "mount", Current: 1, Keys: map[int][32]byte{1: {1}}, Registration: [32]byte{first, 1}}
}

// newBed makes a registry with the settings.
func newBed(t *testing.T, settings config.SignIn) *bed {
	t.Helper()
	b := &bed{vendors: newVendors(t), clock: newClock(), settings: &settings}
	b.keys.Store(keysOf(1))
	var err error
	b.Registry, err = New(Options{
		Settings: &settings, Issuer: issuer, TokenEndpoint: endpoint, Sealer: seal.New(b.keys.Load),
		RefreshKeys: func(context.Context) error {
			b.refresh.Add(1)
			if b.failed.Load() {
				return grants.ErrUnavailable
			}
			if keys := b.fresh.Load(); keys != nil {
				b.keys.Store(keys)
			}
			return nil
		},
		Dial: b.Dial, Roots: b.roots, Now: b.clock.Now,
	})
	require.NoError(t, err)
	return b
}

// find finds an application that must be there.
func (b *bed) find(t testing.TB, clientID string) *Application {
	t.Helper()
	a, err := b.Find(t.Context(), clientID)
	require.NoError(t, err)
	return a
}

// refused returns why an application is not found.
func (b *bed) refused(t testing.TB, clientID string) *Error {
	t.Helper()
	a, err := b.Find(t.Context(), clientID)
	require.Nil(t, a)
	return asError(t, err)
}

func asError(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Message)
	return e
}

// register registers metadata and returns the answer, which holds no null and no empty text.
func (b *bed) register(t testing.TB, metadata string) map[string]any {
	t.Helper()
	body, err := b.Register([]byte(metadata))
	require.NoError(t, err)
	require.NotContains(t, string(body), "null")
	require.NotContains(t, string(body), `""`)
	answer := map[string]any{}
	require.NoError(t, json.Unmarshal(body, &answer))
	return answer
}

// notRegistered returns why metadata are not registered.
func (b *bed) notRegistered(t testing.TB, metadata string) *RegistrationError {
	t.Helper()
	body, err := b.Register([]byte(metadata))
	require.Nil(t, body)
	var e *RegistrationError
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Description)
	return e
}

// document is a metadata document with the common members.
func document(id string, more map[string]any) map[string]any {
	d := map[string]any{"client_id": id, "client_name": "Test", "redirect_uris": []string{"https://vendor.example/cb"}}
	for name, value := range more {
		if d[name] = value; value == nil {
			delete(d, name)
		}
	}
	return d
}
