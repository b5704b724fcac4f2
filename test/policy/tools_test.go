package policy

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestToolRules calls and lists tools through the rules of clients, in both eras
// and from servers that answer in SSE and in JSON.
func TestToolRules(t *testing.T) {
	h := harness.New(t)
	inSSE := h.StartUpstream(nil)
	inJSON := h.StartUpstream(jsonCalculator())
	h.Write("mcp/servers/sse", harness.Map{"transport": "http", "url": inSSE.URL})
	h.Write("mcp/servers/json", harness.Map{"transport": "http", "url": inJSON.URL})
	gateway := h.StartGateway(harness.GatewayOptions{})

	for _, tc := range []struct {
		name            string
		rules           harness.Map
		listed          []string
		called, refused string
	}{
		{"no rules", nil, []string{"add", "divide", "multiply", "subtract"}, "subtract", ""},
		{"one tool allowed", harness.Map{"allowed_tools": "*/add"}, []string{"add"}, "add", "subtract"},
		{"a wildcard denied", harness.Map{"denied_tools": "*/*t*"}, []string{"add", "divide"}, "divide", "multiply"},
		{"a denial over an allowance", harness.Map{"allowed_tools": "*/*", "denied_tools": "*/add"}, []string{"divide", "multiply", "subtract"}, "divide", "add"},
		{"rules for another server alone", harness.Map{"allowed_tools": "elsewhere/*"}, []string{}, "", "add"},
	} {
		settings := harness.Map{"allowed_servers": "sse,json"}
		for k, v := range tc.rules {
			settings[k] = v
		}
		token := h.CreateClient(strings.ReplaceAll(tc.name, " ", "-"), settings)
		for _, server := range []string{"sse", "json"} {
			for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
				for _, at := range stage.Endpoints {
					t.Run(tc.name+" at "+server+" in "+era+", "+at.String(), func(t *testing.T) {
						session, err := h.In(t).TryConnect(at.URL(gateway, server), token, harness.ConnectOptions{Version: era})
						require.NoError(t, err)
						stage.WantTools(t, h, session, at.Tool(server, ""), tc.listed)

						if tc.called != "" {
							stage.CallTool(t, session, at.Tool(server, tc.called), harness.Map{"a": 6, "b": 2})
						}
						if tc.refused != "" {
							stage.WantNoTool(t, session, at.Tool(server, tc.refused))
						}
					})
				}
			}
		}
	}
	for _, upstream := range []*harness.Upstream{inSSE, inJSON} {
		for _, request := range upstream.Requests() {
			if strings.Contains(string(request.Body), `"tools/call"`) {
				require.NotContains(t, string(request.Body), `"a":1,"b":1`, "a refused call reached the server")
			}
		}
	}
}

// TestToolRulesRefuseWhatTheyCannotJudge sends requests that are refused only to a
// client with rules, and requests that are refused to every client.
func TestToolRulesRefuseWhatTheyCannotJudge(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL})
	ruled := h.CreateClient("ruled", harness.Map{"allowed_servers": "calculator", "allowed_tools": "calculator/add"})
	free := h.CreateClient("free", harness.Map{"allowed_servers": "calculator"})
	url := h.StartGateway(harness.GatewayOptions{}).ServerURL("calculator")

	unknown := `{"jsonrpc":"2.0","id":1,"method":"vendor/run","params":{"name":"subtract"}}`
	h.Post(url, free, unknown)
	require.Equal(t, 1, upstream.Count(), "an unknown method passes where there are no rules")
	upstream.Forget()
	answer := h.Post(url, ruled, unknown)
	require.Equal(t, http.StatusOK, answer.Status)
	require.Contains(t, answer.Body, `"error"`)
	require.Zero(t, upstream.Count(), "an unknown method passed the rules")

	notification := h.Post(url, ruled, `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"subtract"}}`)
	require.Equal(t, http.StatusAccepted, notification.Status, "a refused notification is dropped")
	require.Zero(t, upstream.Count())

	h.Write("mcp/clients/free", harness.Map{"denied_tools": "calculator/add"})
	h.Within(stage.InForce, "a new rule to reach the gateway", func() error {
		if !strings.Contains(h.Call(url, free, "add", `{"a":1,"b":1}`).Body, "-32602") {
			return errors.New("the call still passes")
		}
		return nil
	})
}

// jsonCalculator is the demo calculator, answering in JSON where it can instead
// of in SSE.
func jsonCalculator() http.Handler {
	server := demo.Calculator()
	get := func(*http.Request) *mcp.Server { return server }
	sessions := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{JSONResponse: true})
	stateless := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{JSONResponse: true, Stateless: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") == harness.StatelessEra {
			stateless.ServeHTTP(w, r)
			return
		}
		sessions.ServeHTTP(w, r)
	})
}
