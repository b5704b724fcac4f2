package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// pageBlock is the block upstream_credentials of docs/bootstrap.md.
func pageBlock(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "bootstrap.md"))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(page), "```hcl\nupstream_credentials {")
	require.True(t, found)
	block, _, _ := strings.Cut(after, "```")
	return "upstream_credentials {" + block
}

func TestApplySetsUpUpstreamCredentials(t *testing.T) {
	a := newApplying(t)
	a.file(t, "broker.hcl", pageBlock(t))
	role := func() harness.Map { return a.Read(provision.UpstreamRolePath) }

	out := a.applied(t, "-dry-run")
	require.Contains(t, out, "create acl-policy mcp-upstream")
	require.Contains(t, out, "create token-role mcp-upstream\n"+`    + allowed_entity_aliases = ["mcp:*"]`)
	require.Contains(t, out, `    + token_period = "1h"`, "the gateways' role is not periodic")
	require.Nil(t, role(), "the dry run wrote it")
	a.applied(t)
	require.Contains(t, a.applied(t), "Nothing to do")
	require.Contains(t, a.applied(t, "-dry-run"), "Nothing to do")

	t.Run("a gateway leases as the client, by the rules of the page", func(t *testing.T) {
		login, err := provision.Login(t.Context(), a.Vault.Client(), provision.GatewayRole)
		require.NoError(t, err)
		a.Secret(login.SecretID)
		answer, err := a.Vault.Client().Logical().WriteWithContext(t.Context(), "auth/approle/login", harness.Map{"role_id": login.RoleID, "secret_id": login.SecretID})
		require.NoError(t, err)
		a.Secret(answer.Auth.ClientToken)
		gateway := a.Vault.ClientWithToken(answer.Auth.ClientToken)
		own, err := gateway.Auth().Token().LookupSelfWithContext(t.Context())
		require.NoError(t, err)
		require.Equal(t, "3600", own.Data["period"].(interface{ String() string }).String())
		child, err := gateway.Logical().WriteWithContext(t.Context(), "auth/token/create/"+provision.UpstreamRole, harness.Map{"entity_alias": "mcp:ann", "ttl": "10m"})
		require.NoError(t, err)
		a.Secret(child.Auth.ClientToken)
		require.False(t, child.Auth.Orphan)
		capabilities := func(path string) []string {
			found, err := a.Vault.Client().Sys().CapabilitiesWithContext(t.Context(), child.Auth.ClientToken, path)
			require.NoError(t, err)
			return found
		}
		require.Equal(t, []string{"read"}, capabilities("kv/data/mcp/mcp:ann/github"))
		require.Equal(t, []string{"deny"}, capabilities("kv/data/mcp/mcp:bob/github"))
		require.Equal(t, []string{"read"}, capabilities("database/creds/orders-ro"))
		require.Equal(t, []string{"update"}, capabilities("auth/token/revoke-self"))
	})
	t.Run("a role that somebody has widened is noticed and narrowed again", func(t *testing.T) {
		before := role()
		a.Write(provision.UpstreamRolePath, harness.Map{
			"orphan": true, "allowed_policies_glob": "*", "allowed_entity_aliases": "*", "token_no_default_policy": false, "token_explicit_max_ttl": "1h",
		})
		out := a.applied(t, "-dry-run")
		for _, line := range []string{
			"~ orphan = false (was true)", `~ allowed_policies_glob = [] (was ["*"])`, `~ allowed_entity_aliases = ["mcp:*"] (was ["*"])`,
			"~ token_no_default_policy = true (was false)", "~ token_explicit_max_ttl =",
		} {
			require.Contains(t, out, line)
		}
		a.applied(t)
		require.Equal(t, before, role())
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("other rules, another prefix and more policies are shown and written", func(t *testing.T) {
		a.file(t, "broker.hcl", `upstream_credentials {
  alias_prefix = "eu-1"
  policies     = ["mcp-vault", "elsewhere", "mcp-vault"]
}`)
		const missing = "warning: there is no ACL policy mcp-vault: a child token that has it may do nothing by it"
		out := a.applied(t, "-dry-run")
		require.Contains(t, out, "change acl-policy mcp-upstream")
		require.Contains(t, out, `~ allowed_entity_aliases = ["eu-1:*"] (was ["mcp:*"])`)
		require.Contains(t, out, `~ allowed_policies = ["elsewhere","mcp-upstream","mcp-vault"] (was ["mcp-upstream"])`)
		require.Contains(t, out, missing)
		require.NotContains(t, out, "policy elsewhere", "it may not be looked at")
		require.Contains(t, a.applied(t), missing)
		rules, err := a.admin.Sys().GetPolicyWithContext(t.Context(), policies.UpstreamName)
		require.NoError(t, err)
		require.NotContains(t, rules, "TOKEN_ACCESSOR")
		require.NotContains(t, rules, "\npath \"kv")
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("without the block it stays until it is pruned", func(t *testing.T) {
		a.file(t, "broker.hcl", "config {\n}\n")
		require.Contains(t, a.applied(t), "no file names the token-role mcp-upstream any more: -prune deletes it")
		require.NotNil(t, role())
		require.Contains(t, a.applied(t, "-prune"), "delete token-role mcp-upstream")
		require.Nil(t, role())
		require.Contains(t, a.applied(t, "-prune"), "Nothing to do")
	})
	t.Run("one that is not apply's is left alone", func(t *testing.T) {
		a.Write(provision.UpstreamRolePath, harness.Map{"allowed_policies": "mine"})
		require.Contains(t, a.applied(t, "-prune"), "Nothing to do")
		a.file(t, "broker.hcl", pageBlock(t))
		a.refused(t, []string{"nothing was changed", "token-role mcp-upstream", "-adopt"})
		a.applied(t, "-adopt")
		require.Equal(t, []any{"mcp-upstream"}, role()["allowed_policies"])
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("a role of gateways that was made before becomes periodic", func(t *testing.T) {
		a.Write("auth/approle/role/"+provision.GatewayRole, harness.Map{"token_period": 0, "token_ttl": 3600, "token_max_ttl": 86400})
		out := a.applied(t)
		require.Contains(t, out, "change role mcp-gateway")
		require.Contains(t, out, `~ token_max_ttl = "0" (was "24h")`)
		require.Contains(t, out, `~ token_period = "1h" (was "0")`)
		require.Contains(t, a.applied(t), "Nothing to do")
	})
}

func TestApplyRefusesAWrongBlockOfUpstreamCredentials(t *testing.T) {
	a := newApplying(t)
	const other = "auth/token/roles/of-another-broker"
	block := func(lines string) string { return "upstream_credentials {\n  " + lines + "\n}\n" }
	for _, test := range []struct {
		name, aliases, content string
		want                   []string
	}{
		{"a prefix with a colon", "", block(`alias_prefix = "mcp:"`), []string{"b.hcl:2: upstream_credentials: field alias_prefix", `"mcp:" is not a valid prefix`, "the colon behind it is added"}},
		{"a prefix for any text", "", block(`alias_prefix = "*"`), []string{`"*" is not a valid prefix`}},
		{"an empty prefix", "", block(`alias_prefix = ""`), []string{`"" is not a valid prefix`}},
		{"a prefix that no path takes", "", block(`alias_prefix = "-mcp"`), []string{`"-mcp" is not a valid prefix`}},
		{"a prefix in capitals", "", block(`alias_prefix = "MCP"`), []string{`"MCP" is not a valid prefix`}},
		{"the policy root", "", block(`policies = ["root"]`), []string{"b.hcl:2", "field policies: no child token may have the policy root"}},
		{"the gateways' policy", "", block(`policies = ["mcp-gateway"]`), []string{"could then mint as well"}},
		{"a policy for any text", "", block(`policies = ["*"]`), []string{`"*" is not a valid name of an ACL policy`}},
		{"a field nobody knows", "", block(`token_role = "x"`), []string{"b.hcl:2", "token_role"}},
		{"two blocks", "", block("") + block(""), []string{"b.hcl:4: a block upstream_credentials is in ", "already: keep one of them"}},
		{"another role for all aliases", "*", block(""), []string{"field alias_prefix: the token role of-another-broker mints for aliases like *, and so for some like mcp:*", "choose another prefix"}},
		{"another role for a shorter text", "x,mcp*", block(""), []string{"mints for aliases like mcp*"}},
		{"another role for one of the clients", "MCP:Ann", block(""), []string{"mints for aliases like mcp:ann"}},
		{"another role for the same prefix", "mcp:*", block(""), []string{"mints for aliases like mcp:*"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.Write(other, harness.Map{"allowed_policies": "x", "allowed_entity_aliases": test.aliases})
			a.file(t, "b.hcl", test.content)
			a.refused(t, append(test.want, "nothing was changed"))
		})
	}
	require.Nil(t, a.Read(provision.UpstreamRolePath))
	t.Run("roles with other prefixes are in nobody's way", func(t *testing.T) {
		a.Write(other, harness.Map{"allowed_entity_aliases": "mcp-eu:*,mcps:*,mcp,m"})
		a.file(t, "b.hcl", block(""))
		a.applied(t)
	})
}
