package aggregate

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

const pingOnce = `{"jsonrpc":"2.0","id":7,"method":"ping"}`

func echo(id, text string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"notes__echo","arguments":{"text":"` + text + `"}}}`
}

func TestASessionIsItsClientsAlone(t *testing.T) {
	s := newStage(t, map[string]string{"notes": sessionServer(t, "notes", nil).URL})
	mine := s.open(alice)
	require.Equal(t, `{"jsonrpc":"2.0","id":7,"result":{}}`, s.ask(pingOnce, mine...).body)
	for name, pairs := range map[string][]string{
		"another client": append(append([]string{}, mine...), ":token", bob),
		"no such id":     {"Mcp-Session-Id", "made-up"},
	} {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			t.Run(name+" "+method, func(t *testing.T) {
				body := ""
				if method == "POST" {
					body = pingOnce
				}
				g := s.ask(body, append(append([]string{}, pairs...), ":method", method)...)
				require.Equal(t, http.StatusNotFound, g.status, g.body)
				require.Contains(t, g.body, `"error":{"code":-32001,"message":"Session not found`)
			})
		}
	}
	require.Equal(t, http.StatusBadRequest, s.ask(pingOnce).status, "without one")
	require.Equal(t, http.StatusNoContent, s.ask("", append(mine, ":method", "DELETE")...).status)
	require.Equal(t, http.StatusNotFound, s.ask(pingOnce, mine...).status)
}

func TestARotatedTokenKeepsItsSessions(t *testing.T) {
	s := newStage(t, map[string]string{"notes": sessionServer(t, "notes", nil).URL})
	mine := s.open(alice)
	const next = "alice-token-9876543210"
	s.vault.AddToken(next, "alice", grantstest.Data{"accessor": "accessor-next"})
	require.Equal(t, http.StatusOK, s.ask(echo("1", "a"), append(mine, ":token", next)...).status)
	s.vault.Revoke(alice)
	gatewaytest.Eventually(t, "the old token to be refused", func() bool { return s.ask(pingOnce, mine...).status == http.StatusUnauthorized })
	require.Equal(t, http.StatusOK, s.ask(echo("2", "a"), append(mine, ":token", next)...).status)
	s.vault.Revoke(next)
	gatewaytest.Eventually(t, "the session to have ended with its last token", func() bool { return s.handler.Sessions() == 0 })
}

// TestALateEndOfATokenThatHasReturnedEndsNoSession: the cache may evict a token, and a session
// may use the token again before it hears of that.
func TestALateEndOfATokenThatHasReturnedEndsNoSession(t *testing.T) {
	s := newStage(t, nil)
	settings := grantstest.Unlimited
	settings.MaxEntries = 1
	b := s.vault.Broker(grants.Options{Grants: settings, Cold: access.NewColdLimiter(settings)})
	grant := func(token string) *grants.Grant {
		g, err := b.Grant(t.Context(), token, netip.MustParseAddr("127.0.0.1"))
		require.NoError(t, err)
		return g
	}
	before := grant(alice)
	grant(bob) // takes its place
	returned := grant(alice)
	sessions := s.handler.sessions
	for _, last := range []*grants.Grant{before, returned} {
		session := s.handler.newSession(before, nil, nil)
		require.NoError(t, sessions.add(session))
		session.release()
		sessions.find(t.Context(), session.id, last).release()
	}
	require.Equal(t, 2, s.handler.Sessions())
	s.handler.onEnd(grants.End{Grant: before})
	require.Equal(t, 1, s.handler.Sessions(), "that which the token has not used since")
	s.handler.onEnd(grants.End{Grant: returned})
	require.Zero(t, s.handler.Sessions())
}

func TestTheSessionsWithServersEndWithTheClients(t *testing.T) {
	var deleted, opened atomic.Int32
	server := sdk.NewServer(&sdk.Implementation{Name: "notes", Version: "1"}, nil)
	addEcho(server)
	inner := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			deleted.Add(1)
		}
		if r.Header.Get("Mcp-Session-Id") == "" {
			opened.Add(1)
		}
		inner.ServeHTTP(w, r)
	}))
	s := newStage(t, map[string]string{"notes": url})
	mine := s.open(alice)
	for range 3 {
		require.Contains(t, s.ask(echo("1", "a"), mine...).body, `"text":"a"`)
	}
	require.Equal(t, int32(1), opened.Load(), "one session with the server for all of them")
	require.Equal(t, http.StatusNoContent, s.ask("", append(mine, ":method", "DELETE")...).status)
	require.Equal(t, int32(1), deleted.Load())
}

func TestAServersLostSessionIsNotTheClients(t *testing.T) {
	// A server that was restarted does not know its old sessions.
	var current atomic.Pointer[sdk.StreamableHTTPHandler]
	restart := func() {
		server := sdk.NewServer(&sdk.Implementation{Name: "notes", Version: "1"}, nil)
		addEcho(server)
		current.Store(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil))
	}
	restart()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) }))
	s := newStage(t, map[string]string{"notes": url})
	mine := s.open(alice)
	require.Contains(t, s.ask(echo("1", "a"), mine...).body, `"text":"a"`)
	restart()
	require.Contains(t, s.ask(echo("2", "b"), mine...).body, `"text":"b"`)
	restart()
	require.Equal(t, []string{"notes__echo"}, toolsIn(t, s.ask(`{"jsonrpc":"2.0","id":3,"method":"tools/list"}`, mine...).message()))
	restart()
	g := s.asks("4", "tools/call", `"name":"notes__echo","arguments":{"text":"c"}`)
	require.Contains(t, g.body, `"text":"c"`, "nor that of a client without")
	restart()
	g = s.asks("5", "tools/call", `"name":"notes__echo","arguments":{"text":"d"}`)
	require.Contains(t, g.body, `"text":"d"`)
}

func TestSessionsAreBounded(t *testing.T) {
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL})
	oldest := s.open(alice)
	for range maxSessionsPerClient {
		s.open(alice)
	}
	require.Equal(t, maxSessionsPerClient, s.handler.Sessions())
	require.Equal(t, http.StatusNotFound, s.ask(pingOnce, oldest...).status, "the one unused for the longest time has gone")
	s.open(bob)
	require.Equal(t, maxSessionsPerClient+1, s.handler.Sessions(), "others are no part of it")
}

func TestARevocationCutsTheStreamOfASession(t *testing.T) {
	s := newStage(t, map[string]string{"notes": sessionServer(t, "notes", nil).URL})
	mine := s.open(alice)
	r, err := s.do("", append(mine, ":method", "GET")...)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	s.vault.Revoke(alice)
	_, err = io.ReadAll(r.Body)
	require.Error(t, err, "it does not look complete")
	gatewaytest.Eventually(t, "the session to have ended", func() bool { return s.handler.Sessions() == 0 })
	require.Equal(t, http.StatusUnauthorized, s.ask(pingOnce, mine...).status)
}

func TestAnotherStreamOfTheSessionTakesThePlaceOfTheFirst(t *testing.T) {
	s := newStage(t, map[string]string{"notes": sessionServer(t, "notes", nil).URL})
	mine := s.open(alice)
	one, err := s.do("", append(mine, ":method", "GET")...)
	require.NoError(t, err)
	defer one.Body.Close()
	two, err := s.do("", append(mine, ":method", "GET")...)
	require.NoError(t, err)
	defer two.Body.Close()
	_, err = io.ReadAll(one.Body)
	require.NoError(t, err, "an orderly end")
	require.Equal(t, http.StatusNoContent, s.ask("", append(mine, ":method", "DELETE")...).status)
	_, err = io.ReadAll(two.Body)
	require.NoError(t, err)
}

func TestAStreamThatWasLostIsResumedWhereItWas(t *testing.T) {
	const answered = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch {
		case method == "initialize":
			w.Header().Set("Mcp-Session-Id", "s")
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
		case method == "tools/call":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "id: 7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\nretry: 10\n\n")
		case r.Method == http.MethodGet && r.Header.Get("Last-Event-ID") == "7":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "id: 8\ndata: "+answered+"\n\n")
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := newStage(t, map[string]string{"notes": up.URL})
	mine := s.open(alice)
	g := s.ask(echo("1", "a"), mine...)
	require.Equal(t, "id: notes__7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\nretry: 10\n\n", g.body)
	g = s.ask("", append(mine, ":method", "GET", "Last-Event-ID", "notes__7")...)
	require.Equal(t, "id: notes__8\ndata: "+answered+"\n\n", g.body)
	for _, id := range []string{"other__7", "notes__9"} {
		require.Equal(t, http.StatusBadRequest, s.ask("", append(mine, ":method", "GET", "Last-Event-ID", id)...).status, id)
	}
}

func TestASessionThatNobodyUsesEnds(t *testing.T) {
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL})
	s.open(alice)
	require.Equal(t, 1, s.handler.Sessions())
	session := s.allSessions()[0]
	s.handler.sessions.expire(session)
	require.Equal(t, 1, s.handler.Sessions(), "not before its time")
	s.handler.sessions.mu.Lock()
	session.unused = time.Now().Add(-sessionIdleTimeout)
	s.handler.sessions.mu.Unlock()
	s.handler.sessions.expire(session)
	require.Zero(t, s.handler.Sessions())
	require.Empty(t, s.handler.watchers.of(grants.Principal{}))
}

// TestTheSessionWithAServerIsNotTheClients: servers name their session with every answer.
// The client has a session of the gateway's, or none, and must never see theirs.
func TestTheSessionWithAServerIsNotTheClients(t *testing.T) {
	up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		w.Header().Set("Mcp-Session-Id", "s")
		switch {
		case method == "initialize":
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`)
		case method == "tools/call" && strings.Contains(body, "stream"):
			var m struct{ ID json.RawMessage }
			_ = json.Unmarshal([]byte(body), &m)
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[]}}\n\n", m.ID)
		case method == "tools/call":
			reply(w, body, `{"content":[]}`)
		case method == "server/discover":
			replyError(w, body, http.StatusBadRequest, -32601)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := newStage(t, map[string]string{"calc": up.URL})
	for _, tool := range []string{"stream", "plain"} {
		params := `"name":"calc__` + tool + `"`
		g := s.ask(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{`+params+`}}`, s.open(alice)...)
		require.Equal(t, http.StatusOK, g.status, g.body)
		require.Contains(t, g.body, `"content":[]`)
		require.Empty(t, g.header["Mcp-Session-Id"], tool)
		g = s.asks("7", "tools/call", params, ":token", bob)
		require.Equal(t, http.StatusOK, g.status, g.body)
		require.Contains(t, g.body, `"content":[]`)
		require.Empty(t, g.header["Mcp-Session-Id"], tool)
	}
}
