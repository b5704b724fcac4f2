package revocation

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// waiter is a server with a tool that is called and never answers. Each call
// sends a value when it has begun.
func waiter() (handler http.Handler, begun <-chan struct{}) {
	calls := make(chan struct{}, 1)
	server := mcp.NewServer(&mcp.Implementation{Name: "waiter", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "wait", InputSchema: harness.Map{"type": "object"}},
		func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			calls <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		})
	return demo.Handler(server), calls
}

// send sends a request, and returns a channel that yields the received answer when it
// has ended, in whatever way.
func send(t *testing.T, request *http.Request) <-chan string {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	answer := make(chan string, 1)
	go func() {
		response, err := transport.RoundTrip(request)
		if err != nil {
			answer <- ""
			return
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		answer <- string(text)
	}()
	return answer
}

// TestTakingAccessAwayCutsACallInFlight takes it away while a server works on a
// call, in both eras and at both endpoints.
func TestTakingAccessAwayCutsACallInFlight(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	handler, begun := waiter()
	url := s.StartUpstream(handler).URL
	for name, take := range map[string]func(s *stage.Stage){
		"by a revocation":   func(s *stage.Stage) { s.Write("mcp/revoke-client/cursor", nil) },
		"by the allow-list": func(s *stage.Stage) { s.Write("mcp/clients/cursor", harness.Map{"allowed_servers": stage.Calculator}) },
		"by a policy": func(s *stage.Stage) {
			s.Write("mcp/policies/p", harness.Map{"deniedMcpServers": `[{"serverName":"waiter"}]`})
		},
		"by a rule of the role":  func(s *stage.Stage) { s.Write("mcp/roles/waiting", harness.Map{"denied_tools": "waiter/wait"}) },
		"by the server's end":    func(s *stage.Stage) { s.Delete("mcp/servers/waiter") },
		"by the server's stop":   func(s *stage.Stage) { s.Write("mcp/servers/waiter", harness.Map{"disabled": true}) },
		"by the client's own IP": func(s *stage.Stage) { s.Write("mcp/clients/cursor", harness.Map{"token_bound_cidrs": "192.0.2.0/24"}) },
	} {
		for _, path := range stage.Paths {
			t.Run(name+", "+path.String(), func(t *testing.T) {
				s := s.In(t)
				s.At = path.At
				s.Write("mcp/servers/waiter", harness.Map{"transport": "http", "url": url, "disabled": false})
				s.Write("mcp/policies/p", harness.Map{"deniedMcpServers": `[]`})
				s.Write("mcp/roles/waiting", harness.Map{"denied_tools": ""})
				token := s.CreateClient("cursor", harness.Map{"allowed_servers": stage.Calculator + ",waiter", "policies": "p", "role": "waiting"})
				defer s.Delete("mcp/clients/cursor")
				s.Eventually("the server to be there", func() error { return hasTool(t, s, path, token) })

				answer := send(t, waitCall(t, s, path, token))
				select {
				case <-begun:
				case <-time.After(20 * time.Second):
					t.Fatal("the call has not reached the server")
				}
				take(s)
				select {
				case text := <-answer:
					require.NotContains(t, text, `"result"`)
				case <-time.After(stage.InForce):
					t.Fatal("the call goes on seconds later")
				}
				if name != "by a revocation" && name != "by the client's own IP" {
					s.Works(t, token) // the rest of the client's access goes on
				}
			})
		}
	}
}

// hasTool returns an error unless the waiter's tool is listed.
func hasTool(t *testing.T, s *stage.Stage, p stage.Path, token string) error {
	t.Helper()
	session, err := s.TryConnect(s.URL("waiter"), token, harness.ConnectOptions{Version: p.Era})
	if err != nil {
		return err
	}
	defer session.Close()
	listing, err := session.ListTools(t.Context(), nil)
	if err != nil {
		return err
	}
	for _, tool := range listing.Tools {
		if tool.Name == s.At.Tool("waiter", "wait") {
			return nil
		}
	}
	return errors.New("its tool is not listed")
}

// waitCall is a call of the waiter's tool.
func waitCall(t *testing.T, s *stage.Stage, p stage.Path, token string) *http.Request {
	t.Helper()
	tool := s.At.Tool("waiter", "wait")
	header := http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {tool},
	}
	body := harness.CallBody(tool, `{}`)
	if p.Era == harness.SessionEra {
		header = stage.InSession(stage.OpenSession(t, s.Harness, s.URL("waiter"), token))
		body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{}}}`
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL("waiter"), strings.NewReader(body))
	require.NoError(t, err)
	request.Header = header
	request.Header.Set("Authorization", "Bearer "+token)
	return request
}
