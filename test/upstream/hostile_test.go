package upstream

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
	"vault-plugin-secrets-mcp/test/upstream/bed"
)

// TestAStolenLoginMintsWithinItsRoleAlone: somebody has a gateway's login, and does with it
// what a gateway never would. docs/threat-model.md says what it can do.
func TestAStolenLoginMintsWithinItsRoleAlone(t *testing.T) {
	h := harness.New(t)
	bed.SetUp(t, h, "5m")
	h.Write("sys/policies/acl/everything", harness.Map{"policy": `path "*" { capabilities = ["read", "update", "list"] }`})
	thief := stage.Holder(t, h, "thief", policies.Gateway)
	mint := func(request api.TokenCreateRequest) (*api.Secret, error) {
		secret, err := thief.Auth().Token().CreateWithRoleWithContext(t.Context(), &request, bed.TokenRole)
		if err == nil {
			h.Secret(secret.Auth.ClientToken)
		}
		return secret, err
	}
	own := []string{bed.SelfPolicy, bed.SecretsPolicy}

	for name, request := range map[string]api.TokenCreateRequest{
		"an alias with another prefix":       {EntityAlias: "other:c", Policies: own},
		"an alias without the prefix":        {EntityAlias: "c", Policies: own},
		"an alias with the prefix's letters": {EntityAlias: "mcp-c", Policies: own},
		"another policy":                     {EntityAlias: "mcp:c", Policies: []string{bed.SelfPolicy, "everything"}},
		"the gateway's policy":               {EntityAlias: "mcp:c", Policies: []string{"thief"}},
		"root":                               {EntityAlias: "mcp:c", Policies: []string{"root"}},
		"a periodic token":                   {EntityAlias: "mcp:c", Policies: own, Period: "24h"},
		"an id of its own choice":            {EntityAlias: "mcp:c", Policies: own, ID: "hvs.chosen-by-the-thief"},
	} {
		t.Run("it cannot mint with "+name, func(t *testing.T) {
			_, err := mint(request)
			require.Error(t, err)
			if !strings.Contains(name, "periodic") && !strings.Contains(name, "choice") {
				require.NotContains(t, err.Error(), "permission denied", "the role is not what refuses it")
			}
		})
	}
	for _, path := range []string{"auth/token/create", "auth/token/create-orphan", "auth/token/create/another"} {
		t.Run("it cannot write "+path, func(t *testing.T) {
			_, err := thief.Logical().WriteWithContext(t.Context(), path, harness.Map{"policies": own})
			require.ErrorContains(t, err, "permission denied")
		})
	}
	c, err := mint(api.TokenCreateRequest{EntityAlias: "mcp:c", Policies: own})
	require.NoError(t, err)
	for path, data := range map[string]harness.Map{
		"auth/token/revoke-accessor":    {"accessor": c.Auth.Accessor},
		"auth/token/lookup-accessor":    {"accessor": c.Auth.Accessor},
		"auth/token/revoke":             {"token": c.Auth.ClientToken},
		"sys/leases/revoke":             {"lease_id": "pki/issue/mcp/x"},
		"sys/leases/lookup":             {"lease_id": "pki/issue/mcp/x"},
		"identity/entity":               {"name": "x"},
		"auth/token/roles/mcp-upstream": {"allowed_policies": "everything"},
	} {
		t.Run("it cannot write "+path, func(t *testing.T) {
			_, err := thief.Logical().WriteWithContext(t.Context(), path, data)
			require.ErrorContains(t, err, "permission denied")
		})
	}

	t.Run("what it can do is act as any client, until it is revoked", func(t *testing.T) {
		h := h.In(t)
		for _, client := range []string{"mcp:c", "mcp:d"} {
			h.Write("kv/data/mcp/"+client+"/github", harness.Map{"data": harness.Map{"token": "a secret"}})
			secret, err := mint(api.TokenCreateRequest{EntityAlias: client, Policies: own})
			require.NoError(t, err)
			require.Equal(t, bed.Entity(t, h, client), secret.Auth.EntityID)
			_, err = h.Vault.ClientWithToken(secret.Auth.ClientToken).Logical().ReadWithContext(t.Context(), "kv/data/mcp/"+client+"/github")
			require.NoError(t, err)
		}
		nobody, err := mint(api.TokenCreateRequest{Policies: own})
		require.NoError(t, err, "a role never forces an alias")
		require.Empty(t, nobody.Auth.EntityID)
		orphan, err := mint(api.TokenCreateRequest{EntityAlias: "mcp:c", Policies: own, NoParent: true})
		require.NoError(t, err)
		require.False(t, orphan.Auth.Orphan)
		require.NoError(t, h.Vault.Client().Auth().Token().RevokeTreeWithContext(t.Context(), thief.Token()))
		require.Empty(t, bed.Children(t, h), "a child outlives the login under which it was minted")
	})
}

// TestAGroupThatWouldAddAPolicyIsRefused: whoever may write groups would give a client's
// child tokens more than the gateway asks for.
func TestAGroupThatWouldAddAPolicyIsRefused(t *testing.T) {
	w := newSurroundings(t, settings{})
	token := w.client("c", nil)
	entity := w.Write("identity/entity", harness.Map{"name": "c"})["id"].(string)
	auths, err := w.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	w.Write("identity/entity-alias", harness.Map{"name": "mcp:c", "canonical_id": entity, "mount_accessor": auths["token/"].Accessor})
	w.works(old, token)
	w.Write("identity/group", harness.Map{"name": "g", "member_entity_ids": entity, "policies": "everything"})
	line := w.unavailable(web, token)
	require.Equal(t, reason, line["reason"], line)
	require.False(t, strings.Contains(w.log(), "panic"))
	w.Delete("identity/group/name/g")
	w.works(web, token)
}
