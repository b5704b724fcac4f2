package pins

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// changesAreHeard has clients that list tools whenever they are told to, as people's do.
func changesAreHeard(t *testing.T, s *pinned) {
	t.Helper()
	server := newHostile(saying(all(good)))
	s.register("heard", s.start(server), inJSON, harness.Map{"pin": "enforce"})
	token := s.CreateClient("heard", harness.Map{"allowed_servers": "heard"})
	first := s.caller(t, stage.Paths[0], "heard", token)
	s.Eventually("the gateway knows the server", func() error { return registered(first) })
	for _, path := range []stage.Path{
		{Era: harness.SessionEra, At: stage.Aggregate}, {Era: harness.StatelessEra, At: stage.Aggregate}, {Era: harness.SessionEra, At: stage.Single},
	} {
		t.Run(path.String(), func(t *testing.T) {
			s := s.in(t)
			s.Write("mcp/pins/heard", harness.Map{"definitions": []harness.Map{definitionOf(pin.Tool, good).approval()}})
			server.says(saying(all(bad)))
			var told atomic.Int64
			session, err := s.TryConnect(path.At.URL(s.gateways[0], "heard"), token, harness.ConnectOptions{Version: path.Era, Client: &mcp.ClientOptions{
				ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { told.Add(1) },
			}})
			require.NoError(t, err)
			description := func() string {
				tools, err := session.ListTools(t.Context(), nil)
				require.NoError(t, err)
				text := ""
				for _, tool := range tools.Tools {
					text += tool.Description
				}
				return text
			}
			hears := func(what string, change func(), want string) {
				before := told.Load()
				change()
				s.Eventually(what, func() error {
					switch {
					case told.Load() == before:
						return errors.New("the client is not told")
					case description() != want:
						return fmt.Errorf("it is shown %q", description())
					}
					return nil
				})
			}
			require.Empty(t, description(), "nobody has approved it")
			s.Eventually("the server has a stream to tell its clients", func() error {
				if server.notify(protocol.MethodPromptsChanged) == 0 {
					return errors.New("it has none")
				}
				return nil
			})
			hears("the server goes back to the approved text, and says so", func() {
				server.says(saying(all(good)))
				server.notify(protocol.MethodToolsChanged)
			}, good)
			hears("the server changes, and says so", func() {
				server.says(saying(all(bad)))
				server.notify(protocol.MethodToolsChanged)
			}, "")
			if path.At == stage.Aggregate { // whose lists the gateway makes
				hears("somebody approves it", func() { s.approve("heard", definitionOf(pin.Tool, bad)) }, bad)
				hears("somebody takes that back", func() {
					s.Write("mcp/pins/heard", harness.Map{"withdraw": toolName, "kind": "tool", "digest": definitionOf(pin.Tool, bad).digest()})
				}, "")
			}
			require.NoError(t, session.Close())
		})
	}
}
