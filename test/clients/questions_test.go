//nolint:staticcheck // sampling and roots are deprecated, and carried as long as they are in the protocol
package clients

import (
	"context"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestServerEverythingAsksClientsOfBothEras: a server that knows sessions alone, on each transport, asks
// its clients for a form, for a model's answer and for roots.
func TestServerEverythingAsksClientsOfBothEras(t *testing.T) {
	s := newStage(t)
	servers := []server{
		s.onStdio(t, server{name: "everything"}, nil, "stdio"),
		s.overHTTP(t, server{name: "everything-http"}, "http", "streamableHttp", "/mcp"),
		s.overHTTP(t, server{name: "everything-sse"}, "sse", "sse", "/sse"),
	}
	for _, server := range servers {
		s.Write("mcp/servers/"+server.name, server.registration)
	}
	token := s.CreateClient("asked", harness.Map{"allowed_servers": "*"})
	s.introduce(t, token, "everything", "everything-http", "everything-sse")
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		client, err := s.In(t).TryConnect(s.gateway.URL+"/mcp", token, harness.ConnectOptions{
			Version: era, Roots: []*mcp.Root{{URI: "file:///home/ada", Name: "ada's"}},
			Client: &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada Lovelace"}}, nil
				},
				CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
					return &mcp.CreateMessageResult{Model: "none", Role: "assistant", Content: &mcp.TextContent{
						Text: "asked for: " + r.Params.Messages[0].Content.(*mcp.TextContent).Text,
					}}, nil
				},
			},
		})
		require.NoError(t, err)
		for _, server := range servers {
			for tool, c := range map[string]struct {
				arguments harness.Map
				want      string
			}{
				"trigger-elicitation-request": {harness.Map{}, "Name: Ada Lovelace"},
				"trigger-sampling-request":    {harness.Map{"prompt": "a poem", "maxTokens": 10}, "asked for: Resource trigger-sampling-request context: a poem"},
				"get-roots-list":              {harness.Map{}, "file:///home/ada"},
			} {
				t.Run(server.name+" asks a client of "+era+" in "+tool, func(t *testing.T) {
					result, err := client.CallTool(t.Context(), &mcp.CallToolParams{Name: server.name + "__" + tool, Arguments: c.arguments})
					require.NoError(t, err)
					text := ""
					for _, content := range result.Content {
						text += content.(*mcp.TextContent).Text + "\n"
					}
					require.Contains(t, text, c.want)
				})
			}
		}
	}
}
