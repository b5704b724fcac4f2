package clients

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
	"vault-plugin-secrets-mcp/test/npm"
)

// stage is a gateway before servers from npm, with tokens and files for clients.
type stage struct {
	*harness.Harness
	*offline
	*mcpclient.Kit
	gateway *harness.Gateway
	// off is registered as "off", and no client may reach it.
	off *harness.Upstream
}

func newStage(t *testing.T) *stage {
	t.Helper()
	modules := npm.Install(t)
	s := &stage{Harness: harness.New(t), offline: newOffline(t)}
	s.Kit = &mcpclient.Kit{Modules: modules, Environment: s.environment, Patience: mcpclient.Patience}
	s.off = s.StartUpstream(nil)
	s.Write("mcp/servers/off", harness.Map{"transport": "http", "url": s.off.URL})
	s.gateway = s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"stdio": fmt.Sprintf("allowed_commands = [%q]\n", modules.Node),
	}})
	return s
}

// in returns the stage for a subtest.
func (s *stage) in(t *testing.T) *stage {
	t.Helper()
	view := *s
	view.Harness = s.Harness.In(t)
	return &view
}

// introduce waits until the gateway has heard of servers, and knows the token of a
// client that may reach them: clients from npm do not wait.
func (s *stage) introduce(t *testing.T, token string, servers ...string) {
	t.Helper()
	for _, server := range servers {
		s.Eventually("the gateway knows "+server, func() error {
			got := s.Post(s.gateway.ServerURL(server), token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
			switch got.Status {
			case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable:
				return fmt.Errorf("it is answered %d %s", got.Status, got.Body)
			}
			return nil
		})
	}
}

// listed waits until the lists of /mcp have as many entries as all servers together.
// A server that is slow to start is missing from them at first.
func (s *stage) listed(t *testing.T, through *mcp.ClientSession, want int) {
	t.Helper()
	s.Eventually("every server is in the lists", func() error {
		if got := offerOf(t, through).count(); got < want {
			return fmt.Errorf("they have %d entries of %d", got, want)
		}
		return nil
	})
}
