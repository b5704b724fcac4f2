package mcp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

// openSession returns the server's session id for the one that the client sent;
// "" if it sent none, or if the request belongs to the era without sessions, in
// which the header means nothing, or begins a session: some clients send the id
// of their last one then.
func (q *proxied) openSession(ctx context.Context) (string, *access.Refusal) {
	sealed := protocol.First(q.header, protocol.HeaderSession)
	if sealed == "" || q.stateless || q.starts() {
		return "", nil
	}
	handler := q.handler
	id, err := handler.sealer.Open(q.owner, sealed)
	if errors.Is(err, session.ErrNewerKey) {
		// Another gateway has heard of the key first.
		if err = handler.registry.RefreshSessionKeys(ctx); err == nil {
			id, err = handler.sealer.Open(q.owner, sealed)
		} else if f := access.CutCause(ctx); f != nil {
			return "", f
		}
	}
	if err != nil {
		return "", q.noSession(err)
	}
	q.sealed = sealed
	q.request.Session = HashSession(sealed)
	return id, nil
}

// answerSession sets the session id of the answer. A session is sealed once, at
// its beginning; after that the client hears exactly the id that it sends:
// clients may treat another spelling as another session.
func (q *proxied) answerSession() *access.Refusal {
	id := protocol.First(q.response.Header, protocol.HeaderSession)
	switch {
	case id == "" || q.stateless:
		return nil
	case q.sealed != "":
		q.Session = q.sealed
		return nil
	}
	sealed, err := q.handler.sealer.Seal(q.owner, id)
	if err != nil {
		if errors.Is(err, session.ErrUpstreamID) {
			return q.badAnswer(err.Error())
		}
		return q.noSession(err)
	}
	q.request.Session = HashSession(sealed)
	q.Session = sealed
	return nil
}

// HashSession names a session in the audit log, where its id must not stand.
func HashSession(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}
