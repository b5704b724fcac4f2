package stage

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// Crowd returns how many clients a test gives one role, and how soon a change of the role must
// be in force for all. `make test-roles` sets the number, and has the machine for itself: then
// the promised second counts.
func Crowd(t *testing.T, otherwise int) (clients int, within time.Duration) {
	t.Helper()
	text := os.Getenv("ROLE_CLIENTS")
	if text == "" {
		return otherwise, InForce
	}
	clients, err := strconv.Atoi(text)
	require.NoError(t, err, "ROLE_CLIENTS")
	return clients, time.Second
}

// CrowdGateways starts gateways that so many clients may reach from one address, each with a
// connection of its own.
func CrowdGateways(h *harness.Harness, clients int) []*harness.Gateway {
	most := fmt.Sprint(2*clients + 100)
	options := harness.GatewayOptions{Blocks: map[string]string{
		"limits": "max_connections_per_source = " + most + "\n",
		"grants": "cold_source_rate = 500\ncold_source_burst = 1000\n",
	}}
	return []*harness.Gateway{h.StartGateway(options), h.StartGateway(options)}
}
