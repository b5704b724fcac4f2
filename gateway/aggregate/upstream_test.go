package aggregate

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/internal/scripted"
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

func TestChildProcessesOfBothErasAreAmongTheServers(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL})
	for name, mode := range map[string]string{"child": "", "older": "legacy", "broken": "dies"} {
		s.vault.Register(name, grantstest.Data{
			"transport": "stdio", "command": program, "env": map[string]string{scripted.Variable: mode},
		})
	}
	gatewaytest.Eventually(t, "the servers to be known", func() bool { return len(s.handler.options.Registry.Servers()) == 4 })
	pid := func(client *sdk.ClientSession, server string) (string, error) {
		result, err := client.CallTool(context.Background(), &sdk.CallToolParams{Name: server + "__pid"})
		if err != nil {
			return "", err
		}
		return result.Content[0].(*sdk.TextContent).Text, nil
	}
	for name, version := range map[string]string{"without sessions": "2026-07-28", "with sessions": "2025-11-25"} {
		t.Run(name, func(t *testing.T) {
			client := s.connect(alice, version, nil)
			require.Equal(t, []string{"calc__add", "child__echo", "child__pid", "older__echo", "older__pid"}, listed(t, client))
			server := map[string]string{"2026-07-28": "older", "2025-11-25": "child"}[version]
			first, err := pid(client, server)
			require.NoError(t, err)
			again, err := pid(client, server)
			require.NoError(t, err)
			require.Equal(t, first, again, "the same child serves one after the other")
			_, err = client.CallTool(context.Background(), &sdk.CallToolParams{Name: server + "__crash"})
			require.Error(t, err)
			// It is not started again at once.
			gatewaytest.Eventually(t, "another child to be there", func() bool {
				next, err := pid(client, server)
				return err == nil && next != first
			})
		})
	}
	require.Contains(t, s.log.String(), "server=broken")
	require.NotContains(t, strings.Join(listed(t, s.connect(alice, "2026-07-28", nil)), " "), "broken")
}
