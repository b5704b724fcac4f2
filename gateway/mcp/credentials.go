package mcp

import (
	"context"
	"errors"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// leased returns the credentials that the request is sent with; nil where the server has
// none that are leased. They stand in the decision's audit line.
func (x *exchange) leased(ctx context.Context, from *credentials.Server) (*credentials.Set, error) {
	if from == nil {
		return nil, nil //nolint:nilnil // no credentials are no error
	}
	set, err := from.Get(ctx, x.request.Grant)
	if err != nil {
		return nil, x.withoutCredentials(ctx, err)
	}
	x.request.Credentials = set
	return set, nil
}

// withoutCredentials is the answer where Vault has not given what the server needs. Nothing
// was sent to the server.
func (x *exchange) withoutCredentials(ctx context.Context, err error) error {
	if f := access.CutCause(ctx); f != nil {
		return f
	}
	if ctx.Err() != nil {
		return x.failure(ctx, err)
	}
	f := &access.Refusal{
		Status:     http.StatusServiceUnavailable,
		Reason:     serverside.ReasonCredentials,
		Detail:     err.Error(),
		Message:    "The gateway cannot get the server's credentials from Vault.",
		RetryAfter: retryAfter,
	}
	var unavailable *credentials.Error
	switch {
	case errors.As(err, &unavailable):
		f.RetryAfter = max(f.RetryAfter, unavailable.RetryAfter)
	case credentials.IsEnd(err):
		// There were some, and they have ended. The request may have been carried out: a client
		// must not take this for an invitation to send it again. Clients do not read the body of
		// a 503.
		f.Status, f.Message, f.RetryAfter = http.StatusOK, messageCredentials, 0
	}
	return x.rpc(f)
}

// lease takes the credentials that the request is sent with.
func (q *proxied) lease(ctx context.Context) error {
	const tries = 3 // they may end between the one and the other
	for range tries {
		set, err := q.leased(ctx, q.proxy.credentials)
		if set == nil || err != nil {
			return err
		}
		if q.use.Begin(set, q.cancel, q.idle()) == nil {
			q.set = set
			return nil
		}
	}
	return q.withoutCredentials(ctx, errShortLived)
}

// errShortLived: credentials have ended again and again before they could be used.
var errShortLived = errors.New("upstream credentials: they have ended before the request could be sent")

// hasEndedCredentials reports whether the request was cut because the credentials that it was
// sent with have ended.
func (q *proxied) hasEndedCredentials() bool {
	return q.set != nil && credentials.IsEnd(context.Cause(q.ctx))
}

// messageCredentials is told to those whose request was under way when the credentials that
// it was sent with ended.
const messageCredentials = "The credentials with which the gateway has sent this request to the server have ended. " +
	"The request may have been carried out."

// channelCredentials are a set as the bridge uses it.
type channelCredentials struct{ *credentials.Set }

// Successor implements [bridge.Credentials].
func (c channelCredentials) Successor() bridge.Credentials {
	if next := c.Set.Successor(); next != nil {
		return channelCredentials{next}
	}
	return nil
}

// forChannel returns the set for the bridge; nil without one.
func forChannel(set *credentials.Set) bridge.Credentials {
	if set == nil {
		return nil
	}
	return channelCredentials{set}
}
