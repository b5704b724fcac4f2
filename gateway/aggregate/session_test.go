package aggregate

import (
	"context"
	"net/http"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

// bearer adds a token to each request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// connect connects a real client, with that version; without one the client chooses.
func (s *stage) connect(token, version string, options *sdk.ClientOptions) *sdk.ClientSession {
	s.t.Helper()
	client := sdk.NewClient(&sdk.Implementation{Name: "t", Version: "1"}, options)
	session, err := client.Connect(context.Background(), &sdk.StreamableClientTransport{
		Endpoint: s.url, HTTPClient: &http.Client{Transport: bearer(token)},
	}, &sdk.ClientSessionOptions{ProtocolVersion: version})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = session.Close() })
	return session
}

func listed(t testing.TB, session *sdk.ClientSession) []string {
	t.Helper()
	result, err := session.ListTools(context.Background(), nil)
	require.NoError(t, err)
	var all []string
	for _, tool := range result.Tools {
		all = append(all, tool.Name)
	}
	return all
}

func TestClientsOfBothErasReachServersOfBothEras(t *testing.T) {
	s := newStage(t, map[string]string{
		"calc": modern(t, "add", textResult).URL, "notes": sessionServer(t, "notes", nil).URL,
	})
	for name, version := range map[string]string{"without sessions": "2026-07-28", "with sessions": "2025-11-25", "an older one": "2025-06-18"} {
		t.Run(name, func(t *testing.T) {
			client := s.connect(alice, version, nil)
			require.Equal(t, version, client.InitializeResult().ProtocolVersion)
			require.Equal(t, []string{"calc__add", "notes__echo"}, listed(t, client))
			for tool, want := range map[string]string{"calc__add": "hi", "notes__echo": "there"} {
				result, err := client.CallTool(context.Background(), &sdk.CallToolParams{Name: tool, Arguments: map[string]any{"text": "there"}})
				require.NoError(t, err)
				require.Equal(t, want, result.Content[0].(*sdk.TextContent).Text)
			}
		})
	}
}
