package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

const goodToken = "good-token-0123456789"

// stage is a whole gateway in this process, before a Vault and a server that
// are doubles.
type stage struct {
	t        *testing.T
	dir      string
	vault    *grantstest.Vault
	upstream *httptest.Server
	serve    http.HandlerFunc // the upstream's answer, if not the usual one
	log      lockedBuffer

	gateway *gateway
	stop    context.CancelFunc
	ended   chan error
}

// lockedBuffer is a buffer that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), vault: grantstest.New(t)}
	s.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.serve != nil {
			s.serve(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}))
	t.Cleanup(s.upstream.Close)
	s.vault.AddServer("files", s.upstream.URL)
	s.vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}})
	return s
}

// settings parses a file with the lines given beside what every one has.
func (s *stage) settings(more string) *config.Config {
	s.t.Helper()
	c, err := s.parse(more)
	require.NoError(s.t, err)
	return c
}

func (s *stage) parse(more string) (*config.Config, error) {
	s.t.Helper()
	login := s.vault.Settings().Auth
	file := fmt.Sprintf(`
vault {
  address = %q
  auth "approle" {
    role_id        = %q
    secret_id_file = %q
  }
}
admin { address = "127.0.0.1:0" }
audit { file = %q }
`, s.vault.URL, login.RoleID, login.SecretIDFile, filepath.Join(s.dir, "audit.log")) + more
	return config.Parse([]byte(file), "gateway.hcl", func(name string) string {
		return map[string]string{config.EnvListen: "127.0.0.1:0"}[name]
	})
}

// start runs the gateway until stop, or the test's end.
func (s *stage) start(more string) {
	s.t.Helper()
	var err error
	s.gateway, err = newGateway(s.settings(more), hclog.New(&hclog.LoggerOptions{Output: &s.log, Level: hclog.Debug}))
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- s.gateway.run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if s.ended != nil {
			require.NoError(s.t, <-s.ended)
		}
	})
}

func (s *stage) ready() {
	s.t.Helper()
	s.vault.Await("the gateway to be ready", func() bool { return s.admin("/readyz") == http.StatusOK })
}

func (s *stage) admin(path string) int {
	s.t.Helper()
	response, err := http.Get("http://" + s.gateway.adminListener.Addr().String() + path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// metric returns the line of one that has no labels.
func (s *stage) metric(name string) string {
	s.t.Helper()
	response, err := http.Get("http://" + s.gateway.adminListener.Addr().String() + "/metrics")
	require.NoError(s.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, "mcp_gateway_"+name+" "); ok {
			return strings.TrimSuffix(value, "\n")
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return ""
}

func (s *stage) url(scheme string) string {
	return scheme + "://" + s.gateway.mainListener.Addr().String() + "/servers/files/mcp"
}

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

func (s *stage) post(client *http.Client, url string) (int, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader(ping))
	require.NoError(s.t, err)
	request.Header.Set("Authorization", "Bearer "+goodToken)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

func (s *stage) works(client *http.Client, url string) {
	s.t.Helper()
	status, err := s.post(client, url)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, status)
}

func TestFlagsAreChecked(t *testing.T) {
	good := filepath.Join(t.TempDir(), "gateway.hcl")
	require.NoError(t, os.WriteFile(good, []byte("vault {\n  auth \"token_file\" { path = \"/x\" }\n}\n"), 0o600))
	bad := filepath.Join(t.TempDir(), "bad.hcl")
	require.NoError(t, os.WriteFile(bad, []byte("vault {}\nlog { level = \"loud\" }\n"), 0o600))
	tests := map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"a good file":            {[]string{"-config", good, "-check-config"}, exitOK, good + ": ok\n", ""},
		"a bad file":             {[]string{"-config", bad, "-check-config"}, exitFailed, "", bad + ":2,15: log: level"},
		"a file that is missing": {[]string{"-config", "/nowhere/gateway.hcl", "-check-config"}, exitFailed, "", "/nowhere/gateway.hcl"},
		"the version":            {[]string{"-version"}, exitOK, version + "\n", ""},
		"--version":              {[]string{"--version"}, exitOK, version + "\n", ""},
		"version":                {[]string{"version"}, exitOK, version + "\n", ""},
		"no file":                {nil, exitUsage, "", "give the configuration with -config FILE"},
		"an argument too many":   {[]string{"-config", good, "now"}, exitUsage, "", `unexpected argument "now"`},
		"a level that is none":   {[]string{"-config", good, "-log-level", "loud"}, exitUsage, "", `"loud" is not one of`},
		"all mistakes at once": {
			[]string{"-log-level", "loud", "now"},
			exitUsage, "",
			"unexpected argument \"now\"\nmcp-gateway: give the configuration with -config FILE\nmcp-gateway: -log-level: \"loud\"",
		},
		"a flag that is none": {[]string{"-verbose"}, exitUsage, "", "flag provided but not defined"},
		"-help":               {[]string{"-help"}, exitOK, "VAULT_ADDR", ""},
		"--help":              {[]string{"--help"}, exitOK, "-check-config", ""},
		"-h":                  {[]string{"-h"}, exitOK, "Usage: mcp-gateway", ""},
		"help":                {[]string{"help"}, exitOK, "Usage: mcp-gateway", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, test.code, run(test.args, &stdout, &stderr))
			require.Contains(t, stdout.String(), test.stdout)
			require.Contains(t, stderr.String(), test.stderr)
			if test.code == exitOK {
				require.Empty(t, stderr.String())
			}
		})
	}
}

func TestGatewayServesAndStops(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	require.Equal(t, http.StatusOK, s.admin("/healthz"))
	require.Equal(t, http.StatusOK, s.admin("/metrics"))
	s.works(http.DefaultClient, s.url("http"))
	s.stop()
	require.NoError(t, <-s.ended)
	s.ended = nil
	audit, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(audit), "\n"))
	require.NotContains(t, string(audit)+s.log.String(), goodToken)
}

func TestGatewayWaitsForVault(t *testing.T) {
	s := newStage(t)
	s.vault.Fail(http.StatusServiceUnavailable)
	s.start("")
	s.vault.Await("the log line", func() bool { return strings.Contains(s.log.String(), "cannot log in to Vault") })
	require.Equal(t, http.StatusOK, s.admin("/healthz"))
	require.Equal(t, http.StatusServiceUnavailable, s.admin("/readyz"))
	status, err := s.post(http.DefaultClient, s.url("http"))
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, status)
	s.vault.Fail(0)
	s.ready()
	s.works(http.DefaultClient, s.url("http"))
}

func TestGatewayStaysReadyWhenVaultFails(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	s.works(http.DefaultClient, s.url("http"))
	s.vault.Fail(http.StatusInternalServerError)
	require.Equal(t, http.StatusOK, s.admin("/readyz"))
	s.works(http.DefaultClient, s.url("http"))
}

func TestWhatIsWrongWithTheMachineIsTold(t *testing.T) {
	s := newStage(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	settings := s.settings("")
	settings.Listener.Address = taken.Addr().String()
	_, err = newGateway(settings, hclog.NewNullLogger())
	require.ErrorContains(t, err, "address already in use")

	settings = s.settings("")
	settings.Audit.File = s.dir
	_, err = newGateway(settings, hclog.NewNullLogger())
	require.ErrorContains(t, err, "audit log")
}

func TestRequestInFlightEndsBeforeTheGatewayDoes(t *testing.T) {
	s := newStage(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s.serve = func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}
	s.start("")
	s.ready()
	answered := make(chan int, 1)
	go func() {
		status, err := s.post(&http.Client{}, s.url("http"))
		if err != nil {
			status = 0
		}
		answered <- status
	}()
	<-arrived
	s.stop()
	s.vault.Await("the drain", func() bool { return s.gateway.draining.Load() })
	close(release)
	require.Equal(t, http.StatusOK, <-answered)
	require.NoError(t, <-s.ended)
	s.ended = nil
}

// pair writes a certificate for 127.0.0.1, signed by itself.
func pair(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".crt"), crt, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(crt))
	return pool
}

func tlsClient(settings *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}}
}

func TestCertificatesAreReadAgainOnReload(t *testing.T) {
	s := newStage(t)
	first := pair(t, s.dir, "server")
	tlsFile := fmt.Sprintf("listener {\n tls_cert_file = %q\n tls_key_file = %q\n}\n", s.dir+"/server.crt", s.dir+"/server.key")
	s.start(tlsFile)
	s.ready()
	s.works(tlsClient(&tls.Config{RootCAs: first}), s.url("https"))
	second := pair(t, s.dir, "server")
	s.gateway.reload(func() (*config.Config, error) { return s.settings(tlsFile), nil })
	s.works(tlsClient(&tls.Config{RootCAs: second}), s.url("https"))
	require.Equal(t, "1", s.metric("config_last_reload_successful"))
	expires, err := strconv.ParseFloat(s.metric("tls_certificate_expiry_timestamp_seconds"), 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), time.Unix(int64(expires), 0), time.Minute)
	require.NoError(t, os.WriteFile(s.dir+"/server.crt", []byte("broken"), 0o600))
	s.gateway.reload(func() (*config.Config, error) { return s.parse(tlsFile) })
	s.works(tlsClient(&tls.Config{RootCAs: second}), s.url("https"))
	require.Contains(t, s.log.String(), "the old one stays in effect")
	require.Equal(t, "0", s.metric("config_last_reload_successful"))
}

func TestClientCertificateIsNeededWhereAuthoritiesAreListed(t *testing.T) {
	s := newStage(t)
	server := pair(t, s.dir, "server")
	pair(t, s.dir, "client")
	pair(t, s.dir, "stranger")
	s.start(fmt.Sprintf("listener {\n tls_cert_file = %q\n tls_key_file = %q\n tls_client_ca_file = %q\n}\n", s.dir+"/server.crt", s.dir+"/server.key", s.dir+"/client.crt"))
	s.ready()
	with := func(name string) *http.Client {
		certificate, err := tls.LoadX509KeyPair(filepath.Join(s.dir, name+".crt"), filepath.Join(s.dir, name+".key"))
		require.NoError(t, err)
		return tlsClient(&tls.Config{RootCAs: server, Certificates: []tls.Certificate{certificate}})
	}
	s.works(with("client"), s.url("https"))
	_, err := s.post(with("stranger"), s.url("https"))
	require.Error(t, err)
	_, err = s.post(tlsClient(&tls.Config{RootCAs: server}), s.url("https"))
	require.Error(t, err)
}

func TestReloadTakesWhatItCanAndTellsWhatItCannot(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	request := func() int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("http"), strings.NewReader(ping))
		require.NoError(t, err)
		r.Header.Set("Origin", "https://app.example.com")
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusForbidden, request())
	next := s.settings("listener {\n allowed_origins = [\"https://app.example.com\"]\n}\ngrants {\n max_stale = \"12s\"\n}\n")
	s.gateway.reload(func() (*config.Config, error) { return next, nil })
	require.Equal(t, http.StatusUnauthorized, request(), "the origin is allowed now, and the token asked for")
	require.Contains(t, s.log.String(), "takes effect at the next start only: block=grants")
	s.gateway.reload(func() (*config.Config, error) { return nil, fmt.Errorf("a mistake") })
	require.Equal(t, http.StatusUnauthorized, request())
	require.Contains(t, s.log.String(), "the old one stays in effect")
}

func TestProxyProtocolIsBelievedFromTrustedProxiesAlone(t *testing.T) {
	for trusted, want := range map[string]string{"127.0.0.1": "198.51.100.7", "10.0.0.1": "refused"} {
		t.Run(trusted, func(t *testing.T) {
			s := newStage(t)
			s.start(fmt.Sprintf("listener {\n proxy_protocol = true\n trusted_proxies = [%q]\n}\n", trusted))
			s.ready()
			conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			fmt.Fprintf(conn, "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\nPOST /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+
				"Authorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n%s", goodToken, len(ping), ping)
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			s.stop()
			require.NoError(t, <-s.ended)
			s.ended = nil
			audit, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
			require.NoError(t, err)
			if want == "refused" {
				require.Contains(t, string(answer), "400 Bad Request")
				require.NotContains(t, string(audit), "198.51.100.7")
				return
			}
			require.Contains(t, string(answer), "200 OK")
			require.Contains(t, string(audit), `"source":"`+want+`"`)
		})
	}
}

// A client for whom a trusted proxy connects has the bound of a client.
func TestConnectionsAreBoundedByTheSourceThatAProxyNames(t *testing.T) {
	s := newStage(t)
	s.start("listener {\n proxy_protocol = true\n trusted_proxies = [\"127.0.0.0/8\"]\n}\nlimits {\n max_connections_per_source = 1\n}\n")
	s.ready()
	open := func(header string) string {
		conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "%sGET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n", header)
		require.NoError(t, err)
		status, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSpace(status)
	}
	const unauthorized, tooMany = "HTTP/1.1 401 Unauthorized", "HTTP/1.1 429 Too Many Requests"
	require.Equal(t, unauthorized, open("PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n"))
	require.Equal(t, tooMany, open("PROXY TCP4 198.51.100.7 127.0.0.1 4712 80\r\n"))
	require.Equal(t, unauthorized, open("PROXY TCP4 198.51.100.8 127.0.0.1 4711 80\r\n"))
	require.Equal(t, unauthorized, open("PROXY TCP4 127.0.0.9 127.0.0.1 4711 80\r\n"))
	require.Equal(t, tooMany, open("PROXY TCP4 127.0.0.9 127.0.0.1 4712 80\r\n"), "though the client's address is among the proxies'")
	require.Equal(t, unauthorized, open("PROXY UNKNOWN\r\n"), "the proxy itself")
	require.Equal(t, unauthorized, open("PROXY UNKNOWN\r\n"))
}

// Bodies that are begun and not ended fill a client's share, and nobody else's.
func TestUnfinishedBodiesOfAClientAreBounded(t *testing.T) {
	const share, most, body, sent = 5 << 20, 12 << 20, 1 << 20, 700 << 10
	s := newStage(t)
	s.vault.AddToken("other-token-0123456789", "other", grantstest.Data{"allowed_servers": []string{"files"}})
	s.start("limits {\n max_body = \"1MiB\"\n max_list = \"1MiB\"\n max_buffered = \"12MiB\"\n max_buffered_per_client = \"5MiB\"\n}\n")
	s.ready()
	begin := func(token string) net.Conn {
		conn, err := net.Dial("tcp", s.gateway.mainListener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "POST /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
			"Content-Length: %d\r\n\r\n%s", token, body, strings.Repeat(" ", sent))
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET) // it was refused meanwhile
		}
		return conn
	}
	kept := func() int64 {
		n := s.gateway.memory.Kept()
		require.LessOrEqual(t, n, int64(most))
		return n
	}
	var conns []net.Conn
	for range 3 {
		conns = append(conns, begin(goodToken))
	}
	s.vault.Await("three bodies", func() bool { return kept() >= 3*sent })
	refused := begin(goodToken)
	for range 3 { // the fourth fits if the first ones have not grown to their end
		conns = append(conns, refused)
		refused = begin(goodToken)
	}
	require.NoError(t, refused.SetReadDeadline(time.Now().Add(time.Minute)))
	answer, err := io.ReadAll(refused)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	require.Contains(t, string(answer), "429 Too Many Requests")
	require.Contains(t, string(answer), "Retry-After:")
	require.LessOrEqual(t, kept(), int64(share))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("http"), strings.NewReader(ping+strings.Repeat(" ", sent)))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer other-token-0123456789")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)

	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	s.vault.Await("all to be given back", func() bool { return kept() == 0 })
}

func TestWellKnownPathsAreAbsentWithoutAToken(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	base := strings.TrimSuffix(s.url("http"), "/servers/files/mcp")
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server/servers/files/mcp", "/register", "/", "/metrics", "/healthz"} {
		response, err := http.Get(base + path)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
		require.Contains(t, string(body), "There is no sign-in at this gateway", path)
		require.Empty(t, response.Header.Get("WWW-Authenticate"))
	}
	require.Zero(t, s.vault.Lookups())
}

// TestCheckConfigFindsMistakesOfTheEnvironment, which would end the gateway at its start,
// and warns of what works and should not stay so.
func TestCheckConfigFindsMistakesOfTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.hcl")
	require.NoError(t, os.WriteFile(file, []byte("vault {\n  address = \"http://vault.example.com:8200\"\n  auth \"token_file\" { path = \"/x\" }\n}\n"+
		"listener { address = \"0.0.0.0:8080\" }\n"), 0o600))
	check := func() (code int, stdout, stderr string) {
		var out, err bytes.Buffer
		code = run([]string{"-config", file, "-check-config"}, &out, &err)
		return code, out.String(), err.String()
	}
	t.Setenv("VAULT_WRAP_TTL", "60s")
	code, stdout, stderr := check()
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, file+": ok\n", stdout)
	for _, want := range []string{"vault.example.com:8200 is plain HTTP", "0.0.0.0:8080 takes plain HTTP", "VAULT_WRAP_TTL has no effect"} {
		require.Contains(t, stderr, want)
	}
	t.Setenv("VAULT_SKIP_VERIFY", "yes")
	t.Setenv("VAULT_MAX_RETRIES", "many")
	code, _, stderr = check()
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "VAULT_SKIP_VERIFY: ")
	require.Contains(t, stderr, "VAULT_MAX_RETRIES: ")
}
