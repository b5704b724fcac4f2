package conformance

import (
	"os/exec"
	"path/filepath"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/npm"
)

// tools are the programs that the comparison needs.
type tools struct {
	node    string
	old     string // the runner of 2025, for its whole suite
	current string // the runner that knows the requirements of each revision
	server  string // the SDK's fixture
}

// install gets the runners from npm, as the lock file pins them, and builds the
// fixture of the SDK that go.mod requires.
func install(t *testing.T, h *harness.Harness) tools {
	t.Helper()
	modules := npm.Install(t)
	x := tools{
		node:    modules.Node,
		old:     modules.Path("conformance-0.1", "dist", "index.js"),
		current: modules.Path("conformance-0.2", "dist", "index.js"),
		server:  filepath.Join(h.Dir, "everything-server"),
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", x.server,
		"github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	return x
}
