package partition

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/history"
	"vault-plugin-secrets-mcp/test/network"
)

func TestMain(m *testing.M) { network.Main(m, "network") }

const (
	calculator = "calculator"

	// maxStale is the gateways' setting: short, so that tests see the time after it.
	maxStale = 3 * time.Second

	// wait is how long Vault holds a request for changes then.
	wait = time.Second

	// bound is how soon a revocation takes effect while the gateway hears of changes.
	bound = time.Second

	// back is how soon a gateway hears of Vault when it can again.
	back = 2 * time.Second

	// slack is the additional time that a request may take on this machine.
	slack = 500 * time.Millisecond

	// patience bounds every wait for an event that should happen soon.
	patience = 30 * time.Second
)

// vaults are the machines of Vault's nodes.
var vaults = []string{"vault-1", "vault-2", "vault-3"}

// bed is a Vault, its machines, and those for gateways.
type bed struct {
	*harness.Harness
	*network.Network
	workers []*worker // one at each node of Vault
	book    *history.Book
}

// newBed starts Vault, with machines of these names for gateways.
func newBed(t *testing.T, gateways ...string) *bed {
	t.Helper()
	n := network.New(t, append(append([]string{}, vaults...), gateways...))
	t.Setenv("SSL_CERT_FILE", n.Trusted())
	var places []harness.Place
	for _, name := range vaults {
		places = append(places, n.Machines[name].Place)
	}
	b := &bed{Network: n, Harness: harness.New(t, harness.WithPlaces(places...), harness.Quick()), book: &history.Book{}}
	server := b.StartUpstreamAt(n.Machines[network.Office].Address+":0", nil)
	b.Write("mcp/servers/"+calculator, harness.Map{"transport": "http", "url": server.URL})
	return b
}

// in returns the bed for a subtest.
func (b *bed) in(t *testing.T) *bed {
	t.Helper()
	view := *b
	view.Harness = b.Harness.In(t)
	return &view
}

// startGateway starts a gateway on its machine, which asks one node of Vault.
func (b *bed) startGateway(t *testing.T, machine string, asks *harness.Node) *harness.Gateway {
	t.Helper()
	return b.StartGateway(harness.GatewayOptions{
		Place: &b.Machines[machine].Place, Vault: asks.Address(), Env: []string{"SSL_CERT_FILE="},
		Blocks: map[string]string{
			"vault":    fmt.Sprintf("ca_cert_file = %q\n", b.Trusted()),
			"grants":   fmt.Sprintf("max_stale = %q\n", maxStale),
			"listener": fmt.Sprintf("allowed_hosts = [%q]\n", machine+network.Domain),
		},
	})
}

// leads is the machine of Vault's leader, and the others.
func (b *bed) leads(t *testing.T) (leader string, followers []string) {
	t.Helper()
	b.Vault.AwaitLeader()
	node := b.Vault.Leader()
	for i, name := range vaults {
		if b.Vault.Nodes[i] == node {
			leader = name
		} else {
			followers = append(followers, name)
		}
	}
	return leader, followers
}

// node is the node of Vault on a machine.
func (b *bed) node(machine string) *harness.Node {
	return b.Vault.Nodes[slices.Index(vaults, machine)]
}

// client makes a client that may call the tool, and returns its token.
func (b *bed) client(t *testing.T, name string) string {
	t.Helper()
	return b.CreateClient(name, harness.Map{"allowed_servers": calculator})
}

// feedUp waits until a gateway hears of changes.
func (b *bed) feedUp(g *harness.Gateway) {
	b.Eventually("the change feed is up", func() error {
		if !strings.Contains(g.Metrics(), "\nmcp_gateway_feed_up 1\n") {
			return errors.New("it is down")
		}
		return nil
	})
}

// setting is a number from the environment: PARTITION_ROUNDS says how often all of it happens,
// PARTITION_SEED which requests workers choose.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}
