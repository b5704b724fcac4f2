package grants

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// answering is a model with a given registry.
type answering struct {
	*model
	registry vaultclient.ServerList
}

func (a *answering) Servers(context.Context) (*vaultclient.ServerList, error) {
	return &a.registry, nil
}

func TestRegistryHoldsTheServersThatCanBeUsed(t *testing.T) {
	a := &answering{model: newModel(), registry: vaultclient.ServerList{Epoch: "e", Index: 3, Servers: map[string]vaultclient.ServerEntry{
		"files":    {ID: "r1", Transport: "stdio", Command: "/bin/files", Args: []string{"-v"}, Env: map[string]string{"K": "V"}, Shared: true},
		"bad":      {ID: "r2", Transport: "carrier-pigeon"},
		"relative": {ID: "r3", Transport: "stdio", Command: "bin/files"},
		"nowhere":  {ID: "r4", Transport: "http", URL: "/mcp"},
	}}}
	b, err := newBroker(testOptions(), a)
	require.NoError(t, err)
	_, err = b.FindServer("files")
	require.ErrorIs(t, err, ErrUnavailable, "nothing is known yet")
	require.NoError(t, b.fetchRegistry(t.Context()))
	files := *b.Server("files")
	require.Nil(t, files.Pins())
	files.pins = nil
	require.Equal(t, Server{Name: "files", ID: "r1", Transport: "stdio", Command: "/bin/files", Args: []string{"-v"}, Env: map[string]string{"K": "V"}, Shared: true}, files)
	require.Len(t, b.Servers(), 1, "what cannot be used is not there")
	require.NoError(t, b.fetchKeys(t.Context()))
	require.Equal(t, "mount", b.SessionKeys().MountID)
}

// An engine of before credential_servers has servers with credentials among the others.
func TestAServerWithCredentialsIsRegisteredWhereverItsEngineListsIt(t *testing.T) {
	for _, field := range []string{"servers", "credential_servers"} {
		a := &answering{model: newModel()}
		require.NoError(t, json.Unmarshal(fmt.Appendf(nil, `{"epoch": "e", "index": 3, %q: {"leased": {
			"id": "r1", "transport": "http", "url": "https://h.example/mcp",
			"credentials": {"kv": {"path": "secret/data/x"}}, "headers": {"X-Key": "{{kv.data.key}}"}
		}}}`, field), &a.registry))
		b, err := newBroker(testOptions(), a)
		require.NoError(t, err)
		require.NoError(t, b.fetchRegistry(t.Context()))
		require.NotNil(t, b.Server("leased"), field)
	}
}

func TestRegistryIsUsedNoLongerThanMaxStale(t *testing.T) {
	m := newModel()
	b := brokerFor(t, m)
	require.NoError(t, b.fetchRegistry(t.Context()))
	r := *b.registry.Load()
	r.sent = time.Now().Add(-31 * time.Second)
	b.registry.Store(&r)
	_, err := b.FindServer("files")
	require.ErrorIs(t, err, ErrUnavailable)
	v := *b.position.Load()
	v.epoch, v.sent = m.epoch, time.Now()
	b.position.Store(&v)
	s, err := b.FindServer("files")
	require.NoError(t, err, "the feed confirms it")
	require.NotNil(t, s)
	v.servers = 5
	b.position.Store(&v)
	_, err = b.FindServer("files")
	require.ErrorIs(t, err, ErrUnavailable, "a change of it that was not fetched yet")
}
