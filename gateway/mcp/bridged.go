package mcp

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/broker"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/toollist"
)

// bridged serves streamable HTTP for a server that does not speak it. To the
// client it is the server, so it keeps the protocol's rules for servers.
type bridged struct {
	handler *Handler
	server  *broker.Server
	bridge  *bridge.Bridge

	limits   config.Limits
	upstream config.Upstream
	stdio    *config.Stdio // nil if the server is no child process
}

func (b *bridged) close() { b.bridge.Close() }

// end takes from a client what it has through a token that has ended, or through
// one that may not reach the server any more.
func (b *bridged) end(end broker.End) {
	owner := bridge.Owner{Client: end.Grant.ClientID, Accessor: end.Grant.Accessor}
	switch {
	case end.Successor == nil:
		b.bridge.EndToken(owner)
	case broker.Allows(end.Successor, b.server) != nil:
		b.bridge.EndClient(owner.Client)
	}
}

// Versions with sessions. A request may say that it speaks one of them.
var sessionVersions = map[string]bool{
	"": true, "2024-11-05": true, "2025-03-26": true, "2025-06-18": true, "2025-11-25": true,
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
		owner:    bridge.Owner{Client: x.request.Grant.ClientID, Accessor: x.request.Grant.Accessor},
		accepts:  acceptsOf(r.Header[headerAccept]),
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
	case !sessionVersions[first(r.Header, envelope.HeaderVersion)]:
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
	return x.stateless || x.message.Version != "" && h[headerSession] == nil && !x.starts()
}

// plain refuses what breaks the protocol's rules for requests.
func (c *conversation) plain(status int, message string) *access.Refusal {
	return c.rpc(&access.Refusal{Status: status, Reason: access.ReasonBadRequest, Detail: message, Message: message},
		envelope.CodeInvalidRequest)
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
		f.Code = codeInvalidParams
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

// session returns the session that the request names. The caller releases it.
func (c *conversation) session(r *http.Request) (*bridge.Session, *access.Refusal) {
	id := first(r.Header, headerSession)
	if id == "" {
		return nil, c.plain(http.StatusBadRequest, "Mcp-Session-Id is required: initialize a session first.")
	}
	session, err := c.bridge.Session(c.owner, id)
	if err != nil {
		return nil, c.unanswered(r.Context(), err)
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
	if first(r.Header, headerSession) == "" {
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

// answer sends the answer to a request: as JSON if it is the first thing that
// the server says, and otherwise as a stream. The session is that which the
// request starts, or nil.
func (c *conversation) answer(w http.ResponseWriter, r *http.Request, call *bridge.Call, starts *bridge.Session) *access.Refusal {
	done := false
	defer func() {
		// Without sessions a client cancels by going away. With them it may
		// only have lost its connection; but who may not go on, must not.
		call.Close(!done && (c.stateless || access.Cut(r.Context()) != nil))
	}()
	wait := c.upstream.Timeout
	if c.accepts.stream && c.limits.KeepAlive > 0 && (wait <= 0 || wait > c.limits.KeepAlive) {
		wait = c.limits.KeepAlive
	}
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if wait > 0 {
		ctx, cancel = context.WithTimeout(ctx, wait)
	}
	item, err := call.Next(ctx)
	cancel()
	switch {
	case err == nil && item.Final && (c.accepts.json || !c.accepts.stream):
		done = true
		return c.answerJSON(w, item, starts)
	case err != nil && r.Context().Err() == nil && errors.Is(err, context.DeadlineExceeded) && c.accepts.stream:
		// Nothing yet: keep the connection alive while the server works.
	case err != nil:
		if starts != nil {
			starts.End()
		}
		return c.unanswered(r.Context(), err)
	}
	if starts != nil {
		w.Header()[headerSession] = []string{starts.ID}
	}
	var pending []bridge.Item
	if err == nil {
		pending = append(pending, item)
	}
	listens := c.message.Method == methodListen
	c.stream(w, r, pending, listens, func(ctx context.Context) (bridge.Item, error) {
		item, err := call.Next(ctx)
		done = err == nil && item.Final
		return item, err
	})
	return nil
}

func (c *conversation) answerJSON(w http.ResponseWriter, item bridge.Item, starts *bridge.Session) *access.Refusal {
	message, err := c.filtered(item.Message)
	if err != nil {
		return c.badAnswer("it cannot be filtered: " + err.Error())
	}
	header := w.Header()
	if starts != nil {
		if item.Failed {
			starts.End()
		} else {
			header[headerSession] = []string{starts.ID}
		}
	}
	status := http.StatusOK
	if c.stateless {
		status = statusOf(item)
	}
	header[headerContentType] = valueJSON
	header[headerContentLength] = []string{strconv.Itoa(len(message))}
	w.WriteHeader(status)
	n, err := w.Write(message)
	c.request.Outcome(status, int64(n), err)
	return nil
}

// statusOf is the HTTP status that the era without sessions wants for an error.
func statusOf(item bridge.Item) int {
	if item.Failed {
		switch item.Code {
		case codeMethodNotFound:
			return http.StatusNotFound
		case codeInvalidParams, envelope.CodeHeaderMismatch, -32021, -32022:
			return http.StatusBadRequest
		}
	}
	return http.StatusOK
}

func (c *conversation) filtered(message []byte) ([]byte, error) {
	if c.tools == nil {
		return message, nil
	}
	return toollist.Filter(message, c.tools.Allows)
}

// stream sends messages as events: first those that are there, then those that
// next returns, until the final one.
func (c *conversation) stream(w http.ResponseWriter, r *http.Request, pending []bridge.Item, idle bool, next func(context.Context) (bridge.Item, error)) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	if idle {
		defer c.handler.streams.add(cancel, c.limits.MaxStreamAge)()
	}
	id := string(c.id())
	c.release() // a stream may be open for hours

	header := w.Header()
	header[headerContentType] = []string{mediaEventStream}
	header["Cache-Control"] = []string{"no-cache, no-transform"}
	header["X-Accel-Buffering"] = []string{"no"}
	w.WriteHeader(http.StatusOK)
	s := newStream(r.Context(), w, c.limits.KeepAlive)
	s.flush()
	err := c.events(ctx, s, pending, next)
	if err != nil && endedByGateway(ctx) {
		err = context.Cause(ctx)
		s.comeBack()
	} else if err != nil && ctx.Err() == nil && id != "" {
		_, _ = s.Write(errorEvent([]byte(id), c.request.ID)) // the stream ends in any case
	}
	if errors.Is(err, bridge.ErrClosed) && ctx.Err() == nil {
		err = nil // the session has ended, or another stream has taken its place
	}
	c.finish(r.Context(), http.StatusOK, s.close(), err)
}

func (c *conversation) events(ctx context.Context, s *stream, pending []bridge.Item, next func(context.Context) (bridge.Item, error)) error {
	var event []byte
	for {
		var item bridge.Item
		var err error
		if len(pending) > 0 {
			item, pending = pending[0], pending[1:]
		} else if item, err = next(ctx); err != nil {
			return err
		}
		message, err := c.filtered(item.Message)
		if err != nil {
			return &filterError{err}
		}
		event = sse.AppendData(append(event[:0], "event: message\n"...), message)
		event = append(event, '\n')
		if _, err := s.Write(event); err != nil || item.Final {
			return err
		}
	}
}

// unanswered is the answer where the bridge could not get one; nil if the client
// is gone.
func (c *conversation) unanswered(ctx context.Context, err error) *access.Refusal {
	var wait *bridge.BackoffError
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, bridge.ErrNoSession):
		return c.noSession(nil)
	case errors.Is(err, bridge.ErrNeedsSession):
		// No error of the newer era: by that clients know to fall back.
		return c.plain(http.StatusBadRequest, "This server needs a session: send initialize first.")
	case errors.Is(err, bridge.ErrDuplicate):
		return c.plain(http.StatusBadRequest, "A request of this id is in flight already.")
	case errors.Is(err, bridge.ErrBusy), errors.Is(err, bridge.ErrFull):
		f := c.busy()
		f.Detail = err.Error()
		return f
	case errors.As(err, &wait):
		f := c.busy()
		f.Reason, f.Detail, f.RetryAfter = reasonUnreachable, err.Error(), wait.Wait
		f.Message = "The server has failed, and is started again in a while."
		return f
	case errors.Is(err, bridge.ErrSlow):
		return c.badAnswer(err.Error())
	}
	f := c.failed(ctx, err)
	if f == nil {
		c.request.Outcome(0, 0, err)
	}
	return f
}

// accepts is what a client takes for an answer.
type accepts struct{ json, stream bool }

func acceptsOf(header []string) accepts {
	var a accepts
	if len(header) == 0 {
		return accepts{json: true, stream: true}
	}
	for _, value := range header {
		for part := range strings.SplitSeq(value, ",") {
			switch mediaType(part) {
			case "*/*":
				a.json, a.stream = true, true
			case mediaJSON, "application/*":
				a.json = true
			case mediaEventStream, "text/*":
				a.stream = true
			}
		}
	}
	return a
}
