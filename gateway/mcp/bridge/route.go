package bridge

import (
	"bytes"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// Message takes a message of the server. The channel's reader calls it. It never
// waits.
func (ch *channel) Message(message []byte) {
	message = jsonscan.WithoutMark(message)
	e, err := envelope.Parse(message)
	if err != nil {
		ch.bridge.Log.Warn("dropped output of the server that is not a message", "error", err, "bytes", len(message))
		return
	}
	switch e.Kind {
	case envelope.Response:
		ch.response(&e, message)
	case envelope.Request:
		ch.request(&e, message)
	case envelope.Notification:
		ch.notification(&e, message)
	}
}

// response delivers a response to the request that it answers.
func (ch *channel) response(e *envelope.Envelope, message []byte) {
	c := ch.callOf(e.ID.Of(message))
	if c == nil {
		return // cancelled, or never sent
	}
	ch.forget(c)
	if c.onHandshake != nil {
		c.onHandshake(message, e)
	}
	parts := [2]envelope.Part{{Span: e.ID, Text: c.clientID}}
	if !e.SubscriptionID.None() && c.hasID(e.SubscriptionID.Of(message)) {
		parts[1] = envelope.Part{Span: e.SubscriptionID, Text: c.clientID}
	}
	c.queue.put(Item{
		Message: envelope.Replace(nil, message, parts[:]...),
		Final:   true,
		Failed:  e.Failed,
		Code:    e.ErrorCode,
	})
	if c.onHandshake != nil && e.Failed && !ch.bridge.Shared {
		ch.end(ErrRefused)
	}
}

// hasID reports whether the bytes are the request's id on the channel.
func (c *Call) hasID(raw []byte) bool { return bytes.Equal(raw, idText(c.id)) }

// request handles a request of the server: for input from a user, for a model's
// answer, for the client's roots.
func (ch *channel) request(e *envelope.Envelope, message []byte) {
	id := e.ID.Of(message)
	if e.Method == protocol.MethodPing {
		ch.reply(protocol.EmptyResult(id))
		return
	}
	if ch.bridge.Shared || !ch.forward(e, message) {
		ch.reply(unavailable(id))
	}
}

// unavailable refuses a request of the server.
func unavailable(id []byte) []byte {
	return protocol.Error(id, protocol.CodeMethodNotFound, protocol.MessageNoClient)
}

// forward sends the server's request to one session, and reports whether there is
// one. A session with a request in flight comes first, since that request is probably
// the reason; then one with a stream.
func (ch *channel) forward(e *envelope.Envelope, message []byte) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	raw := string(e.ID.Of(message))
	if len(ch.serverRequests) >= maxCalls || ch.serverRequests[raw] != nil {
		return false
	}
	item := Item{Message: clone(message)}
	if c := ch.newest(nil); c != nil && c.session != nil && c.queue.put(item) {
		ch.serverRequests[raw] = c.session
		return true
	}
	var anyone *Session
	for s := range ch.members {
		if s.stream != nil && s.stream.put(item) {
			ch.serverRequests[raw] = s
			return true
		}
		anyone = s
	}
	if anyone == nil || !anyone.keep(item) {
		return false
	}
	ch.serverRequests[raw] = anyone
	return true
}

// notification delivers a notification to the requests and sessions that it concerns.
func (ch *channel) notification(e *envelope.Envelope, message []byte) {
	switch {
	case !e.SubscriptionID.None():
		if c := ch.callOf(e.SubscriptionID.Of(message)); c != nil && c.listen {
			c.put(message, envelope.Part{Span: e.SubscriptionID, Text: c.clientID})
		}
	case e.Method == protocol.MethodProgress:
		if e.ProgressToken.None() {
			return
		}
		if c := ch.callOf(e.ProgressToken.Of(message)); c != nil && c.token != nil {
			c.put(message, envelope.Part{Span: e.ProgressToken, Text: c.token})
		}
	case e.Method == protocol.MethodCancelled:
		ch.cancelledByServer(e, message)
	default:
		ch.broadcast(e, message)
	}
}

// put delivers a message to the request before its answer.
func (c *Call) put(message []byte, part envelope.Part) {
	if c.streams {
		c.queue.put(Item{Message: envelope.Replace(nil, message, part)})
	}
}

// cancelledByServer ends a subscription, or a request of the server.
func (ch *channel) cancelledByServer(e *envelope.Envelope, message []byte) {
	if e.RequestID.None() {
		return
	}
	raw := e.RequestID.Of(message)
	if c := ch.callOf(raw); c != nil && c.listen {
		ch.forget(c)
		c.queue.close(ErrClosed)
		return
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if s := ch.serverRequests[string(raw)]; s != nil {
		delete(ch.serverRequests, string(raw))
		ch.deliver(s, Item{Message: clone(message)})
	}
}

// broadcast forwards a notification that does not name a request.
func (ch *channel) broadcast(e *envelope.Envelope, message []byte) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	item := Item{Message: clone(message)}
	uri := ""
	if !e.URI.None() {
		uri = string(e.URI.Of(message))
	}
	switch {
	case ch.bridge.Shared:
		// Only notifications that reveal nothing about another client.
		for s := range ch.members {
			_, subscribed := s.subscribed[uri]
			if strings.HasSuffix(e.Method, protocol.SuffixListChanged) || e.Method == protocol.MethodUpdated && subscribed {
				ch.deliver(s, item)
			}
		}
	case e.Method == protocol.MethodMessage || len(ch.members) == 0:
		// A log message is mostly about the newest request.
		if c := ch.newest(nil); c != nil && c.queue.put(item) {
			return
		}
		fallthrough
	default:
		for s := range ch.members {
			ch.deliver(s, item)
		}
	}
}

// deliver sends the session a message, on its own stream if it has one. ch.mu is
// held.
func (ch *channel) deliver(s *Session, item Item) {
	if s.stream != nil && s.stream.put(item) {
		return
	}
	if c := ch.newest(s); c != nil && c.queue.put(item) {
		return
	}
	s.keep(item) // beyond the bound it is lost
}

// newest returns the newest request in flight, of the session or of any, that takes
// messages; nil if there is none. ch.mu is held.
func (ch *channel) newest(s *Session) *Call {
	var found *Call
	for _, c := range ch.calls {
		if !c.streams || c.listen || s != nil && c.session != s || found != nil && found.id > c.id {
			continue
		}
		if c.queue.failure() == nil {
			found = c
		}
	}
	return found
}
