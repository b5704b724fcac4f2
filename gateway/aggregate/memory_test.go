package aggregate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// ofEra is a server with sessions, or one without, that answers calls with the result.
func ofEra(t *testing.T, sessions bool, result string) *fake {
	t.Helper()
	if !sessions {
		return modern(t, "x", result)
	}
	return newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case method == "initialize":
			w.Header().Set("Mcp-Session-Id", "s")
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`)
		case method == "tools/call":
			reply(w, body, result)
		case method == "server/discover":
			replyError(w, body, http.StatusBadRequest, -32601)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

// TestCopiesOfLongMessagesCountAsTheClientsMemory: of those that the gateway translates, and
// of all answers in which it may replace names. Nothing of that is kept afterwards.
func TestCopiesOfLongMessagesCountAsTheClientsMemory(t *testing.T) {
	const kib = 1 << 10
	long := strings.Repeat("x", 100*kib)
	tests := map[string]struct {
		client, server   bool // with sessions
		argument, result string
		bound            int64 // of the client's memory, in KiB
		refused          string
	}{
		// The request is in two buffers of 128 KiB.
		"a request in sessions":                         {client: true, server: true, argument: long, bound: 300},
		"a request without sessions":                    {argument: long, bound: 300},
		"a request for a server with sessions":          {server: true, argument: long, bound: 300, refused: "This client's requests keep"},
		"a request for a server with sessions, room":    {server: true, argument: long, bound: 500},
		"a request for a server without sessions":       {client: true, argument: long, bound: 300, refused: "This client's requests keep"},
		"a request for a server without sessions, room": {client: true, argument: long, bound: 500},
		// The answer is in one.
		"an answer in sessions":               {client: true, server: true, result: long, bound: 300, refused: "The server has answered, and"},
		"an answer without sessions":          {result: long, bound: 300, refused: "The server has answered, and"},
		"an answer of a server with sessions": {server: true, result: long, bound: 300, refused: "The server has answered, and"},
		"an answer, room":                     {server: true, result: long, bound: 400},
		"small messages":                      {client: true, argument: "x", result: "x", bound: 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			up := ofEra(t, test.server, `{"content":[{"type":"text","text":"`+test.result+`"}]}`)
			s := newStage(t, map[string]string{"up": up.URL})
			params := `"name":"up__x","arguments":{"a":"` + test.argument + `"}`
			body, pairs := stateless("5", "tools/call", params)
			if test.client {
				body, pairs = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{`+params+`}}`, s.open(alice)
			} else {
				s.asks("1", "tools/call", `"name":"up__x"`) // so that the server's era is known
			}
			s.memory.Configure(config.Limits{MaxBuffered: 1 << 40, MaxBufferedPerClient: test.bound * kib})
			g := s.ask(body, pairs...)
			var m struct {
				ID     json.RawMessage
				Result json.RawMessage
				Error  struct{ Message string }
			}
			require.NoError(t, json.Unmarshal([]byte(g.body), &m), g.body)
			if test.refused == "" {
				require.NotEmpty(t, m.Result, g.body)
			} else {
				require.True(t, strings.HasPrefix(m.Error.Message, test.refused), g.body)
				gatewaytest.Eventually(t, "the audit log to have the reason", func() bool {
					return strings.Contains(fmt.Sprint(s.auditLines()), access.ReasonClientMemory)
				})
			}
			gatewaytest.Eventually(t, "all to be given back", func() bool { return s.memory.Kept() == 0 })
		})
	}
}
