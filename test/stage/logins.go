package stage

import (
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// Holder returns a client of Vault whose token has the one policy.
func Holder(t *testing.T, h *harness.Harness, name, rules string) *api.Client {
	t.Helper()
	root := h.Vault.Client()
	require.NoError(t, provision.Policy(t.Context(), root, name, rules))
	secret, err := root.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{
		Policies: []string{name}, NoDefaultPolicy: true,
	})
	require.NoError(t, err)
	h.Secret(secret.Auth.ClientToken)
	return h.Vault.ClientWithToken(secret.Auth.ClientToken)
}

// ClientLogin makes the AppRole role with which a client, or the Vault Agent
// beside it, gets the client's tokens.
func ClientLogin(t *testing.T, h *harness.Harness, name string, role harness.Map) provision.AppRole {
	t.Helper()
	_, err := provision.GatewayLogin(t.Context(), h.Vault.Client(), policies.GatewayName) // enables AppRole
	require.NoError(t, err)
	auths, err := h.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	require.NoError(t, provision.Policy(t.Context(), h.Vault.Client(), policies.ClientName, policies.Client(auths["approle/"].Accessor)))
	data := harness.Map{"token_policies": policies.ClientName, "token_no_default_policy": true}
	for key, value := range role {
		data[key] = value
	}
	h.Write("auth/approle/role/"+name, data)
	login := provision.AppRole{SecretID: h.Write("auth/approle/role/"+name+"/secret-id", nil)["secret_id"].(string)}
	login.RoleID = h.Read("auth/approle/role/" + name + "/role-id")["role_id"].(string)
	h.Secret(login.SecretID)
	return login
}
