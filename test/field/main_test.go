package field

import (
	"testing"

	"vault-plugin-secrets-mcp/test/network"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

func TestMain(m *testing.M) {
	servers.Main() // which is the server on stdio, where a gateway has started it
	network.Main(m, "field")
}
