package engine

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

const mintPath = "auth/token/create/" + provision.UpstreamRole

// mint mints a child token, which must succeed.
func mint(t *testing.T, h *harness.Harness, parent *api.Client, data harness.Map) *api.SecretAuth {
	t.Helper()
	secret, err := parent.Logical().WriteWithContext(t.Context(), mintPath, data)
	require.NoError(t, err)
	h.Secret(secret.Auth.ClientToken)
	return secret.Auth
}

// self is the result of a token's lookup-self; nil if the token is not valid.
func self(t *testing.T, token *api.Client) harness.Map {
	t.Helper()
	secret, err := token.Auth().Token().LookupSelfWithContext(t.Context())
	if err != nil {
		require.Contains(t, err.Error(), "Code: 403")
		return nil
	}
	return secret.Data
}

// withUpstream is a Vault with the broker and Vault's side of upstream credentials: each client
// may read its own secrets below secret/mcp/.
func withUpstream(t *testing.T) (h *harness.Harness, gateway *api.Client) {
	t.Helper()
	h = harness.New(t)
	root := h.Vault.Client()
	require.NoError(t, provision.Upstream(t.Context(), root, provision.AliasPrefix, nil))
	accessor, err := provision.TokenAccessor(t.Context(), root)
	require.NoError(t, err)
	rules := policies.Upstream(accessor, `path "secret/data/mcp/{{identity.entity.aliases.TOKEN_ACCESSOR.name}}/*" {
  capabilities = ["read"]
}`)
	require.NoError(t, provision.Policy(t.Context(), root, policies.UpstreamName, rules))
	for _, client := range []string{"ann", "bob"} {
		h.Write("secret/data/mcp/mcp:"+client+"/github", harness.Map{"data": harness.Map{"token": "the-github-token-of-" + client}})
	}
	return h, loginAsGateway(t, h)
}

func TestAChildTokenReadsAsItsClientAndEndsItself(t *testing.T) {
	h, gateway := withUpstream(t)
	ann := mint(t, h, gateway, harness.Map{"entity_alias": "mcp:ann", "policies": []string{policies.UpstreamName}, "ttl": "10m"})
	require.Equal(t, []string{policies.UpstreamName}, ann.Policies, "it has a policy that nobody named")
	require.Empty(t, ann.IdentityPolicies)
	require.True(t, ann.Renewable)
	require.Equal(t, 600, ann.LeaseDuration)

	child := h.Vault.ClientWithToken(ann.ClientToken)
	require.Equal(t, "service", self(t, child)["type"])
	secret, err := child.Logical().ReadWithContext(t.Context(), "secret/data/mcp/mcp:ann/github")
	require.NoError(t, err)
	require.Equal(t, harness.Map{"token": "the-github-token-of-ann"}, secret.Data["data"])
	for _, u := range []use{
		{http.MethodGet, "secret/data/mcp/mcp:bob/github", nil},
		{"LIST", "secret/metadata/mcp/", nil},
		{http.MethodPut, mintPath, harness.Map{"entity_alias": "mcp:bob"}},
		{http.MethodGet, "mcp/gateway/servers", nil},
		{http.MethodGet, "cubbyhole/x", nil},
	} {
		if !denied(t.Context(), child, u) {
			t.Errorf("a child token may %s", u)
		}
	}
	require.False(t, denied(t.Context(), child, use{http.MethodPut, "auth/token/revoke-self", nil}))
	require.Nil(t, self(t, child), "it has revoked itself, and lives")
}

// TestAChildTokenNeedsEachOfItsRights takes each right of mcp-upstream away.
func TestAChildTokenNeedsEachOfItsRights(t *testing.T) {
	h, gateway := withUpstream(t)
	rules := policies.Upstream("none", "")
	uses := []use{
		{http.MethodGet, "auth/token/lookup-self", nil},
		{http.MethodPut, "auth/token/renew-self", nil},
		{http.MethodPut, "auth/token/revoke-self", nil},
		{http.MethodPut, "sys/leases/renew", harness.Map{"lease_id": "database/creds/orders/x"}},
	}
	require.Len(t, grantsOf(t, rules), len(uses), "a right has no use here")
	for _, g := range grantsOf(t, rules) {
		for _, u := range uses {
			if !g.covers(u.path) {
				continue
			}
			for rules, want := range map[string]bool{rules: false, without(rules, g, g.capabilities[0]): true} {
				require.NoError(t, provision.Policy(t.Context(), h.Vault.Client(), policies.UpstreamName, rules))
				child := h.Vault.ClientWithToken(mint(t, h, gateway, harness.Map{"entity_alias": "mcp:ann"}).ClientToken)
				require.Equal(t, want, denied(t.Context(), child, u), "%s under\n%s", u, rules)
			}
		}
	}
}

// TestAStolenGatewayLoginMintsOnlyWhatTheTokenRoleAllows plays somebody who has a gateway's
// login and wants tokens that no client of the broker has.
func TestAStolenGatewayLoginMintsOnlyWhatTheTokenRoleAllows(t *testing.T) {
	h, gateway := withUpstream(t)
	root := h.Vault.Client()
	own := self(t, gateway)["entity_id"]
	require.NotEmpty(t, own)

	// Somebody else's entities: one at the token method with another prefix, one at another method
	// under the very alias of a client, and with a policy.
	accessor, err := provision.TokenAccessor(t.Context(), root)
	require.NoError(t, err)
	auths, err := root.Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	entity := func(name, mount string) string {
		id := h.Write("identity/entity", harness.Map{"policies": "administrators"})["id"].(string)
		h.Write("identity/entity-alias", harness.Map{"name": name, "canonical_id": id, "mount_accessor": mount})
		return id
	}
	others, namesake := entity("other:x", accessor), entity("mcp:ann", auths["approle/"].Accessor)
	require.NoError(t, provision.Policy(t.Context(), root, "administrators", `path "*" { capabilities = ["sudo"] }`))
	h.Write("auth/token/roles/another-role", harness.Map{"allowed_policies": "administrators"})

	for name, data := range map[string]harness.Map{
		"another broker's alias":       {"entity_alias": "other:x"},
		"an alias without the colon":   {"entity_alias": "mcp-ann"},
		"an alias with a longer word":  {"entity_alias": "mcps:ann"},
		"an alias with a space before": {"entity_alias": " mcp:ann"},
		"an entity's id":               {"entity_alias": others},
		"the policy root":              {"entity_alias": "mcp:ann", "policies": []string{"root"}},
		"an administrator's policy":    {"entity_alias": "mcp:ann", "policies": []string{"administrators"}},
		"the gateway's own policy":     {"entity_alias": "mcp:ann", "policies": []string{policies.GatewayName}},
		"Vault's default policy":       {"entity_alias": "mcp:ann", "policies": []string{policies.UpstreamName, "default"}},
		"a token of its own choosing":  {"entity_alias": "mcp:ann", "id": "a-token-of-its-own-choosing"},
		"a token without an end":       {"entity_alias": "mcp:ann", "period": "24h"},
	} {
		secret, err := gateway.Logical().WriteWithContext(t.Context(), mintPath, data)
		if err == nil {
			t.Errorf("it gets %s: %v", name, secret.Auth.TokenPolicies)
		}
	}

	// The tokens that it gets all the same, and their use to a thief.
	children := map[string]*api.SecretAuth{}
	for name, data := range map[string]harness.Map{
		"any client":                   {"entity_alias": "mcp:bob"},
		"a client that does not exist": {"entity_alias": "mcp:nobody-has-created-it"},
		"no alias":                     {},
		"no parent":                    {"entity_alias": "mcp:ann", "no_parent": true},
		"a batch token":                {"entity_alias": "mcp:ann", "type": "batch"},
		"the default policy besides":   {"entity_alias": "mcp:ann", "no_default_policy": false},
		"an alias in capitals":         {"entity_alias": "MCP:Ann"},
	} {
		child := mint(t, h, gateway, data)
		children[name] = child
		require.Equal(t, []string{policies.UpstreamName}, child.Policies, name)
		require.Empty(t, child.IdentityPolicies, name)
		require.False(t, child.Orphan, name)
		require.NotContains(t, []string{others, namesake}, child.EntityID, name)
		require.Equal(t, "service", self(t, h.Vault.ClientWithToken(child.ClientToken))["type"], name)
	}
	require.Equal(t, own, children["no alias"].EntityID, "without an alias the child has the gateway's own entity: a gateway destroys it")
	require.Equal(t, children["no parent"].EntityID, children["an alias in capitals"].EntityID)
	bob, noAlias := h.Vault.ClientWithToken(children["any client"].ClientToken), h.Vault.ClientWithToken(children["no alias"].ClientToken)
	secrets := use{http.MethodGet, "secret/data/mcp/mcp:bob/github", nil}
	require.False(t, denied(t.Context(), bob, secrets), "it acts as any client: the page says so")
	require.True(t, denied(t.Context(), noAlias, secrets))

	// All of it ends with the login.
	require.NoError(t, root.Auth().Token().RevokeTreeWithContext(t.Context(), gateway.Token()))
	for name, child := range children {
		if self(t, h.Vault.ClientWithToken(child.ClientToken)) != nil {
			t.Errorf("%s outlives the gateway's login", name)
		}
	}
}

// TestAGroupsPolicyIsAddedToAChildToken shows why the entities of clients carry no policies and
// are in no group: a token role bounds the rights that a child token asks for, not those of its
// entity.
func TestAGroupsPolicyIsAddedToAChildToken(t *testing.T) {
	h, gateway := withUpstream(t)
	root := h.Vault.Client()
	require.NoError(t, provision.Policy(t.Context(), root, "wide", `path "secret/data/*" { capabilities = ["read"] }`))
	before := mint(t, h, gateway, harness.Map{"entity_alias": "mcp:ann"})
	child := h.Vault.ClientWithToken(before.ClientToken)
	others := use{http.MethodGet, "secret/data/mcp/mcp:bob/github", nil}
	require.True(t, denied(t.Context(), child, others))

	h.Write("identity/group", harness.Map{"name": "g", "policies": "wide", "member_entity_ids": before.EntityID})
	require.False(t, denied(t.Context(), child, others), "a group that is joined later adds to a token that is out")
	require.Equal(t, "[wide]", fmt.Sprint(self(t, child)["identity_policies"]))
	after := mint(t, h, gateway, harness.Map{"entity_alias": "mcp:ann"})
	require.Equal(t, []string{"wide"}, after.IdentityPolicies, "the answer shows it: a gateway destroys such a token")
	require.Equal(t, []string{policies.UpstreamName}, after.TokenPolicies)
}
