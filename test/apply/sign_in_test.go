package apply

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
	"vault-plugin-secrets-mcp/test/harness"
)

const (
	signInClient = "vault"
	signInSecret = "the-secret-of-vault-at-the-identity-provider"
)

// withIdP is a Vault, an identity provider with alice, and a folder of files for both.
func withIdP(t *testing.T) (*applying, *idp.IdP) {
	t.Helper()
	a := newApplying(t)
	a.Secret(signInSecret)
	provider, err := idp.Start(t.Context(), "127.0.0.1:0", idp.Options{
		ClientID: signInClient, ClientSecret: signInSecret,
		People: []idp.Person{{Name: "alice", Password: "alice", Groups: []string{"SRE"}}},
	})
	require.NoError(t, err)
	a.env = append(a.env, "OIDC_SECRET="+signInSecret)
	return a, provider
}

// signInFile is a file with a login of these lines.
func signInFile(provider *idp.IdP, lines string) string {
	return `
sign_in {
  public_url = "https://mcp.example.com"
  login "employees" {
    discovery_url = "` + provider.Issuer() + `"
    client_id     = "vault"
    client_secret = env("OIDC_SECRET")
    ` + lines + `
  }
}
client "ops" {
  sign_in         = true
  allowed_servers = ["*"]
}
client "oncall" {
  sign_in         = true
  allowed_servers = ["*"]
}
`
}

const groupLines = `groups_claim = "groups"
    clients      = ["ops"]
    groups       = { SRE = ["oncall"] }`

func TestApplySetsUpSignIn(t *testing.T) {
	a, provider := withIdP(t)
	a.file(t, "broker.hcl", signInFile(provider, groupLines))
	role := func() harness.Map { return a.Read("auth/oidc-mcp/role/mcp") }

	out := a.applied(t, "-dry-run")
	for _, line := range []string{
		"create auth oidc-mcp", "create login-config oidc-mcp", "~ oidc_client_secret (never shown)",
		"create login-role oidc-mcp/mcp", `+ token_policies = ["mcp-person","mcp-person-ops"]`, `+ token_max_ttl = "12h"`,
		`+ allowed_redirect_uris = ["https://mcp.example.com/sign-in/callback"]`,
		"create acl-policy mcp-person\n", "create acl-policy mcp-person-ops", "create acl-policy mcp-person-oncall",
		"create group mcp-employees-sre", `+ for the group "SRE" of oidc-mcp`,
		"change logins mcp", "+ employees = the accessor of the auth method at oidc-mcp",
	} {
		require.Contains(t, out, line)
	}
	require.NotContains(t, out, signInSecret)
	auths, err := a.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	require.NotContains(t, auths, "oidc-mcp/", "the dry run enabled it")

	out = a.applied(t)
	require.NotContains(t, out, signInSecret)
	require.Contains(t, out, "the client has no token of its own, since people sign in as it")
	require.NotContains(t, out, "was not kept")
	require.Contains(t, a.applied(t), "Nothing to do")
	require.Contains(t, a.applied(t, "-dry-run"), "Nothing to do")
	auths, err = a.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	require.Equal(t, harness.Map{"employees": auths["oidc-mcp/"].Accessor}, a.Read("mcp/config")["sign_in_logins"])
	require.Equal(t, "service", role()["token_type"])
	require.Equal(t, false, role()["verbose_oidc_logging"])

	t.Run("a role that somebody has widened is noticed and narrowed again", func(t *testing.T) {
		before := role()
		a.Write("auth/oidc-mcp/role/mcp", harness.Map{
			"user_claim": "sub", "groups_claim": "groups", "allowed_redirect_uris": "https://evil.example.com/", "token_policies": "mcp-admin",
			"token_max_ttl": "240h", "token_type": "batch", "verbose_oidc_logging": true,
		})
		out := a.applied(t, "-dry-run")
		for _, line := range []string{
			`~ token_policies = ["mcp-person","mcp-person-ops"] (was ["mcp-admin"])`, `~ token_max_ttl = "12h" (was "240h")`,
			`~ token_type = "service" (was "batch")`, "~ verbose_oidc_logging = false (was true)", "~ allowed_redirect_uris =",
		} {
			require.Contains(t, out, line)
		}
		a.applied(t)
		require.Equal(t, before, role())
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("a group that somebody has widened is noticed and narrowed again", func(t *testing.T) {
		a.Write("identity/group/name/mcp-employees-sre", harness.Map{"policies": "mcp-admin"})
		require.Contains(t, a.applied(t), `~ policies = ["mcp-person-oncall"] (was ["mcp-admin"])`)
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("another secret is noticed, and never shown", func(t *testing.T) {
		a.env = append(a.env, "OIDC_SECRET=another-secret-of-vault")
		out := a.applied(t)
		require.Contains(t, out, "change login-config oidc-mcp\n    ~ oidc_client_secret (never shown)")
		require.NotContains(t, out, "another-secret-of-vault")
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("what no file names stays until it is pruned", func(t *testing.T) {
		a.file(t, "broker.hcl", strings.ReplaceAll(signInFile(provider, `clients = ["ops"]`), `client "oncall" {
  sign_in         = true`, `client "oncall" {
  sign_in         = false`))
		out := a.applied(t)
		require.Contains(t, out, "no file names the group mcp-employees-sre any more: -prune deletes it")
		require.Contains(t, out, "no file names the acl-policy mcp-person-oncall any more")
		out = a.applied(t, "-prune")
		require.Contains(t, out, "delete group mcp-employees-sre")
		require.Contains(t, out, "delete acl-policy mcp-person-oncall")
		require.Nil(t, a.Read("identity/group/name/mcp-employees-sre"))
		require.Contains(t, a.applied(t, "-prune"), "Nothing to do")
	})
	t.Run("without the block the method goes, and the engine forgets the login", func(t *testing.T) {
		a.file(t, "broker.hcl", "config {\n}\n")
		require.Contains(t, a.applied(t), "no file names the auth oidc-mcp any more")
		out := a.applied(t, "-prune")
		require.Contains(t, out, "delete auth oidc-mcp")
		require.Contains(t, out, "delete logins mcp")
		require.Empty(t, a.Read("mcp/config")["sign_in_logins"])
		require.Contains(t, a.applied(t, "-prune"), "Nothing to do")
	})
}

func TestApplyDoesNotTakeAnAuthMethodOfOthersForSignIn(t *testing.T) {
	a, provider := withIdP(t)
	a.Write("sys/auth/oidc-mcp", harness.Map{"type": "oidc"})
	a.file(t, "broker.hcl", signInFile(provider, `clients = ["ops", "oncall"]`))
	a.refused(t, []string{"nothing was changed", "auth oidc-mcp", "-adopt"})
	a.applied(t, "-adopt")
	require.Contains(t, a.applied(t), "Nothing to do")

	t.Run("nor one of another type", func(t *testing.T) {
		a.Write("sys/auth/oidc-mcp-userpass", harness.Map{"type": "userpass"})
		a.file(t, "broker.hcl", signInFile(provider, `mount = "oidc-mcp-userpass"
    clients = ["ops", "oncall"]`))
		a.refused(t, []string{`login "employees": field mount: an auth method of type userpass is at oidc-mcp-userpass`})
	})
}

func TestApplyRegistersTheLoginsOfMachines(t *testing.T) {
	a := newApplying(t)
	const file = "sign_in {\n  machine \"ci\" {\n    mount = \"jwt-ci\"\n  }\n}\n"
	a.file(t, "broker.hcl", file)
	a.refused(t, []string{`broker.hcl:3: machine "ci": field mount: no auth method is at jwt-ci: set it up first`})
	a.Write("sys/auth/jwt-ci", harness.Map{"type": "jwt"})
	a.applied(t)
	auths, err := a.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	require.Equal(t, harness.Map{"ci": auths["jwt-ci/"].Accessor}, a.Read("mcp/config")["sign_in_logins"])
	require.Contains(t, a.applied(t), "Nothing to do")

	t.Run("and tells of those that no file names", func(t *testing.T) {
		a.Write("sys/auth/jwt-other", harness.Map{"type": "jwt"})
		auths, err := a.Vault.Client().Sys().ListAuthWithContext(t.Context())
		require.NoError(t, err)
		a.Write("mcp/config", harness.Map{"sign_in_logins": harness.Map{"ci": auths["jwt-ci/"].Accessor, "other": auths["jwt-other/"].Accessor}})
		require.Contains(t, a.applied(t, "-dry-run"), "- other, which no file names")
	})
}

func TestApplySaysWhatVaultCannotReadAtTheIdentityProvider(t *testing.T) {
	a, provider := withIdP(t)
	a.file(t, "broker.hcl", strings.Replace(signInFile(provider, `clients = ["ops", "oncall"]`), provider.Issuer(), "http://127.0.0.1:1", 1))
	a.refused(t, []string{"login-config oidc-mcp", "Vault must reach http://127.0.0.1:1/.well-known/openid-configuration"})
}
