package aggregate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// slow is a server with sessions whose tool answers when the test says so, in one of two ways.
func slow(t *testing.T, inEvents bool) (up *fake, begun, release chan struct{}) {
	t.Helper()
	begun, release = make(chan struct{}, 10), make(chan struct{})
	up = newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			begun <- struct{}{}
			<-r.Context().Done()
		case method == "initialize":
			w.Header().Set("Mcp-Session-Id", "s")
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"up","version":"1"}}`)
		case method == "tools/call":
			if inEvents {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"begun\"}}\n\n")
				_ = http.NewResponseController(w).Flush()
			}
			begun <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
			if inEvents {
				_, _ = io.WriteString(w, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"done\"}]}}\n\n")
				return
			}
			reply(w, body, `{"content":[{"type":"text","text":"done"}]}`)
		case strings.HasPrefix(method, "notifications/"):
			w.WriteHeader(http.StatusAccepted)
		default:
			replyError(w, body, http.StatusNotFound, -32601)
		}
	})
	return up, begun, release
}

type result struct {
	got
	err error
}

// start sends a request whose answer is read as it comes.
func (s *stage) start(body string, pairs ...string) chan result {
	answered := make(chan result, 1)
	go func() {
		r, err := s.do(body, pairs...)
		if err != nil {
			answered <- result{err: err}
			return
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		answered <- result{got{status: r.StatusCode, header: r.Header, body: string(text)}, err}
	}()
	return answered
}

// A call that is in flight when its token expires is answered; a revocation cuts it also then.
func TestACallIsAnsweredOverTheExpiryOfItsToken(t *testing.T) {
	ends := map[string]func(s *stage, at endpoint){
		"and nothing happens":       nil,
		"and the client is revoked": func(s *stage, _ endpoint) { s.vault.RevokeClient("engineering") },
		"and the sign-in is revoked": func(s *stage, at endpoint) {
			s.vault.Revoke(s.signIn("s1", "ann", "claude", at, time.Hour))
		},
		"and the server is taken away": func(s *stage, _ endpoint) {
			s.vault.Register("calc", map[string]any{"id": "another", "transport": "http", "url": "http://127.0.0.1:9/"})
		},
	}
	for name, end := range ends {
		for where, at := range endpoints {
			for _, inEvents := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, at the endpoint %s, in events %v", name, where, inEvents), func(t *testing.T) {
					t.Parallel()
					up, begun, release := slow(t, inEvents)
					s := newStage(t, map[string]string{"calc": up.URL})
					s.awaitServer("calc")
					token := s.signIn("s1", "ann", "claude", at, time.Hour)
					mine := s.begin(at, token)
					answered := s.start(callOf(at, "slow"), mine...)
					await(t, begun)
					s.expire(at, token)
					select {
					case r := <-answered:
						t.Fatalf("the call has ended with its token: %+v", r)
					default:
					}
					if end == nil {
						close(release)
						r := await(t, answered)
						require.NoError(t, r.err)
						require.Equal(t, http.StatusOK, r.status)
						require.Contains(t, r.message(), `"text":"done"`)
						return
					}
					end(s, at)
					r := await(t, answered)
					require.NotContains(t, r.body, `"text":"done"`)
				})
			}
		}
	}
}

func TestAChildsCallIsAnsweredOverTheExpiryOfItsToken(t *testing.T) {
	for name, at := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPeopleStage(t)
			token := s.signIn("s1", "ann", "claude", at, time.Hour)
			mine := s.begin(at, token)
			pid := s.child(at, mine...)
			answered := s.start(strings.Replace(callOf(at, "run"), `"}}`, `","arguments":"sleep 4; echo ready"}}`, 1), mine...)
			s.expire(at, token)
			r := await(t, answered)
			require.NoError(t, r.err)
			require.Contains(t, r.message(), "ready")
			next := s.signIn("s1", "ann", "claude", at, time.Hour)
			require.Equal(t, pid, s.child(at, with(mine, next)...))
		})
	}
}

// A stream ends in good order: the client is told when to come back, and comes with its next
// token.
func TestStreamsEndInOrderWithTheirToken(t *testing.T) {
	for name, at := range endpoints {
		for _, stdio := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, of a child %v", name, stdio), func(t *testing.T) {
				t.Parallel()
				s := newPeopleStage(t)
				if !stdio {
					up, _, _ := slow(t, false)
					s = newStage(t, map[string]string{"calc": up.URL})
					s.awaitServer("calc")
				}
				token := s.signIn("s1", "ann", "claude", at, time.Hour)
				mine := s.begin(at, token)
				get := append([]string{":method", http.MethodGet}, mine...)
				open, err := s.do("", get...)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, open.StatusCode)
				s.vault.Shorten(token, time.Second)
				said, err := io.ReadAll(open.Body)
				require.NoError(t, open.Body.Close())
				require.NoError(t, err, "it ends in order")
				require.Regexp(t, `(?m)^retry: \d+$`, string(said))
				require.Equal(t, http.StatusUnauthorized, s.ask("", get...).status)

				next := s.signIn("s1", "ann", "claude", at, time.Hour)
				again := append([]string{":method", http.MethodGet}, with(mine, next)...)
				open, err = s.do("", again...)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, open.StatusCode, "it is opened again in the same session")
				require.NoError(t, open.Body.Close())
			})
		}
	}
}

// What a server says while nobody listens waits for the principal's next token.
func TestAStreamGoesOnWithTheNextTokenWhereItEnded(t *testing.T) {
	t.Parallel()
	at := endpoints["of one server"]
	s := newPeopleStage(t)
	token := s.signIn("s1", "ann", "claude", at, time.Hour)
	mine := s.begin(at, token)
	require.Equal(t, http.StatusOK, s.ask(callOf(at, "log"), append([]string{"Accept", "application/json"}, mine...)...).status)
	s.expire(at, token)
	next := s.signIn("s1", "ann", "claude", at, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	open, err := s.doWith(ctx, "", append([]string{":method", http.MethodGet}, with(mine, next)...)...)
	require.NoError(t, err)
	defer open.Body.Close()
	said := make([]byte, 4096)
	n, err := open.Body.Read(said)
	require.NoError(t, err)
	require.Contains(t, string(said[:n]), "a secret of this client")
}

// A stream of a token that was revoked breaks off.
func TestStreamsAreCutWithARevocation(t *testing.T) {
	for name, at := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPeopleStage(t)
			token := s.signIn("s1", "ann", "claude", at, time.Hour)
			mine := s.begin(at, token)
			open, err := s.do("", append([]string{":method", http.MethodGet}, mine...)...)
			require.NoError(t, err)
			defer open.Body.Close()
			s.vault.Revoke(token)
			text, err := io.ReadAll(open.Body)
			require.Error(t, err)
			require.NotContains(t, string(text), "retry:")
			gatewaytest.Eventually(t, "its sessions to have ended", func() bool { return s.handler.Sessions() == 0 })
		})
	}
}
