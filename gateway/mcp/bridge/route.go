package bridge

import (
	"bytes"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// Message takes what the server sends. It is called by the channel's reader, and
// never waits.
func (p *peer) Message(message []byte) {
	message = jsonscan.WithoutMark(message)
	e, err := envelope.Parse(message)
	if err != nil {
		p.bridge.Log.Warn("dropped what the server sent, since it is not a message", "error", err, "bytes", len(message))
		return
	}
	switch e.Kind {
	case envelope.Response:
		p.response(&e, message)
	case envelope.Request:
		p.request(&e, message)
	case envelope.Notification:
		p.notification(&e, message)
	}
}

// response goes to whose request it answers.
func (p *peer) response(e *envelope.Envelope, message []byte) {
	c := p.callOf(e.ID.Of(message))
	if c == nil {
		return // cancelled, or never asked
	}
	p.forget(c)
	if c.hello != nil {
		c.hello(message, e)
	}
	parts := [2]envelope.Part{{Span: e.ID, Text: c.clientID}}
	if !e.SubscriptionID.None() && c.is(e.SubscriptionID.Of(message)) {
		parts[1] = envelope.Part{Span: e.SubscriptionID, Text: c.clientID}
	}
	c.queue.put(Item{
		Message: envelope.Replace(nil, message, parts[:]...),
		Final:   true,
		Failed:  e.Failed,
		Code:    e.ErrorCode,
	})
	if c.hello != nil && e.Failed && !p.bridge.Shared {
		p.end(ErrRefused)
	}
}

// is reports whether the bytes are the request's id on the channel.
func (c *Call) is(raw []byte) bool { return bytes.Equal(raw, idText(c.id)) }

// request is the server's: for input from a user, for a model's answer, for the
// client's roots.
func (p *peer) request(e *envelope.Envelope, message []byte) {
	id := e.ID.Of(message)
	if e.Method == protocol.MethodPing {
		p.reply(protocol.EmptyResult(id))
		return
	}
	if p.bridge.Shared || !p.hand(e, message) {
		p.reply(unavailable(id))
	}
}

// unavailable refuses a request of the server's.
func unavailable(id []byte) []byte {
	return protocol.Error(id, protocol.CodeMethodNotFound, protocol.MessageNoClient)
}

// hand gives the server's request to one session, and reports whether there is
// one: that whose request is in flight, which is why the server asks, or else
// one that listens.
func (p *peer) hand(e *envelope.Envelope, message []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	raw := string(e.ID.Of(message))
	if len(p.asked) >= maxCalls || p.asked[raw] != nil {
		return false
	}
	item := Item{Message: clone(message)}
	if c := p.newest(nil); c != nil && c.session != nil && c.queue.put(item) {
		p.asked[raw] = c.session
		return true
	}
	var kept *Session
	for s := range p.members {
		if s.feed != nil && s.feed.put(item) {
			p.asked[raw] = s
			return true
		}
		kept = s
	}
	if kept == nil || !kept.keep(item) {
		return false
	}
	p.asked[raw] = kept
	return true
}

// notification goes to whom it concerns, as far as that can be told.
func (p *peer) notification(e *envelope.Envelope, message []byte) {
	switch {
	case !e.SubscriptionID.None():
		if c := p.callOf(e.SubscriptionID.Of(message)); c != nil && c.listen {
			c.put(message, envelope.Part{Span: e.SubscriptionID, Text: c.clientID})
		}
	case e.Method == protocol.MethodProgress:
		if e.ProgressToken.None() {
			return
		}
		if c := p.callOf(e.ProgressToken.Of(message)); c != nil && c.token != nil {
			c.put(message, envelope.Part{Span: e.ProgressToken, Text: c.token})
		}
	case e.Method == protocol.MethodCancelled:
		p.cancelledBy(e, message)
	default:
		p.tell(e, message)
	}
}

// put hands the request a message before its answer.
func (c *Call) put(message []byte, part envelope.Part) {
	if c.streams {
		c.queue.put(Item{Message: envelope.Replace(nil, message, part)})
	}
}

// cancelledBy is the server's end of a subscription, or of a request of its own.
func (p *peer) cancelledBy(e *envelope.Envelope, message []byte) {
	if e.RequestID.None() {
		return
	}
	raw := e.RequestID.Of(message)
	if c := p.callOf(raw); c != nil && c.listen {
		p.forget(c)
		c.queue.close(ErrClosed)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.asked[string(raw)]; s != nil {
		delete(p.asked, string(raw))
		p.deliver(s, Item{Message: clone(message)})
	}
}

// tell passes on what the server says to nobody in particular.
func (p *peer) tell(e *envelope.Envelope, message []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	item := Item{Message: clone(message)}
	uri := ""
	if !e.URI.None() {
		uri = string(e.URI.Of(message))
	}
	switch {
	case p.bridge.Shared:
		// Only what tells nothing about another client.
		for s := range p.members {
			_, subscribed := s.subscribed[uri]
			if strings.HasSuffix(e.Method, protocol.SuffixListChanged) || e.Method == protocol.MethodUpdated && subscribed {
				p.deliver(s, item)
			}
		}
	case e.Method == protocol.MethodMessage || len(p.members) == 0:
		// Log lines are mostly about the request at hand.
		if c := p.newest(nil); c != nil && c.queue.put(item) {
			return
		}
		fallthrough
	default:
		for s := range p.members {
			p.deliver(s, item)
		}
	}
}

// deliver hands the session a message, on its own stream if there is one. p.mu
// is held.
func (p *peer) deliver(s *Session, item Item) {
	if s.feed != nil && s.feed.put(item) {
		return
	}
	if c := p.newest(s); c != nil && c.queue.put(item) {
		return
	}
	s.keep(item) // beyond its bound it is lost, as it would be without a stream
}

// newest returns the request in flight, of the session or of any, that came last
// and takes messages; nil if there is none. p.mu is held.
func (p *peer) newest(s *Session) *Call {
	var found *Call
	for _, c := range p.calls {
		if !c.streams || c.listen || s != nil && c.session != s || found != nil && found.id > c.id {
			continue
		}
		if c.queue.failure() == nil {
			found = c
		}
	}
	return found
}
