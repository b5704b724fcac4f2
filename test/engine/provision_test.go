package engine

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

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
	require.NoError(t, provision.Upstream(t.Context(), h.Vault.Client(), provision.AliasPrefix, nil))
	child := mint(t, h, h.Vault.Client(), harness.Map{"entity_alias": "mcp:cursor-local"})
	gateway := loginAsGateway(t, h)

	const put, get, del, list = http.MethodPut, http.MethodGet, http.MethodDelete, "LIST"
	acl{
		h: h, name: policies.GatewayName, rules: policies.Gateway, holder: gateway, names: []string{"cursor-local"},
		may: []use{
			{put, "mcp/lookup", harness.Map{"token": token}},
			{get, "mcp/changes", nil},
			{get, "mcp/gateway/servers", nil},
			{get, "mcp/gateway/keys", nil},
			{put, "mcp/gateway/usage", harness.Map{"gateway": "gateway000000001", "day": "2026-01-01"}},
			{get, "mcp/gateway/pins/calculator", nil},
			{put, "mcp/gateway/pins/calculator", harness.Map{"place": "p"}},
			{get, "auth/token/lookup-self", nil},
			{put, "auth/token/renew-self", nil},
			{put, mintPath, harness.Map{"entity_alias": "mcp:cursor-local", "ttl": "10m"}},
		},
		mayNot: []use{
			{get, "mcp/clients/cursor-local", nil},
			{put, "mcp/clients/cursor-local", harness.Map{"allowed_servers": "*"}},
			{put, "mcp/clients/another", harness.Map{"allowed_servers": "*"}},
			{put, "mcp/rotate-client/cursor-local", nil},
			{put, "mcp/servers/calculator", harness.Map{"url": "http://127.0.0.1:2/mcp"}},
			{put, "mcp/policies/corp", harness.Map{"deniedMcpServers": "[]"}},
			{get, "mcp/pins/calculator", nil},
			{put, "mcp/pins/calculator", harness.Map{"trust_first": true}},
			{put, "auth/token/create", nil},
			{put, "auth/token/create", harness.Map{"entity_alias": "mcp:cursor-local"}},
			{put, "auth/token/create-orphan", nil},
			{put, "auth/token/create/another-role", nil},
			{put, "auth/token/lookup", harness.Map{"token": child.ClientToken}},
			{put, "auth/token/lookup-accessor", harness.Map{"accessor": child.Accessor}},
			{put, "auth/token/renew", harness.Map{"token": child.ClientToken}},
			{put, "auth/token/renew-accessor", harness.Map{"accessor": child.Accessor}},
			{put, "auth/token/revoke", harness.Map{"token": child.ClientToken}},
			{put, "auth/token/revoke-accessor", harness.Map{"accessor": child.Accessor}},
			{put, "auth/token/revoke-orphan", harness.Map{"token": child.ClientToken}},
			{put, "auth/token/revoke-self", nil},
			{list, "auth/token/accessors/", nil},
			{list, "auth/token/roles/", nil},
			{get, provision.UpstreamRolePath, nil},
			{put, provision.UpstreamRolePath, harness.Map{"allowed_policies": "root"}},
			{del, provision.UpstreamRolePath, nil},
			{put, "sys/policies/acl/" + policies.UpstreamName, harness.Map{"policy": `path "*" {}`}},
			{put, "sys/leases/lookup", harness.Map{"lease_id": "mcp/creds/cursor-local/x"}},
			{put, "sys/leases/renew", harness.Map{"lease_id": "mcp/creds/cursor-local/x"}},
			{put, "sys/leases/revoke", harness.Map{"lease_id": "mcp/creds/cursor-local/x"}},
			{put, "sys/leases/revoke-prefix/mcp/creds/", nil},
			{put, "identity/entity-alias", harness.Map{"name": "mcp:cursor-local"}},
			{put, "identity/lookup/entity", harness.Map{"alias_name": "mcp:cursor-local"}},
			{put, "identity/group", harness.Map{"name": "g"}},
			{put, "sys/wrapping/wrap", harness.Map{"a": "b"}},
			{get, "cubbyhole/x", nil},
		},
	}.check(t)
	if got := h.Write("mcp/lookup", harness.Map{"token": token})["active"]; got != true {
		t.Error("the client's token is not what it was")
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
