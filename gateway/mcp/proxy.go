package mcp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

// proxy passes requests on to a streamable HTTP server, and its answers back.
type proxy struct {
	handler  *Handler
	upstream *upstream
	limits   config.Limits
}

func (p *proxy) close() { p.upstream.close() }

// passage is one request's way through the proxy.
type passage struct {
	*exchange
	proxy   *proxy
	owner   session.Owner
	session string // that the client sent, sealed; "" if none
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request, x *exchange) {
	pass := passage{
		exchange: x,
		proxy:    p,
		owner:    session.Owner{ClientID: x.request.Grant.ClientID, ServerID: x.server.ID},
	}
	upstreamSession, f := pass.openSession(r.Context(), r.Header)
	if f == nil {
		f = x.decide()
	}
	if f == nil && !p.upstream.acquire() {
		f = x.busy()
	}
	if f != nil {
		access.Refuse(w, r, f)
		return
	}
	defer p.upstream.release()

	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	send := p.upstream.send
	if x.idle() {
		send = p.upstream.openStream
	}
	out := p.outgoing(ctx, r, x, upstreamSession)
	end := x.request.TraceUpstream(out.Header)
	response, err := send(out)
	if err != nil {
		end(0, err)
		pass.fail(w, r, err)
		return
	}
	defer end(response.StatusCode, nil)
	defer response.Body.Close()
	if watch := p.watch(response, cancel); watch != nil {
		defer watch.stop()
	}
	pass.answer(w, r, response, cancel)
}

// idle reports whether the request asks for a stream of what the server has to
// say of its own accord.
func (x *exchange) idle() bool {
	return x.get || x.message.Method == protocol.MethodListen
}

// fail answers a request that the server did not.
func (x *exchange) fail(w http.ResponseWriter, r *http.Request, err error) {
	if f := x.failed(r.Context(), err); f != nil {
		access.Refuse(w, r, f)
		return
	}
	x.request.Outcome(0, 0, err)
}

// outgoing builds the request for the server.
func (p *proxy) outgoing(ctx context.Context, r *http.Request, x *exchange, upstreamSession string) *http.Request {
	out := p.upstream.template.WithContext(ctx)
	out.Method = r.Method
	out.Header = requestHeader(r.Header, upstreamSession != "")
	if upstreamSession != "" {
		out.Header[protocol.HeaderSession] = []string{upstreamSession}
	}
	for key, values := range p.upstream.header {
		out.Header[key] = values
	}
	if x.body != nil {
		out.Header[protocol.HeaderContentType] = valueJSON
		out.Body = x.body.reader()
		out.GetBody = x.body.again
		out.ContentLength = int64(len(x.body.data))
	}
	return out
}

// openSession returns the server's session id for the one that the client sent;
// "" if it sent none, or if the request belongs to the era without sessions, in
// which the header means nothing, or begins a session: some clients send the id
// of their last one then.
func (pass *passage) openSession(ctx context.Context, h http.Header) (string, *access.Refusal) {
	sealed := protocol.First(h, protocol.HeaderSession)
	if sealed == "" || pass.stateless || pass.starts() {
		return "", nil
	}
	handler := pass.proxy.handler
	id, err := handler.sealer.Open(pass.owner, sealed)
	if errors.Is(err, session.ErrNewerKey) {
		// Another gateway has heard of the key first.
		if err = handler.registry.RefreshSessionKeys(ctx); err == nil {
			id, err = handler.sealer.Open(pass.owner, sealed)
		} else if f := access.Cut(ctx); f != nil {
			return "", f
		}
	}
	if err != nil {
		return "", pass.noSession(err)
	}
	pass.session = sealed
	pass.request.Session = hashSession(sealed)
	return id, nil
}

// answerSession sets the session id of the answer. A session is sealed once, at
// its beginning; after that the client hears exactly the id that it sends:
// clients may treat another spelling as another session.
func (pass *passage) answerSession(out, in http.Header) *access.Refusal {
	id := protocol.First(in, protocol.HeaderSession)
	switch {
	case id == "" || pass.stateless:
		return nil
	case pass.session != "":
		out[protocol.HeaderSession] = []string{pass.session}
		return nil
	}
	sealed, err := pass.proxy.handler.sealer.Seal(pass.owner, id)
	if err != nil {
		if errors.Is(err, session.ErrUpstreamID) {
			return pass.badAnswer(err.Error())
		}
		return pass.noSession(err)
	}
	pass.request.Session = hashSession(sealed)
	out[protocol.HeaderSession] = []string{sealed}
	return nil
}

// hashSession names a session in the audit log, where its id must not stand.
func hashSession(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}
