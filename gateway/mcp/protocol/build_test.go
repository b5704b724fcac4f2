package protocol

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzAppendString: a string comes back as it was, except for bytes that are not UTF-8.
func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "plain", "quote\" back\\ \n\x00\x7f", "é\u2028\xff<&>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got, want string
		require.NoError(t, json.Unmarshal(AppendString([]byte(nil), s), &got))
		quoted, err := json.Marshal(s)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(quoted, &want))
		require.Equal(t, want, got)
	})
}

func TestRefusalsAreReadByPeople(t *testing.T) {
	require.Equal(t, `"as \"Authorization: Bearer <token>\" & no other"`, string(AppendString(nil, `as "Authorization: Bearer <token>" & no other`)))
}

func TestMessagesAreBuiltAsTheyAreWritten(t *testing.T) {
	id := []byte(`"a\"1"`)
	for want, got := range map[string][]byte{
		`{"jsonrpc":"2.0","id":"a\"1","method":"ping"}`:                                                                                                              Request(id, MethodPing, nil),
		`{"jsonrpc":"2.0","id":"a\"1","method":"ping","params":{"a":1,"b":"<"}}`:                                                                                     Request(id, MethodPing, Object(Member("a", []byte("1")), nil, StringMember("b", "<"))),
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:                                                                                                     Notification(MethodInitialized, nil),
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a\"1"}}`:                                                                         Cancelled(id),
		`{"jsonrpc":"2.0","id":"a\"1","result":{}}`:                                                                                                                  EmptyResult(id),
		`{"jsonrpc":"2.0","id":"a\"1","result":["x","\"\n"]}`:                                                                                                        Result(id, Strings([]string{"x", "\"\n"})),
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"a \"b\""}}`:                                                                                    Error(nil, CodeInternalError, `a "b"`),
		`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m","data":{"request_id":"r"}}}`:                                                                        Error([]byte("7"), 1, "m", RequestID("r"), nil),
		`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"n","version":"v"}}`:                                                                 InitializeParams(LatestSessionVersion, Implementation("n", "v"), nil),
		`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/clientCapabilities":{}}}`: DiscoverParams([]byte("{}")),
	} {
		require.Equal(t, want, string(got))
		require.True(t, json.Valid(got), want)
	}
}
