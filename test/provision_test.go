package test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// loginAsGateway returns a client with a gateway's token.
func loginAsGateway(t *testing.T, h *harness.Harness) *api.Client {
	t.Helper()
	login, err := provision.GatewayLogin(t.Context(), h.Vault.Client(), policies.GatewayName)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := h.Vault.Client().Logical().WriteWithContext(t.Context(), "auth/approle/login", harness.Map{
		"role_id": login.RoleID, "secret_id": login.SecretID,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Auth.Policies; !slices.Equal(got, []string{policies.GatewayName}) {
		t.Errorf("a gateway's token has the policies %v", got)
	}
	return h.Vault.ClientWithToken(answer.Auth.ClientToken)
}

func TestAGatewayMayDoItsWorkInVaultAndNothingElse(t *testing.T) {
	h := harness.New(t)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	token := h.CreateClient("cursor-local", harness.Map{"allowed_servers": "calculator"})
	gateway := loginAsGateway(t, h)

	for _, test := range []struct {
		method, path string
		data         harness.Map
		allowed      bool
	}{
		{http.MethodPut, "mcp/lookup", harness.Map{"token": token}, true},
		{http.MethodGet, "mcp/changes", nil, true},
		{http.MethodGet, "mcp/gateway/servers", nil, true},
		{http.MethodGet, "mcp/gateway/keys", nil, true},
		{http.MethodGet, "auth/token/lookup-self", nil, true},
		{http.MethodPut, "auth/token/renew-self", nil, true},

		{http.MethodGet, "mcp/config", nil, false},
		{http.MethodPut, "mcp/config", harness.Map{"default_ttl": 60}, false},
		{http.MethodGet, "mcp/servers/calculator", nil, false},
		{http.MethodGet, "mcp/clients/cursor-local", nil, false},
		{http.MethodPut, "mcp/clients/another", harness.Map{"allowed_servers": "*"}, false},
		{http.MethodPut, "mcp/rotate-client/cursor-local", nil, false},
		{http.MethodPut, "mcp/revoke-client/cursor-local", nil, false},
		{http.MethodPut, "mcp/revoke-all", nil, false},
		{http.MethodGet, "mcp/creds/cursor-local", nil, false},
		{http.MethodPut, "mcp/gateway/keys", nil, false},
		{http.MethodPut, "auth/token/create", nil, false},
		{http.MethodPut, "sys/wrapping/wrap", harness.Map{"a": "b"}, false},
		{http.MethodGet, "cubbyhole/x", nil, false},
	} {
		t.Run(fmt.Sprintf("%s %s: %v", test.method, test.path, test.allowed), func(t *testing.T) {
			var err error
			if test.method == http.MethodGet {
				_, err = gateway.Logical().ReadWithContext(t.Context(), test.path)
			} else {
				_, err = gateway.Logical().WriteWithContext(t.Context(), test.path, test.data)
			}
			denied := err != nil && strings.Contains(err.Error(), "Code: 403")
			if denied == test.allowed || (err != nil && !denied) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestEveryStepOfTheSetUpMayBeTakenAgain(t *testing.T) {
	h := harness.New(t) // which took them all once
	client := h.Vault.Client()
	program := filepath.Join(h.Dir, "plugins", provision.PluginName)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	if err := provision.Register(t.Context(), client, program); err != nil {
		t.Error(err)
	}
	if err := provision.Mount(t.Context(), client, harness.Mount); err != nil {
		t.Error(err)
	}
	if err := provision.Policy(t.Context(), client, policies.GatewayName, policies.Gateway); err != nil {
		t.Error(err)
	}
	loginAsGateway(t, h)
	loginAsGateway(t, h)
	if h.Read("mcp/servers/calculator") == nil {
		t.Error("a server that was registered is gone")
	}
}

func TestTheSetUpSaysWhatIsInItsWay(t *testing.T) {
	h := harness.New(t)
	client := h.Vault.Client()
	if err := provision.Mount(t.Context(), client, "secret"); err == nil || !strings.Contains(err.Error(), "a mount of type kv is there") {
		t.Errorf("a mount of another type: %v", err)
	}
	if err := provision.Register(t.Context(), client, "/no/such/plugin"); err == nil || !strings.Contains(err.Error(), "/no/such/plugin") {
		t.Errorf("a plugin that is not there: %v", err)
	}
	elsewhere := h.Vault.ClientWithToken("no-such-token")
	if err := provision.Policy(t.Context(), elsewhere, policies.GatewayName, policies.Gateway); err == nil ||
		!strings.Contains(err.Error(), "cannot write the policy mcp-gateway") {
		t.Errorf("a token that may not: %v", err)
	}
}
