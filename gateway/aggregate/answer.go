package aggregate

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// answer is a server's answer to a client's request. A stream passes to the client as it
// comes. Any other answer is read whole first: if the session with the server turns out to
// be lost, the request can still be sent again.
type answer struct {
	x        *exchange
	route    *route
	toClient toClient
	sub      *subRequest
	from     *mcp.Answer // nil without an answer

	status  int
	refusal *access.Refusal // of the gateway, instead of the server's answer
	err     error           // why the answer is not complete
	written int64           // bytes that the client has got

	body      []byte
	message   *mcp.Message // the body; nil if that is not a message, or is encoded
	event     []byte       // the buffer for events of a stream
	started   bool         // the client has the beginning
	required  []byte       // the result, if it asks a client with a session for something
	noSession bool         // it has an error that says that the session is unknown
}

// take sends the request and takes the answer, which must be closed.
func (a *answer) take(header http.Header, m *mcp.Message) {
	defer a.sub.guard(&a.err)
	answer, err := a.sub.call(header, m)
	if err != nil {
		a.fail(err)
		return
	}
	a.from, a.status = answer, answer.Status
	encoded := isEncoded(answer.Header)
	if answer.Stream && a.status == http.StatusOK && !encoded {
		a.started = true
		answer.CopyHeader(a.x.w.Header())
		a.written, a.err = answer.Relay(a.x.w, a.unanswered, a.translate)
		return
	}
	body, err := answer.Whole()
	if err != nil {
		a.fail(err)
		return
	}
	a.body = jsonscan.WithoutMark(body)
	if !encoded {
		a.message, _ = mcp.ParseMessage(a.body) // finish answers what cannot be parsed
	}
}

// fail notes why there is no answer of the server's.
func (a *answer) fail(err error) {
	a.err = err
	if !errors.As(err, new(*mcp.AnswerError)) && errors.As(err, &a.refusal) {
		a.status = a.refusal.Status
	}
}

func (a *answer) close() {
	if a.from != nil {
		a.from.Close(a.written, a.err)
	}
}

// unanswered returns the id of the request, which gets no response any more.
func (a *answer) unanswered() []byte {
	a.x.freeID()
	return a.x.id()
}

// translate returns an event as the client gets it; nil if it does not get it.
func (a *answer) translate(e *sse.Event) ([]byte, error) {
	if e.HasData && !e.IsMessage() {
		return nil, nil // clients should not read it, but some do
	}
	data := jsonscan.WithoutMark(e.Data)
	if len(data) > 0 {
		a.noSession = a.noSession || a.route.session != "" && saysNoSession(data)
		m, err := mcp.ParseMessage(data)
		if err != nil {
			return nil, err
		}
		if a.required = a.askedIn(m); a.required != nil {
			return nil, io.EOF // the client gets the questions
		}
		if data, err = a.toClient(m); err != nil || data == nil {
			return nil, err
		}
	}
	prefix := ""
	if a.route.mode == modeSession {
		prefix = names.Prefix(a.route.server)
	}
	a.event = e.Rewrite(a.event[:0], data, prefix)
	return a.event, nil
}

// Messages to a client that gets no answer of the server's.
const (
	messageUnreachable = "The server cannot be reached."
	messageUnfit       = "The server's answer cannot be passed on."
	messageAborted     = "The server's answer broke off."
)

// sessionState says what the answer means for the session with the server.
func (a *answer) sessionState() sessionState {
	switch {
	case a.route.session == "", a.sub.context.Err() != nil:
		return sessionFine
	case a.noSession:
		return sessionDoubtful
	case a.started:
		return sessionFine // a stream that broke off is resumed in the same session
	case a.brokeOff():
		return sessionDoubtful
	}
	return sessionStateOf(a.status, a.sub.request.Refused(), a.body)
}

// brokeOff reports whether the answer ended before it was complete.
func (a *answer) brokeOff() bool {
	return errors.Is(a.err, errAborted) || a.from != nil && a.from.BrokeOff(a.err)
}

// isVersionUnknown reports whether the answer is that of a server that does not know the
// protocol version of the request.
func (a *answer) isVersionUnknown() bool {
	if a.started || a.status < 400 || a.status >= 500 || concernsOneRequest(a.status) {
		return false
	}
	code := 0
	switch {
	case a.refusal != nil:
		code = a.refusal.Code
	case a.message != nil:
		code = a.message.ErrorCode
	}
	return a.message == nil && code == 0 || code == protocol.CodeUnsupportedVersion || code == protocol.CodeMethodNotFound
}

// finish answers the client, unless it has an answer.
func (a *answer) finish() {
	x, reason := a.x, a.sub.request.Refused()
	cut := access.CutCause(a.sub.context)
	unfit, isUnfit := errors.AsType[*mcp.AnswerError](a.err)
	switch {
	case a.started:
		if a.brokeOff() {
			panic(http.ErrAbortHandler) // so that it does not look complete
		}
	case cut != nil && cut.Status != http.StatusForbidden:
		// Of the client's whole access: an error response would be about this request alone.
		a.sub.answerRefusal(cut)
	case a.from != nil && a.refusal != nil && isOfMemory(reason):
		a.refuse(a.refusal) // there is no memory for the server's answer
	case a.sub.context.Err() != nil && cut == nil:
		if x.r.Context().Err() == nil {
			// The client has cancelled the request, and expects no response.
			x.w.Header()[protocol.HeaderContentType] = valueEvents
		}
	case a.refusal != nil && (isOfGateway(reason) || a.status == http.StatusUnauthorized):
		x.freeID()
		a.refusal.Write(x.w, a.sub.request.ID)
	case x.message.Kind != envelope.Request:
		x.w.WriteHeader(http.StatusAccepted)
	case isUnfit:
		a.answerError(unfit.Message)
	case a.brokeOff():
		a.answerError(messageAborted)
	case a.refusal != nil && mcp.IsItemReason(a.refusal.Reason):
		a.refuse(x.refusedItem(a.refusal))
	case a.refusal != nil && a.refusal.Code != 0:
		a.refuse(a.refusal)
	case a.message == nil || a.message.Kind != envelope.Response:
		a.answerError(a.whyNoResponse(reason))
	default:
		a.respond()
	}
}

// refuse answers the request with a refusal. A client with a session may give up the
// session after an HTTP error, and with it all servers: it gets status 200.
func (a *answer) refuse(f *access.Refusal) {
	x, answer := a.x, *f
	if x.session != nil || f.Status >= 500 && a.from == nil {
		answer.Status = http.StatusOK
	}
	if x.session != nil {
		x.session.answered(x.id(), "")
	}
	x.freeID()
	x.refuse(&answer, f.Code).Write(x.w, x.request.ID)
}

// whyNoResponse is the message to the client about an answer that is not a response.
func (a *answer) whyNoResponse(reason string) string {
	switch {
	case reason != "" || a.status < http.StatusBadRequest:
		return messageUnreachable
	case a.status == http.StatusTooManyRequests:
		return "The server has too many requests: try again later."
	}
	return "The server refuses the request: status " + strconv.Itoa(a.status) + "."
}

// isEncoded reports whether the body is compressed, or encoded otherwise: the client would
// read other text than the gateway.
func isEncoded(header http.Header) bool {
	for _, coding := range header[protocol.HeaderContentEncoding] {
		if coding != "identity" {
			return true
		}
	}
	return false
}

// respond sends the server's response.
func (a *answer) respond() {
	// Ids and names are replaced one after the other: the copies are the text before, and that
	// behind.
	size, err := a.sub.reserveCopies(2, a.message.Data)
	if full, ok := errors.AsType[*access.Refusal](err); ok {
		full = full.Answered()
		a.sub.request.Record(full)
		full.Code = protocol.CodeInternalError
		a.refuse(full)
		return
	}
	defer func() { _ = a.sub.request.Reserve(-size) }() // giving back does not fail
	body, err := a.toClient(a.message)
	if err != nil || body == nil {
		a.answerError(messageUnfit)
		return
	}
	status := a.status
	if a.x.session != nil || status >= 500 {
		status = http.StatusOK // as in refuse
	}
	a.from.CopyHeader(a.x.w.Header())
	a.write(status, body)
}

// answerError answers with an error of the gateway's. The server's Retry-After is kept.
func (a *answer) answerError(message string) {
	header := a.x.w.Header()
	header[protocol.HeaderContentType] = valueJSON
	if a.from != nil && a.from.Header[protocol.HeaderRetryAfter] != nil {
		header[protocol.HeaderRetryAfter] = a.from.Header[protocol.HeaderRetryAfter]
	}
	a.write(http.StatusOK, protocol.Error(a.x.id(), protocol.CodeInternalError, message, protocol.RequestID(a.x.request.ID)))
}

func (a *answer) write(status int, body []byte) {
	a.x.freeID()
	a.written, _ = a.x.writeBody(status, body) // a client that is gone needs no answer
}
