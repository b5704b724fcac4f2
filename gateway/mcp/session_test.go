package mcp

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

// seal makes a session id as the gateway would.
func sealID(t *testing.T, g *gateway, client, id string) string {
	t.Helper()
	sealed, err := g.sealer.Seal(session.Owner{Principal: grants.PrincipalOf("id-of-" + client), ServerID: "registration-1"}, id)
	require.NoError(t, err)
	return sealed
}

// Clients that start anew may still send the id of their last session.
func TestStaleSessionIDOnInitializeMeansNothing(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Mcp-Session-Id", "new")
		gatewaytest.Reply(w, pong)
	})
	g := newGateway(t, testConfig(), registration(up))
	begun := g.Ask(t, initOnce).Header.Get("Mcp-Session-Id")
	for _, stale := range []string{"unknown", begun, strings.Repeat("x", 4000)} {
		got := g.Ask(t, initOnce, "Mcp-Session-Id", stale, "Last-Event-Id", "7")
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		require.NotContains(t, []string{"", stale}, got.Header.Get("Mcp-Session-Id"))
		sent, _ := up.Last()
		require.Empty(t, sent.Header["Mcp-Session-Id"])
		require.Empty(t, sent.Header["Last-Event-Id"])
	}
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, "Mcp-Session-Id", "unknown").Status, "on any other message it is an unknown session")
}

func TestSessionsAreSealedOnceAndRepeated(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Mcp-Session-Id", "inner-session")
		if r.Method == http.MethodPost {
			gatewaytest.Reply(w, pong)
		}
	})
	g := newGateway(t, testConfig(), registration(up))
	opened := g.Ask(t, initOnce)
	sealed := opened.Header.Get("Mcp-Session-Id")
	require.NotEmpty(t, sealed)
	require.NotContains(t, sealed, "inner")

	for _, method := range []string{"POST", "GET", "DELETE"} {
		body := ping
		if method != "POST" {
			body = ""
		}
		got := g.Ask(t, body, ":method", method, "Mcp-Session-Id", sealed)
		require.Equal(t, http.StatusOK, got.Status)
		require.Equal(t, []string{sealed}, got.Header["Mcp-Session-Id"])
		r, _ := up.Last()
		require.Equal(t, "inner-session", r.Header.Get("Mcp-Session-Id"))
		require.Equal(t, method, r.Method)

		before := up.Count()
		for name, pairs := range map[string][]string{
			"another client":          {":token", "bob", "Mcp-Session-Id", sealed},
			"an id of the upstream's": {"Mcp-Session-Id", "inner-session"},
			"a changed id":            {"Mcp-Session-Id", "B" + sealed[1:]},
		} {
			got := g.Ask(t, body, append(pairs, ":method", method)...)
			require.Equal(t, http.StatusNotFound, got.Status, "%s %s", method, name)
			require.NotContains(t, got.Header, "Mcp-Session-Id")
		}
		require.Equal(t, before, up.Count(), "no server was touched")
	}

	repointed := registration(up)
	repointed.ID = "registration-2"
	g.registry.put(repointed)
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
}

func TestTheStatelessEraKnowsNoSessions(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Mcp-Session-Id", "inner-session")
		gatewaytest.Reply(w, pong)
	})
	g := newGateway(t, testConfig(), registration(up))
	body := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	got := g.Ask(t, body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "ping", "Mcp-Session-Id", "whatever")
	require.Equal(t, http.StatusOK, got.Status)
	require.NotContains(t, got.Header, "Mcp-Session-Id")
	r, _ := up.Last()
	require.NotContains(t, r.Header, "Mcp-Session-Id")
}

func TestWithoutKeysSessionsAreRefusedButNotForgotten(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Mcp-Session-Id", "inner")
		gatewaytest.Reply(w, pong)
	})
	g := newGateway(t, testConfig(), registration(up))
	sealed := g.Ask(t, initOnce).Header.Get("Mcp-Session-Id")
	keys := g.registry.keys
	g.registry.keys = nil
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, initOnce).Status)
	g.registry.keys = keys
	require.Equal(t, http.StatusOK, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
}

func TestASessionUnderANewerKeyHasTheKeysFetchedBeforeItIsUnknown(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	older := g.registry.keys
	newer := &grants.SessionKeys{Current: 2, Keys: map[int][32]byte{1: {1}, 2: {2}}, MountID: "mount"}
	fetched := 0
	g.registry.refresh = func() (*grants.SessionKeys, error) {
		fetched++
		return newer, nil
	}
	g.registry.keys = newer
	sealed := sealID(t, g, "alice", "s")
	g.registry.keys = older
	require.Equal(t, http.StatusOK, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
	require.Equal(t, 1, fetched)
	require.Equal(t, http.StatusOK, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
	require.Equal(t, 1, fetched, "a key that is known is not fetched again")

	g.registry.keys = older
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, ":token", "bob", "Mcp-Session-Id", sealed).Status, "it is not bob's under any key")
	require.Equal(t, 2, fetched)

	g.registry.keys = older
	g.registry.refresh = func() (*grants.SessionKeys, error) { return nil, grants.ErrUnavailable }
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status, "the gateway cannot tell")
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, "Mcp-Session-Id", "made-up").Status)
}

// TestASessionThatIsUnknownIsOneToAClientThatHasGone: the end of the request's
// context must not turn the missing session into a nil one, nor the refusal into
// an allowed request.
func TestASessionThatIsUnknownIsOneToAClientThatHasGone(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		var body io.Reader = http.NoBody
		if method == http.MethodPost {
			body = strings.NewReader(ping)
		}
		r := httptest.NewRequest(method, g.URL, body).WithContext(gone)
		r.Header = http.Header{
			"Authorization": {"Bearer alice"}, "Accept": {"application/json, text/event-stream"},
			"Content-Type": {"application/json"}, "Mcp-Session-Id": {"unknown"},
		}
		w := httptest.NewRecorder()
		g.admit(w, r)
		require.Equal(t, http.StatusNotFound, w.Code, method)
	}
	require.Equal(t, []string{"refused unknown-session", "refused unknown-session", "refused unknown-session"}, g.sink.all())
}

// TestAnUnknownSessionIsToldAsClientsKnowIt: by 404, as the protocol has it, and by
// the code and the words that many clients look for.
func TestAnUnknownSessionIsToldAsClientsKnowIt(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	for name, server := range map[string]*grants.Server{"http": registration(up), "stdio": scriptedServer(t, "")} {
		g := newGateway(t, stdioConfig(t), server)
		for method, id := range map[string]string{"POST": "1", "GET": "null", "DELETE": "null"} {
			body := ""
			if method == http.MethodPost {
				body = ping
			}
			got := g.Ask(t, body, ":method", method, "Mcp-Session-Id", "made-up")
			require.Equal(t, http.StatusNotFound, got.Status, name)
			require.Contains(t, got.Body, `"id":`+id+`,"error":{"code":-32001,"message":"Session not found`, name+" "+method)
		}
		got := g.Ask(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Mcp-Session-Id", "made-up")
		require.Equal(t, http.StatusNotFound, got.Status)
		require.Contains(t, got.Body, `"code":-32001`)
	}
	require.Zero(t, up.Count())
}
