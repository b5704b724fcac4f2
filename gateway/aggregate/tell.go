package aggregate

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Why a request of a session was ended.
var (
	errEnded     = errors.New("the session has ended")
	errCancelled = errors.New("the client has cancelled the request")
)

// enter finds the session that the request names. It must be released.
func (x *exchange) enter() *access.Refusal {
	id := protocol.First(x.r.Header, protocol.HeaderSession)
	if id == "" {
		return x.plain(400, "Mcp-Session-Id is required: initialize a session first.")
	}
	s := x.handler.sessions.find(id, x.request.Grant)
	if s == nil {
		return x.noSession()
	}
	x.session = s
	x.request.Session = mcp.HashSession(id)
	return nil
}

// respond hands the client's answer to the server that has asked.
func (x *exchange) respond() *access.Refusal {
	message := x.message.Data
	server, id, ok := unnamed(x.message.ID.Of(message))
	if !ok {
		return x.answerAccepted() // nobody waits for it
	}
	return x.relay(server, envelope.Replace(nil, message, envelope.Part{Span: x.message.ID, Text: id}))
}

// relay hands a message that is not answered to one server.
func (x *exchange) relay(server string, message []byte) *access.Refusal {
	if f := x.answerAccepted(); f != nil {
		return f
	}
	v := x.session.readyTo(server)
	if v == nil || v.kind != paired {
		return nil
	}
	if err := x.tell(x.r.Context(), v, message); err != nil {
		x.handler.log.Debug("a message for a server was not delivered", "server", server, "error", err)
	}
	return nil
}

// notify serves a notification.
func (x *exchange) notify() *access.Refusal {
	message := x.message.Data
	switch x.message.Method {
	case protocol.MethodCancelled:
		return x.cancelled()
	case protocol.MethodProgress:
		if x.message.ProgressToken.None() {
			break
		}
		if server, token, ok := unnamed(x.message.ProgressToken.Of(message)); ok {
			return x.relay(server, envelope.Replace(nil, message, envelope.Part{Span: x.message.ProgressToken, Text: token}))
		}
	case protocol.MethodRootsChanged:
		if f := x.answerAccepted(); f != nil {
			return f
		}
		x.tellAll(message, func(v *way) bool { return v.kind == paired })
		return nil
	}
	// What begins a session is told to each server at the beginning of its own;
	// anything else means nothing to anybody in particular.
	return x.answerAccepted()
}

// cancelled cancels a request of the client's.
func (x *exchange) cancelled() *access.Refusal {
	message, s := x.message.Data, x.session
	if x.message.RequestID.None() {
		return x.answerAccepted()
	}
	raw := x.message.RequestID.Of(message)
	if server, id, ok := unnamed(raw); ok && s.readyTo(server) != nil {
		// Of a request that a server has made.
		return x.relay(server, envelope.Replace(nil, message, envelope.Part{Span: x.message.RequestID, Text: id}))
	}
	s.mu.Lock()
	call := s.calls[string(bytes.TrimSpace(raw))]
	s.mu.Unlock()
	if call == nil {
		return x.answerAccepted() // answered by now
	}
	if v := s.readyTo(call.server); v != nil && v.kind == paired {
		return x.relay(call.server, message)
	}
	call.cancel(errCancelled)
	return x.answerAccepted()
}

// setLevel tells all servers which log lines the client wants.
func (x *exchange) setLevel() *access.Refusal {
	if len(x.message.Data) > maxLevel {
		return x.tooLong()
	}
	if f := x.decide(); f != nil {
		return f
	}
	message := bytes.Clone(x.message.Data)
	x.session.mu.Lock()
	x.session.level = message
	x.session.mu.Unlock()
	x.tellAll(message, func(v *way) bool { return v.kind == paired && v.has.logging })
	x.answerResult([]byte("{}"))
	return nil
}

// tellAll sends a message to all servers in use that are wanted. One that does
// not take it in time goes without.
func (x *exchange) tellAll(message []byte, wanted func(*way) bool) {
	ctx, cancel := context.WithTimeout(x.r.Context(), x.handler.wait())
	defer cancel()
	var all sync.WaitGroup
	for _, v := range x.session.ready() {
		if !wanted(v) {
			continue
		}
		all.Go(func() {
			if err := x.tell(ctx, v, message); err != nil {
				x.handler.log.Debug("a message for a server was not delivered", "server", v.server, "error", err)
			}
		})
	}
	all.Wait()
}
