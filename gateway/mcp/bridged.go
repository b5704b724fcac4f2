package mcp

import (
	"context"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// bridged serves streamable HTTP for a server that does not speak it. To the
// client it is the server, so it keeps the protocol's rules for servers.
type bridged struct {
	server *grants.Server
	bridge *bridge.Bridge

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
	*Answer
	*bridged
	owner   bridge.Owner
	accepts accepts

	session  *bridge.Session // the request's, in use; nil without sessions
	inFlight *bridge.Call    // nil: no answer is waited for
	feed     *bridge.Stream  // of a session's own stream; nil: it is none
	done     bool            // the request has its answer

	// Of a stream.
	ctx      context.Context
	cancel   context.CancelCauseFunc
	pending  []bridge.Item
	unlisted func() // takes the stream from those that end with the gateway; nil: it is none of them
	event    sse.Event
}

func (b *bridged) call(ctx context.Context, a *Answer) error {
	c := &conversation{
		Answer:  a,
		bridged: b,
		owner:   bridge.Owner{Client: a.request.Grant.ClientID, Accessor: a.request.Grant.Accessor, Keeper: a.request},
		accepts: acceptsOf(a.header[protocol.HeaderAccept]),
	}
	err := c.dispatch(ctx)
	if err != nil {
		c.close()
		return err
	}
	a.source = c
	return nil
}

// dispatch has the request served by what it is for. In the era without sessions, each
// request says everything about itself.
func (c *conversation) dispatch(ctx context.Context) error {
	switch {
	case c.method != http.MethodPost && c.message.Stateless(c.header):
		return notAllowed(c.plain(http.StatusMethodNotAllowed, "This protocol version has no sessions."))
	case c.method == http.MethodGet:
		return c.listen(ctx)
	case c.method == http.MethodDelete:
		return c.terminate()
	case !c.accepts.json && !c.accepts.stream:
		return c.plain(http.StatusNotAcceptable, "Accept must list application/json and text/event-stream.")
	case c.sessionless(c.header):
		return c.withoutSession(ctx)
	case !protocol.SpeaksSessions(c.header):
		return c.plain(http.StatusBadRequest, "This protocol version is not supported.")
	case c.starts():
		return c.initialize(ctx)
	}
	return c.inSession(ctx)
}

// notAllowed names the one method of HTTP that is left to the client.
func notAllowed(f *access.Refusal) *access.Refusal {
	f.Allow = http.MethodPost
	return f
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
func (c *conversation) initialize(ctx context.Context) error {
	if f := c.decide(); f != nil {
		return f
	}
	session, call, err := c.bridge.Initialize(ctx, c.owner, c.incoming())
	if err != nil {
		return c.unanswered(ctx, err)
	}
	c.inFlight = call
	c.request.Session = HashSession(session.ID)
	return c.answer(ctx, session)
}

// inSession serves a message of a session.
func (c *conversation) inSession(ctx context.Context) error {
	if f := c.enter(); f != nil {
		return f
	}
	if f := c.decide(); f != nil {
		return f
	}
	var err error
	switch c.message.Kind {
	case envelope.Request:
		if c.inFlight, err = c.session.Call(c.incoming()); err == nil {
			return c.answer(ctx, nil)
		}
	case envelope.Notification:
		err = c.session.Notify(c.incoming())
	default:
		err = c.session.Respond(c.incoming())
	}
	if err != nil {
		return c.unanswered(ctx, err)
	}
	c.Status = http.StatusAccepted
	return nil
}

// withoutSession serves a message of the era without sessions.
func (c *conversation) withoutSession(ctx context.Context) error {
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
		if err := c.bridge.Notify(ctx, c.owner, c.incoming()); err != nil {
			return c.unanswered(ctx, err)
		}
		c.Status = http.StatusAccepted
		return nil
	}
	var err error
	if c.inFlight, err = c.bridge.Call(ctx, c.owner, c.incoming()); err != nil {
		return c.unanswered(ctx, err)
	}
	return c.answer(ctx, nil)
}

// enter takes the session that the request names into use.
func (c *conversation) enter() *access.Refusal {
	id := protocol.First(c.header, protocol.HeaderSession)
	if id == "" {
		return c.plain(http.StatusBadRequest, "Mcp-Session-Id is required: initialize a session first.")
	}
	session, err := c.bridge.Session(c.owner, id)
	if err != nil {
		return c.noSession(nil) // also where the client is gone: a nil refusal would stand for a session
	}
	c.session = session
	c.request.Session = HashSession(id)
	return nil
}

// terminate ends a session at the client's wish.
func (c *conversation) terminate() error {
	if f := c.enter(); f != nil {
		return f
	}
	if f := c.decide(); f != nil {
		return f
	}
	c.session.End()
	c.Status = http.StatusNoContent
	return nil
}

// listen serves a session's own stream.
func (c *conversation) listen(ctx context.Context) error {
	if !c.accepts.stream {
		return c.plain(http.StatusNotAcceptable, "Accept must list text/event-stream.")
	}
	if protocol.First(c.header, protocol.HeaderSession) == "" {
		// Nobody without a session has anything to get here.
		return notAllowed(c.plain(http.StatusMethodNotAllowed, "There is no stream without a session."))
	}
	if f := c.enter(); f != nil {
		return f
	}
	if f := c.decide(); f != nil {
		return f
	}
	c.feed = c.session.Stream()
	c.stream(ctx)
	return nil
}
