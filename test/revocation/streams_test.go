package revocation

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// stream is a stream on which a server speaks of its own accord.
type stream struct {
	ended chan struct{} // closed when it has ended

	mu   sync.Mutex
	text strings.Builder
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// has reports whether the stream has said that.
func (s *stream) has(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), what)
}

// isOpen reports whether the stream has not ended.
func (s *stream) isOpen() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// openStream opens a session and its stream.
func openStream(t *testing.T, h *harness.Harness, url, token string) *stream {
	t.Helper()
	header := stage.InSession(stage.OpenSession(t, h, url, token))
	header.Set("Accept", "text/event-stream")
	header.Del("Content-Type")
	return follow(t, http.MethodGet, url, token, header, "")
}

// follow sends a request that is answered with a stream, and reads that.
func follow(t *testing.T, method, url, token string, header http.Header, body string) *stream {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	request.Header = header
	request.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))

	s := &stream{ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_, _ = io.Copy(s, response.Body)
	}()
	return s
}

// TestTakingAccessAwayCutsAnOpenStream takes it away in every way there is, and
// wants the stream closed soon after Vault's answer. The stream of all
// servers goes on where the token is still good: it says that lists have changed.
func TestTakingAccessAwayCutsAnOpenStream(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	gateway := h.StartGateway(harness.GatewayOptions{})
	deny := harness.Map{"deniedMcpServers": `[{"serverName":"calculator"}]`}

	for name, way := range map[string]struct {
		take func(h *harness.Harness, token string)
		// ofServer: it is taken from the server, and not from the token.
		ofServer bool
	}{
		"revoking the token":       {func(h *harness.Harness, token string) { h.Write("mcp/revoke", harness.Map{"token": token}) }, false},
		"revoking the client":      {func(h *harness.Harness, _ string) { h.Write("mcp/revoke-client/c", nil) }, false},
		"revoking everything":      {func(h *harness.Harness, _ string) { h.Write("mcp/revoke-all", nil) }, false},
		"deleting the client":      {func(h *harness.Harness, _ string) { h.Delete("mcp/clients/c") }, false},
		"disabling the client":     {func(h *harness.Harness, _ string) { h.Write("mcp/clients/c", harness.Map{"disabled": true}) }, false},
		"a rotation without grace": {func(h *harness.Harness, _ string) { h.Write("mcp/rotate-client/c", harness.Map{"grace_period": 0}) }, false},
		"narrowing the allow-list": {func(h *harness.Harness, _ string) { h.Write("mcp/clients/c", harness.Map{"allowed_servers": "other"}) }, true},
		"a policy that denies it":  {func(h *harness.Harness, _ string) { h.Write("mcp/policies/p", deny) }, true},
		"pointing it elsewhere": {func(h *harness.Harness, _ string) {
			h.Write("mcp/servers/calculator", harness.Map{"url": upstream.URL + "/x"})
		}, true},
		"removing it from the list": {func(h *harness.Harness, _ string) { h.Delete("mcp/servers/calculator") }, true},
		"disabling the server": {func(h *harness.Harness, _ string) {
			h.Write("mcp/servers/calculator", harness.Map{"disabled": true})
		}, true},
		"binding it to another net": {func(h *harness.Harness, _ string) {
			h.Write("mcp/clients/c", harness.Map{"token_bound_cidrs": "192.0.2.0/24"})
		}, false},
		"the end of a grace period": {func(h *harness.Harness, _ string) { h.Write("mcp/rotate-client/c", harness.Map{"grace_period": "1s"}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL, "disabled": false})
			h.Write("mcp/policies/p", harness.Map{"deniedMcpServers": `[]`})
			token := h.CreateClient("c", harness.Map{"allowed_servers": "calculator", "policies": "p"})
			defer h.Delete("mcp/clients/c")
			var streams [len(stage.Endpoints)]*stream
			for _, at := range stage.Endpoints {
				url := at.URL(gateway, "calculator")
				h.Eventually("the server to be reachable", func() error {
					got := h.Call(url, token, at.Tool("calculator", "add"), `{"a":1,"b":1}`)
					if got.Status != http.StatusOK || strings.Contains(got.Body, `"error"`) {
						return errors.New(got.Body)
					}
					return nil
				})
				streams[at] = openStream(t, h, url, token)
			}
			way.take(h, token)

			bound := stage.InForce
			if name == "the end of a grace period" {
				bound += 2 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			wantEnd(ctx, t, streams[stage.Single])
			if !way.ofServer {
				wantEnd(ctx, t, streams[stage.Aggregate])
				return
			}
			h.Within(bound, "the stream of all servers to tell", func() error {
				if !streams[stage.Aggregate].has("notifications/tools/list_changed") {
					return errors.New("nothing yet")
				}
				return nil
			})
			require.True(t, streams[stage.Aggregate].isOpen(), "the stream of all servers was cut")
		})
	}
}

// wantEnd fails the test unless the stream ends while the context lasts.
func wantEnd(ctx context.Context, t *testing.T, s *stream) {
	t.Helper()
	select {
	case <-s.ended:
	case <-ctx.Done():
		t.Fatal("the stream was still open in the end")
	}
}
