package aggregate

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// listOf is a server without sessions that lists n tools of about 450 bytes. A call
// is answered with as much text as its argument has.
func listOf(b testing.TB, n int) *httptest.Server {
	b.Helper()
	var tools []string
	for i := range n {
		tools = append(tools, fmt.Sprintf(`{"name":"tool_%d","description":%q,"inputSchema":{"type":"object","properties":{"path":{"type":"string","description":"a path"}},"required":["path"]}}`,
			i, strings.Repeat("what it does ", 20)))
	}
	list := `{"tools":[` + strings.Join(tools, ",") + `],"ttlMs":1000,"cacheScope":"public","resultType":"complete"}`
	long := `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + longText + `"}],"resultType":"complete"}}`
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch method := r.Header.Get("Mcp-Method"); method {
		case "tools/list":
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":%s}`, list)
		case "server/discover":
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"jsonrpc":"2.0","id":"discover","result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}}`)
		default:
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			if r.ContentLength > 1<<10 {
				w.Header().Set("Content-Length", strconv.Itoa(len(long)))
				_, _ = io.WriteString(w, long)
				return
			}
			_, _ = fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hi"}],"resultType":"complete"}}`)
		}
	}))
	b.Cleanup(listener.Close)
	return listener
}

// longText is the argument of a large call, and the text of the answer: 64 KB.
var longText = strings.Repeat("a line of 32 bytes, as text has\\n", 2<<10)

// BenchmarkCall compares a call on the server's own endpoint with the same on
// this one: a small one, and one with 64 KB in both directions.
func BenchmarkCall(b *testing.B) {
	s := newStage(b, map[string]string{"calc": listOf(b, 1).URL})
	for _, test := range []struct{ name, path, tool, text string }{
		{"own", "/servers/calc/mcp", "tool_0", "x"},
		{"aggregate", "/mcp", "calc__tool_0", "x"},
		{"own-64KB", "/servers/calc/mcp", "tool_0", longText},
		{"aggregate-64KB", "/mcp", "calc__tool_0", longText},
	} {
		body, pairs := stateless("1", "tools/call", `"name":"`+test.tool+`","arguments":{"path":"`+test.text+`"}`)
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if g := s.ask(body, append(pairs, ":path", test.path)...); g.status != http.StatusOK {
					b.Fatal(g.body)
				}
			}
		})
	}
}

// BenchmarkList lists fifty tools of each of a hundred servers: without rules and pins, with rules about
// tools, with pins, and with both. The servers are asked each time, or are slow, so that the list is the
// kept one.
func BenchmarkList(b *testing.B) {
	const servers, tools = 100, 50
	for _, test := range []struct {
		name          string
		rules, pinned bool
	}{{"neither", false, false}, {"rules", true, false}, {"pins", false, true}, {"both", true, true}} {
		b.Run(test.name, func(b *testing.B) {
			at := make(map[string]string)
			for i := range servers {
				at[fmt.Sprintf("server-%d", i)] = listOf(b, tools).URL
			}
			s := newStage(b, at)
			if test.rules {
				s.vault.AddToken(alice, "alice", grantstest.Data{"denied_tools": []string{"*/none"}})
			}
			if test.pinned {
				for name := range at {
					s.pinTools(name, at[name])
				}
			}
			list := func() got { return s.asks("1", "tools/list", "") }
			gatewaytest.Eventually(b, "all tools to be listed", func() bool { return strings.Count(list().body, `"inputSchema"`) == servers*tools })
			measure := func(b *testing.B) {
				b.Helper()
				b.ReportAllocs()
				for b.Loop() {
					if g := list(); strings.Count(g.body, `"inputSchema"`) != servers*tools {
						b.Fatal(g.status, strings.Count(g.body, `"inputSchema"`))
					}
				}
			}
			b.Run("asked", measure)
			for _, server := range s.handler.options.Registry.Servers() {
				state := s.handler.servers.of(stateKey{id: server.ID})
				state.mu.Lock()
				state.slow = put(state.slow, grants.PrincipalOf("id-alice"), time.Now().Add(time.Hour))
				state.mu.Unlock()
			}
			b.Run("kept", measure)
		})
	}
}

// pinTools approves the tools that a server lists, and has its pins enforced.
func (s *stage) pinTools(name, url string) {
	s.t.Helper()
	body, _ := stateless("1", "tools/list", "")
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	require.NoError(s.t, err)
	r.Header.Set("Mcp-Method", "tools/list")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	var list struct {
		Result struct{ Tools []json.RawMessage }
	}
	require.NoError(s.t, json.NewDecoder(answer.Body).Decode(&list))
	for _, tool := range list.Result.Tools {
		s.vault.Approve(name, pin.Tool, string(tool))
	}
	s.vault.Pin(name, pin.Enforce)
}

// BenchmarkCallInASession calls a tool of a server with sessions as a client without: one that declares
// nothing, and one that can be asked something, whose call has a goroutine of its own.
func BenchmarkCallInASession(b *testing.B) {
	up := withLongCalls(b, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(http.StatusMethodNotAllowed)
	}, func(w http.ResponseWriter, _ *http.Request, body string) {
		reply(w, body, `{"content":[{"type":"text","text":"hi"}]}`)
	})
	s := newStage(b, map[string]string{"calc": up.URL})
	plain, pairs := stateless("1", "tools/call", `"name":"calc__tool","arguments":{"path":"x"}`)
	asked := strings.Replace(plain, `clientCapabilities":{}`, `clientCapabilities":{"elicitation":{}}`, 1)
	for _, test := range []struct{ name, body string }{{"plain", plain}, {"askable", asked}} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if g := s.ask(test.body, pairs...); g.status != http.StatusOK || !strings.Contains(g.body, "hi") {
					b.Fatal(g.body)
				}
			}
		})
	}
}
