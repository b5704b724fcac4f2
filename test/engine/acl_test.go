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
	"vault-plugin-secrets-mcp/test/stage"
)

// personRole is the role under which people sign in.
const personRole = "auth/" + provision.SignInMount + "/role/" + provision.SignInRole

func TestAnAdminMayRunTheBrokerAndNotTheRestOfVault(t *testing.T) {
	h := harness.New(t)
	_, err := provision.GatewayLogin(t.Context(), h.Vault.Client(), policies.GatewayName)
	require.NoError(t, err)
	require.NoError(t, h.Vault.Client().Sys().EnableAuthWithOptionsWithContext(t.Context(), provision.SignInMount, &api.EnableAuthOptions{Type: "oidc"}))
	person := provision.PersonRole{UserClaim: "sub", RedirectURIs: []string{"https://mcp.example.com" + provision.SignInCallback}, SessionMax: provision.SessionMax}.Settings()
	h.Write(personRole, person)
	upstream := provision.UpstreamRoleSettings(provision.AliasPrefix, nil)
	const put, get, list, del = http.MethodPut, http.MethodGet, "LIST", http.MethodDelete
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	h.CreateClient("cursor", harness.Map{"allowed_servers": "calculator"})
	h.Write("mcp/policies/corp", harness.Map{"deniedMcpServers": `[{"serverName":"x"}]`})
	server, role := harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"}, harness.Map{"allowed_servers": "calculator"}
	h.Write("mcp/roles/engineer", role)
	policy := harness.Map{"deniedMcpServers": `[{"serverName":"x"}]`}
	acl{
		h: h, name: policies.AdminName, rules: policies.Admin, holder: stage.Holder(t, h, policies.AdminName, policies.Admin),
		absent: []string{"auth/approle/role/mcp-gateway", provision.UpstreamRolePath},
		may: []use{
			{put, "mcp/config", harness.Map{"grace_period": "1h"}},
			{get, "mcp/config", nil},
			{put, "mcp/config/kms", harness.Map{"key_id": "alias/none"}},
			{get, "mcp/config/kms", nil},
			{del, "mcp/config/kms", nil},
			{put, "mcp/config/kms/rotate", nil},
			{put, "mcp/servers/calculator", server},
			{put, "mcp/servers/{fresh}", server},
			{get, "mcp/servers/calculator", nil},
			{list, "mcp/servers/", nil},
			{del, "mcp/servers/{fresh}", nil},
			{put, "mcp/pins/calculator", harness.Map{"trust_first": false}},
			{get, "mcp/pins/calculator", nil},
			{list, "mcp/pins/", nil},
			{del, "mcp/pins/calculator", nil},
			{put, "mcp/policies/corp", policy},
			{put, "mcp/policies/{fresh}", policy},
			{get, "mcp/policies/corp", nil},
			{list, "mcp/policies/", nil},
			{del, "mcp/policies/{fresh}", nil},
			{put, "mcp/roles/engineer", role},
			{put, "mcp/roles/{fresh}", role},
			{get, "mcp/roles/engineer", nil},
			{http.MethodPatch, "mcp/roles/engineer", harness.Map{"allowed_tools": nil}},
			{list, "mcp/roles/", nil},
			{del, "mcp/roles/{fresh}", nil},
			{put, "mcp/clients/cursor", harness.Map{"allowed_servers": "calculator"}},
			{put, "mcp/clients/{fresh}", harness.Map{"allowed_servers": "calculator"}},
			{get, "mcp/clients/cursor", nil},
			{http.MethodPatch, "mcp/clients/cursor", harness.Map{"allowed_tools": nil}},
			{list, "mcp/clients/cursor/tokens/", nil},
			{del, "mcp/clients/{fresh}", nil},
			{put, "mcp/rotate-client/cursor", nil},
			{put, "mcp/revoke-client/cursor", nil},
			{get, "mcp/creds/cursor", nil},
			{put, "mcp/creds/cursor", harness.Map{"ttl": "1m"}},
			{put, "mcp/lookup", harness.Map{"token": "some-token-or-other"}},
			{put, "mcp/lookup-accessor", harness.Map{"accessor": "a"}},
			{put, "mcp/renew", harness.Map{"token": "some-token-or-other"}},
			{put, "mcp/revoke", harness.Map{"token": "some-token-or-other"}},
			{put, "mcp/revoke-accessor", harness.Map{"accessor": "a"}},
			{list, "mcp/sign-ins/", nil},
			{get, "mcp/sign-ins/some-accessor", nil},
			{put, "auth/token/revoke-accessor", harness.Map{"accessor": "a"}},
			{get, "mcp/usage", nil},
			{get, "mcp/usage/clients/cursor", nil},
			{put, "mcp/evaluate", harness.Map{"client": "cursor", "server": "calculator"}},
			{put, "mcp/tidy", nil},
			{get, "mcp/tidy/status", nil},
			{put, "mcp/gateway/keys/rotate", nil},
			{put, "sys/leases/revoke-prefix/mcp/creds/cursor", nil},
			{put, "mcp/revoke-all", nil},
			{get, "sys/plugins/catalog/secret/" + provision.PluginName, nil},
			{put, "sys/plugins/catalog/secret/" + provision.PluginName, harness.Map{"version": "v1.0.0"}},
			{put, "sys/plugins/reload/backend", harness.Map{"mounts": "mcp/"}},
			{get, "sys/mounts", nil},
			{put, "sys/mounts/mcp", harness.Map{"type": provision.PluginName}},
			{put, "sys/mounts/mcp/tune", harness.Map{"description": "x"}},
			{get, "sys/policies/acl/mcp-gateway", nil},
			{put, "sys/policies/acl/mcp-team-b", harness.Map{"policy": `path "a" {}`}},
			{del, "sys/policies/acl/mcp-team-b", nil},
			{get, "sys/auth", nil},
			{put, "sys/auth/approle", harness.Map{"type": "approle"}},
			{get, "auth/approle/role/mcp-gateway", nil},
			{put, "auth/approle/role/mcp-gateway", nil},
			{put, "auth/approle/role/mcp-gateway", provision.GatewayRoleSettings(policies.GatewayName)},
			{get, "auth/approle/role/mcp-gateway/role-id", nil},
			{put, "auth/approle/role/mcp-gateway/secret-id", nil},
			{put, provision.UpstreamRolePath, nil},
			{put, provision.UpstreamRolePath, upstream},
			{get, provision.UpstreamRolePath, nil},
			{del, provision.UpstreamRolePath, nil},
			{list, "auth/token/roles/", nil},
			{get, "auth/token/roles/another", nil},
			{list, "identity/entity-alias/id", nil},
			{get, "identity/entity/id/some-id", nil},
			{put, "sys/auth/oidc-mcp", harness.Map{"type": "oidc"}},
			{del, "sys/auth/oidc-mcp-gone", nil},
			{put, "auth/oidc-mcp/config", harness.Map{"jwt_validation_pubkeys": ""}},
			{get, "auth/oidc-mcp/config", nil},
			{put, "auth/oidc-mcp/role/{fresh}", person},
			{put, personRole, person},
			{get, personRole, nil},
			{list, "auth/oidc-mcp/role/", nil},
			{del, "auth/oidc-mcp/role/gone", nil},
			{put, "identity/group/name/mcp-{fresh}", harness.Map{"type": "external"}},
			{put, "identity/group/name/mcp-employees", harness.Map{"type": "external"}},
			{get, "identity/group/name/mcp-employees", nil},
			{del, "identity/group/name/mcp-gone", nil},
			{list, "identity/group/name", nil},
			{put, "identity/group-alias", harness.Map{"name": "x"}},
			{get, "auth/token/lookup-self", nil},
			{put, "auth/token/renew-self", nil},
		},
		mayNot: []use{
			{get, "secret/data/x", nil},
			{put, "sys/policies/acl/other", harness.Map{"policy": `path "a" {}`}},
			{put, "sys/mounts/other", harness.Map{"type": "kv"}},
			{del, "sys/mounts/mcp", nil},
			{get, "sys/plugins/catalog/secret/another", nil},
			{put, "auth/approle/role/other", nil},
			{get, "mcp/gateway/sign-in", nil},
			{put, "mcp/gateway/usage", harness.Map{"gateway": "gateway000000001", "day": "2026-11-30"}},
			{put, "auth/token/create", nil},
			{put, "auth/token/create/" + provision.UpstreamRole, nil},
			{put, "auth/token/roles/another", upstream},
			{del, "auth/token/roles/another", nil},
			{put, "identity/entity/id/some-id", harness.Map{"policies": "root"}},
			{put, "identity/group", harness.Map{"name": "g"}},
			{put, "identity/group/name/another", harness.Map{"policies": "root"}},
			{put, "sys/auth/oidc", harness.Map{"type": "oidc"}},
			{put, "auth/oidc/role/mcp", person},
			{put, "sys/seal", nil},
			{get, "sys/raw/core", nil},
		},
	}.check(t)
}

func TestATeamsAdminHandsOutTheTeamsServersAndNoOther(t *testing.T) {
	h := harness.New(t)
	h.CreateClient("other", harness.Map{"allowed_servers": "*"})
	h.CreateClient("team-a-cursor", harness.Map{})
	team := stage.Holder(t, h, policies.TeamAdminName, policies.TeamAdmin)
	const client = "mcp/clients/team-a-cursor"
	servers := func(value any) use {
		return use{http.MethodPut, client, harness.Map{"allowed_servers": value}}
	}
	acl{h: h, name: policies.TeamAdminName, rules: policies.TeamAdmin, holder: team, names: []string{"other", "team-a-cursor"}, may: []use{
		servers("calculator"),
		servers("calculator,time"),
		servers([]string{"time", "calculator"}),
		servers([]string{}),
		servers(""),
		{http.MethodPut, client, harness.Map{"token_ttl": "1h", "denied_tools": "time/set", "metadata": harness.Map{"by": "a"}}},
		{http.MethodGet, client, nil},
		{http.MethodPut, "mcp/rotate-client/team-a-cursor", nil},
		{http.MethodPut, "mcp/rotate-client/team-a-cursor", harness.Map{"grace_period": "1h", "rotation_id": "1"}},
		{http.MethodGet, "mcp/creds/team-a-cursor", nil},
		{http.MethodPut, "mcp/revoke-client/team-a-cursor", nil},
	}, mayNot: []use{
		servers("github"),
		servers("*"),
		servers("calculator,github"),
		servers("calculator, github"),
		servers([]string{"calculator", "github"}),
		servers([]string{"*"}),
		servers([]any{[]string{"github"}}),
		servers(harness.Map{"0": "github"}),
		{http.MethodPut, client, harness.Map{"ALLOWED_SERVERS": "github"}},
		{http.MethodPatch, client, harness.Map{"allowed_servers": "github"}},
		{http.MethodPut, "mcp/clients/team-a-{fresh}", harness.Map{"allowed_servers": "calculator"}},
		{http.MethodPut, client, harness.Map{"token_bound_cidrs": ""}},
		{http.MethodPut, client, harness.Map{"policies": ""}},
		{http.MethodPut, client, harness.Map{"disabled": false}},
		{http.MethodPut, client, harness.Map{"upstream_policies": "mcp-upstream"}},
		{http.MethodPut, client, harness.Map{"sign_in": true}},
		{http.MethodPut, client, harness.Map{"role": "engineer"}},
		{http.MethodPut, "mcp/roles/team-a-role", harness.Map{"allowed_servers": "github"}},
		{http.MethodDelete, client, nil},
		{http.MethodPut, "mcp/clients/other", harness.Map{"allowed_servers": "calculator"}},
		{http.MethodGet, "mcp/clients/other", nil},
		{http.MethodPut, "mcp/rotate-client/other", nil},
		{http.MethodPut, "mcp/servers/github", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"}},
		{http.MethodGet, "mcp/creds/other", nil},
		{http.MethodPut, "mcp/creds/other", harness.Map{"ttl": "5m"}},
		{"LIST", "mcp/clients/", nil},
		{http.MethodPut, "mcp/lookup", harness.Map{"token": "some-token-or-other"}},
	}}.check(t)
	if got := fmt.Sprint(h.Read(client)["allowed_servers"]); got != "[]" {
		t.Errorf("the team's client may reach %s", got)
	}
}

// TestAHostileTeamGetsOutOfNothing plays a team that tries to remove the restrictions
// that a central administrator has put on its clients, and to learn about the tokens of
// others.
func TestAHostileTeamGetsOutOfNothing(t *testing.T) {
	h := harness.New(t)
	for _, name := range []string{"calculator", "time"} {
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	}
	h.Write("mcp/policies/quarantine", harness.Map{"deniedMcpServers": `[{"serverName":"calculator"}]`})
	h.CreateClient("team-a-bound", harness.Map{"allowed_servers": "calculator", "policies": "quarantine", "token_bound_cidrs": "192.0.2.0/24"})
	h.CreateClient("team-a-off", harness.Map{"allowed_servers": "calculator"})
	h.Write("mcp/clients/team-a-off", harness.Map{"disabled": true})
	const theirs, leaked, unused = "a-token-of-team-b-that-is-in-use", "a-token-that-was-revoked-in-time", "a-token-that-nobody-has-ever-had"
	h.CreateClient("team-b", harness.Map{"access_token": theirs})
	h.CreateClient("team-c", harness.Map{"access_token": leaked})
	h.Write("mcp/revoke-client/team-c", nil)
	before := h.List("mcp/clients/")

	team := stage.Holder(t, h, policies.TeamAdminName, policies.TeamAdmin)
	free := harness.Map{"allowed_servers": "calculator,time"}
	for _, u := range []use{
		{http.MethodPut, "mcp/clients/team-a-sibling", free},
		{http.MethodPut, "mcp/clients/team-a-sibling", nil},
		{http.MethodPut, "mcp/clients//team-a-sibling", free},
		{http.MethodPatch, "mcp/clients/team-a-bound", harness.Map{"policies": nil}},
		{http.MethodPut, "mcp/clients/team-a-bound", harness.Map{"policies": ""}},
		{http.MethodPut, "mcp/clients/team-a-bound", harness.Map{"Policies": ""}},
		{http.MethodPut, "mcp/clients/team-a-bound", harness.Map{"policies": []string{}, "allowed_servers": "time"}},
		{http.MethodPut, "mcp/clients/team-a-bound", harness.Map{"token_bound_cidrs": ""}},
		{http.MethodPut, "mcp/clients/team-a-bound", harness.Map{"upstream_policies": "", "metadata": harness.Map{"team": "b"}}},
		{http.MethodPut, "mcp/clients/team-a-off", harness.Map{"disabled": false}},
		{http.MethodPut, "mcp/clients/team-a-off", harness.Map{"DISABLED": "false"}},
		{http.MethodDelete, "mcp/clients/team-a-off", nil},
		{http.MethodDelete, "mcp/policies/quarantine", nil},
		{http.MethodPut, "mcp/policies/quarantine", harness.Map{"deniedMcpServers": "[]"}},
	} {
		if !denied(t.Context(), team, u) {
			t.Errorf("it may %s", u)
		}
	}
	// A token of the team's own, one that leaked, one of somebody else's: each is
	// refused in the same words, so nothing is learned by trying.
	for _, path := range []string{"mcp/rotate-client/team-a-bound", "mcp/clients/team-a-bound"} {
		for _, field := range []string{"access_token", "Access_Token", "access_token_ciphertext"} {
			for _, token := range []string{theirs, leaked, unused} {
				for _, more := range []harness.Map{{}, {"allow_reuse": true}, {"grace_period": "1h"}} {
					data := harness.Map{field: token}
					for name, value := range more {
						data[name] = value
					}
					if u := (use{http.MethodPut, path, data}); !denied(t.Context(), team, u) {
						t.Errorf("it may %s", u)
					}
				}
			}
		}
	}
	if u := (use{http.MethodPut, "mcp/rotate-client/team-a-bound", harness.Map{"allow_reuse": true}}); !denied(t.Context(), team, u) {
		t.Errorf("it may %s", u)
	}

	// Its rights do not lift a restriction.
	for _, u := range []use{
		{http.MethodPut, "mcp/clients/team-a-bound", free},
		{http.MethodPut, "mcp/clients/team-a-off", free},
		{http.MethodPut, "mcp/rotate-client/team-a-bound", nil},
		{http.MethodPut, "mcp/revoke-client/team-a-bound", nil},
		{http.MethodPut, "mcp/rotate-client/team-a-bound", harness.Map{"grace_period": 0}},
		{http.MethodPut, "mcp/rotate-client/team-a-off", nil},
	} {
		if denied(t.Context(), team, u) {
			t.Errorf("it may not %s", u)
		}
	}
	for client, decision := range map[string]string{"team-a-bound": "blocked-deny", "team-a-off": "client-disabled"} {
		require.Equal(t, decision, h.Write("mcp/evaluate", harness.Map{"client": client, "server": "calculator"})["decision"], client)
	}
	require.Equal(t, []any{"192.0.2.0/24"}, h.Read("mcp/clients/team-a-bound")["token_bound_cidrs"])
	require.Equal(t, before, h.List("mcp/clients/"))
	require.Equal(t, true, h.Write("mcp/lookup", harness.Map{"token": theirs})["active"])
}

func TestAClientMayGetItsOwnTokenAndNoOther(t *testing.T) {
	h := harness.New(t)
	h.CreateClient("cursor", harness.Map{"allowed_servers": "calculator"})
	h.CreateClient("other", harness.Map{"allowed_servers": "calculator"})
	login := stage.ClientLogin(t, h, "cursor", harness.Map{"token_ttl": "1h"})
	answer, err := h.Vault.Client().Logical().WriteWithContext(t.Context(), "auth/approle/login", harness.Map{
		"role_id": login.RoleID, "secret_id": login.SecretID,
	})
	require.NoError(t, err)
	client := h.Vault.ClientWithToken(answer.Auth.ClientToken)

	lease, err := client.Logical().ReadWithContext(t.Context(), "mcp/creds/cursor")
	require.NoError(t, err)
	h.Secret(h.Token(lease.Data))
	auths, err := h.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	acl{h: h, name: policies.ClientName, rules: policies.Client(auths["approle/"].Accessor), holder: client, names: []string{"other"}, may: []use{
		{http.MethodGet, "mcp/creds/cursor", nil},
		{http.MethodPut, "mcp/creds/cursor", harness.Map{"ttl": "5m"}},
		{http.MethodPut, "sys/leases/renew", harness.Map{"lease_id": lease.LeaseID}},
		{http.MethodGet, "auth/token/lookup-self", nil},
		{http.MethodPut, "auth/token/renew-self", nil},
	}, mayNot: []use{
		{http.MethodGet, "mcp/creds/other", nil},
		{http.MethodGet, "mcp/clients/cursor", nil},
		{http.MethodPut, "mcp/clients/cursor", harness.Map{"allowed_servers": "*"}},
		{http.MethodPut, "mcp/rotate-client/cursor", nil},
		{http.MethodPut, "mcp/lookup", harness.Map{"token": "some-token-or-other"}},
		{http.MethodGet, "mcp/gateway/keys", nil},
		{http.MethodPut, "auth/token/create", nil},
		{http.MethodGet, "cubbyhole/x", nil},
	}}.check(t)
}
