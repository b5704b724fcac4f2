package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// form asks for a name.
func form() *mcp.ElicitParams {
	return &mcp.ElicitParams{Message: "who?", RequestedSchema: harness.Map{
		"type": "object", "properties": harness.Map{"name": harness.Map{"type": "string"}},
	}}
}

// hosts registers a server of each era whose tool greets the person that the client names. The
// server with sessions records how its calls end.
func hosts(h *harness.Harness) (ended <-chan error) {
	ends := make(chan error, 8)
	greet := func(name any) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint("hello ", name)}}}
	}
	handlers := map[string]mcp.ToolHandler{
		"old": func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			answer, err := r.Session.Elicit(ctx, form())
			ends <- err
			if err != nil {
				return nil, err
			}
			return greet(answer.Content["name"]), nil
		},
		"new": func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if answer, ok := r.Params.InputResponses["who"].(*mcp.ElicitResult); ok {
				return greet(answer.Content["name"]), nil
			}
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"who": form()}}, nil
		},
	}
	for name, handler := range handlers {
		server := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, nil)
		server.AddTool(&mcp.Tool{Name: "greet", InputSchema: harness.Map{"type": "object"}}, handler)
		get := func(*http.Request) *mcp.Server { return server }
		url := h.StartUpstream(mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: name == "new"})).URL
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	return ends
}

func TestServersOfBothErasAskClientsOfBothEras(t *testing.T) {
	h := harness.New(t)
	hosts(h)
	token := h.CreateClient("guest", harness.Map{"allowed_servers": "*"})
	gateway := h.StartGateway(harness.GatewayOptions{})
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		client, err := h.TryConnect(gateway.URL+"/mcp", token, harness.ConnectOptions{Version: era, Client: &mcp.ClientOptions{
			ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "ada, who was asked " + r.Params.Message}}, nil
			},
		}})
		require.NoError(t, err)
		for _, server := range []string{"old", "new"} {
			result, err := client.CallTool(t.Context(), &mcp.CallToolParams{Name: server + "__greet", Arguments: harness.Map{}})
			require.NoError(t, err, "%s asks a client of %s", server, era)
			require.Equal(t, "hello ada, who was asked who?", result.Content[0].(*mcp.TextContent).Text, "%s asks a client of %s", server, era)
		}
	}
}

// callOld calls the server with sessions, in a request without one that can be asked.
func callOld(h *harness.Harness, gateway *harness.Gateway, token, more string) string {
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"old__greet","arguments":{},` + more + `"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}}}`
	header := http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"old__greet"},
	}
	return h.Do(http.MethodPost, gateway.URL+"/mcp", token, header, body).Body
}

// answerTo is the params with which a client answers the question.
func answerTo(t *testing.T, question string) string {
	t.Helper()
	var m struct {
		Result struct {
			RequestState  string
			InputRequests map[string]any
		}
	}
	_, data, found := strings.Cut(question, "data: ")
	require.True(t, found, question)
	require.NoError(t, json.Unmarshal([]byte(strings.TrimSpace(data)), &m), question)
	require.Len(t, m.Result.InputRequests, 1, question)
	for key := range m.Result.InputRequests {
		return fmt.Sprintf(`"requestState":%q,"inputResponses":{%q:{"action":"accept","content":{"name":"ada"}}},`, m.Result.RequestState, key)
	}
	return ""
}

// TestAWaitingCallIsOfItsClientAndGateway: the answer of nobody else, and at no other gateway, reaches the
// server. When the client's access ends, so does the call.
func TestAWaitingCallIsOfItsClientAndGateway(t *testing.T) {
	h := harness.New(t)
	ended := hosts(h)
	token := h.CreateClient("guest", harness.Map{"allowed_servers": "old"})
	other := h.CreateClient("other", harness.Map{"allowed_servers": "old"})
	here, elsewhere := h.StartGateway(harness.GatewayOptions{}), h.StartGateway(harness.GatewayOptions{})
	answer := answerTo(t, callOld(h, here, token, ""))
	const callAgain = "No call waits for this answer here: call again"
	require.Contains(t, callOld(h, elsewhere, token, answer), callAgain)
	require.Contains(t, callOld(h, here, other, answer), callAgain)
	require.Contains(t, callOld(h, here, token, answer), "hello ada")
	require.NoError(t, <-ended, "the server has got the answer")
	require.Contains(t, callOld(h, here, token, answer), callAgain)

	answer = answerTo(t, callOld(h, here, token, ""))
	h.Write("mcp/revoke-client/guest", nil)
	h.Eventually("the token to be refused", func() error {
		if got := h.Post(here.URL+"/mcp", token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); got.Status != http.StatusUnauthorized {
			return fmt.Errorf("it is answered %d", got.Status)
		}
		return nil
	})
	again := h.Token(h.Write("mcp/rotate-client/guest", nil))
	require.Contains(t, callOld(h, here, again, answer), callAgain, "the call has ended with the client's access")
	select {
	case err := <-ended:
		require.Error(t, err, "the server has got no answer")
	default: // it waits on
	}
}
