package upstream

import (
	"os"
	"testing"

	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// TestMain lets the test's program be one of the servers on stdio.
func TestMain(m *testing.M) {
	servers.Main()
	os.Exit(m.Run())
}
