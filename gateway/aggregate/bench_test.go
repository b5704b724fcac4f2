package aggregate

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
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

// BenchmarkList lists fifty tools of each of a hundred servers.
func BenchmarkList(b *testing.B) {
	servers := make(map[string]string)
	for i := range 100 {
		servers[fmt.Sprintf("server-%d", i)] = listOf(b, 50).URL
	}
	s := newStage(b, servers)
	size := 0
	for b.Loop() {
		g := s.asks("1", "tools/list", "")
		if g.status != http.StatusOK || strings.Count(g.body, `"inputSchema"`) != 5000 {
			b.Fatal(g.status, strings.Count(g.body, `"inputSchema"`))
		}
		size = len(g.body)
	}
	b.ReportMetric(float64(size), "bytes/list")
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
