package mcp

import (
	"context"
	"errors"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// bridged serves streamable HTTP for a server that does not speak it. To the
// client it is the server, so it keeps the protocol's rules for servers.
type bridged struct {
	server      *grants.Server
	bridge      *bridge.Bridge
	credentials *credentials.Server // nil if the server has none that are leased

	limits   config.Limits
	upstream config.Upstream
	stdio    *config.Stdio // nil if the server is no child process
}

func (b *bridged) close() { b.bridge.Close() }

// setOf returns the set that the bridge has as credentials; nil without any.
func setOf(c bridge.Credentials) *credentials.Set {
	if of, ok := c.(channelCredentials); ok {
		return of.Set
	}
	return nil
}

// end takes from a client what it has through a token that has ended, or through
// one that may not reach the server any more. Where the client has none left, nothing waits for
// the next one.
func (b *bridged) end(end grants.End, live func(grants.Principal) bool) {
	if end.Unheard {
		b.bridge.EndUnheard(&end, live)
		return
	}
	owner := bridge.Owner{Principal: end.Grant.Principal(), Accessor: end.Grant.Anchor(), Token: end.Grant.Accessor}
	switch {
	case end.Expired:
		// The token's keeper tells, and by now another token may have one.
	case end.Lost && !live(owner.Principal):
		b.bridge.EndPrincipal(owner.Principal)
	case end.Successor == nil && !end.Lost && !end.Last && owner.Principal.IsPerson():
		// What hangs on a sign-in goes on to be heard of through its other tokens.
	case end.Successor == nil:
		b.bridge.EndToken(owner)
	case grants.Allows(end.Successor, b.server) != nil:
		b.bridge.EndPrincipal(owner.Principal)
	}
}

// conversation is one request's way over the bridge.
type conversation struct {
	*Answer
	*bridged
	owner   bridge.Owner
	lease   lessor // of other credentials than the owner's
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
	return b.converse(ctx, a, func(ctx context.Context) (bridge.Credentials, error) {
		set, err := a.leased(ctx, b.credentials)
		return forChannel(set), err
	})
}

// lessor takes credentials for a request; nil if the server has none that are leased. The
// error is a refusal, or says why the client, which is gone, gets none.
type lessor func(ctx context.Context) (bridge.Credentials, error)

// converse is call with the credentials that lease takes.
func (b *bridged) converse(ctx context.Context, a *Answer, lease lessor) error {
	// A session may have its own already, and they may be older. But nobody is served
	// who has no credentials now.
	with, err := lease(ctx)
	if err != nil {
		return err
	}
	c := &conversation{
		Answer:  a,
		bridged: b,
		lease:   lease,
		owner: bridge.Owner{
			Principal: a.request.Grant.Principal(), Accessor: a.request.Grant.Anchor(), Token: a.request.Grant.Accessor,
			Credentials: with, Keeper: a.request,
		},
		accepts: acceptsOf(a.header[protocol.HeaderAccept]),
	}
	err = c.dispatch(ctx)
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
	purpose, f := serverside.PurposeOf(&serverside.Request{
		Method: c.method, Header: c.header, Message: &c.message, ID: c.id(), Stateless: c.message.Stateless(c.header),
		AcceptsJSON: c.accepts.json, AcceptsStream: c.accepts.stream,
	})
	if f != nil {
		return f
	}
	switch purpose {
	case serverside.Stateless:
		return c.withoutSession(ctx)
	case serverside.Initialize:
		if !protocol.SpeaksSessions(c.header) {
			return serverside.BadRequest(c.id(), http.StatusBadRequest, serverside.MessageVersion)
		}
		return c.initialize(ctx)
	}
	if f := c.enter(); f != nil {
		return f
	}
	if f := c.decide(); f != nil {
		return f
	}
	switch purpose {
	case serverside.Listen:
		c.feed = c.session.Stream()
		c.stream(ctx)
		return nil
	case serverside.Terminate:
		c.session.End()
		c.Status = http.StatusNoContent
		return nil
	default:
		return c.inSession(ctx)
	}
}

// starts reports whether the message starts a session.
func (x *exchange) starts() bool {
	return x.message.Kind == envelope.Request && x.message.Method == protocol.MethodInitialize
}

func (c *conversation) incoming() bridge.Incoming {
	return bridge.Incoming{Envelope: &c.message, Message: c.body.data, Streams: c.accepts.stream}
}

// initialize starts a session.
func (c *conversation) initialize(ctx context.Context) error {
	if f := c.decide(); f != nil {
		return f
	}
	var session *bridge.Session
	err := c.send(ctx, func() (err error) {
		session, c.inFlight, err = c.bridge.Initialize(ctx, c.owner, c.incoming())
		return err
	})
	if err != nil {
		return err
	}
	c.request.Session = HashSession(session.ID)
	return c.answer(ctx, session)
}

// inSession serves a message of a session.
func (c *conversation) inSession(ctx context.Context) error {
	err := c.send(ctx, func() (err error) {
		switch c.message.Kind {
		case envelope.Request:
			c.inFlight, err = c.session.Call(ctx, c.incoming())
		case envelope.Notification:
			err = c.session.Notify(ctx, c.incoming())
		default:
			err = c.session.Respond(c.incoming())
		}
		return err
	})
	return c.sent(ctx, err)
}

// send calls f, which sends the message to the server. Where the credentials end before
// anything is sent, it takes others, and calls f again.
func (c *conversation) send(ctx context.Context, f func() error) error {
	err := f()
	for range 2 { // they may end again
		if !errors.Is(err, bridge.ErrCredentials) || !errors.Is(err, bridge.ErrUnsent) || ctx.Err() != nil {
			break
		}
		with, refused := c.lease(ctx)
		if refused != nil {
			return refused
		}
		c.owner.Credentials = with
		if c.session != nil {
			c.session.Offer(with)
		}
		if refused := c.decide(); refused != nil { // so that the log has the credentials of what is sent
			return refused
		}
		err = f()
	}
	if err != nil {
		return c.unanswered(ctx, err)
	}
	return nil
}

// sent answers a message that send has sent: a request waits for the server's answer.
func (c *conversation) sent(ctx context.Context, err error) error {
	switch {
	case err != nil:
		return err
	case c.inFlight != nil:
		return c.answer(ctx, nil)
	}
	c.Status = http.StatusAccepted
	return nil
}

// withoutSession serves a message of the era without sessions.
func (c *conversation) withoutSession(ctx context.Context) error {
	c.stateless = true
	if f := c.decide(); f != nil {
		return f
	}
	err := c.send(ctx, func() (err error) {
		if c.message.Kind == envelope.Notification {
			return c.bridge.Notify(ctx, c.owner, c.incoming())
		}
		c.inFlight, err = c.bridge.Call(ctx, c.owner, c.incoming())
		return err
	})
	return c.sent(ctx, err)
}

// enter takes the session that the request names into use.
func (c *conversation) enter() *access.Refusal {
	id := protocol.First(c.header, protocol.HeaderSession)
	session, err := c.bridge.Session(c.owner, id)
	if err != nil {
		return serverside.NoSession(c.id()) // also where the client is gone: a nil refusal would stand for a session
	}
	c.session = session
	c.request.Session = HashSession(id)
	return nil
}
