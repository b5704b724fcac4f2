package aggregate

import (
	"bytes"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// To a client all servers are one. It takes a response for the answer to its request of
// that id, and a cancellation for that of any request of a server, on whichever stream
// they come. So a server's message passes only if it concerns what that server was asked,
// or has asked itself.

// toClient translates a server's message for the client. Nil means that the client does
// not get the message.
type toClient func(m *mcp.Message) ([]byte, error)

// streamFilter passes those messages of one stream that concern the client.
type streamFilter struct {
	route     *route
	session   *session // nil without sessions
	id, token []byte   // of the request that the stream answers; nil if it answers none
	sent      []byte   // its id as the server knows it; nil: the same
	resumed   bool     // the stream has the rest of answers whose streams broke off
}

// answerFilter filters the answer to the exchange's request. sent is the id that it has at the
// server; nil if it is the client's.
func (r *route) answerFilter(x *exchange, sent []byte) toClient {
	f := streamFilter{route: r, session: x.session, id: x.id(), sent: sent}
	if at := x.message.MetaProgressToken; !at.None() {
		f.token = at.Of(x.message.Data)
	}
	return f.toClient
}

// resumedFilter filters a stream that has the rest of a session's answers.
func (r *route) resumedFilter(s *session) toClient {
	f := streamFilter{route: r, session: s, resumed: true}
	return f.toClient
}

// notificationFilter filters a stream on which the server sends notifications, and perhaps
// requests.
func (r *route) notificationFilter(s *session) toClient {
	f := streamFilter{route: r, session: s}
	return f.toClient
}

// toClient gives the message those ids and names that the client knows.
func (f *streamFilter) toClient(m *mcp.Message) ([]byte, error) {
	message, e := m.Data, &m.Envelope
	switch {
	case e.Kind == envelope.Response:
		message = f.response(m)
	case e.Kind == envelope.Request:
		if f.route.mode != modeSession || messages.IsOfClientsTasks(e) {
			return nil, nil // the client's response could not be forwarded
		}
		message = envelope.Replace(nil, message, messages.QualifyID(f.route.server, e.ID, message), messages.QualifyID(f.route.server, e.MetaProgressToken, message))
	case e.Method == protocol.MethodCancelled:
		if f.route.mode != modeSession || e.RequestID.None() {
			return nil, nil
		}
		message = envelope.Replace(nil, message, messages.QualifyID(f.route.server, e.RequestID, message))
	case e.Method == protocol.MethodProgress && !f.isProgress(m):
		return nil, nil
	}
	if message == nil {
		return nil, nil
	}
	return f.route.rename(e, message)
}

// response returns the response under the id as the client wrote it; nil if it answers no
// request of the stream.
func (f *streamFilter) response(m *mcp.Message) []byte {
	id := m.ID.Of(m.Data)
	switch {
	case f.resumed:
		if !f.session.answered(id, f.route.server) {
			return nil
		}
		return m.Data
	case f.id == nil, !messages.SameID(id, f.sentID()) && string(id) != "null":
		return nil
	case f.session != nil:
		f.session.answered(f.id, "")
	}
	if bytes.Equal(id, f.id) {
		return m.Data
	}
	return envelope.Replace(nil, m.Data, envelope.Part{Span: m.ID, Text: f.id})
}

func (f *streamFilter) sentID() []byte {
	if f.sent != nil {
		return f.sent
	}
	return f.id
}

// isProgress reports whether the notification is about a request to this server.
func (f *streamFilter) isProgress(m *mcp.Message) bool {
	if m.ProgressToken.None() {
		return false
	}
	token := m.ProgressToken.Of(m.Data)
	if f.id != nil {
		return f.token != nil && messages.SameID(token, f.token)
	}
	return f.session != nil && f.session.awaitsProgress(token, f.route.server)
}

// maxPending bounds the pending requests of a session. If the stream of an answer broke
// off, the answer may never come.
const maxPending = 1024

// pendingRequests are a session's requests that servers have not answered yet. The maps
// have the names of the servers.
type pendingRequests struct {
	byID    map[messages.IDKey]string
	byToken map[messages.IDKey]string // by progress token
	order   []pendingRequest          // the oldest first
}

type pendingRequest struct{ id, token messages.IDKey }

// add adds a request to the server. session.mu is held.
func (p *pendingRequests) add(x *exchange, server string) {
	if p.byID == nil {
		p.byID, p.byToken = make(map[messages.IDKey]string), make(map[messages.IDKey]string)
	}
	r := pendingRequest{id: messages.KeyOf(x.id())}
	p.byID[r.id] = server
	if at := x.message.MetaProgressToken; !at.None() {
		r.token = messages.KeyOf(at.Of(x.message.Data))
		p.byToken[r.token] = server
	}
	p.order = append(p.order, r)
	if len(p.order) > maxPending {
		delete(p.byID, p.order[0].id)
		delete(p.byToken, p.order[0].token)
		p.order = p.order[1:]
	}
}

// answered removes a pending request that the server has answered; "" stands for any
// server. It reports whether there was such a request.
func (s *session) answered(id []byte, server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, asked, found := messages.FindID(s.pending.byID, id)
	if !found || server != "" && asked != server {
		return false
	}
	delete(s.pending.byID, key)
	if server == "" {
		delete(s.calls, string(id)) // the client may use the id again when it reads the answer
	}
	return true
}

// awaitsProgress reports whether the session has sent the server a request with that
// progress token.
func (s *session) awaitsProgress(token []byte, server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, asked, found := messages.FindID(s.pending.byToken, token)
	return found && asked == server
}
