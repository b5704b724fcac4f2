package backend

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

// everyField is a server with something in every field that a stdio server has.
var everyField = data{
	"transport": "stdio", "command": "/bin/server", "args": []string{"--root", "/srv"}, "description": "orders",
	"env":         data{"TOKEN": "s3cret", "PASSWORD": "{{db.password}}", "CONFIG": "{{file.config}}", "VAULT_TOKEN": "{{vault.token}}"},
	"files":       data{"config": "s3cret"},
	"credentials": data{"db": "database/creds/orders-ro"}, "vault_policies": []string{"orders"},
}

func TestNothingOfAServerIsLostWhileItIsDisabled(t *testing.T) {
	for name, fields := range map[string]data{
		"a program": everyField,
		"a remote server": {
			"transport": "http", "url": "https://api.example/mcp?key=s3cret",
			"headers": data{"Authorization": "Bearer s3cret", "X-Key": "{{kv.key}}"}, "credentials": data{"kv": "secret/data/key"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.write("servers/s", fields)
			before := e.registered("s")
			e.write("servers/s", data{"disabled": true})
			answer := e.read("gateway/servers")
			require.Empty(t, answer["servers"], "gateways get nothing of it")
			require.Equal(t, []string{"s"}, answer["disabled"])
			require.Equal(t, true, e.read("servers/s")["disabled"])

			e = e.restart()
			require.Equal(t, []string{"s"}, e.read("gateway/servers")["disabled"], "it stays disabled")
			e.write("servers/s", data{"disabled": false})
			after := e.registered("s")
			require.NotEqual(t, before["id"], after["id"], "what began before must not go on")
			delete(before, "id")
			delete(after, "id")
			require.Equal(t, before, after)
			require.Empty(t, e.read("gateway/servers")["disabled"])
		})
	}
}

func TestDisablingAServerIsAnnouncedAndEndsItsRegistration(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "https://h.example/mcp"})
	id := e.read("servers/s")["id"]
	require.Len(t, e.watch(func() { e.write("servers/s", data{"disabled": true}) }), 1)
	stopped := e.read("servers/s")["id"]
	require.NotEqual(t, id, stopped)
	require.Empty(t, e.watch(func() { e.write("servers/s", data{"disabled": true}) }), "a write without effect was announced")
	require.Len(t, e.watch(func() { e.write("servers/s", data{"disabled": false}) }), 1)
	require.Equal(t, stopped, e.read("servers/s")["id"], "no gateway has it, so nothing need end")
	require.NotContains(t, e.refusedWrite("servers/s", data{"enabled": true}), "leave it out")
}

func TestADisabledServerIsNoneThatATokenReaches(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{"allowed_servers": "s,other", "sign_in": true})
	for _, policies := range []string{"", "p"} {
		e.write("policies/p", data{"deniedMcpServers": []any{data{"serverName": "x"}}})
		e.write("clients/c", data{"policies": policies})
		for disabled, reached := range map[bool]string{true: "other", false: "s other"} {
			e.write("servers/s", data{"transport": "http", "url": "https://h.example/mcp", "disabled": disabled})
			in, _ := introspect(t, e, token)
			require.Equal(t, reached, in.Scope)
			shown := e.read("gateway/sign-in")["clients"].(map[string]any)["c"].(map[string]any)["servers"]
			require.Equal(t, disabled, len(shown.([]string)) == 0)
		}
	}
}

func TestEvaluateSaysThatTheServerIsDisabled(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "https://h.example/mcp", "disabled": true})
	e.client("admitted", data{"allowed_servers": "s"})
	e.client("other", data{"allowed_servers": "none"})
	for _, asked := range []data{{"client": "admitted"}, {"client": "other"}, {"policies": ""}} {
		answer := e.decision(with(asked, data{"server": "s"}))
		require.Equal(t, false, answer["allowed"])
		require.Equal(t, policy.ServerDisabled, answer["decision"], "the reason that the gateway has in its audit log")
		require.Contains(t, answer["reason"], "disabled=false")
	}
}
