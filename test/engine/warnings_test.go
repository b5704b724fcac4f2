package engine

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

func TestWarningsTellWhatIsLikelyNotMeant(t *testing.T) {
	h := harness.New(t)
	tests := []struct {
		name string
		data harness.Map
		want string
	}{
		{"a server that is not registered", harness.Map{"allowed_servers": "later"}, `no server "later" is registered`},
		{"no server at all", nil, "reaches no server"},
		{"every server", harness.Map{"allowed_servers": "*"}, "every server"},
		{"a token without end", harness.Map{"allowed_servers": "later"}, "does not expire"},
		{"a custom token that may be guessed", harness.Map{"allowed_servers": "later", "access_token": "my-token-0123456789"}, "may be guessed"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := h.In(t)
			if token, ok := test.data["access_token"].(string); ok {
				h.Secret(token)
			}
			answer, err := h.Vault.Client().Logical().WriteWithContext(t.Context(), "mcp/clients/c"+strings.Repeat("x", i), test.data)
			if err != nil {
				t.Fatal(err)
			}
			h.Secret(h.Token(answer.Data))
			if !strings.Contains(strings.Join(answer.Warnings, "\n"), test.want) {
				t.Errorf("the warnings are %q", answer.Warnings)
			}
		})
	}
	t.Run("a server that is registered later can then be reached", func(t *testing.T) {
		h := h.In(t)
		upstream := h.StartUpstream(nil)
		token := h.CreateClient("early", harness.Map{"allowed_servers": "later"})
		gateway := h.StartGateway(harness.GatewayOptions{})
		if r := h.Call(gateway.ServerURL("later"), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusForbidden {
			t.Errorf("before, it is answered %d %s", r.Status, r.Body)
		}
		h.Write("mcp/servers/later", harness.Map{"transport": "http", "url": upstream.URL})
		h.Eventually("the server can be reached", func() error {
			if r := h.Call(gateway.ServerURL("later"), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusOK {
				return errors.New(r.Body)
			}
			return nil
		})
	})
}
