package backend

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestServerWritesThatAreRefused(t *testing.T) {
	http := func(more data) data { return with(data{"transport": "http", "url": "https://h.example/mcp"}, more) }
	stdio := func(more data) data { return with(data{"transport": "stdio", "command": "/bin/server"}, more) }
	for _, tc := range []struct {
		name    string
		path    string
		data    data
		refusal string
	}{
		{"no transport", "s", data{"url": "https://h.example/"}, "field transport is missing"},
		{"a transport that is none", "s", data{"transport": "ws", "url": "https://h.example/"}, "is not a transport: use http, sse or stdio"},
		{"no URL", "s", data{"transport": "sse"}, "field url is missing"},
		{"a URL of another scheme", "s", data{"transport": "http", "url": "ftp://h.example/"}, "field url"},
		{"a URL with credentials", "s", data{"transport": "http", "url": "https://u:p@h.example/"}, "field url"},
		{"a URL with a fragment", "s", data{"transport": "http", "url": "https://h.example/#x"}, "field url"},
		{"a URL with a variable", "s", data{"transport": "http", "url": "https://${HOST}/"}, "not expanded"},
		{"a URL in upper case", "s", data{"transport": "http", "url": "https://H.example/"}, "canonical"},
		{"a URL with a default port", "s", data{"transport": "http", "url": "https://h.example:443/"}, "canonical"},
		{"a URL with dot segments", "s", data{"transport": "http", "url": "https://h.example/a/../b"}, "canonical"},
		{"a command of a remote server", "s", http(data{"command": "/bin/x"}), "field command"},
		{"an environment of a remote server", "s", http(data{"env": data{"A": "b"}}), "field env"},
		{"a header that belongs to MCP", "s", http(data{"headers": data{"Mcp-Session-Id": "x"}}), "Mcp-Session-Id belongs to"},
		{"a hop-by-hop header", "s", http(data{"headers": data{"connection": "close"}}), "Connection belongs to"},
		{"a header named twice", "s", http(data{"headers": data{"X-A": "1", "x-a": "2"}}), "given twice"},
		{"a header with a line break", "s", http(data{"headers": data{"X-A": "1\r\nX-B: 2"}}), "character that no header may carry"},
		{"a header that is no name", "s", http(data{"headers": data{"X A": "1"}}), "is not a valid header name"},
		{"no command", "s", data{"transport": "stdio"}, "field command is missing"},
		{"a relative command", "s", data{"transport": "stdio", "command": "./server"}, "is relative"},
		{"a URL of a stdio server", "s", stdio(data{"url": "https://h.example/"}), "field url"},
		{"headers of a stdio server", "s", stdio(data{"headers": data{"A": "b"}}), "field headers"},
		{"a variable in the arguments", "s", stdio(data{"args": []string{"${HOME}"}}), "not expanded"},
		{"a NUL in the arguments", "s", stdio(data{"args": []string{"a\x00b"}}), "NUL"},
		{"a variable name with =", "s", stdio(data{"env": data{"A=B": "c"}}), "field env"},
		{"an unknown field", "s", http(data{"uri": "x"}), `unknown field "uri"`},
		{"a name with a double underscore", "a__b", http(nil), "double underscore"},
		{"a name that ends in a dash", "a-", http(nil), "is not a valid server name"},
		{"a name with a space", "a b", http(nil), "is not a valid server name"},
		{"a long name", strings.Repeat("a", 65), http(nil), "at most 64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			message := e.refused(logical.UpdateOperation, "servers/"+tc.path, tc.data)
			require.Contains(t, message, tc.refusal)
			require.Empty(t, e.list("servers/"))
		})
	}
}

func TestCredentialsOfAServerAreWriteOnly(t *testing.T) {
	e := newEnv(t)
	e.write("servers/github", data{
		"transport": "http", "url": "https://api.example/mcp?api_key=s3cret&v=1",
		"headers": data{"Authorization": "Bearer s3cret"}, "description": "code",
	})
	e.write("servers/files", data{
		"transport": "stdio", "command": "/bin/files", "args": []string{"--root", "/srv,data"}, "env": data{"TOKEN": "s3cret"}, "shared": true,
	})
	shown := e.read("servers/github")
	require.Equal(t, "https://api.example/mcp", shown["url"])
	require.Equal(t, []string{"api_key", "v"}, shown["url_query"])
	require.Equal(t, []string{"Authorization"}, shown["headers"])
	files := e.read("servers/files")
	require.Equal(t, []string{"TOKEN"}, files["env"])
	require.Equal(t, []string{"--root", "/srv,data"}, files["args"])
	for _, answer := range []data{shown, files} {
		text, err := json.Marshal(answer)
		require.NoError(t, err)
		require.NotContains(t, string(text), "s3cret")
	}

	all := e.read("gateway/servers")["servers"].(map[string]any)
	require.Equal(t, "https://api.example/mcp?api_key=s3cret&v=1", all["github"].(map[string]any)["url"])
	require.Equal(t, map[string]string{"TOKEN": "s3cret"}, all["files"].(map[string]any)["env"])
	require.Equal(t, []string{"files", "github"}, e.list("servers/"))
}

func TestPointingAServerElsewhereIsANewRegistration(t *testing.T) {
	for _, tc := range []struct {
		name string
		data data
		same bool
	}{
		{"its description", data{"description": "other"}, true},
		{"its credentials", data{"headers": data{"Authorization": "Bearer other"}}, true},
		{"its URL", data{"url": "http://127.0.0.1:2/"}, false},
		{"its transport", data{"transport": "sse"}, false},
	} {
		t.Run("changing "+tc.name, func(t *testing.T) {
			e := newEnv(t)
			e.write("servers/s", data{"transport": "http", "url": "http://127.0.0.1:1/"})
			before := e.read("servers/s")["id"]
			changes := e.watch(func() { e.write("servers/s", tc.data) })
			require.Len(t, changes, 1)
			require.Equal(t, "s", changes[0]["name"])
			require.Equal(t, tc.same, before == e.read("servers/s")["id"])
		})
	}
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "http://127.0.0.1:1/"})
	before := e.read("servers/s")["id"]
	require.Empty(t, e.watch(func() { e.write("servers/s", data{"url": "http://127.0.0.1:1/"}) }), "a write without effect was announced")
	require.Equal(t, "delete", e.watch(func() { e.delete("servers/s") })[0]["operation"])
	require.Nil(t, e.read("servers/s"))
	e.write("servers/s", data{"transport": "http", "url": "http://127.0.0.1:1/"})
	require.NotEqual(t, before, e.read("servers/s")["id"], "a re-created server inherits sessions")
}
