package aggregate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoClientSpeaksInTheGatewaysName: what the gateway asks a server for all clients, it
// asks with headers of its own, so that no client can change the answer.
func TestNoClientSpeaksInTheGatewaysName(t *testing.T) {
	large := strings.Repeat("x", 20<<10)
	for name, header := range map[string]string{"an argument": "Mcp-Param-X", "a name": "User-Agent", "a trace": "Tracestate"} {
		for _, method := range []string{"tools/list", "tools/call", "server/discover", "initialize"} {
			t.Run(name+" at "+method, func(t *testing.T) {
				up := modern(t, "add", textResult)
				inner := up.Config.Handler
				up.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if len(r.Header.Get(header)) > 8<<10 {
						w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
						return
					}
					inner.ServeHTTP(w, r)
				})
				s := newStage(t, map[string]string{"calc": up.URL})
				switch method {
				case "initialize":
					s.ask(initOnce, header, large)
				case "tools/call":
					s.asks("1", method, `"name":"calc__add","arguments":{}`, header, large)
				default:
					s.asks("1", method, "", header, large)
				}
				for range 3 {
					g := s.asks("2", "tools/call", `"name":"calc__add","arguments":{}`, ":token", bob)
					require.Contains(t, g.body, textResult, "another client is served")
				}
				require.Len(t, up.sent("server/discover"), 1, "and nothing was learned anew")
				require.Empty(t, up.header("server/discover").Get("Mcp-Param-X"))
			})
		}
	}
}

// TestStatusesThatAreAboutOneRequestTeachNothing: a server that answers server/discover
// with one of these is asked again.
func TestStatusesThatAreAboutOneRequestTeachNothing(t *testing.T) {
	for _, status := range []int{403, 408, 413, 429, 431, 500, 503} {
		up := modern(t, "add", textResult)
		inner, first := up.Config.Handler, true
		up.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if first {
				first = false
				w.WriteHeader(status)
				return
			}
			inner.ServeHTTP(w, r)
		})
		s := newStage(t, map[string]string{"calc": up.URL})
		call := func() string { return s.asks("1", "tools/call", `"name":"calc__add","arguments":{}`).body }
		require.Contains(t, call(), `"error"`)
		require.Contains(t, call(), textResult, status)
		require.Empty(t, up.sent("initialize"))
	}
}
