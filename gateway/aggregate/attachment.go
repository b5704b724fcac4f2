package aggregate

import (
	"bytes"
	"context"
	"net/http"
	"sync/atomic"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// attachment is a request of the client that is there for a call: the first one, or one with
// answers.
type attachment struct {
	x        *exchange
	id       []byte
	token    []byte // for progress; nil without one
	logs     bool   // log messages are wanted
	written  int64
	asked    atomic.Bool   // the request is being answered with questions
	released chan struct{} // closed when it was
}

// attend makes the request the one that the call answers, until it has its answer. It returns how
// many bytes of it were written. A refusal is the caller's to answer.
func (c *askableCall) attend(x *exchange) (int64, *access.Refusal) {
	a := &attachment{x: x, id: bytes.Clone(x.id()), released: make(chan struct{})}
	a.token, a.logs = x.wantedNotifications()
	gone := context.AfterFunc(x.r.Context(), func() { c.leave(a, context.Cause(x.r.Context())) })
	defer gone()
	c.attach(a)
	c.start.Do(func() { go c.run() })
	select {
	case <-a.released:
		return a.written, nil
	case <-c.done:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != a { // the call has ended after its questions were given to the client
		return a.written, nil
	}
	c.client = nil
	if c.panicked != nil {
		panic(c.panicked)
	}
	if c.refusal == nil && !c.answered && a.written == 0 && x.r.Context().Err() == nil {
		// The call has ended just when its client came back.
		a.written, _ = a.answer(protocol.Error(a.id, protocol.CodeInternalError, messageAborted, protocol.RequestID(x.request.ID)), c.stream != nil)
	}
	return a.written, c.refusal
}

// leave cancels the call if its client has closed the connection instead of waiting for the answer.
func (c *askableCall) leave(a *attachment, cause error) {
	if !a.asked.Load() {
		c.cancel(cause)
	}
}

// wantedNotifications returns what the _meta of a stateless request says about notifications: its
// progress token, and whether it wants log messages.
func (x *exchange) wantedNotifications() (token []byte, logs bool) {
	m := x.message
	if !m.MetaProgressToken.None() {
		token = bytes.Clone(m.MetaProgressToken.Of(m.Data))
	}
	if m.Params.None() {
		return token, false
	}
	params, err := messages.ReadObject(m.Data, m.Params, "_meta")
	if err != nil || !messages.IsObject(params.Values[0].Of(m.Data)) {
		return token, false
	}
	meta, err := messages.ReadObject(m.Data, params.Values[0], protocol.MetaLogLevel)
	return token, err == nil && !meta.Values[0].None()
}

// attach makes a the client of the call.
func (c *askableCall) attach(a *attachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client, c.last = a, a
	close(c.arrived)
	if c.stream != nil {
		c.begin(http.StatusOK, c.stream)
		_ = http.NewResponseController(a.x.w).Flush() // the next write finds the error
	}
	if len(c.asked) > 0 && !c.answered && c.request != nil {
		for len(c.asked) > 0 && c.client != nil { // those that have come while the client was away
			if last := c.asked[len(c.asked)-1]; c.giveQuestions() != nil {
				go c.x.sendOrLog(c.context, c.route, errWaiting.Response(last.id))
			}
		}
	}
}

// begin begins the answer to the present client. c.mu is held.
func (c *askableCall) begin(status int, header http.Header) {
	out := c.client.x.w.Header()
	for key, values := range header {
		out[key] = values
	}
	c.client.x.w.WriteHeader(status)
}

// answer writes a message as the end of the answer to the client: in its stream if that has begun.
func (a *attachment) answer(message []byte, begun bool) (int64, error) {
	x := a.x
	if !begun {
		header := x.w.Header()
		if x.json {
			header[protocol.HeaderContentType] = valueJSON
			return x.writeBody(http.StatusOK, message)
		}
		header[protocol.HeaderContentType] = valueEvents
		x.w.WriteHeader(http.StatusOK)
	}
	s := sse.NewWriter(x.r.Context(), x.w, 0)
	_, err := s.Write(sse.AppendMessage([]byte("event: message\n"), message))
	return s.Close(), err
}
