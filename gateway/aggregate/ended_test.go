package aggregate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// The end of access ends a list at every server, whether or not the client still waits for
// it.
func TestTheEndOfAccessEndsAListThatIsUnderWay(t *testing.T) {
	tests := map[string]struct {
		end func(s *stage)
		cut bool // the client's request ends too
	}{
		"the token is revoked":  {func(s *stage) { s.vault.Revoke(alice) }, true},
		"the servers are taken": {func(s *stage) { s.vault.AddToken(alice, "alice", grantstest.Data{"allowed_servers": []string{}}) }, false},
		"the servers are re-pointed": {func(s *stage) {
			for _, name := range []string{"one", "two"} {
				s.vault.Register(name, grantstest.Data{"id": "another-" + name, "transport": "http", "url": "http://127.0.0.1:9/"})
			}
		}, false},
	}
	for name, test := range tests {
		for _, waits := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", and the client waits", false: ", and nobody waits"}[waits], func(t *testing.T) {
				var running atomic.Int32
				hangs := func(w http.ResponseWriter, r *http.Request, method, body string) {
					if method == "server/discover" {
						reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
						return
					}
					running.Add(1)
					defer running.Add(-1)
					<-r.Context().Done()
				}
				s := newStage(t, map[string]string{"one": newFake(t, hangs).URL, "two": newFake(t, hangs).URL})
				s.handler.listWait = time.Minute
				if !waits {
					s.handler.listWait = time.Millisecond
				}
				body, pairs := stateless("1", "tools/list", "")
				answered := make(chan string, 1)
				go func() {
					r, err := s.do(body, pairs...)
					if err != nil {
						answered <- err.Error()
						return
					}
					defer r.Body.Close()
					text, _ := io.ReadAll(r.Body)
					answered <- r.Status + string(text)
				}()
				gatewaytest.Eventually(t, "both to be asked", func() bool { return running.Load() == 2 })
				if !waits {
					require.Contains(t, await(t, answered), `"tools":[]`)
				}
				test.end(s)
				gatewaytest.Eventually(t, "both to be let go", func() bool { return running.Load() == 0 })
				if waits {
					require.Equal(t, test.cut, strings.HasPrefix(await(t, answered), "401"))
				}
			})
		}
	}
}

// TestTheEndOfAccessInTheMiddleOfAnAnswerIsToldAsOne: the client has nothing of the answer
// by then. A client that has lost one server goes on with the others.
func TestTheEndOfAccessInTheMiddleOfAnAnswerIsToldAsOne(t *testing.T) {
	ends := map[string]struct {
		end    func(s *stage)
		status int
		body   string
	}{
		"the token is revoked": {func(s *stage) { s.vault.Revoke(alice) }, http.StatusUnauthorized, `"The access token is not valid."`},
		"the server is taken": {
			func(s *stage) { s.vault.AddToken(alice, "alice", grantstest.Data{"allowed_servers": []string{}}) },
			http.StatusOK, `"jsonrpc":"2.0","id":5,"error":{"code":-32603,`,
		},
	}
	for name, test := range ends {
		for _, length := range []string{"", "1000", "100000"} {
			for _, session := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, length %q, session %v", name, length, session), func(t *testing.T) {
					begun := make(chan struct{})
					up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
						switch method {
						case "server/discover":
							reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
						case "tools/call":
							w.Header().Set("Content-Type", "application/json")
							if length != "" {
								w.Header().Set("Content-Length", length)
							}
							_, _ = io.WriteString(w, `{"jsonrpc":"2.0",`)
							_ = http.NewResponseController(w).Flush()
							close(begun)
							<-r.Context().Done()
						default:
							replyError(w, body, http.StatusNotFound, -32601)
						}
					})
					s := newStage(t, map[string]string{"calc": up.URL})
					body, pairs := stateless("5", "tools/call", `"name":"calc__add"`)
					if session {
						body, pairs = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"calc__add"}}`, s.open(alice)
					}
					go func() {
						<-begun
						test.end(s)
					}()
					g := s.ask(body, pairs...)
					require.Equal(t, test.status, g.status, g.body)
					require.Contains(t, g.body, test.body)
					require.Equal(t, test.status == http.StatusUnauthorized, g.header.Get("WWW-Authenticate") != "")
				})
			}
		}
	}
}

// ours is the number of goroutines that run this package's code for a client.
func ours() int {
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "aggregate.(*") && !strings.Contains(stack, "_test.go") {
			n++
		}
	}
	return n
}

func TestNothingIsLeftOfClientsThatHaveGone(t *testing.T) {
	_, url := statelessServer(t, "calc")
	s := newStage(t, map[string]string{
		"calc": url, "notes": sessionServer(t, "notes", addResource).URL, "gone": "http://127.0.0.1:9/mcp",
	})
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		options, _ := listening()
		client := s.connect(alice, version, options)
		listed(t, client)
		for _, server := range []string{"calc", "notes"} {
			require.NoError(t, client.Subscribe(context.Background(), &sdk.SubscribeParams{URI: "mcp://" + server + "/file:///a"}))
			_, err := client.CallTool(context.Background(), &sdk.CallToolParams{Name: server + "__echo", Arguments: map[string]any{"text": "x"}})
			require.NoError(t, err)
		}
		s.awaitStream()
		require.NoError(t, client.Close())
	}
	gatewaytest.Eventually(t, "all goroutines to have ended", func() bool { return ours() == 0 })
	s.handler.openStreams.mu.Lock()
	require.Empty(t, s.handler.openStreams.open)
	s.handler.openStreams.mu.Unlock()
	require.Equal(t, 1, s.handler.Sessions(), "that which is held for clients without")
	s.vault.Revoke(alice)
	gatewaytest.Eventually(t, "the last session to have ended", func() bool { return s.handler.Sessions() == 0 })
	require.Empty(t, s.handler.watchers.of(grants.Principal{}))
}

func TestOnlyTheEndpointItselfIsServed(t *testing.T) {
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL})
	for _, path := range []string{"/%6dcp", "/MCP", "/mcp/calc", "//mcp"} {
		require.Equal(t, http.StatusNotFound, s.ask(pingOnce, ":path", path).status, path)
	}
	require.Equal(t, http.StatusUnauthorized, s.ask(pingOnce, ":token", "nobody-0123456789012").status)
	require.Equal(t, http.StatusMethodNotAllowed, s.ask("", ":method", "PUT").status)
}

func TestWhatGoesOnBehindAnswersEndsWithTheGateway(t *testing.T) {
	hang := newFake(t, func(_ http.ResponseWriter, r *http.Request, _, _ string) { <-r.Context().Done() })
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL, "hang": hang.URL})
	s.handler.listWait = time.Millisecond
	s.asks("1", "tools/list", "")
	require.NotZero(t, ours(), "the list goes on at the server that is late")
	s.handler.Close()
	gatewaytest.Eventually(t, "it to have ended", func() bool { return ours() == 0 })
}
