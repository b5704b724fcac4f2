//nolint:staticcheck // sampling and roots are deprecated, and carried as long as they are in the protocol
package aggregate

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

// asker adds a tool, a prompt and a resource to a server. They ask for what the answer needs: a form, a
// model's answer and the roots.
func asker(server *sdk.Server) {
	ask := func(have sdk.InputResponseMap) (missing sdk.InputRequestMap, said string) {
		if have == nil {
			return sdk.InputRequestMap{
				"name": &sdk.ElicitParams{Message: "who?", RequestedSchema: map[string]any{
					"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}},
				}},
				"poem":  &sdk.CreateMessageParams{MaxTokens: 10, Messages: []*sdk.SamplingMessage{{Role: "user", Content: &sdk.TextContent{Text: "sing"}}}},
				"roots": &sdk.ListRootsParams{},
			}, ""
		}
		name, _ := have["name"].(*sdk.ElicitResult)
		poem, _ := have["poem"].(*sdk.CreateMessageWithToolsResult)
		roots, _ := have["roots"].(*sdk.ListRootsResult)
		if name == nil || poem == nil || roots == nil {
			return nil, fmt.Sprintf("%T %T %T", have["name"], have["poem"], have["roots"])
		}
		return nil, fmt.Sprint(name.Action, " ", name.Content["name"], " ", poem.Content[0].(*sdk.TextContent).Text, " ", roots.Roots[0].URI)
	}
	server.AddTool(&sdk.Tool{Name: "ask", InputSchema: map[string]any{"type": "object"}}, func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		missing, said := ask(r.Params.InputResponses)
		if missing != nil {
			return &sdk.CallToolResult{InputRequests: missing, RequestState: "of the tool"}, nil
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: said + ", " + r.Params.RequestState}}}, nil
	})
	server.AddPrompt(&sdk.Prompt{Name: "ask"}, func(_ context.Context, r *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
		missing, said := ask(r.Params.InputResponses)
		if missing != nil {
			return &sdk.GetPromptResult{InputRequests: missing, RequestState: "of the prompt"}, nil
		}
		return &sdk.GetPromptResult{Description: said}, nil
	})
}

// askers starts a server of each era that asks.
func askers(t testing.TB) map[string]string {
	t.Helper()
	stateless := sdk.NewServer(&sdk.Implementation{Name: "new", Version: "1"}, nil)
	asker(stateless)
	return map[string]string{
		"old": sessionServer(t, "old", asker).URL,
		"new": serve(t, sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return stateless }, &sdk.StreamableHTTPOptions{Stateless: true})),
	}
}

// answering returns options of a client that answers everything.
func answering() *sdk.ClientOptions {
	return &sdk.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
			return &sdk.ElicitResult{Action: "accept", Content: map[string]any{"name": "ada, asked " + r.Params.Message}}, nil
		},
		CreateMessageHandler: func(_ context.Context, r *sdk.CreateMessageRequest) (*sdk.CreateMessageResult, error) {
			return &sdk.CreateMessageResult{Model: "m", Role: "assistant", Content: &sdk.TextContent{Text: "la, told to " + r.Params.Messages[0].Content.(*sdk.TextContent).Text}}, nil
		},
	}
}

// TestServersOfBothErasAskClientsOfBothEras uses real clients and servers.
func TestServersOfBothErasAskClientsOfBothEras(t *testing.T) {
	s := newStage(t, askers(t))
	for _, version := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		for _, server := range []string{"old", "new"} {
			t.Run("a client of "+version+" and a server that is "+server, func(t *testing.T) {
				client := s.connectWithRoots(alice, version)
				const want = "accept ada, asked who? la, told to sing file:///home"
				tool, err := client.CallTool(context.Background(), &sdk.CallToolParams{Name: server + "__ask"})
				require.NoError(t, err)
				require.Equal(t, want+", of the tool", tool.Content[0].(*sdk.TextContent).Text)
				prompt, err := client.GetPrompt(context.Background(), &sdk.GetPromptParams{Name: server + "__ask"})
				require.NoError(t, err)
				require.Equal(t, want, prompt.Description)
				require.Zero(t, s.handler.waiting.size())
			})
		}
	}
}

// connectWithRoots connects a client that answers everything, and has a root.
func (s *stage) connectWithRoots(token, version string) *sdk.ClientSession {
	s.t.Helper()
	client := sdk.NewClient(&sdk.Implementation{Name: "t", Version: "1"}, answering())
	client.AddRoots(&sdk.Root{URI: "file:///home", Name: "home"})
	session, err := client.Connect(context.Background(), &sdk.StreamableClientTransport{
		Endpoint: s.url, HTTPClient: &http.Client{Transport: bearer(token)},
	}, &sdk.ClientSessionOptions{ProtocolVersion: version})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = session.Close() })
	return session
}
