package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/test/harness"
)

// secure is a gateway with TLS, so that clients may choose HTTP/2, before the calculator and
// another server.
type secure struct {
	*harness.Harness
	t         *testing.T
	gateway   *harness.Gateway
	address   string // of the gateway
	url       string // of the calculator there
	other     string // of the other server
	authority string // its file
	trusted   *tls.Config
}

func newSecure(t *testing.T, listener string, other http.Handler) *secure {
	t.Helper()
	authority, dir := harness.NewAuthority(t), t.TempDir()
	certificate, key := authority.Write(t, dir, "gateway")
	s := &secure{Harness: harness.New(t), t: t, authority: filepath.Join(dir, "authority.pem")}
	s.Harness.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": s.StartUpstream(nil).URL})
	s.Harness.Write("mcp/servers/other", harness.Map{"transport": "http", "url": s.StartUpstream(other).URL})
	s.gateway = s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"listener": fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q\n%s", certificate, key, listener),
	}})
	require.NoError(t, os.WriteFile(s.authority, authority.PEM, 0o600))
	s.address = strings.TrimPrefix(s.gateway.URL, "http://")
	s.url, s.other = "https://"+s.address+"/servers/calculator/mcp", "https://"+s.address+"/servers/other/mcp"
	s.trusted = &tls.Config{RootCAs: authority.Pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	return s
}

// client is one of Go's, which chooses HTTP/2.
func (s *secure) client() *http.Client {
	transport := &http.Transport{TLSClientConfig: s.trusted.Clone(), ForceAttemptHTTP2: true}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: &harness.Patient{Next: transport}, Timeout: time.Minute}
}

// bearer adds a token to each request.
type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

func sendCall(ctx context.Context, client *http.Client, url, token string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(harness.CallBody("add", `{"a":40,"b":2}`)))
	if err != nil {
		return nil, err
	}
	request.Header = callHeader(token)
	return client.Do(request)
}

// send sends a call, and returns the answer.
func (s *secure) send(client *http.Client, url, token string) *http.Response {
	s.t.Helper()
	response, err := sendCall(s.t.Context(), client, url, token)
	require.NoError(s.t, err)
	require.Equal(s.t, 2, response.ProtoMajor)
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func callHeader(token string) http.Header {
	return http.Header{
		"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"add"},
	}
}

func content(t *testing.T, response *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}

func TestClientsUseHTTP2(t *testing.T) {
	s := newSecure(t, "", nil)
	token := s.CreateClient("cursor", harness.Map{"allowed_servers": "calculator"})
	wrong := harness.UnissuedToken(t)
	s.Secret(wrong)
	client := s.client()
	answer := s.send(client, s.url, token)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, content(t, answer), "42")
	require.Equal(t, http.StatusUnauthorized, s.send(client, s.url, wrong).StatusCode)
	require.Equal(t, http.StatusForbidden, s.send(client, s.other, token).StatusCode)

	t.Run("the SDK's", func(t *testing.T) {
		transport := &mcp.StreamableClientTransport{Endpoint: s.url, HTTPClient: &http.Client{Transport: bearer{s.client().Transport, token}}}
		session, err := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, nil).Connect(t.Context(), transport, nil)
		require.NoError(t, err)
		defer session.Close()
		tools, err := session.ListTools(t.Context(), nil)
		require.NoError(t, err)
		require.NotEmpty(t, tools.Tools)
	})
	t.Run("curl", func(t *testing.T) {
		program, err := exec.LookPath("curl")
		if err != nil {
			return // Node's below is another client that is not Go's
		}
		arguments := []string{"--silent", "--show-error", "--http2", "--cacert", s.authority, "--write-out", " HTTP/%{http_version} %{http_code}", "--data", harness.CallBody("add", `{"a":40,"b":2}`), s.url}
		for name, values := range callHeader(token) {
			arguments = append(arguments, "--header", name+": "+values[0])
		}
		output, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput()
		require.NoError(t, err, string(output))
		require.Contains(t, string(output), "42")
		require.Contains(t, string(output), " HTTP/2 200")
	})
	t.Run("Node's", func(t *testing.T) {
		header, err := json.Marshal(callHeader(token))
		require.NoError(t, err)
		command := exec.CommandContext(t.Context(), "node", filepath.Join("testdata", "http2.cjs"), s.url, string(header), harness.CallBody("add", `{"a":40,"b":2}`))
		command.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+s.authority)
		output, err := command.CombinedOutput()
		require.NoError(t, err, string(output))
		require.Equal(t, 20, strings.Count(string(output), "200 "), string(output))
		require.Equal(t, 20, strings.Count(string(output), `"text":"42"`), string(output))
	})
}

// endless answers each request with a stream that has no end.
func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestRevocationEndsAStreamOfHTTP2AndNoOther(t *testing.T) {
	s := newSecure(t, "", http.HandlerFunc(endless))
	rights := harness.Map{"allowed_servers": "*"}
	lost, kept := s.CreateClient("lost", rights), s.CreateClient("kept", rights)
	client, url := s.client(), s.other
	ended := map[string]chan error{lost: make(chan error, 1), kept: make(chan error, 1)}
	for token, ended := range ended {
		answer := s.send(client, url, token)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		go func() {
			_, err := io.Copy(io.Discard, answer.Body)
			ended <- err
		}()
	}
	began := time.Now()
	s.Harness.Write("mcp/revoke-client/lost", nil)
	select {
	case err := <-ended[lost]:
		require.Error(t, err, "the stream looks complete")
		t.Logf("ended after %v", time.Since(began))
	case <-time.After(10 * time.Second):
		t.Fatal("the stream goes on")
	}
	require.Equal(t, http.StatusUnauthorized, s.send(client, url, lost).StatusCode)
	require.Contains(t, content(t, s.send(client, s.url, kept)), "42", "over the same connection")
	require.Empty(t, ended[kept])
}

func TestGatewayThatDrainsFinishesCallsOfHTTP2(t *testing.T) {
	release, came := make(chan struct{}), make(chan struct{}, 1)
	s := newSecure(t, "drain_delay = \"100ms\"\n", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came <- struct{}{}
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"all of it"}]}}`)
	}))
	token := s.CreateClient("cursor", harness.Map{"allowed_servers": "*"})
	c := gatewaytest.DialHTTP2(t, s.address, s.trusted)
	fields := []string{}
	for name, values := range callHeader(token) {
		fields = append(fields, strings.ToLower(name), values[0])
	}
	require.NoError(t, c.Begin(1, http.MethodPost, "/servers/other/mcp", fields...))
	require.NoError(t, c.WriteData(1, true, []byte(harness.CallBody("add", `{"a":40,"b":2}`))))
	select {
	case <-came:
	case <-time.After(time.Minute):
		t.Fatal("the call does not arrive")
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.gateway.Stop()
	}()
	require.Contains(t, c.Await("GOAWAY"), "NO_ERROR")
	close(release)
	require.Contains(t, c.Await("DATA 1"), "all of it")
	c.AwaitEnd()
	<-stopped
}

// CVE-2023-44487 at a real gateway: the flood ends with its connection, and others do not notice.
func TestFloodOfHTTP2EndsItsConnectionAlone(t *testing.T) {
	s := newSecure(t, "", nil)
	token := s.CreateClient("cursor", harness.Map{"allowed_servers": "calculator"})
	client := s.client()
	require.Contains(t, content(t, s.send(client, s.url, token)), "42")
	over, others := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			answer, err := sendCall(t.Context(), client, s.url, token)
			if err == nil {
				_, err = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
			if err == nil && answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("answered %d", answer.StatusCode)
			}
			select {
			case <-over:
				others <- err
				return
			default:
			}
			if err != nil {
				others <- err
				return
			}
		}
	}()
	c := gatewaytest.DialHTTP2(t, s.address, s.trusted)
	n := c.UntilEnd(func(i int) error {
		stream := uint32(2*i + 1)
		if err := c.Begin(stream, http.MethodGet, "/mcp", "authorization", "Bearer "+token); err != nil {
			return err
		}
		return c.WriteRSTStream(stream, http2.ErrCodeCancel)
	})
	close(over)
	require.NoError(t, <-others)
	t.Logf("ended after %d streams", n)
	require.Contains(t, content(t, s.send(client, s.url, token)), "42")
	logged, err := os.ReadFile(filepath.Join(s.Dir, "gateway-1.log"))
	require.NoError(t, err)
	require.Contains(t, string(logged), "a client misuses its connection")
}
