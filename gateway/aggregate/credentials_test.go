package aggregate

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestARefusalOfCredentialsSaysNothingAboutTheProtocol: as soon as a server accepts the
// gateway's credentials, requests are sent as the server understands them.
func TestARefusalOfCredentialsSaysNothingAboutTheProtocol(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for _, withCode := range []bool{false, true} {
			for name, sessions := range map[string]bool{"a server with sessions": true, "a server without sessions": false} {
				t.Run(fmt.Sprintf("%d with a code %v from %s", status, withCode, name), func(t *testing.T) {
					var refusing atomic.Bool
					refusing.Store(true)
					up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
						switch {
						case refusing.Load() && withCode:
							replyError(w, body, status, -32600)
						case refusing.Load():
							w.WriteHeader(status)
						case method == "initialize" && sessions:
							w.Header().Set("Mcp-Session-Id", "s")
							reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
						case method == "server/discover" && !sessions:
							reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
						case method == "tools/call":
							reply(w, body, textResult)
						default:
							replyError(w, body, http.StatusNotFound, -32601)
						}
					})
					s := newStage(t, map[string]string{"calc": up.URL})
					const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calc__add"}}`
					mine := s.open(alice)
					for range 2 {
						require.Contains(t, s.ask(call, mine...).body, `"error"`)
						require.Contains(t, s.asks("1", "tools/call", `"name":"calc__add"`).body, `"error"`)
					}
					refusing.Store(false)
					require.NotContains(t, s.ask(call, mine...).body, `"error"`)
					require.NotContains(t, s.asks("1", "tools/call", `"name":"calc__add"`).body, `"error"`)
				})
			}
		}
	}
}
