package aggregate

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp"
)

// withLongCalls is a server with sessions and a stream of its own. call answers tool calls.
func withLongCalls(t testing.TB, stream, call func(w http.ResponseWriter, r *http.Request, body string)) *fake {
	t.Helper()
	return newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch {
		case r.Method == http.MethodGet:
			stream(w, r, body)
		case method == "initialize":
			w.Header().Set("Mcp-Session-Id", "s")
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
		case method == "tools/call":
			call(w, r, body)
		default: // to server/discover as well
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

// TestTheGatewayListensAsLongAsACallRuns: a server that pings for the first time in the
// middle of a long call gets its answer.
func TestTheGatewayListensAsLongAsACallRuns(t *testing.T) {
	ended := make(chan string, 2)
	var up *fake
	up = withLongCalls(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			ended <- "the gateway has stopped listening"
			return
		case <-time.After(2 * idleListen): // as a server that pings now and then
		}
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"late\",\"method\":\"ping\"}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, func(w http.ResponseWriter, r *http.Request, body string) {
		for {
			select {
			case why := <-ended:
				reply(w, body, `{"content":[],"why":"`+why+`"}`)
				return
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			if up.hasGot(`{"jsonrpc":"2.0","id":"late","result":{}}`) {
				reply(w, body, textResult)
				return
			}
		}
	})
	s := newStage(t, map[string]string{"calc": up.URL})
	require.Contains(t, s.asks("1", "tools/call", `"name":"calc__wait","arguments":{}`).body, `"hi"`)
}

// TestAnImplicitSessionInUseIsNotReplaced: at the bound, another client is refused until the
// call in it has ended.
func TestAnImplicitSessionInUseIsNotReplaced(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	up := withLongCalls(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(http.StatusMethodNotAllowed)
	}, func(w http.ResponseWriter, r *http.Request, body string) {
		if calls.Add(1) == 1 {
			close(asked)
			select {
			case <-answer:
			case <-r.Context().Done():
				return
			}
		}
		reply(w, body, textResult)
	})
	s := newStage(t, map[string]string{"calc": up.URL})
	s.handler.sessions.most = 1
	call := func(token string) string {
		return s.asks("1", "tools/call", `"name":"calc__wait","arguments":{}`, ":token", token).body
	}
	hers := make(chan string, 1)
	go func() { hers <- call(alice) }()
	await(t, asked)
	require.NotContains(t, call(bob), `"hi"`)
	close(answer)
	require.Contains(t, await(t, hers), `"hi"`)
	require.Contains(t, call(alice), `"hi"`)
	require.Len(t, up.sent("initialize"), 1, "she is still in her session")
	require.Contains(t, call(bob), `"hi"`, "there is room for his now")
}

func TestARequestIsHiddenInASession(t *testing.T) {
	x := &exchange{message: &mcp.Message{}}
	r := &route{mode: modeImplicitSession, server: "notes", upstream: &upstream{}}
	const request = `{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{"name":"a","arguments":{"n":1.10},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","vendor":[1.0],"progressToken":"p","io.modelcontextprotocol/clientInfo":{},` +
		`"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}}}`
	h := &implicitCall{x: x, route: r, method: "tools/call"}
	sent, err := h.toServer(message(t, request))
	require.NoError(t, err)
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":1.10},"_meta":{"vendor":[1.0],"progressToken":1}}}`, string(sent.Data))
	for name, test := range map[string]struct{ message, want string }{
		"its answer":                           {`{"jsonrpc":"2.0","id":1,"result":{"content":[],"n":1.10}}`, `{"jsonrpc":"2.0","id":"mine","result":{"resultType":"complete","content":[],"n":1.10}}`},
		"its error":                            {`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}`, `{"jsonrpc":"2.0","id":"mine","error":{"code":-32602,"message":"no"}}`},
		"its progress":                         {`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":2}}`, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":2}}`},
		"another request's answer":             {`{"jsonrpc":"2.0","id":2,"result":{}}`, ""},
		"another request's progress":           {`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2,"progress":2}}`, ""},
		"a log line that it has not asked for": {`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := h.toClient(message(t, test.message))
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
	read := &implicitCall{x: x, route: r, method: "resources/read"}
	_, err = read.toServer(message(t, `{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"a"}}`))
	require.NoError(t, err)
	got, err := read.toClient(message(t, `{"jsonrpc":"2.0","id":2,"result":{"contents":[{"uri":"a","text":""}]}}`))
	require.NoError(t, err)
	require.Equal(t, `{"jsonrpc":"2.0","id":3,"result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[{"uri":"mcp://notes/a","text":""}]}}`, string(got))
}

// message reads a message.
func message(t *testing.T, text string) *mcp.Message {
	t.Helper()
	m, err := mcp.ParseMessage([]byte(text))
	require.NoError(t, err)
	return m
}
