package backend

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestTheListOfServersSaysWhichAreDisabledAndWhatPinsDo(t *testing.T) {
	e := newEnv(t)
	e.write("servers/a", data{"transport": "http", "url": "https://h.example/mcp"})
	e.write("servers/b", data{"transport": "stdio", "command": "/bin/b", "disabled": true, "pin": "observe"})
	answer := e.must(logical.ListOperation, "servers/", nil).Data
	require.Equal(t, []string{"a", "b"}, answer["keys"])
	require.Equal(t, map[string]any{
		"a": map[string]any{"transport": "http", "disabled": false, "pin": "off"},
		"b": map[string]any{"transport": "stdio", "disabled": true, "pin": "observe"},
	}, answer["key_info"])
}

func TestAChangeOfAServerThatDoesNotExistSaysSo(t *testing.T) {
	e := newEnv(t)
	require.Contains(t, e.refusedWrite("servers/nonexist", data{"disabled": true}), `there is no server "nonexist": correct the name, or register it with transport=http url=…, transport=sse url=… or transport=stdio command=…`)
}
