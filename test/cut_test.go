package test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// openStream opens a session and the stream on which the server speaks of its
// own accord. The channel is closed when the stream ends.
func openStream(t *testing.T, h *harness.Harness, url, token string) <-chan struct{} {
	t.Helper()
	opened := h.Post(url, token, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+
		harness.SessionEra+`","capabilities":{},"clientInfo":{"name":"stream","version":"1"}}}`)
	require.Equal(t, http.StatusOK, opened.Status, opened.Body)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Accept": "text/event-stream",
		"Mcp-Session-Id": opened.Header.Get("Mcp-Session-Id"), "Mcp-Protocol-Version": harness.SessionEra,
	} {
		request.Header.Set(name, value)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, response.Body)
	}()
	return ended
}

// TestTakingAccessAwayCutsAnOpenStream takes it away in every way there is, and
// wants the stream closed within a second of Vault's answer.
func TestTakingAccessAwayCutsAnOpenStream(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	gateway := h.StartGateway(harness.GatewayOptions{})
	deny := harness.Map{"deniedMcpServers": `[{"serverName":"calculator"}]`}

	for name, take := range map[string]func(h *harness.Harness, token string){
		"revoking the token":       func(h *harness.Harness, token string) { h.Write("mcp/revoke", harness.Map{"token": token}) },
		"revoking the client":      func(h *harness.Harness, _ string) { h.Write("mcp/revoke-client/c", nil) },
		"revoking everything":      func(h *harness.Harness, _ string) { h.Write("mcp/revoke-all", nil) },
		"deleting the client":      func(h *harness.Harness, _ string) { h.Delete("mcp/clients/c") },
		"disabling the client":     func(h *harness.Harness, _ string) { h.Write("mcp/clients/c", harness.Map{"disabled": true}) },
		"a rotation without grace": func(h *harness.Harness, _ string) { h.Write("mcp/rotate-client/c", harness.Map{"grace_period": 0}) },
		"narrowing the allow-list": func(h *harness.Harness, _ string) { h.Write("mcp/clients/c", harness.Map{"allowed_servers": "other"}) },
		"a policy that denies it":  func(h *harness.Harness, _ string) { h.Write("mcp/policies/p", deny) },
		"pointing it elsewhere": func(h *harness.Harness, _ string) {
			h.Write("mcp/servers/calculator", harness.Map{"url": upstream.URL + "/x"})
		},
		"removing it from the list": func(h *harness.Harness, _ string) { h.Delete("mcp/servers/calculator") },
		"binding it to another net": func(h *harness.Harness, _ string) {
			h.Write("mcp/clients/c", harness.Map{"token_bound_cidrs": "192.0.2.0/24"})
		},
		"the end of a grace period": func(h *harness.Harness, _ string) { h.Write("mcp/rotate-client/c", harness.Map{"grace_period": "1s"}) },
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL})
			h.Write("mcp/policies/p", harness.Map{"deniedMcpServers": `[]`})
			token := h.CreateClient("c", harness.Map{"allowed_servers": "calculator", "policies": "p"})
			defer h.Delete("mcp/clients/c")
			url := gateway.ServerURL("calculator")
			h.Eventually("the server to be reachable", func() error {
				if got := h.Call(url, token, "add", `{"a":1,"b":1}`); got.Status != http.StatusOK {
					return errors.New(http.StatusText(got.Status))
				}
				return nil
			})
			ended := openStream(t, h, url, token)
			take(h, token)

			bound := time.Second
			if name == "the end of a grace period" {
				bound = 3 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			select {
			case <-ended:
			case <-ctx.Done():
				t.Fatalf("the stream was still open %s later", bound)
			}
		})
	}
}
