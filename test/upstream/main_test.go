package upstream

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// TestMain lets the test's program be one of the servers on stdio.
func TestMain(m *testing.M) {
	servers.Main()
	flag.Parse()
	// Tests that wait for the end of a lease do so beside each other.
	if err := flag.Set("test.parallel", "10"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
