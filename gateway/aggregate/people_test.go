package aggregate

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/internal/scripted"
)

// endpoint is where people reach the scripted server, and what its tools are called there.
type endpoint struct{ path, prefix string }

var endpoints = map[string]endpoint{
	"of one server":  {"/sign-in/servers/calc/mcp", ""},
	"of all servers": {"/sign-in/mcp", "calc__"},
}

// newPeopleStage has a stateful server on stdio, a child for each principal.
func newPeopleStage(t *testing.T) *stage {
	t.Helper()
	s := newStage(t, nil)
	program, err := os.Executable()
	require.NoError(t, err)
	s.vault.Register("calc", grantstest.Data{"transport": "stdio", "command": program, "env": grantstest.Data{scripted.Variable: "legacy"}})
	s.awaitServer("calc")
	return s
}

// awaitServer waits until the gateway has heard of the server.
func (s *stage) awaitServer(name string) {
	s.t.Helper()
	gatewaytest.Eventually(s.t, "the registration to be heard of", func() bool { return s.handler.options.Registry.Servers()[name] != nil })
}

// signIn leases a token of the client "engineering" for the person with the application at the
// endpoint, in the sign-in of that name.
func (s *stage) signIn(name, person, application string, at endpoint, ttl time.Duration) (token string) {
	token = fmt.Sprintf("%s-%d-0123456789", name, tokens.Add(1))
	s.vault.Lease(token, "engineering", "accessor-of-"+token, ttl, grantstest.OfSignIn(name, person, application, publicURL+at.path))
	return token
}

var tokens atomic.Int32

// begin opens a session at the endpoint. All clients say the same of themselves.
func (s *stage) begin(at endpoint, token string) []string {
	s.t.Helper()
	g := s.ask(initOnce, ":token", token, ":path", at.path)
	require.Equal(s.t, http.StatusOK, g.status, g.body)
	pairs := []string{":token", token, ":path", at.path, "Mcp-Session-Id", g.header.Get("Mcp-Session-Id"), "Mcp-Protocol-Version", "2025-11-25"}
	require.Equal(s.t, http.StatusAccepted, s.ask(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, pairs...).status)
	return pairs
}

func callOf(at endpoint, tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"%s%s"}}`, at.prefix, tool)
}

// child is the process that answers.
func (s *stage) child(at endpoint, pairs ...string) (pid int) {
	s.t.Helper()
	g := s.ask(callOf(at, "pid"), pairs...)
	require.Equal(s.t, http.StatusOK, g.status, g.body)
	_, text, found := strings.Cut(g.message(), `"text":"`)
	require.True(s.t, found, g.body)
	_, err := fmt.Sscanf(text, "%d", &pid)
	require.NoError(s.t, err)
	return pid
}

func isRunning(pid int) bool { return syscall.Kill(pid, 0) == nil }

func with(pairs []string, token string) []string {
	other := append([]string(nil), pairs...)
	other[1] = token
	return other
}

// Colleagues who act as one client, and two applications of one person, are strangers to each
// other: the same program, run twice, shares neither session nor child.
func TestPeopleAndApplicationsShareNeitherSessionNorChild(t *testing.T) {
	for name, at := range endpoints {
		t.Run(name, func(t *testing.T) {
			s := newPeopleStage(t)
			signIns := []string{
				s.signIn("s1", "ann", "claude", at, time.Hour),
				s.signIn("s2", "ben", "claude", at, time.Hour),
				s.signIn("s3", "ann", "cursor", at, time.Hour),
			}
			own := "own-of-engineering-0123456789"
			s.vault.AddToken(own, "engineering", nil)
			plain := endpoint{strings.TrimPrefix(at.path, "/sign-in"), at.prefix}

			children := map[int]string{}
			sessions := map[string][]string{}
			for _, token := range append(signIns, own) {
				place := at
				if token == own {
					place = plain
				}
				sessions[token] = s.begin(place, token)
				pid := s.child(place, sessions[token]...)
				require.Empty(t, children[pid], "%s has the child of another one", token)
				children[pid] = token
				require.Equal(t, pid, s.child(place, sessions[token]...), "its own child goes on")
			}
			for _, mine := range signIns {
				for of, pairs := range sessions {
					if of == mine {
						continue
					}
					foreign := with(pairs, mine)
					foreign[3] = at.path
					require.Equal(t, http.StatusNotFound, s.ask(callOf(at, "pid"), foreign...).status, "the session of %s, with the token of %s", of, mine)
				}
			}
			again := s.signIn("s4", "ann", "claude", at, time.Hour)
			require.Equal(t, signIns[0], children[s.child(at, with(sessions[signIns[0]], again)...)], "a person's next token goes on with what they had")
		})
	}
}

// A list that a server gives to one person is not what another one gets.
func TestPeopleAndApplicationsShareNoCachedAnswer(t *testing.T) {
	var asked atomic.Int32
	up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch method {
		case "server/discover":
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case "tools/list":
			reply(w, body, fmt.Sprintf(`{"tools":[{"name":"for-%d","inputSchema":{"type":"object"}}],"ttlMs":600000,"cacheScope":"private","resultType":"complete"}`, asked.Add(1)))
		default:
			replyError(w, body, http.StatusNotFound, -32601)
		}
	})
	s := newStage(t, map[string]string{"calc": up.URL})
	at := endpoints["of all servers"]
	seen := map[string]string{}
	for _, of := range [][2]string{{"ann", "claude"}, {"ben", "claude"}, {"ann", "cursor"}} {
		token := s.signIn("s-"+of[0]+of[1], of[0], of[1], at, time.Hour)
		list := s.asks("1", "tools/list", "", ":token", token, ":path", at.path)
		require.Equal(t, http.StatusOK, list.status, list.body)
		names := toolsIn(t, list.message())
		require.Len(t, names, 1)
		require.Empty(t, seen[names[0]], "%v got the list of %s", of, seen[names[0]])
		seen[names[0]] = token
	}
}

// expire ends the lease of a token soon, and waits until the gateway refuses it.
func (s *stage) expire(at endpoint, token string) {
	s.t.Helper()
	s.vault.Shorten(token, time.Second)
	gatewaytest.Eventually(s.t, "the token to have expired", func() bool {
		return s.ask(pingOnce, ":token", token, ":path", at.path).status == http.StatusUnauthorized
	})
}

// Whoever is idle over the expiry of their token finds everything as it was with the next one:
// the session, its child, and what the server has said meanwhile.
func TestSessionsAndChildrenWaitForTheNextToken(t *testing.T) {
	for name, at := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPeopleStage(t)
			first := s.signIn("s1", "ann", "claude", at, time.Hour)
			mine := s.begin(at, first)
			pid := s.child(at, mine...)
			require.Equal(t, http.StatusOK, s.ask(callOf(at, "log"), mine...).status)
			s.expire(at, first)
			gatewaytest.Eventually(t, "the end to be heard of everywhere", func() bool {
				return s.ask(callOf(at, "pid"), mine...).status == http.StatusUnauthorized
			})
			require.True(t, isRunning(pid))
			next := s.signIn("s1", "ann", "claude", at, time.Hour)
			require.Equal(t, pid, s.child(at, with(mine, next)...))
		})
	}
}

// What waits ends within a second when access is taken away.
func TestWhatWaitsForATokenEndsWithItsAccess(t *testing.T) {
	tests := map[string]struct {
		happens func(s *stage, at endpoint)
		ends    bool
	}{
		"the client is revoked": {func(s *stage, _ endpoint) { s.vault.RevokeClient("engineering") }, true},
		"the sign-in is revoked, whose next token was used elsewhere": {func(s *stage, at endpoint) {
			s.vault.Revoke(s.signIn("s1", "ann", "claude", at, time.Hour))
		}, true},
		"the sign-in is revoked, whose next token was used": {func(s *stage, at endpoint) {
			next := s.signIn("s1", "ann", "claude", at, time.Hour)
			require.Equal(s.t, http.StatusOK, s.ask(initOnce, ":token", next, ":path", at.path).status)
			s.vault.Revoke(next)
		}, true},
		"a colleague's sign-in is revoked": {func(s *stage, at endpoint) {
			s.vault.Revoke(s.signIn("s2", "ben", "claude", at, time.Hour))
		}, false},
		"another application's sign-in is revoked": {func(s *stage, at endpoint) {
			s.vault.Revoke(s.signIn("s3", "ann", "cursor", at, time.Hour))
		}, false},
		"a token of the client's own is revoked": {func(s *stage, _ endpoint) {
			s.vault.AddToken("own-of-engineering-0123456789", "engineering", nil)
			s.vault.Revoke("own-of-engineering-0123456789")
		}, false},
	}
	for name, test := range tests {
		for where, at := range endpoints {
			t.Run(name+", at the endpoint "+where, func(t *testing.T) {
				t.Parallel()
				s := newPeopleStage(t)
				first := s.signIn("s1", "ann", "claude", at, time.Hour)
				mine := s.begin(at, first)
				pid := s.child(at, mine...)
				s.expire(at, first)
				require.True(t, isRunning(pid))
				test.happens(s, at)
				if test.ends {
					gatewaytest.Eventually(t, "the child to have ended", func() bool { return !isRunning(pid) })
					return
				}
				// Changes come in their order: behind this one, the one before has been heard.
				s.vault.RevokeClient("somebody-else")
				s.vault.Revoke(bob)
				gatewaytest.Eventually(t, "the changes to be heard", func() bool { return s.ask(pingOnce, ":token", bob).status == http.StatusUnauthorized })
				require.True(t, isRunning(pid))
				next := s.signIn("s1", "ann", "claude", at, time.Hour)
				require.Equal(t, pid, s.child(at, with(mine, next)...))
			})
		}
	}
}
