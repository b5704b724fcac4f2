package aggregate

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// call sends the request to the server that it names.
func (x *exchange) call() *access.Refusal {
	if !x.message.URI.None() { // for unknownName
		x.uri = bytes.Clone(x.message.URI.Of(x.message.Data))
	}
	target, err := rewrite.Find(&x.message.Envelope, x.message.Data)
	if err != nil {
		return x.unknownName(reasonName, "")
	}
	// From here on the message is in the server's form. The decision is about the name as the server
	// will read it: see Target.Edited.
	if err := x.message.Edit(target.Part, target.Edited(&x.message.Envelope)); err != nil {
		if f, ok := errors.AsType[*access.Refusal](err); ok {
			return f
		}
		return x.unreachable("", err)
	}
	if x.given = x.readAnswers(); x.given == nil && x.isAskable(target.Server) {
		return x.callAskable(target)
	}
	ctx := x.r.Context()
	if x.session != nil {
		call, f := x.beginCall(target.Server)
		if f != nil {
			return f
		}
		defer call.end()
		ctx = call.context
	}
	return x.callUntilAnswered(ctx, target)
}

// callUntilAnswered sends the request, and once more if the session with the server is gone.
func (x *exchange) callUntilAnswered(ctx context.Context, target rewrite.Target) *access.Refusal {
	message := x.message
	err := x.callOnce(ctx, target, message, false)
	if errors.Is(err, errSessionGone) {
		err = x.callOnce(ctx, target, message, true)
	}
	for round := 1; err != nil; round++ {
		var required *inputRequired
		if !errors.As(err, &required) {
			break
		}
		again, err2 := x.answerQuestions(ctx, target.Server, message, required, round)
		if err2 != nil {
			return x.refuseQuestions(ctx, target.Server, err2)
		}
		err = x.callOnce(ctx, target, again, true)
	}
	if err != nil {
		return x.unreachable(target.Server, err)
	}
	return nil
}

// callOnce sends the request once. An error says why the client has no answer yet. It is
// errSessionGone if the request may be sent once more, which the last attempt's is not.
func (x *exchange) callOnce(ctx context.Context, target rewrite.Target, message *mcp.Message, last bool) error {
	s := x.subRequest(ctx, x.request.ID, http.MethodPost, target.Server)
	defer s.end()
	if s.refusal != nil {
		x.answerUnreachable(s, target)
		return nil
	}
	r, err := x.route(s)
	if err != nil {
		return err
	}
	if x.given != nil && r.mode == modeImplicitSession {
		x.callOn(s, target, message)
		return nil
	}
	if r.notifications != nil && messages.MayBeAsked(x.message.Method) && x.questions().Any() {
		r = r.notifications // without a session, the server could not ask
	}
	if x.askable != nil && r.mode == modeImplicitSession {
		if err := x.askable.use(s, r); err != nil {
			return err
		}
		defer x.askable.endUse()
	}
	subscribes := x.message.Method == protocol.MethodSubscribe || x.message.Method == protocol.MethodUnsubscribe
	if subscribes && r.forNotifications().mode == modeStatelessServer {
		if f := x.subscribeStateless(s, r, target, message); f != nil {
			s.answerRefusal(f)
		}
		return nil
	}
	t, err := r.translate(s, message)
	if err != nil {
		return err
	}
	r.use()
	defer r.release(x)
	out := &answer{x: x, route: r, toClient: t.toClient, sub: s}
	defer out.close()
	out.take(r.header(x, x.message.Method, target.Name), t.message)
	if t.id != nil && x.r.Context().Err() != nil {
		x.cancelAtServer(r, t.id)
	}
	if required := out.inputRequired(); required != nil {
		return required
	}
	state := out.sessionState()
	r.endIfLost(x, state, out.status, s.request.Refused())
	if !last && !out.started && !x.wasAsked() && (state == sessionGone || state == sessionDoubtful && isRepeatable(x.message.Method)) {
		return errSessionGone
	}
	if r.session == "" && out.isVersionUnknown() {
		s.state().forgetVersions()
	}
	out.finish()
	return nil
}

// named is the kind of item that the request names; "" if it names none.
func (x *exchange) named() policy.Item {
	switch x.message.Method {
	case protocol.MethodToolsCall:
		return policy.Tool
	case protocol.MethodPromptsGet:
		return policy.Prompt
	case protocol.MethodResourcesRead, protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		return policy.Resource
	case protocol.MethodComplete:
		if x.message.RefName.None() {
			return policy.Resource
		}
		return policy.Prompt
	}
	return ""
}

// answerUnreachable answers a request whose server the client may not reach.
func (x *exchange) answerUnreachable(s *subRequest, target rewrite.Target) {
	f := s.refusal
	if f.Status == http.StatusForbidden {
		f = x.unknownName(f.Reason, f.Detail)
	}
	s.request.NameItem(x.named(), target.Name)
	s.answerRefusal(f)
}

// isRepeatable reports whether the request only reads, so that it may be sent twice.
func isRepeatable(method string) bool { return method != protocol.MethodToolsCall }

// cancelTimeout bounds messages to servers for which no client waits.
const cancelTimeout = time.Second

// afterRequest returns a context for a message that is sent although the client may be
// gone.
func (x *exchange) afterRequest(timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(x.r.Context()), timeout)
}

// cancelAtServer cancels the request in an implicit session. A client without sessions
// cancels by closing its connection, which tells a server with sessions nothing.
func (x *exchange) cancelAtServer(r *route, id []byte) {
	ctx, cancel := x.afterRequest(cancelTimeout)
	defer cancel()
	_ = x.send(ctx, r, protocol.Cancelled(id)) // a server that is gone has nothing to cancel
}

// sessionCall is a request of a session to a server, in flight.
type sessionCall struct {
	session      *session
	id           string
	server       string
	context      context.Context
	cancel       context.CancelCauseFunc
	disconnected bool // the client has closed its connection; guarded by session.mu
}

// maxDisconnected bounds the requests of a session that the client can still cancel
// although it has closed their connections.
const maxDisconnected = 64

// beginCall notes a request to the server, so that the client can cancel it.
func (x *exchange) beginCall(server string) (*sessionCall, *access.Refusal) {
	c := &sessionCall{session: x.session, id: string(x.id()), server: server}
	c.context, c.cancel = context.WithCancelCause(x.r.Context())
	s := x.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		c.cancel(errEnded)
		return nil, serverside.NoSession(x.id())
	}
	if other := s.calls[c.id]; other != nil && !other.disconnected {
		c.cancel(nil)
		return nil, serverside.BadRequest(x.id(), http.StatusBadRequest, serverside.MessageDuplicate)
	}
	s.calls[c.id] = c
	x.inFlight = c
	s.pending.add(x, server)
	return c, nil
}

// freeID allows the client to use the request's id again. It is called before the answer
// is written, since the client may send its next request before this one has ended here.
func (x *exchange) freeID() {
	c := x.inFlight
	if c == nil {
		return
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if c.session.calls[c.id] == c {
		delete(c.session.calls, c.id)
	}
}

// end forgets the request. If the client has closed the connection, the request may go on
// at the server. It is kept then, since clients close first and cancel afterwards.
func (c *sessionCall) end() {
	disconnected := c.context.Err() != nil
	c.cancel(nil)
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[c.id] != c {
		return
	}
	if !disconnected {
		delete(s.calls, c.id)
		return
	}
	c.disconnected = true
	s.disconnected = append(s.disconnected, c)
	if len(s.disconnected) > maxDisconnected {
		if oldest := s.disconnected[0]; s.calls[oldest.id] == oldest {
			delete(s.calls, oldest.id)
		}
		s.disconnected = s.disconnected[1:]
	}
}
