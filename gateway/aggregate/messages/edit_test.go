package messages

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

func parsed(t testing.TB, message string) envelope.Envelope {
	t.Helper()
	e, err := envelope.Parse([]byte(message))
	require.NoError(t, err, message)
	return e
}

func TestARequestOfASessionIsRaisedToTheNewerEra(t *testing.T) {
	const meta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t"},"io.modelcontextprotocol/clientCapabilities":{}`
	for name, test := range map[string]struct{ message, want string }{
		"without params": {
			`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{` + meta + `}}}`,
		},
		"with params that are null": {
			`{"jsonrpc":"2.0","params":null,"id":1,"method":"tools/list"}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{` + meta + `}}}`,
		},
		"with params": {
			` {"jsonrpc":"2.0","id":1,"method":"tools/call","params": {"name" : "a","arguments":{"n":12345678901234567890, "x":1.10}} }`,
			` {"jsonrpc":"2.0","id":1,"method":"tools/call","params": {"name" : "a","arguments":{"n":12345678901234567890, "x":1.10},"_meta":{` + meta + `}} }`,
		},
		"with _meta of its own": {
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1,"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}},"name":"a"}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{` + meta + `,"progressToken":1},"name":"a"}}`,
		},
		"with empty params": {
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{` + meta + `}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := AddClientMeta([]byte(test.message), parsed(t, test.message).Params, []byte(`{"name":"t"}`), 0)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
			e := parsed(t, string(got))
			require.Equal(t, protocol.VersionStateless, e.Version)
		})
	}
}

func TestTheCursorIsTheServersOwn(t *testing.T) {
	for name, test := range map[string]struct{ message, cursor, want string }{
		"none for none":    {`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`},
		"none for another": {`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x", "a":1.10}}`, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":1.10}}`},
		"one for another":  {`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":1, "cursor" : "x"}}`, `q"`, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":1,"cursor":"q\""}}`},
	} {
		t.Run(name, func(t *testing.T) {
			e := parsed(t, test.message)
			got, err := WithCursor([]byte(test.message), e.Params, rewrite.Position{Cursor: test.cursor})
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestANotificationIsMarkedWithItsSubscription(t *testing.T) {
	subscription := []byte(`"io.modelcontextprotocol/subscriptionId":"l"`)
	for name, test := range map[string]struct{ message, want string }{
		"without params": {`{"jsonrpc":"2.0","method":"x"}`, `{"jsonrpc":"2.0","method":"x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}`},
		"with params":    {`{"jsonrpc":"2.0","method":"x","params":{"n":1.10}}`, `{"jsonrpc":"2.0","method":"x","params":{"n":1.10,"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}`},
		"with _meta": {
			`{"jsonrpc":"2.0","method":"x","params":{"_meta":{"v":1.10,"io.modelcontextprotocol/subscriptionId":7}}}`,
			`{"jsonrpc":"2.0","method":"x","params":{"_meta":{"v":1.10,"io.modelcontextprotocol/subscriptionId":"l"}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := MarkSubscription([]byte(test.message), parsed(t, test.message).Params, subscription)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a" : 1 ,"b":[{"c":"d"}],"":{} }`))
	f.Add([]byte(` {} `))
	f.Fuzz(func(t *testing.T, message []byte) {
		object, err := ReadObject(message, Whole(message))
		if err != nil {
			return
		}
		rebuilt := protocol.Object(object.Others...)
		var before, after any
		if json.Unmarshal(message, &before) != nil {
			return // readObject does not look behind the object
		}
		require.NoError(t, json.Unmarshal(rebuilt, &after), "%q", rebuilt)
		require.Equal(t, before, after)
	})
}
