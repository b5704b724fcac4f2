package aggregate

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
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
		if f.route.mode != modeSession || isOfClientsTasks(e) {
			return nil, nil // the client's response could not be forwarded
		}
		message = envelope.Replace(nil, message, f.route.qualify(e.ID, message), f.route.qualify(e.MetaProgressToken, message))
	case e.Method == protocol.MethodCancelled:
		if f.route.mode != modeSession || e.RequestID.None() {
			return nil, nil
		}
		message = envelope.Replace(nil, message, f.route.qualify(e.RequestID, message))
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
	case f.id == nil, !sameID(id, f.sentID()) && string(id) != "null":
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
		return f.token != nil && sameID(token, f.token)
	}
	return f.session != nil && f.session.awaitsProgress(token, f.route.server)
}

// Servers ask clients too: for user input, for a model's answer, for roots. Each server
// numbers its requests for itself. So the client gets their ids with the server's name in
// front, like all names of servers: server__id, with the id as it stands in the server's
// message. The client's response names its server then, and no table is needed.

// qualify puts the server's name in front of the id at that place.
func (r *route) qualify(at envelope.Span, message []byte) envelope.Part {
	if at.None() {
		return envelope.Part{}
	}
	return envelope.Part{Span: at, Text: protocol.AppendString(nil, names.Prefix(r.server)+string(at.Of(message)))}
}

// splitID splits an id of qualify: into the server's name, and the id as the server wrote
// it.
func splitID(raw []byte) (server string, id []byte, ok bool) {
	text, ok := stringOf(raw)
	if !ok {
		return "", nil, false
	}
	server, rest, ok := splitServer(text)
	if !ok || !isID([]byte(rest)) {
		return "", nil, false
	}
	return server, []byte(rest), true
}

// splitServer splits off the server's name in front of any text; [names.Split] is only for
// names of tools and prompts.
func splitServer(text string) (server, rest string, ok bool) {
	server, rest, ok = strings.Cut(text, names.Prefix(""))
	return server, rest, ok && server != "" && rest != ""
}

// isID reports whether the bytes are one string or number, which can go into a message for
// the server.
func isID(raw []byte) bool {
	scanner, err := jsonscan.New(raw)
	if err != nil {
		return false
	}
	switch c := scanner.Peek(); {
	case scanner.Pos() > 0: // white space
	case c == '"', c == '-', '0' <= c && c <= '9':
		return scanner.Skip() == nil && scanner.Pos() == len(raw)
	}
	return false
}

// stringOf returns the value of a JSON string.
func stringOf(raw []byte) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return text, err == nil
}

// idKey is an id or a progress token, however it is written. It has one size, since
// clients may choose ids of any length.
type idKey [sha256.Size]byte

func keyOf(raw []byte) idKey {
	if text, ok := stringOf(raw); ok {
		return sha256.Sum256([]byte(`"` + text))
	}
	if bytes.ContainsAny(raw, ".eE") { // most programs take 1.0 for 1
		if n, err := strconv.ParseFloat(string(raw), 64); err == nil && n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return sha256.Sum256(strconv.AppendInt(nil, int64(n), 10))
		}
	}
	return sha256.Sum256(raw)
}

// sameID reports whether a server's id is that of the request. Some servers write numbers
// as strings, or strings as numbers.
func sameID(id, requested []byte) bool {
	if bytes.Equal(id, requested) {
		return true
	}
	key := keyOf(requested)
	return keyOf(id) == key || keyOf(otherType(id)) == key
}

// otherType returns the id as a string if it is a number, and as a number if it is a
// string that holds one.
func otherType(raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '"' {
		return append(append([]byte{'"'}, raw...), '"')
	}
	text, ok := stringOf(raw)
	if !ok || text == "" || !json.Valid([]byte(text)) || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return raw
	}
	return []byte(text)
}

// find returns the entry of the id, in either type.
func find(entries map[idKey]string, id []byte) (key idKey, server string, found bool) {
	key = keyOf(id)
	if server, found = entries[key]; !found {
		key = keyOf(otherType(id))
		server, found = entries[key]
	}
	return key, server, found
}

// maxPending bounds the pending requests of a session. If the stream of an answer broke
// off, the answer may never come.
const maxPending = 1024

// pendingRequests are a session's requests that servers have not answered yet. The maps
// have the names of the servers.
type pendingRequests struct {
	byID    map[idKey]string
	byToken map[idKey]string // by progress token
	order   []pendingRequest // the oldest first
}

type pendingRequest struct{ id, token idKey }

// add adds a request to the server. session.mu is held.
func (p *pendingRequests) add(x *exchange, server string) {
	if p.byID == nil {
		p.byID, p.byToken = make(map[idKey]string), make(map[idKey]string)
	}
	r := pendingRequest{id: keyOf(x.id())}
	p.byID[r.id] = server
	if at := x.message.MetaProgressToken; !at.None() {
		r.token = keyOf(at.Of(x.message.Data))
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
	key, asked, found := find(s.pending.byID, id)
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
	_, asked, found := find(s.pending.byToken, token)
	return found && asked == server
}
