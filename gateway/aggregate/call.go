package aggregate

import (
	"context"
	"errors"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// call hands the request to the server that it names.
func (x *exchange) call() *access.Refusal {
	target, err := rewrite.Find(&x.message.Envelope, x.message.Data)
	if err != nil {
		return x.unknownName(reasonName, "")
	}
	// The name is decided on as the server will read it: see Target.Edited.
	message, err := mcp.NewMessage(x.request, len(x.message.Data), target.Edited(&x.message.Envelope), func(dst []byte) []byte {
		return target.Append(dst, x.message.Data)
	})
	if err != nil {
		return x.noRoom(err)
	}
	defer message.Release()
	ctx := x.r.Context()
	if x.session != nil {
		call, f := x.begin(target.Server)
		if f != nil {
			return f
		}
		defer call.end()
		ctx = call.context
	}
	for attempt := 0; ; attempt++ {
		err := x.callOnce(ctx, target, message, attempt > 0)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errLost) && attempt == 0:
			continue
		}
		return x.unreachable(target.Server, err)
	}
}

// callOnce sends the request once. The error says why it was not answered: it is
// errLost where the request may be sent once more, which the last attempt's is not.
func (x *exchange) callOnce(ctx context.Context, target rewrite.Target, message *mcp.Message, last bool) error {
	p := x.part(ctx, x.request.ID, http.MethodPost, target.Server)
	defer p.end()
	if f := p.refusal; f != nil {
		if f.Status == http.StatusForbidden {
			f = x.unknownName(f.Reason, f.Detail)
		}
		if x.message.Method == protocol.MethodToolsCall {
			p.request.Tool = target.Name
		}
		p.refuse(f)
		return nil
	}
	v, err := x.way(p)
	if err != nil {
		return err
	}
	if v.heardOn().kind == raised && (x.message.Method == protocol.MethodSubscribe || x.message.Method == protocol.MethodUnsubscribe) {
		if f := x.subscribeRaised(p, v, target); f != nil {
			p.refuse(f)
		}
		return nil
	}
	c, err := v.cross(x, message)
	if err != nil {
		return err
	}
	v.use()
	defer v.release(x)
	out := x.newAnswer(p, v, c.back)
	defer out.close()
	out.take(v.header(x, x.message.Method, target.Name), c.message)
	if c.own != nil && x.r.Context().Err() != nil {
		x.cancelHidden(v, c.own)
	}
	verdict := out.verdict()
	v.drop(x, verdict, out.status, p.request.Refused())
	switch {
	case last || out.started:
	case verdict == gone, verdict == doubted && isRepeatable(x.message.Method):
		return errLost
	}
	if v.session == "" && out.isEraUnknown() {
		p.known().forget() // it does not speak this era any more
	}
	out.finish()
	return nil
}

// cancelTimeout bounds the telling of a server that nobody waits any more.
const cancelTimeout = time.Second

// cancelHidden tells a server with sessions that a client without has gone away:
// to the server that would mean nothing, to the client it means a cancellation.
func (x *exchange) cancelHidden(v *way, id []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), cancelTimeout)
	defer cancel()
	_ = x.tell(ctx, v, protocol.Cancelled(id)) // a server that is gone has nothing to cancel
}

// tell sends a notification, or a response, to the server.
func (x *exchange) tell(ctx context.Context, v *way, message []byte) error {
	p := x.part(ctx, x.partID(v.server), http.MethodPost, v.server)
	defer p.end()
	if p.refusal != nil {
		return p.refusal
	}
	c, err := p.ask(v.ownHeader(x), message)
	if c.verdict == gone {
		v.drop(x, gone, c.status, c.reason)
	}
	if errors.Is(err, errNoAnswer) {
		return nil // none was due
	}
	return err
}
