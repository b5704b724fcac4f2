package mcp

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"

	"github.com/stretchr/testify/require"
)

// withRules is a gateway on which alice may call "echo" alone.
func withRules(t *testing.T, handle http.HandlerFunc) (*gateway, *gatewaytest.Upstream) {
	t.Helper()
	up := gatewaytest.NewUpstream(t, handle)
	g := newGateway(t, testConfig(), registration(up))
	g.grants["alice"] = grant(t, "alice", []string{"up/echo"}, nil)
	return g, up
}

func TestToolRulesDecideOnCalls(t *testing.T) {
	g, up := withRules(t, gatewaytest.Pongs)
	tests := map[string]struct {
		body   string
		header []string
		status int
		want   string // "" if the server is reached
	}{
		"a tool that is allowed":          {callEcho, nil, 200, ""},
		"the same in escapes":             {`{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"\u0065cho"}}`, nil, 200, ""},
		"a list":                          {listTools, nil, 200, ""},
		"prompts go by the server":        {`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"get-env"}}`, nil, 200, ""},
		"resources too":                   {`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a://b"}}`, nil, 200, ""},
		"a response":                      {`{"jsonrpc":"2.0","id":1,"result":{}}`, nil, 200, ""},
		"a tool that is not":              {callOther, nil, 200, `"id":1,"error":{"code":-32602,"message":"This tool is not available to this client."`},
		"a tool in other case":            {`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"Echo"}}`, nil, 200, `"id":"x","error":{"code":-32602`},
		"a tool with a space":             {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo "}}`, nil, 200, "-32602"},
		"a method in other case":          {`{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"get-env"}}`, nil, 200, "-32601"},
		"a method that nobody knows":      {`{"jsonrpc":"2.0","id":1,"method":"vendor/x"}`, nil, 200, "-32601"},
		"another way to a tool's result":  {`{"jsonrpc":"2.0","id":1,"method":"tasks/result","params":{"taskId":"x"}}`, nil, 200, "-32602"},
		"such in the era without session": {`{"jsonrpc":"2.0","id":1,"method":"vendor/x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "vendor/x"}, 404, "-32601"},
		"a call that wants no answer":     {`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"get-env"}}`, nil, 202, "nothing"},
		"an unknown notification":         {`{"jsonrpc":"2.0","method":"notifications/vendor"}`, nil, 202, "nothing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := up.Count()
			got := g.Ask(t, test.body, test.header...)
			require.Equal(t, test.status, got.Status, got.Body)
			switch test.want {
			case "":
				require.Equal(t, before+1, up.Count())
				return
			case "nothing":
				require.Empty(t, got.Body)
			default:
				require.Contains(t, got.Body, test.want)
				require.NotContains(t, got.Body, "get-env", "the same for every tool")
			}
			require.Equal(t, before, up.Count(), "the server was touched")
		})
	}
	require.Contains(t, g.sink.all(), "refused tool-not-allowed")
	require.Contains(t, g.sink.all(), "refused method-not-allowed")

	before := up.Count()
	require.Equal(t, http.StatusOK, g.Ask(t, `{"jsonrpc":"2.0","id":1,"method":"vendor/x"}`, ":token", "bob").Status)
	require.Equal(t, before+1, up.Count(), "without rules, methods pass")
}

const (
	bothTools = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get-env","x":1.10},{"name":"echo","x":1.10}]}}`
	oneTool   = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo","x":1.10}]}}`
)

func TestListsInJSONAreFiltered(t *testing.T) {
	g, up := withRules(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"of all of it"`)
		gatewaytest.Reply(w, bothTools)
	})
	got := g.Ask(t, listTools)
	require.Equal(t, oneTool, got.Body)
	require.NotContains(t, got.Header, "Etag")
	r, _ := up.Last()
	require.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
	require.Equal(t, bothTools, g.Ask(t, listTools, ":token", "bob").Body, "without rules nothing is touched")
	require.Equal(t, oneTool, g.Ask(t, ping).Body, "by its shape, whatever was asked")
}

func TestListsInStreamsAreFiltered(t *testing.T) {
	g, _ := withRules(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": hello\n\nid: 0\ndata:\n\nevent: message\r\nid: 1\r\ndata: "+bothTools+"\r\n\r\nevent: other\ndata: no JSON\n\n"+
			"data: {\"jsonrpc\":\"2.0\",\"method\":\"x\",\ndata: \"params\":1.10}\n\n")
	})
	want := ": hello\n\nid: 0\ndata:\n\nevent: message\r\nid: 1\r\ndata: " + oneTool + "\n\r\nevent: other\ndata: no JSON\n\n" +
		"data: {\"jsonrpc\":\"2.0\",\"method\":\"x\",\ndata: \"params\":1.10}\n\n"
	require.Equal(t, want, g.Ask(t, listTools).Body)
	require.Equal(t, want, g.Ask(t, "", ":method", "GET", "Last-Event-ID", "0").Body, "on a resumed stream too")
}

func TestAnswersThatCannotBeFilteredAreNotPassedOn(t *testing.T) {
	large := `{"jsonrpc":"2.0","id":1,"result":{"x":"` + strings.Repeat("x", 2<<20) + `"}}`
	tests := map[string]struct {
		media, coding, body string
	}{
		"no JSON":            {"application/json", "", `{"result":{"tools":[{"name":"get-env"}`},
		"two documents":      {"application/json", "", pong + bothTools},
		"an array":           {"application/json", "", "[" + bothTools + "]"},
		"two lists":          {"application/json", "", `{"result":{"tools":[],"Tools":[{"name":"get-env"}]}}`},
		"encoded":            {"application/json", "gzip", bothTools},
		"another media type": {"text/plain", "", bothTools},
		"no media type":      {"x/y", "", bothTools},
		"too large":          {"application/json", "", large},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g, _ := withRules(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.media)
				if test.coding != "" {
					w.Header().Set("Content-Encoding", test.coding)
				}
				_, _ = io.WriteString(w, test.body)
			})
			got := g.Ask(t, listTools)
			require.Equal(t, http.StatusBadGateway, got.Status)
			require.NotContains(t, got.Body, "get-env")
			require.Contains(t, got.Body, `"id":1`)
		})
	}
	for name, body := range map[string]string{
		"an event that is no JSON": "data: " + bothTools[:50] + "\n\n",
		"an event of an array":     "data: [" + bothTools + "]\n\n",
		"an event too large":       "data: " + large + "\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := withRules(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, "data: "+pong+"\n\n"+body)
			})
			got := g.Ask(t, listTools)
			require.True(t, strings.HasPrefix(got.Body, "data: "+pong+"\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\""), got.Body)
			require.NotContains(t, got.Body, "get-env")
		})
	}
}

func TestAnswersWithoutAListPassUnfiltered(t *testing.T) {
	tests := map[string]struct {
		status      int
		media, body string
	}{
		"accepted":            {202, "", ""},
		"accepted, with type": {202, "application/json", ""},
		"no content":          {204, "", ""},
		"an error as text":    {400, "text/plain", "Bad Request: no valid session"},
		"an error in JSON":    {404, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g, _ := withRules(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.media != "" {
					w.Header().Set("Content-Type", test.media)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			got := g.Ask(t, ping)
			require.Equal(t, test.status, got.Status)
			require.Equal(t, test.body, got.Body)
		})
	}
}
