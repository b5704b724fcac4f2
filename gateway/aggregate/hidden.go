package aggregate

import (
	"bytes"
	"context"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// hiding is one request of a client without sessions on its way through a
// session that the gateway holds for it. Requests of several programs may be in
// that session at once, so each gets an id of its own.
type hiding struct {
	x      *exchange
	way    *way
	method string
	logs   bool   // the client wants log lines
	own    []byte // the id in the session, and the progress token
	id     []byte // the client's
	token  []byte // likewise; nil if there is none
}

// hide takes from the request what the older era does not know.
func (h *hiding) hide(m *mcp.Message) (*mcp.Message, error) {
	message, e := m.Data, &m.Envelope
	h.own = strconv.AppendInt(nil, h.way.leg.lastID.Add(1), 10)
	h.id = bytes.Clone(e.IDOf(message))
	parts := []envelope.Part{{Span: e.ID, Text: h.own}}
	if !e.MetaProgressToken.None() {
		h.token = bytes.Clone(e.MetaProgressToken.Of(message))
	}
	params, err := members(message, e.Params)
	if err != nil {
		return nil, err
	}
	meta, found := find(params, "_meta")
	if !found {
		return mcp.ParseMessage(envelope.Replace(nil, message, parts...))
	}
	list, err := members(message, meta.at)
	if err != nil {
		return nil, err
	}
	_, h.logs = find(list, protocol.MetaLogLevel)
	kept := texts(list, protocol.MetaProtocolVersion, protocol.MetaClientInfo, protocol.MetaClientCapabilities, protocol.MetaLogLevel, protocol.MetaProgressToken)
	if h.token != nil {
		kept = append(kept, protocol.Member(protocol.MetaProgressToken, h.own))
	}
	parts = append(parts, envelope.Part{Span: meta.at, Text: protocol.Object(kept...)})
	return mcp.ParseMessage(envelope.Replace(nil, message, parts...))
}

// back turns a message of the session into one for the request.
func (h *hiding) back(m *mcp.Message) ([]byte, error) {
	message, e := m.Data, &m.Envelope
	switch e.Kind {
	case envelope.Response:
		if id := e.IDOf(message); string(id) != "null" && !sameID(id, h.own) {
			return nil, nil
		}
		message, err := h.complete(envelope.Replace(nil, message, envelope.Part{Span: e.ID, Text: h.id}))
		if err != nil {
			return nil, err
		}
		return h.way.answer(message)
	case envelope.Notification:
		switch {
		case e.Method == protocol.MethodMessage && !h.logs:
			return nil, nil // which is what a client that says nothing wants of them
		case e.Method == protocol.MethodCancelled:
			return nil, nil // of what it has asked, which is nothing
		case e.Method != protocol.MethodProgress:
			return h.way.answer(message)
		}
		if h.token == nil || e.ProgressToken.None() || !sameID(e.ProgressToken.Of(message), h.own) {
			return nil, nil
		}
		return h.way.answer(envelope.Replace(nil, message, envelope.Part{Span: e.ProgressToken, Text: h.token}))
	default:
		h.x.answerServer(h.way, m)
		return nil, nil
	}
}

// How many questions of a server are answered: some at once, and one a second.
const (
	answersAtOnce    = 16
	answersPerSecond = 1
)

// answerServer answers what a server asks of the client in a session that the
// gateway holds. It was offered nothing that it could ask for, but whether
// anybody is there.
func (x *exchange) answerServer(v *way, m *mcp.Message) {
	if !v.leg.answers.Allow() {
		return // a server could ask as fast as it is answered
	}
	answer := protocol.EmptyResult(m.IDOf(m.Data))
	if m.Method != protocol.MethodPing {
		answer = protocol.Error(m.IDOf(m.Data), protocol.CodeMethodNotFound, protocol.MessageNoClient)
	}
	// The server's stream must not wait for the server.
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), x.handler.wait())
		defer cancel()
		if err := x.tell(ctx, v, answer); err != nil {
			x.handler.log.Debug("a server's question was not answered", "server", v.server, "error", err)
		}
	}()
}

// complete adds to a result what the newer era requires of it.
func (h *hiding) complete(message []byte) ([]byte, error) {
	top, err := members(message, whole(message))
	if err != nil {
		return nil, err
	}
	result, found := find(top, "result")
	if !found || !isObject(result.raw) {
		return message, nil
	}
	inner, err := members(message, result.at)
	if err != nil {
		return nil, err
	}
	var added [][]byte
	if _, found := find(inner, "resultType"); !found {
		added = append(added, protocol.StringMember("resultType", "complete"))
	}
	if h.method == protocol.MethodResourcesRead {
		if _, found := find(inner, "ttlMs"); !found {
			added = append(added, protocol.Member("ttlMs", []byte("0")))
		}
		if _, found := find(inner, "cacheScope"); !found {
			added = append(added, protocol.StringMember("cacheScope", "private"))
		}
	}
	if len(added) == 0 {
		return message, nil
	}
	return envelope.Replace(nil, message, envelope.Part{Span: result.at, Text: protocol.Object(append(added, texts(inner)...)...)}), nil
}
