package bridge

import (
	"bytes"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// Message takes a message of the server. The connection's reader calls it. It never
// waits.
func (l *connection) Message(message []byte) {
	message = jsonscan.WithoutMark(message)
	e, err := envelope.Parse(message)
	if err != nil {
		l.channel.bridge.Log.Warn("dropped output of the server that is not a message", "error", err, "bytes", len(message))
		return
	}
	switch e.Kind {
	case envelope.Response:
		l.response(&e, message)
	case envelope.Request:
		l.request(&e, message)
	case envelope.Notification:
		l.notification(&e, message)
	}
}

// response delivers a response to the request that it answers.
func (l *connection) response(e *envelope.Envelope, message []byte) {
	c := l.callOf(e.ID.Of(message))
	if c == nil {
		return // cancelled, or never sent
	}
	l.channel.forget(c)
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
	if c.onHandshake != nil && e.Failed && !l.channel.bridge.Shared {
		l.channel.end(ErrRefused)
	}
}

// hasID reports whether the bytes are the request's id on the channel.
func (c *Call) hasID(raw []byte) bool { return bytes.Equal(raw, idText(c.id)) }

// request handles a request of the server: for input from a user, for a model's
// answer, for the client's roots.
func (l *connection) request(e *envelope.Envelope, message []byte) {
	id := e.ID.Of(message)
	if e.Method == protocol.MethodPing {
		l.reply(protocol.EmptyResult(id))
		return
	}
	if l.channel.bridge.Shared || !l.forward(e, message) {
		l.reply(unavailable(id))
	}
}

// unavailable refuses a request of the server.
func unavailable(id []byte) []byte {
	return protocol.Error(id, protocol.CodeMethodNotFound, protocol.MessageNoClient)
}

// notification delivers a notification to the requests and sessions that it concerns.
func (l *connection) notification(e *envelope.Envelope, message []byte) {
	switch {
	case !e.SubscriptionID.None():
		if c := l.callOf(e.SubscriptionID.Of(message)); c != nil && c.listen {
			c.put(message, envelope.Part{Span: e.SubscriptionID, Text: c.clientID})
		}
	case e.Method == protocol.MethodProgress:
		if e.ProgressToken.None() {
			return
		}
		if c := l.callOf(e.ProgressToken.Of(message)); c != nil && c.token != nil {
			c.put(message, envelope.Part{Span: e.ProgressToken, Text: c.token})
		}
	case e.Method == protocol.MethodCancelled:
		l.cancelledByServer(e, message)
	default:
		l.broadcast(e, message)
	}
}

// put delivers a message to the request before its answer.
func (c *Call) put(message []byte, part envelope.Part) {
	if c.streams {
		c.queue.put(Item{Message: envelope.Replace(nil, message, part)})
	}
}

// broadcast forwards a notification that does not name a request.
//
// Of a connection that has not taken its predecessor's place yet, it forwards none: clients
// are about to get everything from it.
func (l *connection) broadcast(e *envelope.Envelope, message []byte) {
	ch := l.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if l != ch.current && !l.replaced {
		return
	}
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
		if c := ch.newest(func(c *Call) bool { return c.connection == l }); c != nil && c.queue.put(item) {
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
	if c := ch.newest(func(c *Call) bool { return c.session == s }); c != nil && c.queue.put(item) {
		return
	}
	s.keep(item) // beyond the bound it is lost
}

// newest returns the newest request in flight that takes messages, of those that are
// wanted; nil if there is none. ch.mu is held.
func (ch *channel) newest(wanted func(*Call) bool) *Call {
	var found *Call
	for _, c := range ch.calls {
		if !c.streams || c.listen || !wanted(c) || found != nil && found.id > c.id {
			continue
		}
		if c.queue.failure() == nil {
			found = c
		}
	}
	return found
}
