package aggregate

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// To a client all servers are one: it takes a response for the answer to the
// request of its id, and a cancellation for that of whoever asked, on whichever
// stream they come. So what a server says is passed on only where it concerns
// what that server was asked, or has asked itself.

// due is what a client waits for on a stream of a server.
type due struct {
	id, token []byte // of the request that the stream answers; nil: there is none

	// The session's requests to the server count on streams that answer none.
	session *session
	server  string
	rest    bool // the stream holds what is left of answers
}

// replies is the way back for the answer to the exchange's request.
func (v *way) replies(x *exchange) back {
	d := due{id: x.id(), session: x.session}
	if at := x.message.MetaProgressToken; !at.None() {
		d.token = at.Of(x.message.Data)
	}
	return func(m *mcp.Message) ([]byte, error) { return v.said(m, &d) }
}

// remains is the way back for what is left of answers, after their streams were
// lost.
func (v *way) remains(s *session) back {
	return func(m *mcp.Message) ([]byte, error) {
		return v.said(m, &due{session: s, server: v.server, rest: true})
	}
}

// said turns a message of the server into one for the client; nil is one that is
// not for the client.
func (v *way) said(m *mcp.Message, d *due) ([]byte, error) {
	message := v.concerns(m, d)
	if message == nil {
		return nil, nil
	}
	return v.answer(message)
}

// concerns returns the message under the ids that the client knows; nil if it does not
// concern the client.
func (v *way) concerns(m *mcp.Message, d *due) []byte {
	message, e := m.Data, &m.Envelope
	switch e.Kind {
	case envelope.Response:
		return d.answered(e, message)
	case envelope.Request:
		if v.kind != paired {
			return nil // its answer would not find the way back
		}
		return envelope.Replace(nil, message, v.named(e.ID, message), v.named(e.MetaProgressToken, message))
	}
	switch e.Method {
	case protocol.MethodCancelled:
		if v.kind != paired || e.RequestID.None() {
			return nil
		}
		return envelope.Replace(nil, message, v.named(e.RequestID, message))
	case protocol.MethodProgress:
		if !d.progresses(e, message) {
			return nil
		}
	}
	return message
}

// answered returns the response as the client gets it, under the id that the
// client has written; nil if nobody waits for it.
func (d *due) answered(e *envelope.Envelope, message []byte) []byte {
	id := e.ID.Of(message)
	switch {
	case d.rest:
		if !d.session.settle(id, d.server) {
			return nil
		}
		return message
	case d.id == nil, string(id) != "null" && !sameID(id, d.id):
		return nil
	case d.session != nil:
		d.session.settle(d.id, "")
	}
	if bytes.Equal(id, d.id) {
		return message
	}
	return envelope.Replace(nil, message, envelope.Part{Span: e.ID, Text: d.id})
}

// progresses reports whether the notification tells of a request that was made
// of the server.
func (d *due) progresses(e *envelope.Envelope, message []byte) bool {
	if e.ProgressToken.None() {
		return false
	}
	token := e.ProgressToken.Of(message)
	if d.id != nil {
		return d.token != nil && sameID(token, d.token)
	}
	return d.session != nil && d.session.awaits(token, d.server)
}

// spelling is an id or a token, however it is written. It is of one size, since
// there is no bound to what clients choose.
type spelling [sha256.Size]byte

func spelled(raw []byte) spelling {
	if len(raw) > 0 && raw[0] == '"' {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			return sha256.Sum256([]byte(`"` + text))
		}
	}
	if bytes.ContainsAny(raw, ".eE") { // 1.0 is 1 to most
		if n, err := strconv.ParseFloat(string(raw), 64); err == nil && n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return sha256.Sum256(strconv.AppendInt(nil, int64(n), 10))
		}
	}
	return sha256.Sum256(raw)
}

// sameID reports whether a server means the id that it was asked under. Some write
// numbers as strings, or strings as numbers.
func sameID(said, asked []byte) bool {
	key := spelled(asked)
	return spelled(said) == key || spelled(otherwise(said)) == key
}

// otherwise is an id written as the other of the two types: a string for a number,
// and the number for a string that holds one.
func otherwise(raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '"' {
		return append(append([]byte{'"'}, raw...), '"')
	}
	var text string
	if json.Unmarshal(raw, &text) != nil || text == "" || !json.Valid([]byte(text)) || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return raw
	}
	return []byte(text)
}

// maxOwed bounds the requests of a session whose answers are waited for: one
// whose stream was lost may never be answered.
const maxOwed = 1024

// owed are a session's requests that servers have not answered yet.
type owed struct {
	servers map[spelling]string // by the request's id
	tokens  map[spelling]string // by its progress token
	order   []owedRequest       // the oldest first
}

type owedRequest struct{ id, token spelling }

// owe notes a request to the server. s.mu is held.
func (s *session) owe(x *exchange, server string) {
	o := &s.owed
	if o.servers == nil {
		o.servers, o.tokens = make(map[spelling]string), make(map[spelling]string)
	}
	r := owedRequest{id: spelled(x.id())}
	o.servers[r.id] = server
	if at := x.message.MetaProgressToken; !at.None() {
		r.token = spelled(at.Of(x.message.Data))
		o.tokens[r.token] = server
	}
	o.order = append(o.order, r)
	if len(o.order) > maxOwed {
		delete(o.servers, o.order[0].id)
		delete(o.tokens, o.order[0].token)
		o.order = o.order[1:]
	}
}

// settle notes that a request was answered, by that server; "" stands for
// whichever it is. It reports whether there was such a request.
func (s *session) settle(id []byte, server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := spelled(id)
	asked, found := s.owed.servers[key]
	if !found {
		key = spelled(otherwise(id))
		asked, found = s.owed.servers[key]
	}
	if !found || server != "" && asked != server {
		return false
	}
	delete(s.owed.servers, key)
	if server == "" {
		delete(s.calls, string(id)) // the client may use the id again as soon as it reads the answer
	}
	return true
}

// awaits reports whether a request with that progress token was made of the
// server.
func (s *session) awaits(token []byte, server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, found := s.owed.tokens[spelled(token)]
	if !found {
		asked, found = s.owed.tokens[spelled(otherwise(token))]
	}
	return found && asked == server
}
