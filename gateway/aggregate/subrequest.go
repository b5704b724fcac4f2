package aggregate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// subRequest is a request to one server, on behalf of a request to /mcp. It is decided,
// audited and cancelled like a request to the server's own endpoint.
type subRequest struct {
	x       *exchange
	context context.Context
	request *access.Request
	method  string // of HTTP

	// own: the answer is for the gateway alone, which judges what it shows of it.
	own bool

	// isKnown reports whether the caller has the answer already, so that fetch need not keep it.
	// Nil: it has not.
	isKnown func(body []byte) bool

	// implicit is the client's implicit session, if the sub-request is in it.
	implicit *session

	// refusal says why the client may not reach the server; nil if it may.
	refusal *access.Refusal
}

// subRequest starts a sub-request to the server of that name, which must be ended. Its audit
// lines have the id.
func (x *exchange) subRequest(ctx context.Context, id, method, server string) *subRequest {
	s := &subRequest{x: x, method: method}
	s.context, s.request, s.refusal = x.request.SubRequest(ctx, id, method, server)
	return s
}

// oneOfMany starts a sub-request that is one of several of its request.
func (x *exchange) oneOfMany(ctx context.Context, method, server string) *subRequest {
	return x.subRequest(ctx, x.request.ID+"."+server, method, server)
}

// end ends the sub-request, and its use of the implicit session.
func (s *subRequest) end() {
	s.request.End()
	if s.implicit != nil {
		s.implicit.release()
	}
}

func (s *subRequest) server() *grants.Server { return s.request.Server }

// state is what the gateway knows about the server.
func (s *subRequest) state() *serverState { return s.x.stateOf(s.server()) }

// call sends the sub-request. See [mcp.Handler.Call].
func (s *subRequest) call(header http.Header, m *mcp.Message) (*mcp.Answer, error) {
	return s.x.handler.options.Next.Call(s.context, mcp.Call{Request: s.request, Method: s.method, Header: header, Message: m, Instructions: s.own})
}

// admit decides about a request that is not sent, as if it were sent on the route, and answers it if
// it is refused. The message is in the server's form.
func (s *subRequest) admit(r *route, target rewrite.Target, message *mcp.Message) bool {
	x := s.x
	header := r.header(x, x.message.Method, target.Name)
	f := x.handler.options.Next.Admit(mcp.Call{Request: s.request, Method: http.MethodPost, Header: header, Message: message})
	if f == nil {
		return true
	}
	if mcp.IsItemReason(f.Reason) {
		f = x.refusedItem(f)
	}
	answered := *f
	answered.RPCID = x.id()
	x.freeID()
	answered.Write(x.w, x.request.ID)
	return false
}

// guard turns a panic into an error of this sub-request alone, since it may be on a
// goroutine that net/http does not guard. Defer it.
func (s *subRequest) guard(err *error) { //nolint:gocritic // the result of who defers it
	if cause := recover(); cause != nil {
		s.x.handler.log.Error("panic while serving a sub-request", "cause", cause, "stack", string(debug.Stack()))
		*err = errAborted
	}
}

// answerRefusal answers the client's request with the refusal of the sub-request.
func (s *subRequest) answerRefusal(f *access.Refusal) {
	s.x.freeID()
	s.request.Method = s.x.request.Method
	access.Refuse(s.x.w, s.x.r.WithContext(s.context), f)
}

// clientHeader returns the client's headers for a sub-request.
func (x *exchange) clientHeader() http.Header {
	header := make(http.Header, 8) // most requests have no more
	for key, values := range x.r.Header {
		if mcp.IsForwarded(key) && key != protocol.HeaderLastEventID {
			header[key] = values
		}
	}
	header[protocol.HeaderContentType] = valueJSON
	return header
}

// gatewayHeader returns the headers of a request that the gateway makes in its own name.
// They contain nothing of the client's: what the gateway learns from the answer counts for
// all clients.
func (x *exchange) gatewayHeader() http.Header {
	return http.Header{
		protocol.HeaderAccept:      valueAny,
		protocol.HeaderContentType: valueJSON,
		protocol.HeaderUserAgent:   {"mcp-gateway/" + x.handler.options.Version},
	}
}

// fetched is the whole answer to a sub-request; of a stream, only the response.
type fetched struct {
	status  int
	session string // which the answer names
	body    []byte
	known   bool            // the caller has the body already, so it is not kept
	size    int64           // of the body
	refusal *access.Refusal // of the gateway, instead of the server's answer
	reason  string          // of the refusal

	sessionState sessionState // of the session that the sub-request named, if any
}

// serverError tells that a server has refused a message of the gateway's.
type serverError struct {
	status int    // of HTTP
	code   int    // of JSON-RPC; 0 without one
	reason string // of the gateway's refusal; "" if the answer is the server's
}

// isAboutCredentials reports whether the server refuses the gateway's credentials, or there
// are none to be had. That says nothing about the versions that the server speaks.
func (e *serverError) isAboutCredentials() bool {
	switch e.reason {
	case serverside.ReasonUnauthorized, serverside.ReasonCredentials:
		return true
	}
	return e.status == http.StatusForbidden
}

func (e *serverError) Error() string {
	return "the server answers with an error: status " + strconv.Itoa(e.status) + ", code " + strconv.Itoa(e.code)
}

var (
	errSessionGone = errors.New("the server has ended the session")
	errAborted     = errors.New("the server's answer broke off")
	errNoAnswer    = errors.New("the server has not answered the message")
)

// ask sends a message in the gateway's own name, and waits for the answer. The error is a
// [serverError] if the server refuses, a refusal if the gateway does, or one of the above.
func (s *subRequest) ask(header http.Header, message []byte) (*fetched, error) {
	s.own = true
	var m *mcp.Message
	if message != nil {
		var err error
		if m, err = mcp.ParseMessage(message); err != nil {
			return &fetched{}, fmt.Errorf("the gateway's own message is malformed: %w", err)
		}
	}
	answer, err := s.fetch(header, m)
	if err != nil || answer.status == http.StatusAccepted { // a notification has no response
		return answer, err
	}
	if answer.refusal != nil {
		return answer, &serverError{status: answer.status, code: answer.refusal.Code, reason: answer.refusal.Reason}
	}
	e, err := envelope.Parse(answer.body)
	switch {
	case err == nil && e.Failed:
		return answer, &serverError{status: answer.status, code: e.ErrorCode}
	case answer.status >= 300:
		return answer, &serverError{status: answer.status}
	case err != nil || e.Kind != envelope.Response:
		return answer, errNoAnswer
	}
	return answer, nil
}

// fetch sends a message and reads the whole answer, which may be an error response. The
// result is never nil.
func (s *subRequest) fetch(header http.Header, m *mcp.Message) (*fetched, error) {
	answer := &fetched{}
	header[protocol.HeaderAccept] = valueAny // whatever the client accepts
	err := s.read(answer, header, m)
	answer.reason = s.request.Refused()
	if s.context.Err() != nil {
		if f := access.CutCause(s.context); f != nil {
			return answer, f
		}
		return answer, s.context.Err()
	}
	if errors.As(err, new(*mcp.AnswerError)) {
		return answer, err
	}
	aborted := err != nil && !errors.As(err, &answer.refusal)
	if answer.refusal != nil {
		answer.status = answer.refusal.Status
	}
	switch {
	case header[protocol.HeaderSession] == nil:
	case aborted:
		answer.sessionState = sessionDoubtful
	default:
		answer.sessionState = sessionStateOf(answer.status, answer.reason, answer.body)
	}
	switch {
	case isOfGateway(answer.reason):
		return answer, &access.Refusal{
			Status: answer.status, Reason: answer.reason, Message: "The gateway cannot serve requests at the moment.", RetryAfter: retryAfter,
		}
	case answer.sessionState == sessionGone:
		return answer, errSessionGone
	case aborted:
		return answer, errAborted
	case answer.status < 500 && answer.status != http.StatusTooManyRequests:
		return answer, nil
	case answer.reason != "":
		return answer, errors.New(answer.reason)
	}
	return answer, errors.New("status " + strconv.Itoa(answer.status))
}

// uncountedAnswer is the size up to which an answer does not count as the client's memory.
const uncountedAnswer = 8 << 10

// read reads the answer.
func (s *subRequest) read(into *fetched, header http.Header, m *mcp.Message) (err error) {
	defer s.guard(&err)
	answer, err := s.call(header, m)
	if err != nil {
		return err
	}
	defer func() { answer.Close(into.size, err) }()
	into.status, into.session = answer.Status, answer.Session
	if answer.Stream {
		return answer.Events(func(e *sse.Event) error { return s.takeResponse(into, e) })
	}
	body, err := answer.Whole()
	if err != nil {
		return err
	}
	if body = jsonscan.WithoutMark(body); s.knows(into, body) {
		return nil
	}
	if err := s.request.Reserve(max(0, int64(len(body)-uncountedAnswer))); err != nil {
		if f, ok := errors.AsType[*access.Refusal](err); ok {
			s.request.Record(f)
		}
		return err
	}
	into.keep(body)
	return nil
}

// knows reports whether the caller has the answer's body already.
func (s *subRequest) knows(into *fetched, body []byte) bool {
	if s.isKnown == nil || !s.isKnown(body) {
		return false
	}
	into.known, into.size = true, int64(len(body))
	return true
}

func (f *fetched) keep(body []byte) { f.body, f.size = bytes.Clone(body), int64(len(body)) }

// takeResponse keeps the response of a stream, and drops everything else.
func (s *subRequest) takeResponse(into *fetched, e *sse.Event) error {
	if !e.IsMessage() || len(e.Data) == 0 || into.body != nil || into.known {
		return nil
	}
	data := jsonscan.WithoutMark(e.Data)
	if s.knows(into, data) {
		return nil
	}
	if m, err := envelope.Parse(data); err == nil && m.Kind == envelope.Response {
		into.keep(data)
	}
	return nil
}

// stream sends the sub-request, and hands each message of the answer to take until the
// stream ends or take fails. onOpen is called when the stream is open. The status is 0
// without an answer.
func (s *subRequest) stream(header http.Header, m *mcp.Message, onOpen func(), take func(data []byte) error) (status int, streamed bool) {
	var err error
	defer s.guard(&err)
	answer, err := s.call(header, m)
	if err != nil {
		if f, ok := errors.AsType[*access.Refusal](err); ok {
			status = f.Status
		}
		return status, false
	}
	var size int64
	defer func() { answer.Close(size, err) }()
	status, streamed = answer.Status, answer.Status == http.StatusOK && answer.Stream
	if streamed {
		onOpen()
		err = answer.Events(func(e *sse.Event) error {
			size += int64(len(e.Data))
			if !e.IsMessage() || len(e.Data) == 0 {
				return nil
			}
			return take(jsonscan.WithoutMark(e.Data))
		})
	}
	return status, streamed
}

// send sends a notification or a response to the server.
func (x *exchange) send(ctx context.Context, r *route, message []byte) error {
	s := x.oneOfMany(ctx, http.MethodPost, r.server)
	defer s.end()
	if s.refusal != nil {
		return s.refusal
	}
	answer, err := s.ask(r.gatewayHeader(x), message)
	if answer.sessionState == sessionGone {
		r.endIfLost(x, sessionGone, answer.status, answer.reason)
	}
	if errors.Is(err, errNoAnswer) {
		return nil // none is needed
	}
	return err
}

// uncountedCopy is the size up to which copies of a message do not count as the client's
// memory.
const uncountedCopy = 8 << 10

// reserveCopies counts n copies of a message that are about to be made, and returns their
// size. The error is a refusal. At the sub-request's end they are given back.
func (s *subRequest) reserveCopies(n int, message []byte) (size int64, err error) {
	if len(message) <= uncountedCopy {
		return 0, nil
	}
	size = int64(n) * int64(len(message))
	return size, s.request.Reserve(size)
}
