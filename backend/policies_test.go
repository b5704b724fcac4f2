package backend

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

// settingsFile is a managed-settings file as an administrator deploys it, with
// settings that are about something else.
const settingsFile = `{
  "permissions": {"deny": ["WebFetch"]},
  "allowManagedMcpServersOnly": true,
  "allowedMcpServers": [
    {"serverUrl": "https://mcp.example.com/*"},
    {"serverCommand": ["npx", "-y", "server"]}
  ],
  "deniedMcpServers": [{"serverName": "dangerous"}]
}`

func settingsOf(t *testing.T, text string) data {
	t.Helper()
	var d data
	require.NoError(t, json.Unmarshal([]byte(text), &d))
	return d
}

// catalog registers the servers that the tests below speak of.
func (e *env) catalog() {
	e.t.Helper()
	e.write("servers/good", data{"transport": "http", "url": "https://mcp.example.com/api"})
	e.write("servers/bad", data{"transport": "http", "url": "https://evil.example.com/api"})
	e.write("servers/dangerous", data{"transport": "http", "url": "https://mcp.example.com/x"})
	e.write("servers/local", data{"transport": "stdio", "command": "npx", "args": []string{"-y", "server"}})
}

func (e *env) decision(d data) data {
	e.t.Helper()
	return e.write("evaluate", d).Data
}

func TestASettingsFileLoadsAsItStandsAndIsReadBack(t *testing.T) {
	e := newEnv(t)
	resp := e.write("policies/corp", with(settingsOf(t, settingsFile), data{"managed": true}))
	require.Len(t, resp.Warnings, 1)
	require.Contains(t, resp.Warnings[0], `"permissions"`)

	text, err := json.Marshal(e.restart().read("policies/corp"))
	require.NoError(t, err)
	require.JSONEq(t, `{"managed": true, "allowManagedMcpServersOnly": true,
		"allowedMcpServers": [{"serverUrl": "https://mcp.example.com/*"}, {"serverCommand": ["npx", "-y", "server"]}],
		"deniedMcpServers": [{"serverName": "dangerous"}]}`, string(text))
	require.Equal(t, []string{"corp"}, e.list("policies/"))
}

func TestAPolicyIsWrittenFromTheCommandLine(t *testing.T) {
	e := newEnv(t)
	e.write("policies/p", data{"deniedMcpServers": `[{"serverName":"x"}]`, "managed": "true"})
	require.Len(t, e.read("policies/p")["deniedMcpServers"], 1)
	require.NotContains(t, e.read("policies/p"), "allowedMcpServers", "null would be an empty list")
}

func TestBadEntriesAreRefusedWithTheirPlace(t *testing.T) {
	for name, tc := range map[string]struct{ text, refusal string }{
		"two keys in a denial":    {`{"deniedMcpServers":[{"serverName":"a"},{"serverName":"x","serverUrl":"https://x/"}]}`, "deniedMcpServers[1]"},
		"a denial without a key":  {`{"deniedMcpServers":[{}]}`, "deniedMcpServers[0]"},
		"a list that is none":     {`{"deniedMcpServers":"x"}`, "deniedMcpServers"},
		"a variable":              {`{"allowedMcpServers":[{"serverUrl":"https://${HOST}/"}]}`, "allowedMcpServers[0]"},
		"a mistyped setting":      {`{"allowedMCPServers":[]}`, "allowedMCPServers"},
		"a lock that is a number": {`{"allowManagedMcpServersOnly":7}`, "allowManagedMcpServersOnly"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			require.Contains(t, e.refused(logical.UpdateOperation, "policies/p", settingsOf(t, tc.text)), tc.refusal)
			require.Empty(t, e.list("policies/"))
		})
	}
	e := newEnv(t)
	require.Contains(t, e.refused(logical.UpdateOperation, "policies/Corp", nil), "upper-case")
}

func TestAWriteReplacesThePolicyUnlessItGivesNoSetting(t *testing.T) {
	e := newEnv(t)
	e.write("policies/p", settingsOf(t, settingsFile))
	e.write("policies/p", data{"managed": true})
	require.Len(t, e.read("policies/p")["allowedMcpServers"], 2)
	require.Equal(t, true, e.read("policies/p")["managed"])

	resp := e.write("policies/p", settingsOf(t, `{"allowManagedMcpServersOnly": true}`))
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "allowedMcpServers was set and is now unset")
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "deniedMcpServers was set and is now unset: its denials end")
	require.Equal(t, data{"managed": true, "allowManagedMcpServersOnly": true}, e.read("policies/p"))
}

func TestALockWithoutAListIsWarnedOf(t *testing.T) {
	e := newEnv(t)
	resp := e.write("policies/p", data{"allowManagedMcpServersOnly": true, "managed": true})
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "every server is allowed")
}

func TestEvaluateAnswersWhyAClientMayOrMayNot(t *testing.T) {
	e := newEnv(t)
	e.catalog()
	e.write("policies/corp", with(settingsOf(t, settingsFile), data{"managed": true}))
	e.client("c", data{"allowed_servers": "good,bad,dangerous"})
	for _, tc := range []struct {
		name, decision, reason, source string
		request                        data
	}{
		{"a server that both admit", policy.Allowed, "is allowed", "corp", data{"client": "c", "server": "good"}},
		{"a denied server", policy.BlockedDeny, "is denied", "corp", data{"client": "c", "server": "dangerous"}},
		{"a server on no allow-list", policy.BlockedAllow, "", "", data{"client": "c", "server": "bad"}},
		{"a server off the client's list", policy.NotInAllowedServers, "allowed_servers", "", data{"client": "c", "server": "local"}},
		{"a server that is not registered", policy.UnknownServer, "no server is registered", "", data{"client": "c", "server": "nowhere"}},
		{"a policy alone", policy.Allowed, "is allowed", "corp", data{"policies": "", "server": "local"}},
		{"a URL that is not registered", policy.BlockedAllow, "", "", data{"policies": "", "server_name": "x", "url": "https://other.example/"}},
		{"a command that is not registered", policy.Allowed, "is allowed", "corp", data{"policies": "", "server_name": "x", "command": "npx", "args": []string{"-y", "server"}}},
		{"a command with one more argument", policy.BlockedAllow, "", "", data{"policies": "", "server_name": "x", "command": "npx", "args": []string{"-y", "server", "-v"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := e.decision(tc.request)
			require.Equal(t, tc.decision, got["decision"], got["reason"])
			require.Equal(t, tc.decision == policy.Allowed, got["allowed"])
			require.Contains(t, got["reason"], tc.reason)
			require.Equal(t, tc.source, got["source"])
			require.NotEmpty(t, got["checks"])
		})
	}
	e.write("clients/c", data{"disabled": true})
	require.Contains(t, e.write("evaluate", data{"client": "c", "server": "good"}).Warnings[0], "disabled")
}

func TestEvaluateRefusesHalfAQuestion(t *testing.T) {
	e := newEnv(t)
	for name, request := range map[string]data{
		"nobody":                   {"server": "s"},
		"both a client and a list": {"client": "c", "policies": "p", "server": "s"},
		"no server":                {"client": "c"},
		"both kinds of server":     {"client": "c", "server": "s", "server_name": "s"},
		"a URL of a registered":    {"client": "c", "server": "s", "url": "https://x/"},
		"a name alone":             {"client": "c", "server_name": "s"},
		"a URL and a command":      {"client": "c", "server_name": "s", "url": "https://x/", "command": "x"},
		"arguments alone":          {"client": "c", "server_name": "s", "url": "https://x/", "args": []string{"x"}},
		"an unknown client":        {"client": "nobody", "server_name": "s", "url": "https://x/"},
	} {
		require.NotEmpty(t, e.refused(logical.UpdateOperation, "evaluate", request), name)
	}
}

func TestALookupNamesTheEffectivePolicy(t *testing.T) {
	e := newEnv(t)
	bound := e.client("bound", data{"policies": "extra"})
	free := e.client("free", data{})
	require.Empty(t, e.lookup(free)["policy_digest"])
	missing := e.lookup(bound)["policy_digest"].(string)
	require.NotEmpty(t, missing, "a policy that does not exist must not read as none")

	changes := e.watch(func() { e.write("policies/extra", data{"deniedMcpServers": `[{"serverName":"x"}]`}) })
	require.Equal(t, "policy", changes[0]["type"])
	require.Equal(t, "extra", changes[0]["name"])
	digest := e.lookup(bound)["policy_digest"].(string)
	require.NotEqual(t, missing, digest)
	require.Empty(t, e.lookup(free)["policy_digest"])

	served := e.read("gateway/policies/" + digest)
	text, err := json.Marshal(served["sources"])
	require.NoError(t, err)
	var sources []policy.Source
	require.NoError(t, json.Unmarshal(text, &sources))
	require.Equal(t, digest, policy.Compile(sources).Digest(), "a gateway must come to the same policy")
	require.Nil(t, e.read("gateway/policies/"+missing), "a policy that changed since")

	e.write("policies/extra", data{"managed": true})
	require.Equal(t, e.lookup(bound)["policy_digest"], e.lookup(free)["policy_digest"], "a managed policy applies to every client")
}

func TestDeletingAPolicyNeverGivesAccess(t *testing.T) {
	e := newEnv(t)
	e.catalog()
	e.write("policies/p", data{"deniedMcpServers": `[{"serverName":"bad"}]`})
	e.client("c", data{"allowed_servers": "*", "policies": "p"})
	require.Contains(t, e.refused(logical.DeleteOperation, "policies/p", nil), "the client c")
	require.Equal(t, policy.BlockedDeny, e.decision(data{"client": "c", "server": "bad"})["decision"])

	resp := e.must(logical.DeleteOperation, "policies/p", data{"force": true})
	require.Contains(t, resp.Warnings[0], "can reach no server now")
	for _, server := range []string{"bad", "good", "local"} {
		require.Equal(t, false, e.decision(data{"client": "c", "server": server})["allowed"], server)
	}
	e.write("clients/c", data{"policies": ""})
	require.Equal(t, true, e.decision(data{"client": "c", "server": "good"})["allowed"])
	e.delete("policies/p")
}

func TestADryRunListsWhatWouldChangeAndWritesNothing(t *testing.T) {
	e := newEnv(t)
	e.catalog()
	e.write("policies/p", data{"deniedMcpServers": `[{"serverName":"bad"}]`})
	e.client("all", data{"allowed_servers": "*", "policies": "p"})
	e.client("one", data{"allowed_servers": "good", "policies": "p"})
	e.client("free", data{"allowed_servers": "*"})
	before := e.read("policies/p")

	got := e.write("policies/p", with(settingsOf(t, settingsFile), data{"dry_run": true})).Data
	var pairs []string
	for _, c := range got["changes"].([]map[string]any) {
		pairs = append(pairs, c["client"].(string)+" "+c["server"].(string)+" "+c["before"].(string)+" "+c["after"].(string))
	}
	require.Equal(t, []string{
		"all bad blocked-deny blocked-allow", "all dangerous allowed blocked-deny",
	}, pairs)
	require.Equal(t, 2, got["changed"])
	require.Equal(t, before, e.read("policies/p"))

	got = e.write("policies/new", with(settingsOf(t, settingsFile), data{"dry_run": true, "managed": true})).Data
	require.Equal(t, 3, got["changed"], "free loses bad and dangerous, all loses dangerous: %v", got["changes"])
	require.Equal(t, []string{"p"}, e.list("policies/"))
}

func TestPoliciesWrittenByAnotherNodeAreReadAnew(t *testing.T) {
	storage, c := &logical.InmemStorage{}, newClock()
	e, other := newEnvOn(t, storage, c), newEnvOn(t, storage, c)
	token := e.client("c", data{"allowed_servers": "a"})
	require.Empty(t, other.lookup(token)["policy_digest"])
	e.write("policies/p", data{"deniedMcpServers": "[]", "managed": true})
	other.b.invalidate(context.Background(), policyPrefix+"p")
	require.NotEmpty(t, other.lookup(token)["policy_digest"])
}
