package mcp

import (
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// bridged serves streamable HTTP for a server that does not speak it. To the
// client it is the server, so it keeps the protocol's rules for servers.
type bridged struct {
	handler *Handler
	server  *grants.Server
	bridge  *bridge.Bridge

	limits   config.Limits
	upstream config.Upstream
	stdio    *config.Stdio // nil if the server is no child process
}

func (b *bridged) close() { b.bridge.Close() }

// end takes from a client what it has through a token that has ended, or through
// one that may not reach the server any more.
func (b *bridged) end(end grants.End) {
	owner := bridge.Owner{Client: end.Grant.ClientID, Accessor: end.Grant.Accessor}
	switch {
	case end.Successor == nil:
		b.bridge.EndToken(owner)
	case grants.Allows(end.Successor, b.server) != nil:
		b.bridge.EndClient(owner.Client)
	}
}

// conversation is one request's way over the bridge.
type conversation struct {
	*exchange
	*bridged
	owner   bridge.Owner
	accepts accepts
}

func (b *bridged) serve(w http.ResponseWriter, r *http.Request, x *exchange) {
	c := conversation{
		exchange: x,
		bridged:  b,
		owner:    bridge.Owner{Client: x.request.Grant.ClientID, Accessor: x.request.Grant.Accessor, Keeper: x.request},
		accepts:  acceptsOf(r.Header[protocol.HeaderAccept]),
	}
	var f *access.Refusal
	switch {
	case r.Method != http.MethodPost && x.message.Stateless(r.Header):
		w.Header().Set("Allow", http.MethodPost)
		f = c.plain(http.StatusMethodNotAllowed, "This protocol version has no sessions.")
	case r.Method == http.MethodGet:
		f = c.listen(w, r)
	case r.Method == http.MethodDelete:
		f = c.terminate(w, r)
	case !c.accepts.json && !c.accepts.stream:
		f = c.plain(http.StatusNotAcceptable, "Accept must list application/json and text/event-stream.")
	case x.sessionless(r.Header):
		f = c.withoutSession(w, r)
	case !protocol.SpeaksSessions(r.Header):
		f = c.plain(http.StatusBadRequest, "This protocol version is not supported.")
	case x.starts():
		f = c.initialize(w, r)
	default:
		f = c.inSession(w, r)
	}
	if f != nil {
		access.Refuse(w, r, f)
	}
}

// starts reports whether the message starts a session.
func (x *exchange) starts() bool {
	return x.message.Kind == envelope.Request && x.message.Method == "initialize"
}

// sessionless reports whether the message is for the server as one of the era
// without sessions: also if it declares a version that nobody knows, which is
// for the server to say.
func (x *exchange) sessionless(h http.Header) bool {
	return x.stateless || x.message.Version != "" && h[protocol.HeaderSession] == nil && !x.starts()
}

// plain refuses what breaks the protocol's rules for requests.
func (c *conversation) plain(status int, message string) *access.Refusal {
	return c.rpc(&access.Refusal{Status: status, Reason: access.ReasonBadRequest, Detail: message, Message: message},
		protocol.CodeInvalidRequest)
}

func (c *conversation) incoming() bridge.Incoming {
	return bridge.Incoming{Envelope: &c.message, Message: c.body.data, Streams: c.accepts.stream}
}

// initialize starts a session.
func (c *conversation) initialize(w http.ResponseWriter, r *http.Request) *access.Refusal {
	if f := c.decide(); f != nil {
		return f
	}
	session, call, err := c.bridge.Initialize(r.Context(), c.owner, c.incoming())
	if err != nil {
		return c.unanswered(r.Context(), err)
	}
	c.request.Session = hashSession(session.ID)
	return c.answer(w, r, call, session)
}

// inSession serves a message of a session.
func (c *conversation) inSession(w http.ResponseWriter, r *http.Request) *access.Refusal {
	session, f := c.session(r)
	if f != nil {
		return f
	}
	defer session.Release()
	if f := c.decide(); f != nil {
		return f
	}
	var err error
	switch c.message.Kind {
	case envelope.Request:
		var call *bridge.Call
		if call, err = session.Call(c.incoming()); err == nil {
			return c.answer(w, r, call, nil)
		}
	case envelope.Notification:
		err = session.Notify(c.incoming())
	default:
		err = session.Respond(c.incoming())
	}
	if err != nil {
		return c.unanswered(r.Context(), err)
	}
	c.accepted(w)
	return nil
}

// withoutSession serves a message of the era without sessions.
func (c *conversation) withoutSession(w http.ResponseWriter, r *http.Request) *access.Refusal {
	switch {
	case c.message.Kind == envelope.Response:
		return c.plain(http.StatusBadRequest, "A message must be a request or a notification.")
	case c.message.Kind == envelope.Request && c.message.Version == "":
		// On its channel the server would take it for one of the older era.
		f := c.plain(http.StatusBadRequest, "params._meta must declare the protocol version.")
		f.Code = protocol.CodeInvalidParams
		return f
	}
	c.stateless = true
	if f := c.decide(); f != nil {
		return f
	}
	if c.message.Kind == envelope.Notification {
		if err := c.bridge.Notify(r.Context(), c.owner, c.incoming()); err != nil {
			return c.unanswered(r.Context(), err)
		}
		c.accepted(w)
		return nil
	}
	call, err := c.bridge.Call(r.Context(), c.owner, c.incoming())
	if err != nil {
		return c.unanswered(r.Context(), err)
	}
	return c.answer(w, r, call, nil)
}

// accepted answers what needs no answer.
func (c *conversation) accepted(w http.ResponseWriter) {
	w.WriteHeader(http.StatusAccepted)
	c.request.Outcome(http.StatusAccepted, 0, nil)
}

// session returns the session that the request names, or the refusal. The caller
// releases it.
func (c *conversation) session(r *http.Request) (*bridge.Session, *access.Refusal) {
	id := protocol.First(r.Header, protocol.HeaderSession)
	if id == "" {
		return nil, c.plain(http.StatusBadRequest, "Mcp-Session-Id is required: initialize a session first.")
	}
	session, err := c.bridge.Session(c.owner, id)
	if err != nil {
		return nil, c.noSession(nil) // also where the client is gone: a nil refusal would stand for a session
	}
	c.request.Session = hashSession(id)
	return session, nil
}

// terminate ends a session at the client's wish.
func (c *conversation) terminate(w http.ResponseWriter, r *http.Request) *access.Refusal {
	session, f := c.session(r)
	if f != nil {
		return f
	}
	defer session.Release()
	if f := c.decide(); f != nil {
		return f
	}
	session.End()
	w.WriteHeader(http.StatusNoContent)
	c.request.Outcome(http.StatusNoContent, 0, nil)
	return nil
}

// listen serves a session's own stream.
func (c *conversation) listen(w http.ResponseWriter, r *http.Request) *access.Refusal {
	if !c.accepts.stream {
		return c.plain(http.StatusNotAcceptable, "Accept must list text/event-stream.")
	}
	if protocol.First(r.Header, protocol.HeaderSession) == "" {
		// Nobody without a session has anything to get here.
		w.Header().Set("Allow", "POST")
		return c.plain(http.StatusMethodNotAllowed, "There is no stream without a session.")
	}
	session, f := c.session(r)
	if f != nil {
		return f
	}
	defer session.Release()
	if f := c.decide(); f != nil {
		return f
	}
	feed := session.Feed()
	defer feed.Close()
	c.stream(w, r, nil, true, feed.Next)
	return nil
}
