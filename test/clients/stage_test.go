package clients

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/npm"
)

// stage is a gateway before servers from npm, and what clients need.
type stage struct {
	*harness.Harness
	*offline
	modules npm.Modules
	gateway *harness.Gateway
	// off is registered as "off", and no client may reach it.
	off *harness.Upstream
}

func newStage(t *testing.T) *stage {
	t.Helper()
	modules := npm.Install(t)
	s := &stage{Harness: harness.New(t), offline: newOffline(t), modules: modules}
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

// program is a package's program, in the environment of the stage.
func (s *stage) program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	return s.command(t, s.modules.Node, append([]string{s.modules.Program(name)}, args...)...)
}

// connect opens a session of the Go SDK's client.
func connect(t *testing.T, transport mcp.Transport, options *mcp.ClientOptions) (*mcp.ClientSession, error) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, options)
	session, err := client.Connect(t.Context(), transport, nil)
	if err == nil {
		t.Cleanup(func() { _ = session.Close() })
	}
	return session, err
}
