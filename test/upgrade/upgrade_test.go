package upgrade

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

const calculator = "calculator"

// bed is a Vault with the engine of v0.1.0, a gateway of it, and a present one.
type bed struct {
	*harness.Harness
	upstream *harness.Upstream
	old, now *harness.Gateway
}

// TestAnUpgradeFromV010 goes through the upgrade in the order of docs/operations.md: the engine
// first, while old gateways serve.
func TestAnUpgradeFromV010(t *testing.T) {
	r := released(t)
	b := newBed(t, r)
	was := b.fill(t)
	b.in(t).serveThroughout(t)
	t.Run("storage", func(t *testing.T) { b.in(t).readsTheSame(t, was) })
	t.Run("a session goes on at a gateway of the other version", func(t *testing.T) { b.in(t).sharesSessions(t, was) })
	t.Run("an old gateway and", func(t *testing.T) { b.in(t).knowsNothingNew(t) })
}

func newBed(t *testing.T, r release) *bed {
	t.Helper()
	b := &bed{Harness: harness.New(t, harness.WithoutEngine())}
	rules, err := os.ReadFile(r.policy)
	require.NoError(t, err)
	b.UseEngine(r.engine)
	require.NoError(t, provision.Policy(t.Context(), b.Vault.Client(), policies.GatewayName, string(rules)))
	b.upstream = b.StartUpstream(nil)
	b.Write("mcp/servers/"+calculator, harness.Map{"transport": "http", "url": b.upstream.URL})
	b.old = b.StartGateway(harness.GatewayOptions{Program: r.gateway})
	b.now = b.StartGateway(harness.GatewayOptions{})
	return b
}

func (b *bed) in(t *testing.T) *bed {
	t.Helper()
	view := *b
	view.Harness = b.Harness.In(t)
	return &view
}

// client makes a client that may reach the calculator, and returns its token.
func (b *bed) client(name string, more harness.Map) string {
	data := harness.Map{"allowed_servers": calculator}
	for field, value := range more {
		data[field] = value
	}
	return b.CreateClient(name, data)
}

// call is a call of a server's tool through a gateway.
func (b *bed) call(g *harness.Gateway, server, token string) harness.Response {
	return b.Call(g.ServerURL(server), token, "add", `{"a":40,"b":2}`)
}
