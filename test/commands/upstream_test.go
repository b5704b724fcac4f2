package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

const (
	kvValue   = "the-github-token-that-only-ann-has"
	writeData = "ann.secret-subject.example.com"
)

// leasing is a ward with Vault's side of upstream credentials: KV version 2 at secret/, and PKI
// with leases.
type leasing struct {
	*ward
	accessor string // of Vault's token method
}

func newLeasing(t *testing.T) *leasing {
	t.Helper()
	w := newWard(t)
	l := &leasing{ward: w}
	root := w.Vault.Client()
	require.NoError(t, provision.Upstream(t.Context(), root, provision.AliasPrefix, nil))
	var err error
	l.accessor, err = provision.TokenAccessor(t.Context(), root)
	require.NoError(t, err)
	w.Write("sys/mounts/pki", harness.Map{"type": "pki"})
	w.Write("pki/root/generate/internal", harness.Map{"common_name": "example.com"})
	w.Write("pki/roles/web", harness.Map{"allow_any_name": true, "generate_lease": true, "ttl": "1h"})
	w.Secret(kvValue)
	w.Write("secret/data/mcp/mcp:ann/github", harness.Map{"data": harness.Map{"token": kvValue, "user": "ann"}})
	return l
}

// grants writes the policy of the child tokens with these rules added.
func (l *leasing) grants(t *testing.T, rules ...string) {
	t.Helper()
	text := policies.Upstream(l.accessor, strings.Join(rules, "\n"))
	require.NoError(t, provision.Policy(t.Context(), l.Vault.Client(), policies.UpstreamName, text))
}

func (l *leasing) entity(t *testing.T, alias string) string {
	t.Helper()
	secret, err := l.Vault.Client().Logical().WriteWithContext(t.Context(), "auth/token/create/"+provision.UpstreamRole, harness.Map{"entity_alias": alias})
	require.NoError(t, err)
	require.NoError(t, l.Vault.Client().Auth().Token().RevokeTreeWithContext(t.Context(), secret.Auth.ClientToken))
	return secret.Auth.EntityID
}

// nothingLeft fails the test if a child token lives, or a lease of PKI.
func (l *leasing) nothingLeft(t *testing.T) {
	t.Helper()
	for _, accessor := range l.List("auth/token/accessors") {
		token, err := l.TryWrite("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err != nil {
			continue // it has ended meanwhile
		}
		require.NotContains(t, token["path"], provision.UpstreamRole, "a child token is left")
	}
	require.Empty(t, l.List("sys/leases/lookup/pki/issue/web/"))
}

func TestTheDoctorExaminesUpstreamCredentials(t *testing.T) {
	l := newLeasing(t)
	out, status := l.doctor(t, nil, nil)
	require.Zero(t, status, out)
	require.Contains(t, out, "gateways mint under the token role mcp-upstream, for the aliases mcp:* alone; entities: 0, each without policies and in no group")
	ann := l.entity(t, "mcp:ann")
	l.entity(t, "mcp:bob")
	out, status = l.doctor(t, nil, nil)
	require.Zero(t, status, out)
	require.Contains(t, out, "entities: 2, each")

	good := provision.UpstreamRoleSettings(provision.AliasPrefix, nil)
	role := func(settings harness.Map) func() {
		return func() { l.Write(provision.UpstreamRolePath, settings) }
	}
	gateways := "auth/approle/role/" + provision.GatewayRole
	group := ""
	for _, d := range []disease{
		{name: "aliases without a prefix", infect: role(harness.Map{"allowed_entity_aliases": "*"}), want: []string{"mints for the aliases [*]", "allowed_entity_aliases='mcp:*'"}},
		{name: "no aliases", infect: role(harness.Map{"allowed_entity_aliases": ""}), want: []string{"mints for the aliases []"}},
		{name: "two prefixes", infect: role(harness.Map{"allowed_entity_aliases": "mcp:*,eu:*"}), want: []string{"mints for the aliases [eu:* mcp:*]"}},
		{name: "without its policy", infect: role(harness.Map{"allowed_policies": "mcp-gone"}), more: 1, want: []string{"does not allow the policy mcp-upstream", "allowed_policies=mcp-gone,mcp-upstream", "the ACL policy mcp-gone of the token role mcp-upstream is missing"}},
		{name: "a policy that no child token may have", infect: role(harness.Map{"allowed_policies": "mcp-upstream,mcp-gateway"}), want: []string{"allows the policy mcp-gateway", "could then mint as well"}},
		{name: "policies by a pattern", infect: role(harness.Map{"allowed_policies_glob": "*"}), want: []string{"allows policies by the patterns [*]"}},
		{name: "orphans", infect: role(harness.Map{"orphan": true}), want: []string{"makes orphans", "vault write auth/token/roles/mcp-upstream orphan=false"}},
		{name: "tokens that cannot be renewed", infect: role(harness.Map{"renewable": false}), want: []string{"cannot be renewed"}},
		{name: "tokens of a kind that others choose", infect: role(harness.Map{"token_type": "default-batch"}), want: []string{"makes default-batch tokens", "token_type=service"}},
		{name: "the default policy", infect: role(harness.Map{"token_no_default_policy": false}), want: []string{"gives child tokens Vault's default policy"}},
		{name: "periodic child tokens", infect: role(harness.Map{"token_period": "1h"}), want: []string{"makes periodic tokens"}},
		{
			name: "a policy that is missing", infect: func() { l.Delete("sys/policies/acl/mcp-upstream") }, cure: func() { l.grants(t) },
			want: []string{"the ACL policy mcp-upstream of the token role mcp-upstream is missing"},
		},
		{
			name: "a policy by which no token ends itself",
			infect: func() {
				l.Write("sys/policies/acl/mcp-upstream", harness.Map{"policy": strings.ReplaceAll(policies.Upstream("a", ""), "revoke-self", "renew-self")})
			},
			cure: func() { l.grants(t) }, want: []string{"mcp-upstream has no rule for auth/token/revoke-self"},
		},
		{
			name: "another role for the same aliases", infect: func() {
				l.Write("auth/token/roles/other", harness.Map{"allowed_entity_aliases": "mcp*"})
			},
			cure: func() { l.Delete("auth/token/roles/other") }, want: []string{"the token role other mints for aliases like mcp*", "another alias_prefix"},
		},
		{
			name: "an entity with a policy", infect: func() { l.Write("identity/entity/id/"+ann, harness.Map{"policies": "wide"}) },
			cure: func() { l.Write("identity/entity/id/"+ann, harness.Map{"policies": ""}) },
			want: []string{"the entity of mcp:ann carries the policies [wide]", `vault write identity/entity/id/` + ann + ` policies=""`},
		},
		{
			name: "an entity in a group", infect: func() {
				group = l.Write("identity/group", harness.Map{"policies": "wide", "member_entity_ids": ann})["id"].(string)
			},
			cure: func() { l.Delete("identity/group/id/" + group) }, want: []string{"the entity of mcp:ann is in a group", "take the entity " + ann + " out"},
		},
		{
			name: "an entity with another alias", infect: func() {
				auths, err := l.Vault.Client().Sys().ListAuthWithContext(t.Context())
				require.NoError(t, err)
				l.Write("identity/entity-alias", harness.Map{"name": "ops", "canonical_id": ann, "mount_accessor": auths["approle/"].Accessor})
			},
			cure: func() {
				for _, alias := range l.Read("identity/entity/id/" + ann)["aliases"].([]any) {
					if a := alias.(harness.Map); a["name"] == "ops" {
						l.Delete("identity/entity-alias/id/" + a["id"].(string))
					}
				}
			},
			want: []string{"the entity of mcp:ann has other aliases as well"},
		},
		{
			name: "an entity that is disabled", infect: func() { l.Write("identity/entity/id/"+ann, harness.Map{"disabled": true}) },
			cure: func() { l.Write("identity/entity/id/"+ann, harness.Map{"disabled": false}) }, want: []string{"the entity of mcp:ann is disabled"},
		},
		{
			name: "gateways whose login ends", infect: func() { l.Write(gateways, harness.Map{"token_period": 0, "token_max_ttl": 86400}) },
			cure: func() { l.Write(gateways, provision.GatewayRoleSettings(policies.GatewayName)) },
			want: []string{"the role mcp-gateway is not periodic", "token_period=1h token_ttl=0 token_max_ttl=0"},
		},
		{
			name: "gateways with batch tokens", infect: func() { l.Write(gateways, harness.Map{"token_period": 0, "token_type": "batch"}) },
			cure: func() {
				l.Write(gateways, harness.Map{"token_type": "default"})
				l.Write(gateways, provision.GatewayRoleSettings(policies.GatewayName))
			},
			want: []string{"the role mcp-gateway gives batch tokens, which can mint no child token"},
		},
		{
			name: "gateways with batch tokens by the method's setting", infect: func() {
				l.Write(gateways, harness.Map{"token_period": 0})
				l.Write("sys/auth/approle/tune", harness.Map{"token_type": "default-batch"})
			},
			cure: func() {
				l.Write("sys/auth/approle/tune", harness.Map{"token_type": "default-service"})
				l.Write(gateways, provision.GatewayRoleSettings(policies.GatewayName))
			},
			want: []string{"the role mcp-gateway gives batch tokens"},
		},
		{
			name: "no role for a server that needs it", infect: func() {
				l.Delete(provision.UpstreamRolePath)
				l.Write("mcp/servers/needs", harness.Map{
					"transport": "http", "url": l.Allowed.URL, "credentials": "gh=secret/data/github", "headers": "X-Token={{gh.data.token}}",
				})
			},
			cure: func() { l.Delete("mcp/servers/needs") },
			want: []string{"the token role mcp-upstream is missing: no gateway can lease the credentials of needs", "upstream_credentials"},
		},
	} {
		t.Run(d.name, func(t *testing.T) {
			d.infect()
			out, status := l.doctor(t, nil, nil)
			require.Equal(t, 1, status, out)
			for _, want := range d.want {
				require.Contains(t, out, want)
			}
			require.Contains(t, out, "Findings: "+strconv.Itoa(1+d.more)+".", out)
			if d.cure != nil {
				d.cure()
			}
			l.Write(provision.UpstreamRolePath, good)
		})
	}
	t.Run("the gateway's file is compared with all of that", l.comparesTheGatewaysFile)
	l.healthy(t)
}

// pagePolicy is the policy that docs/bootstrap.md gives for doctor -client.
func pagePolicy(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "bootstrap.md"))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(page), "policy of its own:\n\n```hcl\n")
	require.True(t, found)
	rules, _, _ := strings.Cut(after, "```")
	return rules
}

func TestTheDoctorTriesTheUpstreamCredentialsOfAClient(t *testing.T) {
	l := newLeasing(t)
	own := `path "secret/data/mcp/{{identity.entity.aliases.TOKEN_ACCESSOR.name}}/*" {
  capabilities = ["read"]
}`
	issue := "path \"pki/issue/web\" {\n  capabilities = [\"update\"]\n}"
	l.grants(t, own, issue)
	credentials := func(specs harness.Map) {
		headers := harness.Map{}
		for name := range specs {
			headers["X-"+name] = "{{" + name + ".any}}"
		}
		l.Write("mcp/servers/github", harness.Map{"transport": "http", "url": l.Allowed.URL, "credentials": specs, "headers": headers})
	}
	gh := harness.Map{"path": "secret/data/mcp/{{client.alias}}/github", "refresh": "1m"}
	cert := harness.Map{"path": "pki/issue/web", "method": "write", "data": harness.Map{"common_name": writeData}}
	credentials(harness.Map{"gh": gh, "cert": cert})
	for _, client := range []string{"ann", "bob"} {
		l.Client(client, harness.Map{"allowed_servers": "*", "token_ttl": "720h", "metadata": harness.Map{"team": "search"}})
	}
	l.Client("other", harness.Map{"token_ttl": "720h"})

	mint := "path \"auth/token/create/mcp-upstream\" {\n  capabilities = [\"update\"]\n}\n"
	data := "path \"mcp/gateway/servers\" {\n  capabilities = [\"read\"]\n}\n"
	holder := func(rules string) string {
		name := fmt.Sprint("doctor-", len(rules))
		require.NoError(t, provision.Policy(t.Context(), l.Vault.Client(), name, rules))
		return "VAULT_TOKEN=" + l.token(t, &api.TokenCreateRequest{Policies: []string{policies.AdminName, name}, NoDefaultPolicy: true})
	}
	minting, seeing, sure := holder(mint), holder(mint+data), holder(pagePolicy(t))
	const granted = "the credential gh of the server github is granted to the client ann by secret/data/mcp/mcp:ann/github: no lease, read again every 1m0s; its fields: data.token, data.user"
	const minted = "a child token for mcp:ann is minted under the token role mcp-upstream, with the policies mcp-upstream"

	// try runs doctor for a client and fails if a value is printed or anything is left.
	try := func(t *testing.T, token, client string, more ...string) (string, int) {
		t.Helper()
		out, status := l.doctor(t, []string{token}, append([]string{"-client", client}, more...))
		for _, value := range []string{kvValue, writeData, "BEGIN", "hvs."} {
			require.NotContains(t, out, value)
		}
		l.nothingLeft(t)
		return out, status
	}
	run := func(t *testing.T, token, client string, status int, want ...string) string {
		t.Helper()
		out, got := try(t, token, client)
		require.Equal(t, status, got, out)
		for _, text := range want {
			require.Contains(t, out, text)
		}
		return out
	}

	t.Run("what is granted is said, and revoked", func(t *testing.T) {
		run(t, sure, "ann", 0, minted, granted,
			"the credential cert of the server github is granted to the client ann by pki/issue/web: a lease of ", ", not renewable; its fields: ca_chain, certificate",
			"everything that was leased for the client ann is revoked: child tokens: 1, leases: 1")
	})
	t.Run("with a gateway's file, what that gateway asks for is tried", func(t *testing.T) {
		l.triesAsTheGatewaysFileSays(t, func(t *testing.T, more ...string) (string, int) {
			t.Helper()
			return try(t, sure, "ann", more...)
		})
	})
	t.Run("data that the administrator may not see is not sent", func(t *testing.T) {
		run(t, minting, "ann", 0, granted, "the credential cert of the server github was not tried: it writes data (common_name) that only a token with read on mcp/gateway/servers may see")
	})
	t.Run("without a right to look for leases, that is said", func(t *testing.T) {
		run(t, seeing, "ann", 0, `is revoked: child tokens: 1; whether their leases (1) have ended could not be looked at without: path "sys/leases/lookup" { capabilities = ["update"] }`)
	})
	t.Run("an administrator of the broker may not act as its clients", func(t *testing.T) {
		run(t, "VAULT_TOKEN="+l.admin, "ann", 1, "VAULT_TOKEN may not mint under the token role mcp-upstream", `path "auth/token/create/mcp-upstream" { capabilities = ["update"] }`)
	})
	t.Run("a client without such servers needs nothing", func(t *testing.T) {
		run(t, minting, "other", 0, "no server that the client other may reach has upstream credentials")
	})
	t.Run("a secret that is not there", func(t *testing.T) {
		run(t, sure, "bob", 1, "the credential gh of the server github is not there: secret/data/mcp/mcp:bob/github has nothing", "write the secret")
		l.Write("secret/data/mcp/mcp:bob/github", harness.Map{"data": harness.Map{"token": "x"}})
		l.Delete("secret/data/mcp/mcp:bob/github")
		run(t, sure, "bob", 1, "secret/data/mcp/mcp:bob/github has nothing")
	})
	t.Run("a rule that is missing is printed as a line to add", func(t *testing.T) {
		l.grants(t, issue)
		run(t, sure, "ann", 1, "the credential gh of the server github is refused to the client ann: its policies do not grant read on secret/data/mcp/mcp:ann/github",
			`→ add to a policy of its child tokens: path "secret/data/mcp/{{identity.entity.aliases.`+l.accessor+`.name}}/github" { capabilities = ["read"] }`, "Findings: 1.")
		l.grants(t, own)
		run(t, sure, "ann", 1, granted, "its policies do not grant update on pki/issue/web", `path "pki/issue/web" { capabilities = ["update"] }`)
		l.grants(t, own, issue)
	})
	t.Run("an engine's refusal is told without the data of the request", func(t *testing.T) {
		l.Write("pki/roles/web", harness.Map{"allow_any_name": false, "allowed_domains": "elsewhere.org", "generate_lease": true, "ttl": "1h"})
		run(t, sure, "ann", 1, "the credential cert of the server github is not given to the client ann: pki/issue/web answers 400 (its words are not shown")
		l.Write("pki/roles/web", harness.Map{"allow_any_name": true, "generate_lease": true, "ttl": "1h"})
	})
	t.Run("policies of its own", func(t *testing.T) {
		l.Write("mcp/clients/ann", harness.Map{"upstream_policies": "mcp-team"})
		run(t, sure, "ann", 1, "no child token for mcp:ann is minted with the policies mcp-team: 400 token policies")
		l.Write(provision.UpstreamRolePath, provision.UpstreamRoleSettings(provision.AliasPrefix, []string{"mcp-team"}))
		require.NoError(t, provision.Policy(t.Context(), l.Vault.Client(), "mcp-team", policies.Upstream(l.accessor, `path "secret/data/teams/search" {
  capabilities = ["read"]
}`)))
		credentials(harness.Map{"team": harness.Map{"path": "secret/data/teams/{{client.metadata.team}}"}})
		l.Write("secret/data/teams/search", harness.Map{"data": harness.Map{"key": kvValue}})
		run(t, sure, "ann", 0, "with the policies mcp-team", "is granted to the client ann by secret/data/teams/search")
		run(t, sure, "bob", 1, "the credential team of the server github cannot be asked for as the client bob", "upstream_policies")
		l.Write("mcp/clients/ann", harness.Map{"upstream_policies": ""})
		run(t, sure, "ann", 1, "the client ann may have no upstream credentials")
		_, err := l.Vault.Client().Logical().JSONMergePatch(t.Context(), "mcp/clients/ann", harness.Map{"upstream_policies": nil})
		require.NoError(t, err)
		l.Write(provision.UpstreamRolePath, provision.UpstreamRoleSettings(provision.AliasPrefix, nil))
	})
	t.Run("a person's credential is not tried", func(t *testing.T) {
		credentials(harness.Map{"mine": harness.Map{"path": "secret/data/{{person.alias}}/github"}})
		run(t, sure, "ann", 0, "the credential mine of the server github was not tried: it is a person's")
	})
	t.Run("a child token that a gateway would destroy is not used", func(t *testing.T) {
		credentials(harness.Map{"gh": gh})
		group := l.Write("identity/group", harness.Map{"policies": "wide", "member_entity_ids": l.entity(t, "mcp:ann")})["id"].(string)
		out := run(t, sure, "ann", 1, "a gateway would not use the child token that is minted for mcp:ann: its entity adds the policies [wide]")
		require.NotContains(t, out, "is granted")
		l.Delete("identity/group/id/" + group)
	})
	t.Run("a Vault token for the server, and one that cannot end itself", func(t *testing.T) {
		l.Write("mcp/servers/github", harness.Map{"transport": "http", "url": l.Allowed.URL, "credentials": harness.Map{}, "vault_policies": "mcp-vault", "headers": "X-Vault-Token={{vault.token}}"})
		l.Write(provision.UpstreamRolePath, provision.UpstreamRoleSettings(provision.AliasPrefix, []string{"mcp-vault"}))
		require.NoError(t, provision.Policy(t.Context(), l.Vault.Client(), "mcp-vault", policies.Upstream(l.accessor, "")))
		run(t, sure, "ann", 0, "with the policies mcp-vault", "the server github is given a Vault token of its own for the client ann", "child tokens: 2, leases: 0")
		require.NoError(t, provision.Policy(t.Context(), l.Vault.Client(), "mcp-vault", "path \"secret/data/x\" {\n  capabilities = [\"read\"]\n}"))
		out, status := l.doctor(t, []string{sure}, []string{"-client", "ann"})
		require.Equal(t, 1, status, out)
		require.Contains(t, out, "does not revoke itself, and ends by itself within 2m")
		require.Contains(t, out, `path "auth/token/revoke-self" { capabilities = ["update"] }`)
	})
	t.Run("a name that is wrong", func(t *testing.T) {
		for arg, want := range map[string]string{
			"-client=nobody":                 "there is no client nobody",
			"-client=ann -token-role=absent": "the token role absent cannot be read",
		} {
			out, status := l.doctor(t, []string{sure}, strings.Fields(arg))
			require.Equal(t, 1, status, out)
			require.Contains(t, out, want)
		}
		l.Write("mcp/clients/ann", harness.Map{"disabled": true})
		out, _ := l.doctor(t, []string{sure}, []string{"-client", "ann"})
		require.Contains(t, out, "the client ann is disabled")
	})
}
