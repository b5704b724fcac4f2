package aggregate

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// TestServersNeedNotBeStrict: many servers break the protocol in these ways, and can be
// used all the same.
func TestServersNeedNotBeStrict(t *testing.T) {
	asString := func(body string) string {
		var m struct{ ID json.RawMessage }
		_ = json.Unmarshal([]byte(body), &m)
		return `"` + strings.Trim(string(m.ID), `"`) + `"`
	}
	as := func(w http.ResponseWriter, form, message string) {
		if form == "a stream" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, "data: %s\n\n", message)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, message)
	}
	for name, answer := range map[string]func(body, result string) string{
		"ids are strings": func(body, result string) string {
			return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, asString(body), result)
		},
		"answers begin with a byte order mark": func(body, result string) string {
			var m struct{ ID json.RawMessage }
			_ = json.Unmarshal([]byte(body), &m)
			return fmt.Sprintf("\ufeff"+`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
		},
	} {
		for _, form := range []string{"JSON", "a stream"} {
			t.Run(name+" in "+form, func(t *testing.T) {
				up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
					switch method {
					case "initialize":
						w.Header().Set("Mcp-Session-Id", "s")
						as(w, form, answer(body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`))
					case "tools/list":
						as(w, form, answer(body, `{"tools":[{"name":"echo"}]}`))
					case "tools/call":
						as(w, form, answer(body, textResult))
					default:
						w.WriteHeader(http.StatusBadRequest) // to notifications as well
					}
				})
				s := newStage(t, map[string]string{"notes": up.URL})
				mine := s.open(alice)
				require.Contains(t, s.ask(echo("1", "a"), mine...).message(), `"id":1,"result":`)
				require.Equal(t, []string{"notes__echo"}, toolsIn(t, s.ask(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, mine...).message()))
				g := s.asks("3", "tools/call", `"name":"notes__echo","arguments":{}`)
				require.Contains(t, g.message(), `"id":3,"result":`)
				require.Equal(t, []string{"notes__echo"}, toolsIn(t, s.asks("4", "tools/list", "").message()))
				require.Len(t, up.sent("initialize"), 2, "one for each of the client's ways")
			})
		}
	}
}

// TestAnEmptyCursorLeadsOn: without sessions, only a missing cursor is the end. With
// sessions, an empty one is the end too.
func TestAnEmptyCursorLeadsOn(t *testing.T) {
	list := func(w http.ResponseWriter, body string) {
		if strings.Contains(body, `"cursor":""`) {
			reply(w, body, `{"tools":[{"name":"second"}]}`)
			return
		}
		reply(w, body, `{"tools":[{"name":"first"}],"nextCursor":""}`)
	}
	newer := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		if method == "tools/list" {
			list(w, body)
			return
		}
		reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
	})
	older := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch method {
		case "initialize":
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
		case "tools/list":
			list(w, body)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	s := newStage(t, map[string]string{"newer": newer.URL, "older": older.URL})
	g := s.asks("1", "tools/list", "").body
	require.Equal(t, []string{"newer__first", "older__first"}, toolsIn(t, g))
	var page struct{ Result struct{ NextCursor string } }
	require.NoError(t, json.Unmarshal([]byte(g), &page))
	require.NotEmpty(t, page.Result.NextCursor)
	g = s.asks("2", "tools/list", `"cursor":"`+page.Result.NextCursor+`"`).body
	require.Equal(t, []string{"newer__second"}, toolsIn(t, g))
	require.NotContains(t, g, "nextCursor")
}

// TestAServerThatIsBusySaysForHowLong: to clients with sessions and without.
func TestAServerThatIsBusySaysForHowLong(t *testing.T) {
	for name, busy := range map[string]func(w http.ResponseWriter, body string){
		"in text":  func(w http.ResponseWriter, _ string) { http.Error(w, "slow down", http.StatusTooManyRequests) },
		"in JSON":  func(w http.ResponseWriter, body string) { replyError(w, body, http.StatusTooManyRequests, -32000) },
		"with 503": func(w http.ResponseWriter, _ string) { http.Error(w, "busy", http.StatusServiceUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
				switch method {
				case "server/discover":
					reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
				case "tools/call":
					w.Header().Set("Retry-After", "17")
					busy(w, body)
				default:
					replyError(w, body, http.StatusNotFound, -32601)
				}
			})
			s := newStage(t, map[string]string{"notes": up.URL})
			g := s.asks("1", "tools/call", `"name":"notes__echo","arguments":{}`)
			require.Equal(t, "17", g.header.Get("Retry-After"))
			require.Contains(t, g.body, `"id":1,"error":`)
			mine := s.open(alice)
			g = s.ask(echo("1", "a"), mine...)
			require.Equal(t, http.StatusOK, g.status, "its session with all servers goes on")
			require.Equal(t, "17", g.header.Get("Retry-After"))
			require.Contains(t, g.body, `"id":1,"error":`)
			g = s.asks("1", "tools/call", `"name":"echo","arguments":{}`, ":path", "/servers/notes/mcp")
			require.Equal(t, "17", g.header.Get("Retry-After"))
		})
	}
}

// TestAnIDIsFreeAsSoonAsItsAnswerCanBeRead: some clients use the same id again, at once.
func TestAnIDIsFreeAsSoonAsItsAnswerCanBeRead(t *testing.T) {
	for _, form := range []string{"JSON", "a stream", "an error"} {
		t.Run(form, func(t *testing.T) {
			hold := make(chan struct{})
			defer close(hold)
			up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
				switch {
				case method == "initialize":
					w.Header().Set("Mcp-Session-Id", "s")
					reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
				case method != "tools/call":
					w.WriteHeader(http.StatusAccepted)
				case form == "JSON":
					reply(w, body, textResult)
				case form == "an error":
					w.WriteHeader(http.StatusRequestEntityTooLarge)
				default:
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}\n\n", textResult)
					_ = http.NewResponseController(w).Flush()
					<-hold // the stream stays open behind the answer
				}
			})
			s := newStage(t, map[string]string{"notes": up.URL})
			mine := s.open(alice)
			for range 20 {
				r, err := s.do(echo("1", "a"), mine...)
				require.NoError(t, err)
				t.Cleanup(func() { _ = r.Body.Close() })
				answer := make([]byte, 0, 4096)
				for !strings.Contains(string(answer), `"id":1`) {
					part := make([]byte, 1024)
					n, err := r.Body.Read(part)
					answer = append(answer, part[:n]...)
					require.NotContains(t, string(answer), "in flight")
					if err != nil {
						break
					}
				}
				require.Contains(t, string(answer), `"id":1`)
			}
		})
	}
}

// TestTheGatewayListensWhereItHoldsASession: a server that pings gets an answer, and one
// without such a stream is asked for it once.
func TestTheGatewayListensWhereItHoldsASession(t *testing.T) {
	var mu sync.Mutex
	gets := 0
	up := func(stream bool) *fake {
		return newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
			switch {
			case method == "initialize":
				w.Header().Set("Mcp-Session-Id", "s")
				reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
			case r.Method == http.MethodGet && stream:
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"are you there\",\"method\":\"ping\"}\n\n")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			case r.Method == http.MethodGet:
				mu.Lock()
				gets++
				mu.Unlock()
				w.WriteHeader(http.StatusMethodNotAllowed)
			case method == "tools/call":
				reply(w, body, textResult)
			default: // to server/discover as well
				w.WriteHeader(http.StatusAccepted)
			}
		})
	}
	wants, wantsNot := up(true), up(false)
	s := newStage(t, map[string]string{"wants": wants.URL, "wantsnot": wantsNot.URL})
	for _, server := range []string{"wants", "wantsnot"} {
		require.Contains(t, s.asks("1", "tools/call", `"name":"`+server+`__echo","arguments":{}`).body, `"hi"`)
	}
	gatewaytest.Eventually(t, "the server's question to be answered", func() bool {
		return wants.hasGot(`{"jsonrpc":"2.0","id":"are you there","result":{}}`)
	})
	gatewaytest.Eventually(t, "the other to be asked for its stream", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return gets == 1
	})
	require.Contains(t, s.asks("1", "tools/call", `"name":"wantsnot__echo","arguments":{}`).body, `"hi"`)
	s.vault.Revoke(alice)
	gatewaytest.Eventually(t, "the stream to end with the client's access", func() bool { return s.handler.Sessions() == 0 })
}

// TestAnAnswerThatIsTooLargeIsToldAsOne: the client learns that the tool has run, and the
// administrator which limit it was.
func TestAnAnswerThatIsTooLargeIsToldAsOne(t *testing.T) {
	large := strings.Repeat("x", 5<<20)
	for _, form := range []string{"JSON", "a stream"} {
		for _, era := range []string{"newer", "older"} {
			t.Run(form+" of the "+era+" era", func(t *testing.T) {
				up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
					answer := func(result string) {
						if form == "JSON" {
							reply(w, body, result)
							return
						}
						w.Header().Set("Content-Type", "text/event-stream")
						_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}\n\n", result)
					}
					switch {
					case method == "server/discover" && era == "newer":
						reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
					case method == "initialize" && era == "older":
						w.Header().Set("Mcp-Session-Id", "s")
						reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
					case method == "tools/call":
						answer(`{"content":[{"type":"text","text":"` + large + `"}]}`)
					case method == "tools/list":
						answer(`{"tools":[{"name":"` + large + `"}]}`)
					case strings.HasPrefix(method, "notifications/"):
						w.WriteHeader(http.StatusAccepted)
					default:
						replyError(w, body, http.StatusNotFound, -32601)
					}
				})
				s := newStage(t, map[string]string{"notes": up.URL})
				const told = `"The tool has run, but its answer is larger than 4MiB, this gateway's limit (limits.max_list), and was not passed on."`
				require.Contains(t, s.asks("1", "tools/call", `"name":"notes__echo","arguments":{}`).message(), told)
				mine := s.open(alice)
				require.Contains(t, s.ask(echo("1", "a"), mine...).message(), told)
				require.Len(t, up.sent("tools/call"), 2, "it is not called again")
				require.Contains(t, s.log.String(), "a server's answer is larger than limits.max_list, and was not passed on: server=notes method=tools/call max_list=4MiB")
				require.Empty(t, toolsIn(t, s.ask(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, mine...).message()))
				require.Contains(t, s.log.String(), `server=notes list=tools/list error="the server's answer is larger than limits.max_list, 4MiB"`)
			})
		}
	}
}

// TestTheSessionUnusedForTheLongestTimeMakesRoom: for any client, so that unused sessions
// lock no client out.
func TestTheSessionUnusedForTheLongestTimeMakesRoom(t *testing.T) {
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL})
	s.handler.sessions.most = 3
	first := s.open(alice)
	second := s.open(alice)
	s.open(alice)
	require.Equal(t, http.StatusOK, s.ask(pingOnce, first...).status)
	bobs := s.open(bob)
	require.Equal(t, http.StatusNotFound, s.ask(pingOnce, second...).status)
	for _, session := range [][]string{first, bobs} {
		require.Equal(t, http.StatusOK, s.ask(pingOnce, session...).status)
	}
	require.Equal(t, 3, s.handler.Sessions())

	// Sessions in use are never replaced.
	s.handler.sessions.most = 1
	r, err := s.do("", append(bobs, ":method", "GET")...)
	require.NoError(t, err)
	defer r.Body.Close()
	s.open(alice)
	s.open(alice)
	s.handler.sessions.mu.Lock()
	own := len(s.handler.sessions.byID)
	s.handler.sessions.mu.Unlock()
	require.LessOrEqual(t, own, 3)
	require.Equal(t, http.StatusOK, s.ask(pingOnce, bobs...).status)

	// The same holds for implicit sessions.
	other := newStage(t, map[string]string{"calc": sessionServer(t, "calc", nil).URL})
	other.handler.sessions.most = 1
	for range 2 {
		for _, token := range []string{alice, bob} {
			g := other.asks("1", "tools/call", `"name":"calc__echo","arguments":{"text":"a"}`, ":token", token)
			require.Contains(t, g.body, `"text":"a"`)
		}
	}
	require.Equal(t, 1, other.handler.Sessions())
}
