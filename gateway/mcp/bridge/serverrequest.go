package bridge

import (
	"bytes"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// serverRequest is a request of the server that a client is to answer.
type serverRequest struct {
	session    *Session
	connection *connection // that it came over, and that the answer goes to
	id         []byte      // the server's
	seen       string      // the id that the client sees
	token      []byte      // the server's progress token; nil without one
}

// newServerRequest numbers a request of the server. Servers count their ids from the same
// number on. So clients see the ids of the channel's first one, and other ids in the place
// of those of its successors. ch.mu is held.
func (l *connection) newServerRequest(e *envelope.Envelope, message []byte) *serverRequest {
	r := &serverRequest{connection: l, id: clone(e.ID.Of(message))}
	r.seen = string(r.id)
	if l.number > 0 {
		l.asked++
		r.seen = `"gateway-` + strconv.Itoa(l.number) + "-" + strconv.Itoa(l.asked) + `"`
	}
	if !e.MetaProgressToken.None() {
		r.token = clone(e.MetaProgressToken.Of(message))
	}
	return r
}

// forward sends the server's request to one session, and reports whether there is
// one. A session with a request in flight comes first, since that request is probably
// the reason; then one with a stream.
func (l *connection) forward(e *envelope.Envelope, message []byte) bool {
	ch := l.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	r := l.newServerRequest(e, message)
	if l.closed != nil || len(ch.serverRequests) >= maxCalls || l.requests[string(r.id)] != nil || ch.serverRequests[r.seen] != nil {
		return false
	}
	item := Item{Message: envelope.Replace(nil, message, envelope.Part{Span: e.ID, Text: []byte(r.seen)})}
	if r.session = ch.handOut(l, item); r.session == nil {
		return false
	}
	l.requests[string(r.id)], ch.serverRequests[r.seen] = r, r
	return true
}

// handOut gives the server's request to one session, and returns it; nil if there is none.
// ch.mu is held.
func (ch *channel) handOut(l *connection, item Item) *Session {
	c := ch.newest(func(c *Call) bool { return c.connection == l && c.session != nil })
	if c != nil && c.queue.put(item) {
		return c.session
	}
	var anyone *Session
	for s := range ch.members {
		if s.stream != nil && s.stream.put(item) {
			return s
		}
		anyone = s
	}
	if anyone == nil || !anyone.keep(item) {
		return nil
	}
	return anyone
}

// dropRequest forgets a request of the server. ch.mu is held.
func (ch *channel) dropRequest(r *serverRequest) {
	delete(ch.serverRequests, r.seen)
	delete(r.connection.requests, string(r.id))
}

// askedWith returns the connection over which the session was asked something with this
// progress token; nil if it was not. It is open until done.
func (ch *channel) askedWith(s *Session, token []byte) *connection {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, r := range ch.serverRequests {
		if r.session == s && r.token != nil && bytes.Equal(r.token, token) {
			r.connection.users++
			return r.connection
		}
	}
	return nil
}

// cancelledByServer ends a subscription, or a request of the server.
func (l *connection) cancelledByServer(e *envelope.Envelope, message []byte) {
	if e.RequestID.None() {
		return
	}
	ch, raw := l.channel, e.RequestID.Of(message)
	if c := l.callOf(raw); c != nil && c.listen {
		ch.forget(c)
		c.queue.close(ErrClosed)
		return
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if r := l.requests[string(raw)]; r != nil {
		ch.dropRequest(r)
		ch.deliver(r.session, Item{Message: envelope.Replace(nil, message, envelope.Part{Span: e.RequestID, Text: []byte(r.seen)})})
	}
}
