package aggregate

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// TestAnswersReachAServerThatTheGatewayDoesNotKnow: a server without sessions keeps what it asks in
// requestState, or nowhere. So any gateway can take the answers, also as the first thing that it hears of
// the server.
func TestAnswersReachAServerThatTheGatewayDoesNotKnow(t *testing.T) {
	for name, answers := range map[string]string{
		"with a state":    `"requestState":"its own","inputResponses":{"k":{"action":"accept"}}`,
		"without a state": `"inputResponses":{"k":{"action":"accept"}}`,
		"without answers": `"requestState":"its own"`,
	} {
		t.Run(name, func(t *testing.T) {
			up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
				if method == "server/discover" {
					reply(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"new","version":"1"}}`)
					return
				}
				reply(w, body, `{"resultType":"complete","content":[]}`)
			})
			s := newStage(t, map[string]string{"new": up.URL})
			g := s.callTool("new__ask", `{"n":1}`, answers)
			require.Contains(t, g.message(), `"result"`)
			require.Len(t, up.sent("tools/call"), 1)
			require.Contains(t, up.sent("tools/call")[0], answers)
		})
	}
}

// silentServer asks on its own stream, and answers calls with nothing, not even a header.
func silentServer(t testing.TB) (up *fake, own chan string, ended chan struct{}) {
	t.Helper()
	own, ended = make(chan string), make(chan struct{}, 4)
	a := &askingServer{}
	up = withLongCalls(t, func(w http.ResponseWriter, r *http.Request, body string) {
		a.stream(w, r, body, own)
	}, func(_ http.ResponseWriter, r *http.Request, _ string) {
		<-r.Context().Done()
		ended <- struct{}{}
	})
	return up, own, ended
}

// TestACallThatWaitsForAClientEndsWithItsAccess: also if the server has begun no answer that could break
// off. Nothing of it is kept for the client, who does not come back.
func TestACallThatWaitsForAClientEndsWithItsAccess(t *testing.T) {
	up, own, ended := silentServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	answer := s.later("")
	gatewaytest.Eventually(t, "the call to be there", func() bool { return len(up.sent("tools/call")) == 1 })
	select {
	case own <- askedForm:
	case <-time.After(10 * time.Second):
		t.Fatal("the gateway does not listen")
	}
	s.readAsked(await(t, answer))
	s.vault.Revoke(alice)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the request to the server goes on")
	}
	gatewaytest.Eventually(t, "no call to wait", func() bool { return s.handler.waiting.size() == 0 })
}

// TestAClientHearsThatItsAnswerDidNotArrive: it gets an error, and no empty answer.
func TestAClientHearsThatItsAnswerDidNotArrive(t *testing.T) {
	for name, streams := range map[string]bool{"the call's answer is a stream": true, "it has not begun": false} {
		t.Run(name, func(t *testing.T) {
			own := make(chan string)
			a := &askingServer{}
			up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
				switch {
				case r.Method == http.MethodGet:
					a.stream(w, r, body, own)
				case method == "initialize":
					w.Header().Set("Mcp-Session-Id", "s")
					reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
				case method == "tools/call" && streams:
					a.stream(w, r, body, nil)
				case method == "tools/call":
					<-r.Context().Done()
				case strings.Contains(body, `"result"`):
					w.WriteHeader(http.StatusInternalServerError)
				default:
					w.WriteHeader(http.StatusAccepted)
				}
			})
			s := newStage(t, map[string]string{"calc": up.URL})
			answer := s.later("")
			gatewaytest.Eventually(t, "the call to be there", func() bool { return len(up.sent("tools/call")) == 1 })
			select {
			case own <- askedForm:
			case <-time.After(10 * time.Second):
				t.Fatal("the gateway does not listen")
			}
			q := s.readAsked(await(t, answer))
			g := await(t, s.later(q.accept(`{"a":1}`)))
			require.Equal(t, http.StatusOK, g.status)
			require.Contains(t, g.body, `"jsonrpc":"2.0","id":7,"error":{"code":-32603,`)
		})
	}
}

// TestANotificationAnswersNothing: nobody waits for what a notification would get.
func TestANotificationAnswersNothing(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	q := s.callAsked(up, 1)
	body := fmt.Sprintf(`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"calc__ask","arguments":{"n":1},%s,`+canBeAsked+`}}`, q.accept(`{"a":1}`), "")
	r, err := s.do(body, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "calc__ask")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusAccepted, r.StatusCode)
	require.False(t, up.hasGot(answeredForm))
	require.Equal(t, 1, s.handler.waiting.size())
}

// TestOneAnswerIsTaken: of two that come at the same time, one goes on with the call.
func TestOneAnswerIsTaken(t *testing.T) {
	up := newAskingServer(t)
	s := newStage(t, map[string]string{"calc": up.URL})
	s.callAsked(up, 1)
	var call *waitingCall
	for _, call = range s.handler.waiting.byRound {
	}
	require.True(t, s.handler.waiting.take(call))
	require.False(t, s.handler.waiting.take(call))
	call.cancel(nil)
}

// TestAClientMayCloseItsConnectionWhenItIsAsked: it has the questions, and the call waits.
func TestAClientMayCloseItsConnectionWhenItIsAsked(t *testing.T) {
	var cause error
	c, a := &askableCall{cancel: func(err error) { cause = err }}, &attachment{}
	a.asked.Store(true)
	c.leave(a, context.Canceled)
	require.NoError(t, cause)
	a.asked.Store(false)
	c.leave(a, context.Canceled)
	require.ErrorIs(t, cause, context.Canceled)
}

// deadlines is a connection that notes the deadlines of its writes.
type deadlines struct {
	http.ResponseWriter
	last time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.last = t
	return nil
}

// TestADeadlineOfACallIsNotThatOfItsConnection: the connection may serve another request when the client
// of the call is asked something.
func TestADeadlineOfACallIsNotThatOfItsConnection(t *testing.T) {
	d, at := &deadlines{}, time.Now()
	control := http.NewResponseController(d)
	var a aborter
	a.set(at)
	require.Zero(t, d.last, "nothing is being written")
	a.begin(control)
	require.Equal(t, at, d.last)
	a.set(at.Add(time.Second))
	require.Equal(t, at.Add(time.Second), d.last)
	a.end(control)
	require.Zero(t, d.last)
	a.set(at)
	require.Zero(t, d.last)
}
