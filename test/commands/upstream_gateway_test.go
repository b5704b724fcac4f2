package commands

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// upstreamBlock is the block of a gateway's file that fits the set-up of apply.
const upstreamBlock = `
upstream_credentials {
  token_role = "mcp-upstream"
  policies   = ["mcp-upstream"]
}
`

// gatewayFileWith is the gateway's file with more text at its end.
func (w *ward) gatewayFileWith(t *testing.T, more string) string {
	t.Helper()
	content, err := os.ReadFile(w.Gateway.Config)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "gateway.hcl")
	require.NoError(t, os.WriteFile(path, append(content, more...), 0o600))
	return path
}

// comparesTheGatewaysFile has the doctor read files that do not go with Vault, and clients
// that do not go with the file.
func (l *leasing) comparesTheGatewaysFile(t *testing.T) {
	l.Write("mcp/servers/needs", harness.Map{
		"transport": "http", "url": l.Allowed.URL, "credentials": "gh=secret/data/github", "vault_policies": "mcp-upstream",
		"headers": "X-Token={{gh.data.token}},X-Vault-Token={{vault.token}}",
	})
	l.Write("sys/policies/acl/mcp-bare", harness.Map{"policy": "path \"secret/data/mcp/*\" {\n  capabilities = [\"read\"]\n}\n"})
	block := func(settings string) string { return "\nupstream_credentials {\n" + settings + "\n}\n" }
	role := func(more ...string) {
		l.Write(provision.UpstreamRolePath, provision.UpstreamRoleSettings(provision.AliasPrefix, more))
	}
	other := func(settings harness.Map) func() {
		return func() {
			made := provision.UpstreamRoleSettings("eu", nil)
			for name, value := range settings {
				made[name] = value
			}
			l.Write("auth/token/roles/eu", made)
		}
	}
	client := func(names string) func() {
		return func() {
			l.Client("own", harness.Map{"token_ttl": "720h", "upstream_policies": names})
		}
	}
	nothing := func() {}

	out, status := l.doctor(t, nil, []string{"-gateway-config", l.gatewayFileWith(t, upstreamBlock)})
	require.Zero(t, status, out)
	for _, d := range []struct {
		disease
		file string
	}{
		{disease{name: "without the block", infect: nothing, want: []string{
			"the gateway refuses each request to needs: ", "has no block upstream_credentials", `token_role = "mcp-upstream"`,
		}}, ""},
		{disease{name: "a token role that is missing", infect: nothing, want: []string{
			"the token role absent, which ", " names, is missing", "correct token_role in ",
		}}, block("token_role = \"absent\"\npolicies = [\"mcp-upstream\"]")},
		{disease{name: "another prefix", infect: nothing, want: []string{
			"the gateway asks for the aliases eu:*, as ", "the token role mcp-upstream mints for [mcp:*]", "allowed_entity_aliases='eu:*'",
		}}, block("token_role = \"mcp-upstream\"\npolicies = [\"mcp-upstream\"]\nalias_prefix = \"eu\"")},
		{disease{name: "a policy that the role does not allow", infect: nothing, want: []string{
			"the token role mcp-upstream does not allow the policy mcp-bare, which the block upstream_credentials of ", "allowed_policies=mcp-upstream,mcp-bare",
		}}, block("token_role = \"mcp-upstream\"\npolicies = [\"mcp-upstream\", \"mcp-bare\"]")},
		{disease{name: "policies by which no token ends itself", infect: func() { role("mcp-bare") }, want: []string{
			"no policy of the block upstream_credentials of ", "has a rule for auth/token/lookup-self", "outlives the access", `path "auth/token/lookup-self" { capabilities = ["read"] }`,
		}}, block("token_role = \"mcp-upstream\"\npolicies = [\"mcp-bare\"]")},
		{disease{name: "another role, which is not as it must be", infect: other(harness.Map{"orphan": true}), cure: func() { l.Delete("auth/token/roles/eu") }, want: []string{
			"the token role eu makes orphans", "vault write auth/token/roles/eu orphan=false",
		}}, block("token_role = \"eu\"\npolicies = [\"mcp-upstream\"]\nalias_prefix = \"eu\"")},
		{disease{
			name: "a server's policy that the role does not allow",
			infect: func() {
				l.Write("mcp/servers/vault", harness.Map{"transport": "http", "url": l.Allowed.URL, "vault_policies": "mcp-upstream,mcp-bare", "headers": "X-Vault-Token={{vault.token}}"})
			},
			cure: func() { l.Delete("mcp/servers/vault") },
			want: []string{"does not allow the policy mcp-bare, which vault_policies of the server vault names", "take it out of vault_policies of mcp/servers/vault"},
		}, upstreamBlock},
		{disease{
			name: "a client's policy that the file does not name", infect: func() {
				role("mcp-bare")
				client("mcp-upstream,mcp-bare")()
			},
			cure: func() { l.Delete("mcp/clients/own") },
			want: []string{"the client own has the upstream_policies [mcp-bare], which policies in ", "the gateway gives it no credential", "take them out of upstream_policies of mcp/clients/own"},
		}, upstreamBlock},
		{disease{
			name: "a client's policies by which no token ends itself", infect: func() {
				role("mcp-bare")
				client("mcp-bare")()
			},
			cure: func() { l.Delete("mcp/clients/own") },
			want: []string{"no policy of the client own has a rule for auth/token/lookup-self", "add mcp-upstream to upstream_policies of mcp/clients/own"},
		}, block("token_role = \"mcp-upstream\"\npolicies = [\"mcp-upstream\", \"mcp-bare\"]")},
	} {
		t.Run(d.name, func(t *testing.T) {
			d.infect()
			out, status := l.doctor(t, nil, []string{"-gateway-config", l.gatewayFileWith(t, d.file)})
			require.Equal(t, 1, status, out)
			for _, want := range d.want {
				require.Contains(t, out, want)
			}
			require.Contains(t, out, "Findings: "+strconv.Itoa(1+d.more)+".", out)
			if d.cure != nil {
				d.cure()
			}
			role()
		})
	}
	t.Run("another role that is as it must be", func(t *testing.T) {
		other(nil)()
		file := l.gatewayFileWith(t, block("token_role = \"eu\"\npolicies = [\"mcp-upstream\"]\nalias_prefix = \"eu\""))
		out, status := l.doctor(t, nil, []string{"-gateway-config", file})
		require.Zero(t, status, out)
		require.Contains(t, out, "gateways mint under the token role eu, for the aliases eu:* alone")
		l.Delete("auth/token/roles/eu")
	})
	l.Delete("mcp/servers/needs")
}

// triesAsTheGatewaysFileSays mints with the policies of the file where
// the client has none of its own, and asks for no path that the file does not allow.
func (l *leasing) triesAsTheGatewaysFileSays(t *testing.T, run func(t *testing.T, more ...string) (string, int)) {
	t.Helper()
	const paths = "\nupstream \"github\" {\n  credential_paths = [\"secret/data/mcp/mcp:ann/*\", \"elsewhere/*\"]\n}\n"
	l.Write("sys/policies/acl/mcp-more", harness.Map{"policy": "path \"secret/data/more/*\" {\n  capabilities = [\"read\"]\n}\n"})
	l.Write(provision.UpstreamRolePath, provision.UpstreamRoleSettings(provision.AliasPrefix, []string{"mcp-more"}))
	defer l.Write(provision.UpstreamRolePath, provision.UpstreamRoleSettings(provision.AliasPrefix, nil))

	out, _ := run(t)
	require.Contains(t, out, "with the policies mcp-more, mcp-upstream", "without a file: all that the role gives")
	out, status := run(t, "-gateway-config", l.gatewayFileWith(t, upstreamBlock))
	require.Zero(t, status, out)
	require.Contains(t, out, "under the token role mcp-upstream, with the policies mcp-upstream\n")

	file := l.gatewayFileWith(t, upstreamBlock+paths)
	out, status = run(t, "-gateway-config", file)
	require.Equal(t, 1, status, out)
	require.Contains(t, out, "the credential gh of the server github is granted")
	require.Contains(t, out, "the credential cert of the server github is not asked for by the gateway: credential_paths of the server does not allow pki/issue/web")
	require.Contains(t, out, `credential_paths in the block upstream "github" of `+file)
	require.Contains(t, out, "is revoked: child tokens: 1, leases: 0")

	l.Write("auth/token/roles/sparse", harness.Map{"allowed_entity_aliases": "eu:*", "allowed_policies": policies.UpstreamName, "token_no_default_policy": true})
	defer l.Delete("auth/token/roles/sparse")
	out, status = run(t, "-gateway-config", l.gatewayFileWith(t, upstreamBlock), "-token-role", "sparse")
	require.Equal(t, 1, status, out)
	require.Contains(t, out, "VAULT_TOKEN may not mint under the token role sparse", "a role that is named comes before that of the file")
}
