package aggregate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// questioner is a server without sessions that answers its calls with the results of the test, one after
// the other.
type questioner struct {
	*fake
	mu      sync.Mutex
	results []string
	stream  bool
}

func newQuestioner(t testing.TB, results ...string) *questioner {
	t.Helper()
	q := &questioner{results: results}
	q.fake = newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch method {
		case "server/discover":
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case "tools/call":
			q.mu.Lock()
			result, stream := q.results[0], q.stream
			if len(q.results) > 1 {
				q.results = q.results[1:]
			}
			q.mu.Unlock()
			if !stream {
				reply(w, body, result)
				return
			}
			var m struct{ ID json.RawMessage }
			_ = json.Unmarshal([]byte(body), &m)
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n", m.ID, result)
		default:
			replyError(w, body, http.StatusNotFound, -32601)
		}
	})
	return q
}

const (
	askedBoth = `{"resultType":"input_required","requestState":"s1","inputRequests":{` +
		`"a":{"method":"elicitation/create","params":{"mode":"form","message":"who?","requestedSchema":{"type":"object","properties":{}}}},` +
		`"b":{"method":"roots/list"}}}`
	openAsked = `{"jsonrpc":"2.0","id":"start","method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{"elicitation":{},"roots":{"listChanged":true}},"clientInfo":{"name":"t","version":"1"}}}`
	callAsked = `{"jsonrpc":"2.0","id":"call","method":"tools/call","params":{"name":"calc__ask","arguments":{"n":1}}}`
)

// openWith opens a session with that initialize, and returns the headers of its requests.
func (s *stage) openWith(initialize, token string) []string {
	s.t.Helper()
	g := s.ask(initialize, ":token", token)
	require.Equal(s.t, http.StatusOK, g.status, g.body)
	return []string{":token", token, "Mcp-Session-Id", g.header.Get("Mcp-Session-Id"), "Mcp-Protocol-Version", "2025-11-25"}
}

// stream is the answer to a call, event by event.
type answerStream struct {
	t      testing.TB
	events chan string // the data of its events
	body   *http.Response
}

func (s *stage) callIn(session []string) *answerStream {
	s.t.Helper()
	r, err := s.do(callAsked, session...)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = r.Body.Close() })
	a := &answerStream{t: s.t, events: make(chan string, 64), body: r}
	go func() {
		defer close(a.events)
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				a.events <- data
			}
		}
	}()
	return a
}

// next returns the next message; "" at the end.
func (a *answerStream) next() string {
	a.t.Helper()
	select {
	case message := <-a.events:
		return message
	case <-time.After(10 * time.Second):
		a.t.Fatal("there is no event")
		return ""
	}
}

// respond answers a question in the session.
func (s *stage) respond(session []string, question, result string) {
	s.t.Helper()
	var m struct{ ID json.RawMessage }
	require.NoError(s.t, json.Unmarshal([]byte(question), &m))
	require.Equal(s.t, http.StatusAccepted, s.ask(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, m.ID, result), session...).status)
}

func TestAClientWithASessionIsAskedInItsCall(t *testing.T) {
	for name, stream := range map[string]bool{"the server answers with JSON": false, "the server answers with a stream": true} {
		t.Run(name, func(t *testing.T) {
			up := newQuestioner(t, askedBoth, `{"resultType":"input_required","requestState":"s2"}`, textResult)
			up.stream = stream
			s := newStage(t, map[string]string{"calc": up.URL})
			session := s.openWith(openAsked, alice)
			call := s.callIn(session)
			require.Equal(t, "text/event-stream", call.body.Header.Get("Content-Type"))
			first, second := call.next(), call.next()
			require.Equal(t, `{"jsonrpc":"2.0","id":"calc__1","method":"elicitation/create","params":{"message":"who?","requestedSchema":{"type":"object","properties":{}}}}`, first)
			require.Equal(t, `{"jsonrpc":"2.0","id":"calc__2","method":"roots/list","params":{}}`, second)
			s.respond(session, second, `"result":{"roots":[]}`)
			s.respond(session, second, `"result":{"roots":["again"]}`)
			s.respond(session, first, `"result":{"action":"decline"}`)
			require.Equal(t, `{"jsonrpc":"2.0","id":"call","result":`+textResult+`}`, call.next())
			calls := up.sent("tools/call")
			require.Len(t, calls, 3)
			require.Contains(t, calls[0], `"io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"roots":{}}`)
			require.Contains(t, calls[0], `"id":"call"`)
			require.Contains(t, calls[1], `"id":"gateway-round-2"`)
			require.Contains(t, calls[1], `"inputResponses":{"b":{"roots":[]},"a":{"action":"decline"}},"requestState":"s1"`)
			require.Contains(t, calls[1], `"name":"ask","arguments":{"n":1}`)
			require.Contains(t, calls[2], `"requestState":"s2"`)
			require.NotContains(t, calls[2], `inputResponses`)
		})
	}
}

// TestAnswersAreOfTheirSessionAlone: the ids of questions are easy to guess.
func TestAnswersAreOfTheirSessionAlone(t *testing.T) {
	up := newQuestioner(t, askedBoth, textResult)
	s := newStage(t, map[string]string{"calc": up.URL})
	mine, hers, his := s.openWith(openAsked, alice), s.openWith(openAsked, alice), s.openWith(openAsked, bob)
	call := s.callIn(mine)
	first, second := call.next(), call.next()
	for _, session := range [][]string{hers, his} {
		for _, question := range []string{first, second} {
			s.respond(session, question, `"result":{"roots":["stolen"]}`)
		}
	}
	require.Len(t, up.sent("tools/call"), 1)
	s.respond(mine, first, `"result":{"action":"cancel"}`)
	s.respond(mine, second, `"result":{"roots":[]}`)
	require.Contains(t, call.next(), `"result"`)
	require.NotContains(t, up.sent("tools/call")[1], "stolen")
}

// TestAServerWithoutSessionsAsksTooMuch: the client gets an error that says so, and is asked nothing.
func TestAServerWithoutSessionsAsksTooMuch(t *testing.T) {
	one := func(method, params string) string {
		return fmt.Sprintf(`{"resultType":"input_required","inputRequests":{"a":{"method":%q,"params":%s}}}`, method, params)
	}
	many := make([]string, 0, 17)
	for i := range 17 {
		many = append(many, fmt.Sprintf(`"%d":{"method":"roots/list"}`, i))
	}
	for name, c := range map[string]struct{ result, want string }{
		"what was not declared": {one("sampling/createMessage", `{"messages":[]}`), string(messages.ErrUndeclared)},
		"by URL":                {one("elicitation/create", `{"mode":"url","url":"https://x","message":"m"}`), string(messages.ErrURLMode)},
		"something else":        {one("x/y", `{}`), string(messages.ErrUnknownAsk)},
		"without an object":     {`{"resultType":"input_required","inputRequests":[]}`, string(errAsksUnclear)},
		"in two readings":       {`{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list","Method":"x"}}}`, string(errAsksUnclear)},
		"too much":              {`{"resultType":"input_required","inputRequests":{` + strings.Join(many, ",") + `}}`, string(errManyAsked)},
	} {
		t.Run(name, func(t *testing.T) {
			up := newQuestioner(t, c.result)
			s := newStage(t, map[string]string{"calc": up.URL})
			g := s.ask(callAsked, s.openWith(openAsked, alice)...)
			require.Equal(t, http.StatusOK, g.status)
			require.Contains(t, g.message(), `{"jsonrpc":"2.0","id":"call","error":{"code":-32603,"message":"The server asks the client for something before it answers: `+c.want)
			require.Len(t, up.sent("tools/call"), 1)
		})
	}
}

func TestAServerThatAsksWithoutEnd(t *testing.T) {
	up := newQuestioner(t, `{"resultType":"input_required","inputRequests":{"b":{"method":"roots/list"}}}`)
	s := newStage(t, map[string]string{"calc": up.URL})
	session := s.openWith(openAsked, alice)
	call := s.callIn(session)
	for range maxRounds {
		s.respond(session, call.next(), `"result":{"roots":[]}`)
	}
	require.Contains(t, call.next(), string(errRounds))
	require.Len(t, up.sent("tools/call"), maxRounds+1)
}

func TestAClientThatCannotAnswer(t *testing.T) {
	up := newQuestioner(t, askedBoth, textResult)
	s := newStage(t, map[string]string{"calc": up.URL})
	session := s.openWith(openAsked, alice)
	call := s.callIn(session)
	first, second := call.next(), call.next()
	s.respond(session, first, `"error":{"code":-1,"message":"the user says no"}`)
	require.Equal(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"calc__2"}}`, call.next())
	require.Contains(t, call.next(), `{"jsonrpc":"2.0","id":"call","error":{"code":-32603,"message":"The server asks the client for something before it answers: `+string(errClientFailed))
	s.respond(session, second, `"result":{"roots":[]}`)
	require.Len(t, up.sent("tools/call"), 1)

	up.mu.Lock()
	up.results = []string{askedBoth}
	up.mu.Unlock()
	g := s.ask(callAsked, append(session, "Accept", "application/json")...)
	require.Contains(t, g.message(), string(messages.ErrUndeclared), "there is no stream for a question")
	require.Contains(t, up.sent("tools/call")[1], `"io.modelcontextprotocol/clientCapabilities":{}`)
}

// TestQuestionsEndWithTheirCall: nobody waits for an answer any more.
func TestQuestionsEndWithTheirCall(t *testing.T) {
	for name, end := range map[string]func(s *stage, session []string, call *answerStream){
		"when the client cancels it": func(s *stage, session []string, _ *answerStream) {
			s.ask(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"call"}}`, session...)
		},
		"when the client is gone":     func(_ *stage, _ []string, call *answerStream) { _ = call.body.Body.Close() },
		"when the session ends":       func(s *stage, session []string, _ *answerStream) { s.ask("", append(session, ":method", "DELETE")...) },
		"when the client's access is": func(s *stage, _ []string, _ *answerStream) { s.vault.Revoke(alice) },
	} {
		t.Run(name, func(t *testing.T) {
			up := newQuestioner(t, askedBoth, textResult)
			s := newStage(t, map[string]string{"calc": up.URL})
			session := s.openWith(openAsked, alice)
			of := s.handler.sessions.byID[session[3]]
			call := s.callIn(session)
			call.next()
			call.next()
			end(s, session, call)
			gatewaytest.Eventually(t, "nothing to be expected", func() bool {
				of.mu.Lock()
				defer of.mu.Unlock()
				return len(of.expected) == 0
			})
			require.Len(t, up.sent("tools/call"), 1)
			require.Empty(t, call.next(), "there is no answer")
		})
	}
}
