package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

const (
	askedForm  = `{"jsonrpc":"2.0","id":"its-1","method":"elicitation/create","params":{"message":"who?","requestedSchema":{"type":"object","properties":{}}}}`
	canBeAsked = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"roots":{}}%s}`
)

// askingServer is a server with sessions that has one tool. While it runs, it sends what the test says.
type askingServer struct {
	*fake
	mu    sync.Mutex
	calls []chan string // messages on the streams of the calls
	own   chan string   // messages on its own stream
	ended chan struct{} // gets a value when the gateway ends a call
}

func newAskingServer(t testing.TB) *askingServer {
	t.Helper()
	a := &askingServer{own: make(chan string), ended: make(chan struct{}, 16)}
	a.fake = withLongCalls(t, func(w http.ResponseWriter, r *http.Request, body string) {
		a.stream(w, r, body, a.own)
	}, func(w http.ResponseWriter, r *http.Request, body string) {
		say := make(chan string)
		a.mu.Lock()
		a.calls = append(a.calls, say)
		a.mu.Unlock()
		if !a.stream(w, r, body, say) {
			a.ended <- struct{}{}
		}
	})
	return a
}

// stream sends messages, until the answer or until the gateway ends the stream.
func (a *askingServer) stream(w http.ResponseWriter, r *http.Request, body string, from <-chan string) (answered bool) {
	var m struct{ ID json.RawMessage }
	_ = json.Unmarshal([]byte(body), &m)
	w.Header().Set("Content-Type", "text/event-stream")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case message := <-from:
			_, _ = fmt.Fprintf(w, "data: %s\n\n", strings.ReplaceAll(message, "$ID", string(m.ID)))
			_ = http.NewResponseController(w).Flush()
			if strings.Contains(message, `"id":$ID`) {
				return true
			}
		case <-r.Context().Done():
			return false
		}
	}
}

// says has the server send messages in its nth call.
func (a *askingServer) says(t testing.TB, n int, wants ...string) {
	t.Helper()
	var call chan string
	gatewaytest.Eventually(t, "the server to be called", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.calls) < n {
			return false
		}
		call = a.calls[n-1]
		return true
	})
	for _, message := range wants {
		select {
		case call <- message:
		case <-time.After(10 * time.Second):
			t.Fatal("the call has ended")
		}
	}
}

// asked is a server's question, as a client without sessions gets it.
type asked struct {
	Result struct {
		ResultType    string
		RequestState  string
		InputRequests map[string]struct {
			Method string
			Params json.RawMessage
		}
	}
}

// callAsked makes the nth call of a tool of a server that asks at once, and returns its question.
func (s *stage) callAsked(a *askingServer, n int, pairs ...string) asked {
	s.t.Helper()
	answer := s.later("", pairs...)
	a.says(s.t, n, askedForm)
	return s.readAsked(await(s.t, answer))
}

func (s *stage) readAsked(g got) (q asked) {
	s.t.Helper()
	require.Equal(s.t, http.StatusOK, g.status, g.body)
	require.NoError(s.t, json.Unmarshal([]byte(lastData(g.body)), &q), g.body)
	require.Equal(s.t, "input_required", q.Result.ResultType, g.body)
	return q
}

// later calls the tool, and returns the answer when there is one.
func (s *stage) later(more string, pairs ...string) <-chan got {
	answer := make(chan got, 1)
	go func() { answer <- s.callTool("calc__ask", `{"n":1}`, more, pairs...) }()
	return answer
}

// callTool calls a tool as a client without sessions that can be asked. more are further params.
func (s *stage) callTool(name, arguments, more string, pairs ...string) got {
	meta := ""
	if _, extra, ok := strings.Cut(more, "|"); ok {
		meta, more = extra, strings.TrimSuffix(more, "|"+extra)
	}
	if more != "" {
		more += ","
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%q,"arguments":%s,%s`+canBeAsked+`}}`, name, arguments, more, meta)
	r, err := s.do(body, append([]string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", name}, pairs...)...)
	if err != nil {
		return got{body: err.Error()}
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return got{status: r.StatusCode, header: r.Header, body: string(text)}
}

// accept are the params of the answer to the question.
func (q asked) accept(content string) string {
	var key string
	for key = range q.Result.InputRequests {
	}
	return fmt.Sprintf(`"requestState":%q,"inputResponses":{%q:{"action":"accept","content":%s}}`, q.Result.RequestState, key, content)
}

const calledResult = `{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}`

// answered is the response that the server gets.
const answeredForm = `{"jsonrpc":"2.0","id":"its-1","result":{"action":"accept","content":{"a":1}}}`

func TestACallWaitsForItsClient(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	q := s.callAsked(up, 1)
	require.Len(t, q.Result.InputRequests, 1)
	for _, r := range q.Result.InputRequests {
		require.Equal(t, "elicitation/create", r.Method)
		require.JSONEq(t, `{"message":"who?","requestedSchema":{"type":"object","properties":{}}}`, string(r.Params))
	}
	require.Contains(t, up.sent("initialize")[0], `"capabilities":{"elicitation":{},"roots":{}}`)

	answer := s.later(q.accept(`{"a":1}`))
	gatewaytest.Eventually(t, "the server to have the answer", func() bool { return up.hasGot(answeredForm) })
	up.says(t, 1, strings.ReplaceAll(askedForm, "its-1", "its-2"))
	next := s.readAsked(await(t, answer))
	require.NotEqual(t, q.Result.RequestState, next.Result.RequestState)

	answer = s.later(next.accept(`{"a":1}`))
	gatewaytest.Eventually(t, "the server to have the answer", func() bool { return up.hasGot(strings.ReplaceAll(answeredForm, "its-1", "its-2")) })
	up.says(t, 1, calledResult)
	require.Contains(t, await(t, answer).message(), `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[]}}`)
	require.Len(t, up.sent("tools/call"), 1)
	require.Zero(t, s.handler.waiting.size())
	decided := 0
	for _, line := range s.auditLines() {
		if line == "decision calc tools/call ask allowed" {
			decided++
		}
	}
	require.Equal(t, 3, decided, "each request of the client is decided")
}

// TestAnswersAreForTheirCallAlone: whoever has a requestState can do nothing with it, but go on with the
// very call that he has made.
func TestAnswersAreForTheirCallAlone(t *testing.T) {
	up, other := newAskingServer(t), newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL, "other": other.URL})
	q := s.callAsked(up, 1)
	his := s.callAsked(up, 2, ":token", bob)
	right := q.accept(`{"a":1}`)
	state, altered := q.Result.RequestState, []byte(q.Result.RequestState)
	altered[len(altered)/2] ^= 1
	for name, call := range map[string]func() got{
		"another client":   func() got { return s.callTool("calc__ask", `{"n":1}`, right, ":token", bob) },
		"another client's": func() got { return s.callTool("calc__ask", `{"n":1}`, his.accept(`{"a":1}`)) },
		"another server":   func() got { return s.callTool("other__ask", `{"n":1}`, right) },
		"another tool":     func() got { return s.callTool("calc__tell", `{"n":1}`, right) },
		"other arguments":  func() got { return s.callTool("calc__ask", `{"n":2}`, right) },
		"more params":      func() got { return s.callTool("calc__ask", `{"n":1}`, right+`,"task":{}`) },
		"an altered state": func() got {
			return s.callTool("calc__ask", `{"n":1}`, strings.Replace(right, state, string(altered), 1))
		},
		"no state":              func() got { return s.callTool("calc__ask", `{"n":1}`, strings.Replace(right, state, "", 1)) },
		"a state of its own":    func() got { return s.callTool("calc__ask", `{"n":1}`, strings.Replace(right, state, "x", 1)) },
		"answers without state": func() got { return s.callTool("calc__ask", `{"n":1}`, `"inputResponses":{}`) },
	} {
		g := call()
		require.Contains(t, g.message(), `{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"No call waits for this answer here: call again`, name)
	}
	require.Len(t, up.sent("tools/call"), 2, "none of them was a new call")
	require.False(t, up.hasGot(answeredForm))
	require.Equal(t, 2, s.handler.waiting.size())

	// The call is the same, however it is written.
	answer := make(chan got, 1)
	go func() { answer <- s.callTool("calc__ask", `{ "n" : 1 }`, right) }()
	gatewaytest.Eventually(t, "the server to have the answer", func() bool { return up.hasGot(answeredForm) })
	require.Contains(t, s.callTool("calc__ask", `{"n":1}`, right).message(), "No call waits", "each state is good once")
	up.says(t, 1, calledResult)
	require.Contains(t, await(t, answer).message(), `"result"`)
}

func TestAnswersMustBeComplete(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	q := s.callAsked(up, 1)
	for _, responses := range []string{`{}`, `[]`, `7`, `{"question-1":7}`, `{"question-1":null}`, `{"Question-1":{}}`, `{"question-1":{},"question-1":{}}`} {
		g := s.callTool("calc__ask", `{"n":1}`, fmt.Sprintf(`"requestState":%q,"inputResponses":%s`, q.Result.RequestState, responses))
		require.Contains(t, g.message(), `"code":-32602,"message":"params.inputResponses must have an object for each`, responses)
	}
	require.Contains(t, s.callTool("calc__ask", `{"n":1}`, fmt.Sprintf(`"requestState":%q`, q.Result.RequestState)).message(), "params.inputResponses must have")
	answer := s.later(q.accept(`{"a":1}`))
	up.says(t, 1, calledResult)
	require.Contains(t, await(t, answer).message(), `"result"`, "the call still waits")
}

func TestWaitingCallsEnd(t *testing.T) {
	for name, end := range map[string]func(s *stage){
		"with the client's token": func(s *stage) { s.vault.Revoke(alice) },
		"with the right to the server": func(s *stage) {
			s.vault.AddToken(alice, "alice", grantstest.Data{"allowed_servers": []string{"notes"}})
			s.vault.WriteClient("alice")
		},
		"with the gateway":            func(s *stage) { s.handler.Close() },
		"when they waited for long":   func(*stage) {},
		"when others of it wait, too": func(*stage) {},
	} {
		t.Run(name, func(t *testing.T) {
			up := newAskingServer(t)
			s := newStage(t, map[string]string{"calc": up.URL})
			switch name {
			case "when they waited for long":
				s.handler.waiting.wait = time.Millisecond
			case "when others of it wait, too":
				s.handler.waiting.ofPrincipal = 1
			}
			q := s.callAsked(up, 1)
			end(s)
			if name == "when others of it wait, too" {
				s.callAsked(up, 2)
				gatewaytest.Eventually(t, "one call to wait", func() bool { return s.handler.waiting.size() == 1 })
			} else {
				gatewaytest.Eventually(t, "no call to wait", func() bool { return s.handler.waiting.size() == 0 })
			}
			select {
			case <-up.ended:
			case <-time.After(10 * time.Second):
				t.Fatal("the request to the server goes on")
			}
			require.NotContains(t, s.callTool("calc__ask", `{"n":1}`, q.accept(`{"a":1}`)).message(), `"result"`)
			require.False(t, up.hasGot(answeredForm))
			if strings.HasPrefix(name, "when") {
				gatewaytest.Eventually(t, "the server to know", func() bool { return len(up.sent("notifications/cancelled")) == 1 })
			}
		})
	}
}

// TestNothingIsAskedBeyondTheGatewaysBound: the server gets an error, and the call goes on.
func TestNothingIsAskedBeyondTheGatewaysBound(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	s.handler.waiting.most = 1
	his := s.callAsked(up, 1, ":token", bob)
	answer := s.later("")
	up.says(t, 2, askedForm)
	gatewaytest.Eventually(t, "the server to be refused", func() bool {
		return up.hasGot(`{"jsonrpc":"2.0","id":"its-1","error":{"code":-32602,"message":"` + string(errWaiting) + `"}}`)
	})
	up.says(t, 2, calledResult)
	require.Contains(t, await(t, answer).message(), `"result"`)
	hers := s.later(his.accept(`{"a":1}`), ":token", bob)
	up.says(t, 1, calledResult)
	require.Contains(t, await(t, hers).message(), `"result"`)
}

func TestAClientThatGoesCancelsItsCall(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	q := s.callAsked(up, 1)
	ctx, leave := context.WithCancel(context.Background())
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"calc__ask","arguments":{"n":1},%s,`+canBeAsked+`}}`, q.accept(`{"a":1}`), "")
	r, err := s.doWith(ctx, body, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "calc__ask")
	require.NoError(t, err)
	defer r.Body.Close()
	gatewaytest.Eventually(t, "the server to have the answer", func() bool { return up.hasGot(answeredForm) })
	leave()
	select {
	case <-up.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the request to the server goes on")
	}
	gatewaytest.Eventually(t, "the server to know", func() bool { return len(up.sent("notifications/cancelled")) == 1 })
}

// TestWhileACallWaits: the server is answered, and the client gets what is meant for it when it is there.
func TestWhileACallWaits(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	first := s.later(`|,"progressToken":"mine"`)
	const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$ID,"progress":%d}}`
	up.says(t, 1, fmt.Sprintf(progress, 1), askedForm)
	g := await(t, first)
	require.Contains(t, g.body, `"progressToken":"mine","progress":1`)
	q := s.readAsked(g)

	up.says(t, 1, `{"jsonrpc":"2.0","id":"p","method":"ping"}`)
	gatewaytest.Eventually(t, "its ping to be answered", func() bool { return up.hasGot(`{"jsonrpc":"2.0","id":"p","result":{}}`) })
	up.says(t, 1, fmt.Sprintf(progress, 2), strings.ReplaceAll(askedForm, "its-1", "its-2"))
	more := await(t, s.later(q.accept(`{"a":1}`)+`|,"progressToken":"next"`))
	next := s.readAsked(more)
	require.True(t, up.hasGot(answeredForm), "the first answer")

	var call *waitingCall
	for _, call = range s.handler.waiting.byRound {
	}
	last := s.later(next.accept(`{"a":1}`) + `|,"progressToken":"last"`)
	gatewaytest.Eventually(t, "the server to have the answer", func() bool { return up.hasGot(strings.ReplaceAll(answeredForm, "its-1", "its-2")) })
	gatewaytest.Eventually(t, "the client to be there", call.isAttached)
	up.says(t, 1, fmt.Sprintf(progress, 3), calledResult)
	end := await(t, last)
	require.Contains(t, end.body, `"progressToken":"last","progress":3`)
	require.NotContains(t, end.body, `"progress":2`)
	require.Contains(t, end.body, `"id":7,"result"`)
}

// lastData is the data of the last event.
func lastData(body string) string {
	lines := strings.Split(strings.TrimSpace(body), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "data: ")
}

// TestAServerThatDoesNotWait: its answer is there for the client that comes back.
func TestAServerThatDoesNotWait(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	q := s.callAsked(up, 1)
	up.says(t, 1, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000,"message":"too late"}}`)
	g := await(t, s.later(q.accept(`{"a":1}`)))
	require.Contains(t, g.message(), `{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"too late"}}`)
}

// TestQuestionsOnTheServersOwnStream: some servers ask there. It is clear whom they ask while one call is
// in flight.
func TestQuestionsOnTheServersOwnStream(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	ask := func(id string) {
		select {
		case up.own <- strings.ReplaceAll(askedForm, "its-1", id):
		case <-time.After(10 * time.Second):
			t.Fatal("the gateway does not listen")
		}
	}
	answer := s.later("")
	gatewaytest.Eventually(t, "the call to be there", func() bool { return len(up.sent("tools/call")) == 1 })
	ask("its-1")
	q := s.readAsked(await(t, answer))
	answer = s.later(q.accept(`{"a":1}`))
	gatewaytest.Eventually(t, "the server to have the answer", func() bool { return up.hasGot(answeredForm) })

	second := s.later("")
	gatewaytest.Eventually(t, "two calls to be there", func() bool { return len(up.sent("tools/call")) == 2 })
	ask("its-3")
	gatewaytest.Eventually(t, "the server to be refused", func() bool {
		return up.hasGot(`{"jsonrpc":"2.0","id":"its-3","error":{"code":-32601,"message":"` + string(messages.ErrNoCallAsked) + `"}}`)
	})
	up.says(t, 1, calledResult)
	up.says(t, 2, calledResult)
	require.Contains(t, await(t, answer).message(), `"result"`)
	require.Contains(t, await(t, second).message(), `"result"`)
}

// TestOnlyWhatTheClientDeclares: the server gets an error for all else, and the call goes on.
func TestOnlyWhatTheClientDeclares(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	answer := s.later("")
	for i, c := range []struct{ method, params, want string }{
		{"sampling/createMessage", `{"messages":[]}`, `"code":-32601,"message":"` + string(messages.ErrUndeclared)},
		{"elicitation/create", `{"mode":"url","url":"https://x","message":"m","elicitationId":"e"}`, `"code":-32602,"message":"` + string(messages.ErrURLMode)},
		{"elicitation/create", `{"message":"m","task":{}}`, `"code":-32602,"message":"` + string(messages.ErrAskTask)},
		{"tasks/get", `{}`, `"code":-32601,"message":"` + string(messages.ErrUnknownAsk)},
	} {
		up.says(t, 1, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, i, c.method, c.params))
		gatewaytest.Eventually(t, "the server to be refused", func() bool {
			return up.hasGot(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"error":{%s"}}`, i, c.want))
		})
	}
	up.says(t, 1, calledResult)
	require.Contains(t, await(t, answer).message(), `"result"`)

	// A program that declares nothing has another session.
	plain := make(chan got, 1)
	go func() { plain <- s.asks("1", "tools/call", `"name":"calc__ask","arguments":{}`) }()
	up.says(t, 2, askedForm)
	gatewaytest.Eventually(t, "the server to be refused", func() bool {
		return up.hasGot(`{"jsonrpc":"2.0","id":"its-1","error":{"code":-32601,"message":"No client is connected that could answer."}}`)
	})
	up.says(t, 2, calledResult)
	require.Contains(t, await(t, plain).message(), `"result"`)
	require.Contains(t, up.sent("initialize")[1], `"capabilities":{}`)
}
