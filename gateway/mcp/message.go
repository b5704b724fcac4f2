package mcp

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Message is a message that was read once and strictly: its bytes, and what they
// say.
type Message struct {
	envelope.Envelope

	Data      []byte // the whole message; nil for a request without one: GET and DELETE
	Stateless bool   // of the era without sessions

	buffer  *buffer         // that holds Data; nil: nobody shares it
	whole   []byte          // what it held before Edit; nil: the same
	request *access.Request // that has reserved room for it
}

// ReadMessage takes the message of a request that the access middleware has let
// pass, and refuses what ServeHTTP would refuse. It should be released.
func ReadMessage(r *http.Request, limit int64) (*Message, *access.Refusal) {
	x := exchange{request: access.FromContext(r.Context()), header: r.Header}
	f := x.read(r, limit)
	// A URI begins with what should be a server's name. Whatever it is, it belongs into the
	// audit log only where there is such a server: the sub-request names the resource.
	x.request.ResourceURI = ""
	if f != nil {
		f.RPCID = bytes.Clone(f.RPCID) // it is written when another message may be in its place
		x.release()
		return nil, f
	}
	m := &Message{Envelope: x.message, Stateless: x.message.Stateless(r.Header)}
	if x.body != nil {
		m.Data, m.buffer, m.request = x.body.data, x.body, x.request
	}
	return m, nil
}

// ParseMessage reads a message that the gateway has composed, as strictly as that of
// a client.
func ParseMessage(data []byte) (*Message, error) {
	e, err := envelope.Parse(data)
	if err != nil {
		return nil, err
	}
	return &Message{Envelope: e, Data: data}, nil
}

// Edit replaces a part of a client's message, of which edited tells from then on. Where the part
// does not become longer, what stands before it moves, and nothing is copied. Nobody may have
// bytes of the message. The error is a refusal.
func (m *Message) Edit(part envelope.Part, edited envelope.Envelope) error {
	old := m.Data
	if less := part.End - part.Start - len(part.Text); less >= 0 {
		copy(old[less:], old[:part.Start])
		copy(old[less+part.Start:], part.Text)
		m.Data = old[less:]
	} else {
		if err := m.request.Reserve(int64(len(old) - less)); err != nil { // until the request's end
			return err
		}
		m.Data = envelope.Replace(nil, old, part)
	}
	m.Envelope, m.whole, m.buffer.data = edited, old, m.Data
	return nil
}

// Release gives the message's memory back. Nothing of it may be read any more.
func (m *Message) Release() {
	if m.buffer != nil {
		if m.whole != nil {
			m.buffer.data = m.whole
		}
		m.buffer.giveBack(m.request)
		m.buffer, m.Data = nil, nil
	}
}

// Call is a request to one server that came in over another endpoint than the
// server's own, or that the gateway makes itself.
type Call struct {
	Request *access.Request // what the middleware knows of it; it is admitted to the server
	Method  string          // of HTTP
	Header  http.Header     // the client's: the server gets only those of the protocol
	Message *Message        // nil with GET and DELETE; it must not be released before the Answer is closed

	// Instructions of the server stay in the answer whether they are approved or not: the caller
	// keeps them, and judges them whenever it shows them.
	Instructions bool
}

// IsForwarded reports whether a server gets the client's header of that name.
func IsForwarded(name string) bool { return forwarded(name) }

// Call does what ServeHTTP does with a request to the server's own endpoint, and
// returns the server's answer, which must be closed. The error is a [*access.Refusal],
// which is recorded, and is the caller's to answer; or it tells that the client is
// gone.
func (h *Handler) Call(ctx context.Context, c Call) (*Answer, error) {
	a := &Answer{exchange: exchange{request: c.Request, method: c.Method, header: c.Header, keepsInstructions: c.Instructions}}
	var err error
	if f := h.take(a, c.Message); f != nil {
		err = f
	} else {
		err = h.call(ctx, a)
	}
	if err == nil {
		return a, nil
	}
	if f, ok := errors.AsType[*access.Refusal](err); ok {
		c.Request.Record(f)
		f.RPCID = bytes.Clone(f.RPCID) // it may be of the next
	}
	a.release() // a message that took the place of the caller's
	return nil, err
}

// Admit decides about a request as Call does, and records the decision, but does not send the
// request: it goes on with one that was sent before. A refusal is recorded, and is the caller's to
// answer.
func (h *Handler) Admit(c Call) *access.Refusal {
	a := &Answer{exchange: exchange{request: c.Request, method: c.Method, header: c.Header}}
	f := h.take(a, c.Message)
	if f == nil {
		f = h.rule(a)
	}
	if f == nil {
		f = a.decide()
	}
	if f != nil {
		c.Request.Record(f)
	}
	return f
}

// take takes the message of a Call.
func (h *Handler) take(a *Answer, m *Message) *access.Refusal {
	if m == nil {
		return nil
	}
	a.message, a.body, a.borrowed = m.Envelope, m.buffer, true
	if a.body == nil {
		a.body = &buffer{data: m.Data}
	}
	if limit := h.settings().Limits.MaxBody; limit > 0 && int64(len(m.Data)) > limit {
		return bodyTooLarge()
	}
	return a.describe()
}

// rule refuses a message that the client's rules for the server, or its pins, do not let pass.
func (h *Handler) rule(a *Answer) *access.Refusal {
	a.handler, a.server = h, a.request.Server
	a.grant = a.request.Present()
	if rules := a.grant.Rules(a.server.Name); !rules.Empty() {
		a.rules = rules
	}
	a.pins = a.judgeNow()
	a.enforced = enforces(a.pins)
	return a.exchange.rule()
}

// call decides about the request, and has its server answer.
func (h *Handler) call(ctx context.Context, a *Answer) error {
	a.client = ctx
	if f := h.rule(a); f != nil {
		return f
	}
	a.tasks = a.mayNameTasks()
	if f := a.openTasks(ctx, h.tasks); f != nil {
		return f
	}
	link, err := h.link(a.server)
	if err != nil {
		return a.unusable(ctx, err)
	}
	return link.call(ctx, a)
}
