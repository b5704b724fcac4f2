package mcp

import (
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Message is a client's message, read once and strictly. It is for those who
// make requests of their own to a [Handler] of it.
type Message struct {
	envelope.Envelope

	Data      []byte // the whole message; nil for a request without one: GET and DELETE
	Stateless bool   // of the era without sessions
}

// ReadMessage takes the message of a request that the access middleware has let
// pass, and refuses what ServeHTTP would refuse.
func ReadMessage(r *http.Request, limit int64) (*Message, *access.Refusal) {
	x := exchange{request: access.FromContext(r.Context())}
	if f := x.read(r, limit); f != nil {
		x.release()
		return nil, f
	}
	m := &Message{Envelope: x.message, Stateless: x.stateless}
	if x.body != nil {
		m.Data = x.body.data // never given back: who knows who reads it
	} else {
		m.Stateless = x.message.Stateless(r.Header)
	}
	return m, nil
}

// Accepts returns which kinds of answer the client takes: JSON, and streams of
// events.
func Accepts(header http.Header) (json, stream bool) {
	a := acceptsOf(header[protocol.HeaderAccept])
	return a.json, a.stream
}

// HashSession names a session in the audit log, where its id must not stand.
func HashSession(id string) string { return hashSession(id) }

// CopyHeader copies those headers of an answer that describe neither the body
// nor the connection.
func CopyHeader(out, in http.Header) {
	copyResponseHeader(out, in)
	for _, key := range [...]string{protocol.HeaderContentLength, "Etag", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		delete(out, key)
	}
}
