package backend

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// registered is a server's entry as gateways get it, secrets included.
func (e *env) registered(name string) map[string]any {
	e.t.Helper()
	answer := e.read("gateway/servers")
	if held, ok := answer["credential_servers"].(map[string]any)[name]; ok {
		return held.(map[string]any)
	}
	return answer["servers"].(map[string]any)[name].(map[string]any)
}

// Headers and env are write-only. A writer of registrations must not be able to read
// them at a place of their own.
func TestSecretsOfAServerDoNotFollowItElsewhere(t *testing.T) {
	remote := data{"transport": "http", "url": "https://h.example/mcp", "headers": data{"Authorization": "Bearer s3cret", "X-Org": "acme"}}
	child := data{"transport": "stdio", "command": "/bin/server", "args": []string{"--root"}, "env": data{"TOKEN": "s3cret"}}
	for _, tc := range []struct {
		name    string
		held    data
		write   data
		dropped string
	}{
		{"another host", remote, data{"url": "https://elsewhere.example/"}, "Authorization, X-Org"},
		{"another path", remote, data{"url": "https://h.example/echo"}, "Authorization, X-Org"},
		{"another query", remote, data{"url": "https://h.example/mcp?x=1"}, "Authorization, X-Org"},
		{"another port", remote, data{"url": "https://h.example:8443/mcp"}, "Authorization, X-Org"},
		{"another scheme", remote, data{"url": "http://h.example/mcp"}, "Authorization, X-Org"},
		{"another transport", remote, data{"transport": "sse"}, "Authorization, X-Org"},
		{"a command instead", remote, data{"transport": "stdio", "url": "", "command": "/bin/x"}, "Authorization, X-Org"},
		{"another command", child, data{"command": "/bin/env"}, "TOKEN"},
		{"other arguments", child, data{"args": []string{"--print-env"}}, "TOKEN"},
		{"no arguments", child, data{"args": ""}, "TOKEN"},
		{"a URL instead", child, data{"transport": "http", "url": "https://h.example/", "command": "", "args": ""}, "TOKEN"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			e.write("servers/s", tc.held)
			warnings := strings.Join(e.write("servers/s", tc.write).Warnings, "\n")
			require.Contains(t, warnings, "dropped")
			require.Contains(t, warnings, tc.dropped)
			require.NotContains(t, warnings, "s3cret")
			got := e.registered("s")
			require.Empty(t, got["headers"])
			require.Empty(t, got["env"])
			again := with(data{"url": "", "command": "", "args": "", "headers": "", "env": ""}, tc.held)
			require.NotContains(t, strings.Join(e.write("servers/s", again).Warnings, ""), "dropped", "it has them again, given anew")
		})
	}

	for _, tc := range []struct {
		name        string
		held, write data
		headers     map[string]string
		env         map[string]string
	}{
		{"headers given anew", remote, data{"url": "https://elsewhere.example/", "headers": data{"X-New": "n"}}, map[string]string{"X-New": "n"}, nil},
		{"the same URL", remote, data{"url": "https://h.example/mcp", "transport": "http", "description": "d"}, map[string]string{"Authorization": "Bearer s3cret", "X-Org": "acme"}, nil},
		{"a description", child, data{"description": "d"}, nil, map[string]string{"TOKEN": "s3cret"}},
		{"one child for all", child, data{"shared": true}, nil, map[string]string{"TOKEN": "s3cret"}},
	} {
		t.Run(tc.name+" keeps what belongs there", func(t *testing.T) {
			e := newEnv(t)
			e.write("servers/s", tc.held)
			require.Empty(t, e.write("servers/s", tc.write).Warnings)
			got := e.registered("s")
			if tc.headers != nil {
				require.Equal(t, tc.headers, got["headers"])
			}
			if tc.env != nil {
				require.Equal(t, tc.env, got["env"])
			}
		})
	}
}

func TestForceDoesNotTakeSecretsElsewhere(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "https://h.example/mcp", "headers": data{"Authorization": "Bearer s3cret"}})
	require.Contains(t, e.refusedWrite("servers/s", data{"url": "https://elsewhere.example/", "force": true}), "force")
	require.Equal(t, "https://h.example/mcp", e.registered("s")["url"])
}

// Other names that other programs' files use are accepted, or explained in one line.
func TestServersAreRegisteredInWordsThatPeopleKnow(t *testing.T) {
	e := newEnv(t)
	for _, transport := range []string{"streamable_http", "streamable-http", "streamableHttp"} {
		e.write("servers/"+transport, data{"transport": transport, "url": "https://h.example/"})
		require.Equal(t, "http", e.read("servers/" + transport)["transport"])
	}
	for field, hint := range map[string]string{
		"type": "transport=http", "bearer_token": "headers=Authorization", "serverUrl": "write url", "httpUrl": "write url", "cwd": "leave it out",
		"environment": "write env", "oauth_client_secret": "write headers", "session_mode": "leave it out",
	} {
		text := e.refusedWrite("servers/x", data{"transport": "http", "url": "https://h.example/", field: "s3cret"})
		require.Contains(t, text, `"`+field+`"`)
		require.Contains(t, text, hint)
		require.NotContains(t, text, "s3cret")
	}
	require.Contains(t, e.refusedWrite("servers/x", data{"type": "http", "url": "https://h.example/"}), "transport=http")
	require.NotContains(t, e.refusedWrite("clients/x", data{"type": "http"}), "transport")
}
