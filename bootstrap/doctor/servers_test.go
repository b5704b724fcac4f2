package doctor

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/console"
)

const initialized = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}`

func newExamination(opts Options) (*examination, *bytes.Buffer) {
	out := &bytes.Buffer{}
	opts.Out, opts.Mount = out, "mcp"
	return &examination{Options: opts, terminal: console.Of(out)}, out
}

func says(status int, media, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestServersThatCanNeverWorkAreTold(t *testing.T) {
	const page = "<!doctype html><title>Hello</title>"
	tests := map[string]struct {
		answer    http.HandlerFunc
		transport string   // http if empty
		secrets   []string // whose values doctor cannot read
		want      []string // nil: nothing is wrong
	}{
		"one that redirects to the other slash": {says(307, "text/plain", "", "Location", "/mcp/?key=secret"), "", nil, []string{"307 Temporary Redirect", "register URL/mcp/", "url=URL/mcp/"}},
		"the same with credentials":             {says(307, "text/plain", "", "Location", "/mcp/"), "", []string{"Authorization"}, []string{"register URL/mcp/"}},
		"one that has moved":                    {says(301, "text/html", page, "Location", "https://elsewhere.example/v2/mcp"), "", nil, []string{"register https://elsewhere.example/v2/mcp"}},
		"one that wants credentials":            {says(401, "application/json", `{"error":"unauthorized"}`), "", nil, []string{"refuses the gateway's credentials", "vault write mcp/servers/x headers=Authorization=…"}},
		"one that forbids":                      {says(403, "text/html", page), "", nil, []string{"refuses the gateway's credentials", "403 Forbidden"}},
		"one that has had enough":               {says(429, "text/plain", "slow down", "Retry-After", "60"), "", nil, []string{"429 Too Many Requests", "have its limit raised"}},
		"a web page":                            {says(200, "text/html; charset=utf-8", page), "", nil, []string{"is not MCP", "text/html", "correct its url"}},
		"a JSON interface of another kind":      {says(200, "application/json", `{"status":"ok"}`), "", nil, []string{"is not MCP"}},
		"nothing at that path":                  {says(404, "text/html", page), "", nil, []string{"404 Not Found", "correct its url"}},
		"a server that speaks SSE":              {says(405, "text/plain", ""), "", nil, []string{"405 Method Not Allowed", "transport=sse"}},
		"a proxy before a dead one":             {says(502, "text/html", page), "", nil, []string{"502 Bad Gateway"}},
		"an event stream of another kind":       {says(200, "text/event-stream", ": hello\n\nevent: x\ndata: {}\n\n"), "", nil, []string{"is not MCP"}},
		"an SSE server that is a page":          {says(200, "text/html", page), "sse", nil, []string{"is not MCP"}},

		"a good one":                         {says(200, "application/json", initialized), "", nil, nil},
		"a good one that streams":            {says(200, "text/event-stream", "id: 1\ndata:\n\nevent: message\ndata: "+initialized+"\n\n"), "", nil, nil},
		"one that knows no sessions":         {says(400, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`), "", nil, nil},
		"a good SSE server":                  {says(200, "text/event-stream", "event: endpoint\ndata: /messages\n\n"), "sse", nil, nil},
		"one whose credentials are a secret": {says(401, "application/json", "{}"), "", []string{"Authorization"}, nil},
		"one whose key is a secret":          {says(302, "text/html", page, "Location", "/login"), "", []string{"api_key"}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.answer)
			defer server.Close()
			e, out := newExamination(Options{})
			s := registered{name: "x", transport: test.transport, url: server.URL + "/mcp", secrets: test.secrets}
			if s.transport == "" {
				s.transport = "http"
			}
			e.checkRemote(t.Context(), s)
			require.Equal(t, test.want != nil, e.findings == 1, out)
			for _, want := range test.want {
				require.Contains(t, out.String(), strings.ReplaceAll(want, "URL", server.URL))
			}
			require.NotContains(t, out.String(), "secret")
			if test.secrets != nil && test.want == nil {
				require.Contains(t, out.String(), "-try-token", "it says what it could not look at")
			}
		})
	}
	t.Run("one that is not there", func(t *testing.T) {
		e, out := newExamination(Options{})
		e.checkRemote(t.Context(), registered{name: "x", transport: "http", url: "http://127.0.0.1:1/mcp"})
		require.Equal(t, 1, e.findings)
		require.Contains(t, out.String(), "the server x does not answer at http://127.0.0.1:1/mcp")
	})
}

// The session that was begun is ended.
func TestDoctorLeavesNoSession(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.Header.Get("Mcp-Session-Id"))
		w.Header().Set("Mcp-Session-Id", "s1")
		says(200, "application/json", initialized)(w, r)
	}))
	defer server.Close()
	e, _ := newExamination(Options{})
	e.checkRemote(t.Context(), registered{name: "x", transport: "http", url: server.URL})
	require.Equal(t, []string{"POST ", "DELETE s1"}, got)
}

// Through the gateway the servers are asked with its credentials.
func TestServersAreTriedThroughTheGateway(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer client" {
			says(401, "application/json", "{}")(w, r)
			return
		}
		switch r.URL.Path {
		case "/servers/good/mcp":
			says(200, "application/json", initialized)(w, r)
		case "/servers/bad/mcp":
			says(502, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"The server's answer cannot be passed on: it refuses the gateway's credentials."}}`)(w, r)
		default:
			says(403, "application/json", `{"error":{"message":"This client may not reach this server."}}`)(w, r)
		}
	}))
	defer gateway.Close()
	e, out := newExamination(Options{GatewayURL: gateway.URL, ClientToken: "client"})
	for _, name := range []string{"good", "bad", "other"} {
		e.remote = append(e.remote, registered{name: name, transport: "http"})
	}
	e.tryClientToken(t.Context())
	require.Equal(t, 1, e.findings, out)
	require.Contains(t, out.String(), "reaches the server good")
	require.Contains(t, out.String(), "the server bad cannot be used through the gateway, which answers 502 Bad Gateway: The server's answer cannot be passed on: it refuses the gateway's credentials.")
	require.NotContains(t, out.String(), "other")
}
