package envelope

import (
	"encoding/json"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// FuzzAgreesWithEncodingJSON compares Parse with a parser that shares no line with it:
// encoding/json must accept every message that Parse accepts, and must read it in the
// same way, both into a map (keys as they are) and into a struct (keys in any
// case, where the last one wins).
func FuzzAgreesWithEncodingJSON(f *testing.F) {
	f.Add([]byte(call))
	for _, message := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get-env","NAME":"echo"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"n\u0061me":"a","_meta":{"progressToken":1}}}`,
		`{"jsonrpc":"2.0","id":"x","method":"resources/read","params":{"uri":"file:///a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"_meta":{}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a"}}}`,
		`[{}]`, `{"paramſ":{}}`,
	} {
		f.Add([]byte(message))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := Parse(message)
		if err != nil {
			return
		}
		var byKey map[string]json.RawMessage
		if err := json.Unmarshal(message, &byKey); err != nil {
			t.Fatalf("accepted %q, which is no JSON object: %v", message, err)
		}
		var byCase struct {
			JSONRPC string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Method  string          `json:"method"`
			Params  json.RawMessage `json:"params"`
		}
		if err := json.Unmarshal(message, &byCase); err != nil {
			t.Fatalf("accepted %q, which has other types: %v", message, err)
		}
		agree(t, message, "jsonrpc", text(byKey["jsonrpc"]), "2.0", byCase.JSONRPC)
		agree(t, message, "method", text(byKey["method"]), got.Method, byCase.Method)
		agree(t, message, "id", string(byKey["id"]), string(got.IDOf(message)), string(byCase.ID))
		agree(t, message, "params", string(byKey["params"]), string(byCase.Params))
		if got.Method != "" {
			params(t, message, &got, byKey["params"])
		}
	})
}

// params compares the parts of params.
func params(t *testing.T, message []byte, got *Envelope, raw json.RawMessage) {
	t.Helper()
	if raw == nil || string(raw) == "null" {
		agree(t, message, "name", "", got.Name)
		return
	}
	var byKey map[string]json.RawMessage
	if err := json.Unmarshal(raw, &byKey); err != nil {
		t.Fatalf("accepted %q, whose params are not an object: %v", message, err)
	}
	var byCase struct {
		Name, URI json.RawMessage
		Meta      json.RawMessage `json:"_meta"`
	}
	if err := json.Unmarshal(raw, &byCase); err != nil {
		t.Fatalf("accepted %q, whose params do not decode: %v", message, err)
	}
	switch got.Method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet:
		agree(t, message, "name", got.Name, text(byKey["name"]), text(byCase.Name))
	case protocol.MethodResourcesRead:
		agree(t, message, "uri", got.Name, text(byKey["uri"]), text(byCase.URI))
	}
	var meta map[string]json.RawMessage
	if json.Unmarshal(byKey["_meta"], &meta) == nil {
		agree(t, message, "version", got.Version, text(meta[protocol.MetaProtocolVersion]))
		if !got.MetaProgressToken.None() {
			agree(t, message, "token", string(got.MetaProgressToken.Of(message)), string(meta[protocol.MetaProgressToken]))
		}
	}
	agree(t, message, "_meta", string(byKey["_meta"]), string(byCase.Meta))
	if !got.RequestID.None() {
		agree(t, message, "requestId", string(got.RequestID.Of(message)), string(byKey["requestId"]))
	}
}

// text is a JSON string's value; "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func agree(t *testing.T, message []byte, what string, values ...string) {
	t.Helper()
	for _, v := range values[1:] {
		if v != values[0] {
			t.Fatalf("%q: %s is read as %s", message, what, strings.Join(values, " and as "))
		}
	}
}
