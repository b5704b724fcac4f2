package mcp

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestACutEndsWhatTheClientHasOnStdio(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	session := g.open(t, "alice")
	r, err := g.Do(t.Context(), tool("1", "hang"), session...)
	require.NoError(t, err)
	require.Contains(t, events(t, r.Body, 1)[0], "hanging")
	g.cut("alice")
	_, err = io.ReadAll(r.Body)
	require.Error(t, err)
	require.NoError(t, r.Body.Close())

	g.registry.watch(grants.End{Grant: g.grants["alice"]})
	gatewaytest.Eventually(t, "the session is gone", func() bool { return g.Ask(t, ping, session...).Status == http.StatusNotFound })

	session = g.open(t, "alice")
	less := grant(t, "alice", nil, nil)
	g.registry.watch(grants.End{Grant: g.grants["alice"], Successor: less})
	require.Equal(t, http.StatusOK, g.Ask(t, ping, session...).Status, "the new grant admits the server too")
}

func TestTheEndOfARegistrationEndsItsChildren(t *testing.T) {
	server := scriptedServer(t, "")
	g := newGateway(t, stdioConfig(t), server)
	session := g.open(t, "alice")
	r, err := g.Do(t.Context(), "", append(session, ":method", "GET")...)
	require.NoError(t, err)
	defer r.Body.Close()
	g.registry.watch(grants.End{Server: server})
	_, err = io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, session...).Status)
}

func TestARestartOfTheConfigurationKeepsChildrenThatItDoesNotConcern(t *testing.T) {
	c := stdioConfig(t)
	g := newGateway(t, c, scriptedServer(t, ""))
	session := g.open(t, "alice")
	same := stdioConfig(t)
	g.Configure(same)
	require.Equal(t, http.StatusOK, g.Ask(t, ping, session...).Status)
	none := testConfig()
	g.Configure(none)
	require.Equal(t, http.StatusBadGateway, g.Ask(t, ping, session...).Status)
	require.Equal(t, "server-unusable", g.sink.lastReason())
}

func TestACrashIsTold(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	session := g.open(t, "alice")
	got := g.Ask(t, tool("1", "crash"), session...)
	require.Equal(t, http.StatusBadGateway, got.Status)
	require.Contains(t, got.Body, `"id":1`)
	require.NotContains(t, got.Body, "exit status")
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, session...).Status)
	got = g.Ask(t, initOnce)
	require.Equal(t, http.StatusServiceUnavailable, got.Status)
	require.NotEmpty(t, got.Header.Get("Retry-After"))
}

func TestStdioIsOffUnlessTheFileAllowsIt(t *testing.T) {
	g := newGateway(t, testConfig(), scriptedServer(t, ""))
	require.Equal(t, http.StatusBadGateway, g.Ask(t, initOnce).Status)

	other := scriptedServer(t, "")
	other.Command = "/bin/cat"
	g = newGateway(t, stdioConfig(t), other)
	require.Equal(t, http.StatusBadGateway, g.Ask(t, initOnce).Status)
}

func TestASlowAnswerOnStdioKeepsTheConnectionAlive(t *testing.T) {
	c := stdioConfig(t)
	c.Limits.KeepAlive = 10 * time.Millisecond
	g := newGateway(t, c, scriptedServer(t, "mute"))
	r, err := g.Do(t.Context(), initOnce)
	require.NoError(t, err)
	require.Equal(t, "text/event-stream", r.Header.Get("Content-Type"))
	comment := make([]byte, 3)
	_, err = io.ReadFull(r.Body, comment)
	require.NoError(t, err)
	require.Equal(t, ":\n\n", string(comment))
	require.NoError(t, r.Body.Close())

	c = stdioConfig(t)
	c.Upstreams = map[string]config.Upstream{"up": {Timeout: 50 * time.Millisecond}}
	g = newGateway(t, c, scriptedServer(t, "mute"))
	require.Equal(t, http.StatusGatewayTimeout, g.Ask(t, initOnce, "Accept", "", "Accept", "application/json").Status)
}

// TestAHandshakeThatIsNeverAnsweredEnds, and the child with it.
func TestAHandshakeThatIsNeverAnsweredEnds(t *testing.T) {
	for _, shared := range []bool{false, true} {
		c := stdioConfig(t)
		c.Upstreams = map[string]config.Upstream{"up": {Timeout: 200 * time.Millisecond}}
		server := scriptedServer(t, "mute")
		server.Shared = shared
		g := newGateway(t, c, server)
		got := g.Ask(t, initOnce) // the client takes a stream, which is kept alive
		if got.Status == http.StatusOK {
			require.Contains(t, got.Body, `"id":1,"error":`, shared)
		} else {
			require.Equal(t, http.StatusGatewayTimeout, got.Status, shared)
		}
		require.Contains(t, got.Body, "The server did not answer in time.", shared)
	}
}

// The cache may drop a token of a sign-in that the person does not use, while they use the next
// one.
func TestATokenOfASignInThatOnlyLeavesTheCacheEndsNothingWhileAnotherOneIsThere(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	person, err := grants.NewGrant(&vaultclient.Lookup{
		Active: true, Client: "alice", ClientID: "id-of-alice", Accessor: "accessor", AllowedServers: []string{"*"},
		Kind: vaultclient.KindLeased, Resource: "https://mcp.example.com/sign-in/mcp", Application: "claude",
		Login: "employees", Person: "ann", EntityID: "entity-of-ann", SignIn: "sign-in",
	}, time.Now())
	require.NoError(t, err)
	g.grants["ann"] = person
	session := g.open(t, "ann")
	g.registry.watch(grants.End{Grant: person})
	require.Equal(t, http.StatusOK, g.Ask(t, ping, session...).Status)
	g.registry.watch(grants.End{Grant: person, Last: true})
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, session...).Status)
}
