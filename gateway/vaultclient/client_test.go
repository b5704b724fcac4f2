package vaultclient

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/test/harness/authority"
)

// answer is the handler of these tests' servers. It answers with the identity of the
// request.
func answer(w http.ResponseWriter, r *http.Request) {
	who := "nobody"
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		who = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	fmt.Fprintf(w, `{"data":{"who":%q}}`, who)
}

// serveTLS is a server whose certificate a signed, and which asks for one of clients'.
func serveTLS(t *testing.T, a, clients *authority.Authority, dnsNames ...string) *url.URL {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(answer))
	server.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{a.Pair(t, dnsNames...)}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	return address
}

func usual(address *url.URL) config.VaultClient {
	settings := config.DefaultVaultClient()
	settings.Address = address
	return settings
}

// ask returns who the server takes the client for.
func ask(t *testing.T, client *api.Client) (string, error) {
	t.Helper()
	secret, err := client.Logical().ReadWithContext(t.Context(), "who")
	if err != nil {
		return "", err
	}
	who, _ := secret.Data["who"].(string)
	return who, nil
}

// newClient has retries that fail at once.
func newClient(t *testing.T, settings config.VaultClient, options Options) *api.Client {
	t.Helper()
	client, err := New(settings, options)
	require.NoError(t, err)
	return client
}

func TestVaultWithAPrivateAuthority(t *testing.T) {
	a, other := authority.New(t), authority.New(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(file, a.PEM, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other.PEM"), other.PEM, 0o600))
	address := serveTLS(t, a, nil)
	named := serveTLS(t, a, nil, "vault.internal")
	for name, test := range map[string]struct {
		address *url.URL
		set     func(*config.VaultClient)
		works   bool
	}{
		"unknown to the system":    {address, func(*config.VaultClient) {}, false},
		"in a file":                {address, func(s *config.VaultClient) { s.CACertFile = file }, true},
		"in a folder":              {address, func(s *config.VaultClient) { s.CACertDir = dir }, true},
		"in the environment":       {address, func(s *config.VaultClient) { s.CACertPEM = string(a.PEM) }, true},
		"another one's":            {address, func(s *config.VaultClient) { s.CACertPEM = string(other.PEM) }, false},
		"not verified":             {address, func(s *config.VaultClient) { s.SkipVerify = true }, true},
		"another name":             {named, func(s *config.VaultClient) { s.CACertFile = file }, false},
		"another name, as told":    {named, func(s *config.VaultClient) { s.CACertFile, s.ServerName = file, "vault.internal" }, true},
		"a wrong name, as told":    {named, func(s *config.VaultClient) { s.CACertFile, s.ServerName = file, "vault.example.com" }, false},
		"a name and nothing else":  {named, func(s *config.VaultClient) { s.ServerName = "vault.internal" }, false},
		"a server without TLS":     {&url.URL{Scheme: "http", Host: address.Host}, func(*config.VaultClient) {}, false},
		"a folder, and not a file": {address, func(s *config.VaultClient) { s.CACertDir, s.CACertFile = dir, filepath.Join(dir, "other.PEM") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			settings := usual(test.address)
			test.set(&settings)
			_, err := ask(t, newClient(t, settings, Options{}))
			require.Equal(t, test.works, err == nil, err)
		})
	}
}

// TestCertificatesAreReadAgain: the authority and the client's certificate are replaced
// while the client is in use.
func TestCertificatesAreReadAgain(t *testing.T) {
	first, second := authority.New(t), authority.New(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, first.PEM, 0o600))
	cert, key := first.Write(t, dir, "gateway")
	settings := usual(serveTLS(t, first, first))
	settings.CACertFile, settings.ClientCertFile, settings.ClientKeyFile = ca, cert, key
	var log bytes.Buffer
	client := newClient(t, settings, Options{Log: hclog.New(&hclog.LoggerOptions{Output: &log})})
	// Each request looks at the files again, as after the interval between two looks.
	shared := client.CloneConfig().HttpClient.Transport.(*transport)
	askLater := func() (string, error) {
		shared.looked.Store(0)
		return ask(t, client)
	}
	who, err := askLater()
	require.NoError(t, err)
	require.Equal(t, "gateway", who)

	// Half of a pair: the old one stays.
	require.NoError(t, os.WriteFile(cert, second.PEM, 0o600))
	who, err = askLater()
	require.NoError(t, err)
	require.Equal(t, "gateway", who)
	require.Contains(t, log.String(), "the old ones stay in use")

	require.NoError(t, os.WriteFile(ca, second.PEM, 0o600))
	second.Write(t, dir, "gateway")
	require.NoError(t, client.SetAddress(serveTLS(t, second, second).String()))
	who, err = askLater()
	require.NoError(t, err)
	require.Equal(t, "gateway", who)
	require.NoError(t, client.SetAddress(settings.Address.String()))
	_, err = askLater()
	require.Error(t, err, "the first authority is not trusted any more")
}

func TestVaultBehindASocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "vault.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Minute}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // which a socket does not take
	settings := usual(&url.URL{Scheme: "unix", Path: socket})
	settings.Proxy = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	who, err := ask(t, newClient(t, settings, Options{}))
	require.NoError(t, err)
	require.Equal(t, "nobody", who)
}

func TestProxyIsForVaultAlone(t *testing.T) {
	var asked atomic.Pointer[string]
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := r.URL.String()
		asked.Store(&target)
		answer(w, r)
	}))
	t.Cleanup(proxy.Close)
	settings := usual(&url.URL{Scheme: "http", Host: "vault.example.com:8200"})
	var err error
	settings.Proxy, err = url.Parse(proxy.URL)
	require.NoError(t, err)
	_, err = ask(t, newClient(t, settings, Options{}))
	require.NoError(t, err)
	require.Equal(t, "http://vault.example.com:8200/v1/who", *asked.Load())
}

// TestVariablesThatVaultsClientReadsByItself have no effect where they would break it,
// and all of theirs where not.
func TestVariablesThatVaultsClientReadsByItself(t *testing.T) {
	t.Setenv(api.EnvVaultWrapTTL, "60s")
	t.Setenv(api.EnvVaultToken, "a-token-of-an-administrator")
	t.Setenv(api.EnvVaultNamespace, "elsewhere")
	t.Setenv(api.EnvVaultAgentAddr, "http://127.0.0.1:1")
	t.Setenv(api.EnvVaultHeaders, `{"X-Team":"mcp"}`)
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone(); answer(w, r) }))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	_, err = ask(t, newClient(t, usual(address), Options{}))
	require.NoError(t, err)
	require.Empty(t, got.Get("X-Vault-Wrap-Ttl"))
	require.Empty(t, got.Get("X-Vault-Token"))
	require.Empty(t, got.Get("X-Vault-Namespace"))
	require.Equal(t, "mcp", got.Get("X-Team"))
}

func TestTimeoutRetriesRedirectsAndRate(t *testing.T) {
	var requests atomic.Int32
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/v1/failing", func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	})
	mux.Handle("/v1/standby", http.RedirectHandler("/v1/who", http.StatusTemporaryRedirect))
	mux.HandleFunc("/v1/who", answer)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	read := func(client *api.Client, path string) error {
		_, err := client.Logical().ReadWithContext(t.Context(), path)
		return err
	}

	settings := usual(address)
	settings.Timeout = 50 * time.Millisecond
	require.ErrorContains(t, read(newClient(t, settings, Options{}), "slow"), "deadline exceeded")

	settings = usual(address)
	settings.MaxRetries = 1
	require.Error(t, read(newClient(t, settings, Options{}), "failing"))
	require.EqualValues(t, 2, requests.Load())

	settings = usual(address)
	require.NoError(t, read(newClient(t, settings, Options{}), "standby"))
	settings.DisableRedirects = true
	response, err := newClient(t, settings, Options{}).Logical().ReadRawWithContext(t.Context(), "standby")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusTemporaryRedirect, response.StatusCode)

	settings = usual(address)
	settings.RateLimit, settings.RateBurst, settings.SRVLookup = 2, 3, true
	client := newClient(t, settings, Options{Limit: true})
	require.Equal(t, 3, client.Limiter().Burst())
	require.True(t, client.SRVLookup())
}

func TestFilesThatAreNotGoodAreAnError(t *testing.T) {
	for name, set := range map[string]func(*config.VaultClient){
		"no authorities": func(s *config.VaultClient) { s.CACertFile = "/nowhere" },
		"no folder":      func(s *config.VaultClient) { s.CACertDir = "/nowhere" },
		"no pair":        func(s *config.VaultClient) { s.ClientCertFile, s.ClientKeyFile = "/nowhere", "/nowhere" },
	} {
		settings := config.DefaultVaultClient()
		set(&settings)
		_, err := New(settings, Options{})
		require.ErrorContains(t, err, "/nowhere", name)
	}
}
