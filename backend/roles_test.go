package backend

import (
	"context"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

// rightsOf are the sources of the rights in a lookup's answer.
func (e *env) rightsOf(token string) []policy.Rights {
	e.t.Helper()
	rights, _ := e.lookup(token)["rights"].([]policy.Rights)
	return rights
}

func TestAClientHasItsOwnRightsAndThoseOfItsRole(t *testing.T) {
	e := newEnv(t)
	e.write("roles/engineer", data{"allowed_servers": "github", "allowed_tools": "github/get_*", "denied_prompts": "*/secret", "rate_limit": 5})
	token := e.client("c", data{"allowed_servers": "calculator", "denied_tools": "*/delete_*", "role": "engineer", "rate_limit": 20, "rate_burst": 40})
	answer := e.lookup(token)
	require.Equal(t, []policy.Rights{
		{Lists: policy.Lists{AllowedServers: []string{"calculator"}, DeniedTools: []string{"*/delete_*"}}},
		{Role: "engineer", Lists: policy.Lists{AllowedServers: []string{"github"}, AllowedTools: []string{"github/get_*"}, DeniedPrompts: []string{"*/secret"}}},
	}, answer["rights"])
	require.Empty(t, answer["allowed_servers"], "a gateway that does not know roles admits to nothing")
	require.Equal(t, []string{}, answer["allowed_tools"])
	require.EqualValues(t, 5, answer["rate_limit"], "the lower limit counts")
	require.EqualValues(t, 5, answer["rate_burst"], "with its own burst")
	require.Equal(t, "engineer", e.read("clients/c")["role"])

	e.patch("clients/c", data{"role": nil})
	alone := e.lookup(token)
	require.EqualValues(t, 20, alone["rate_limit"])
	require.EqualValues(t, 40, alone["rate_burst"])
	require.Len(t, alone["rights"], 1)
}

func TestAChangeOfARoleIsOneEventAndCountsAtOnceForAllItsClients(t *testing.T) {
	e := newEnv(t)
	e.write("roles/engineer", data{"allowed_servers": "github"})
	var tokens []string
	for _, name := range []string{"a", "b", "c"} {
		tokens = append(tokens, e.client(name, data{"role": "engineer"}))
	}
	for _, change := range []struct {
		name   string
		do     func()
		served bool // the server "calculator" is
	}{
		{"a write", func() { e.write("roles/engineer", data{"allowed_servers": "github,calculator"}) }, true},
		{"a patch", func() { e.patch("roles/engineer", data{"allowed_servers": []string{"github"}}) }, false},
		{"a forced delete", func() { e.must(logical.DeleteOperation, "roles/engineer", data{"force": true}) }, false},
		{"a creation", func() { e.write("roles/engineer", data{"allowed_servers": "calculator"}) }, true},
	} {
		events := e.watch(change.do)
		require.Len(t, events, 1, change.name)
		require.Equal(t, "role", events[0]["type"], change.name)
		require.Equal(t, "engineer", events[0]["name"], change.name)
		require.NotEqual(t, "delete", events[0]["operation"], "a gateway that does not know roles would end every token")
		for _, token := range tokens {
			require.Equal(t, change.served, policy.AllowsServer(e.rightsOf(token), "calculator"), change.name)
		}
	}
	e.write("roles/engineer", data{"allowed_servers": "github"})
	require.Empty(t, e.watch(func() { e.write("roles/engineer", data{"allowed_servers": "github"}) }), "a write without effect was announced")
}

func TestAClientWhoseRoleDoesNotExistReachesNothing(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "https://h.example/mcp"})
	created := e.write("clients/c", data{"allowed_servers": "s", "role": "engineer"})
	require.Contains(t, created.Warnings, `there is no role "engineer": until there is, the client reaches nothing (roles/engineer)`)
	token := created.Data["token"].(string)
	require.True(t, e.active(token))
	require.False(t, policy.AllowsServer(e.rightsOf(token), "s"), "not even what its own fields allow")
	in, _ := introspect(t, e, token)
	require.Empty(t, in.Scope)
	decision := e.decision(data{"client": "c", "server": "s"})
	require.Equal(t, policy.NotInAllowedServers, decision["decision"])
	require.Contains(t, decision["reason"], `there is no role "engineer"`)

	e.write("roles/engineer", data{})
	require.True(t, policy.AllowsServer(e.rightsOf(token), "s"))
	require.Equal(t, policy.Allowed, e.decision(data{"client": "c", "server": "s"})["decision"])
}

func TestEvaluateNamesTheRole(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "https://h.example/mcp"})
	e.write("roles/engineer", data{"allowed_servers": "s"})
	e.client("c", data{"role": "engineer"})
	answer := e.decision(data{"client": "c", "server": "s"})
	require.Equal(t, true, answer["allowed"])
	require.Contains(t, answer["summary"], `allowed_servers of role "engineer" names "s"`)
	e.write("roles/engineer", data{"allowed_servers": ""})
	require.Contains(t, e.decision(data{"client": "c", "server": "s"})["reason"], `that of its role "engineer" is empty`)
}

func TestARoleThatClientsHaveIsNotDeleted(t *testing.T) {
	e := newEnv(t)
	e.write("roles/engineer", data{"allowed_servers": "*"})
	e.client("c", data{"role": "engineer"})
	require.Contains(t, e.refused(logical.DeleteOperation, "roles/engineer", nil), "the client c has the role")
	require.NotNil(t, e.read("roles/engineer"))
	require.Contains(t, e.must(logical.DeleteOperation, "roles/engineer", data{"force": true}).Warnings[0], "can reach nothing now")
	require.Nil(t, e.read("roles/engineer"))
	e.delete("roles/engineer") // nothing is there
	e.write("roles/engineer", data{})
	e.write("clients/c", data{"role": ""})
	e.delete("roles/engineer")
	require.Nil(t, e.read("roles/engineer"))
}

func TestWritesOfRolesThatAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name, path string
		data       data
		refusal    string
	}{
		{"a name in upper case", "roles/Engineer", data{}, "upper-case"},
		{"a name with a space", "roles/a b", data{}, "is not a valid role name"},
		{"a field of a client", "roles/r", data{"policies": "p"}, `unknown field "policies"`},
		{"a role of a role", "roles/r", data{"role": "other"}, `unknown field "role"`},
		{"a misspelt field", "roles/r", data{"allowed_server": "s"}, `unknown field "allowed_server"`},
		{"force in a write", "roles/r", data{"force": true}, "force"},
		{"a server that cannot be", "roles/r", data{"allowed_servers": "a__b"}, "double underscore"},
		{"a rule without a server", "roles/r", data{"denied_tools": "delete"}, "names no server"},
		{"a burst without a limit", "roles/r", data{"rate_burst": 3}, "rate_limit"},
		{"a client's role that cannot be", "clients/c", data{"role": "A"}, "upper-case"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			require.Contains(t, e.refusedWrite(tc.path, tc.data), tc.refusal)
			require.Empty(t, e.list("roles/"))
		})
	}
}

func TestAPatchOfARoleMergesAndNullResets(t *testing.T) {
	e := newEnv(t)
	_, err := e.request(context.Background(), logical.PatchOperation, "roles/r", data{"allowed_servers": "s"})
	require.ErrorContains(t, err, `no role "r" exists`)
	e.write("roles/r", data{"allowed_servers": "s", "allowed_tools": "", "rate_limit": 0.5})
	shown := e.read("roles/r")
	require.Equal(t, []string{}, shown["allowed_tools"], "set and empty: none")
	require.InDelta(t, 0.5, shown["rate_limit"], 0)
	e.patch("roles/r", data{"allowed_tools": nil})
	require.Nil(t, e.read("roles/r")["allowed_tools"], "unset: all")
	require.Equal(t, []string{"s"}, e.read("roles/r")["allowed_servers"])
	require.Equal(t, []string{"r"}, e.list("roles/"))
}

func TestARoleThatNamesADeletedServerIsTold(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "https://h.example/mcp"})
	e.write("roles/r", data{"allowed_servers": "s"})
	require.Contains(t, e.delete("servers/s").Warnings[0], "the role r names this server")
	require.Contains(t, e.refusedWrite("servers/s", data{"transport": "http", "url": "https://elsewhere.example/mcp"}), "the role r may still name it")
	e.write("servers/s", data{"transport": "http", "url": "https://elsewhere.example/mcp", "force": true})
}

func TestANodeThatFollowsSeesTheRoleThatAnotherOneHasWritten(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{"role": "r"})
	require.False(t, policy.AllowsServer(e.rightsOf(token), "s"))
	other := newEnvOn(t, e.storage, e.clock)
	other.write("roles/r", data{"allowed_servers": "s"})
	e.b.invalidate(context.Background(), rolePrefix+"r")
	require.True(t, policy.AllowsServer(e.rightsOf(token), "s"))
}
