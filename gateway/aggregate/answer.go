package aggregate

import (
	"errors"
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

// answer passes a server's answer to a client's request on. A stream goes on as it
// comes. Anything else is read whole: then the server can still be asked again, if the
// session with it was lost.
type answer struct {
	x    *exchange
	way  *way
	back back
	part *part
	from *mcp.Answer // nil: there is none

	status  int
	refusal *access.Refusal // of the gateway, in place of the server's answer
	err     error           // why there is no more of the answer
	written int64           // bytes of it that the client has got

	body    []byte
	message *mcp.Message // the body; nil: it is no message, or is encoded
	event   []byte       // of a stream, the one being written
	started bool         // the client has got the beginning
	denied  bool         // it is an error that says that there is no such session
}

func (x *exchange) newAnswer(p *part, v *way, b back) *answer {
	return &answer{x: x, way: v, back: b, part: p}
}

// take has the server asked, and takes its answer. The answer must be closed.
func (a *answer) take(header http.Header, m *mcp.Message) {
	defer a.part.guard(&a.err)
	answer, err := a.part.call(header, m)
	if err != nil {
		a.fail(err)
		return
	}
	a.from, a.status = answer, answer.Status
	encoded := isEncoded(answer.Header)
	if answer.Stream && a.status == http.StatusOK && !encoded {
		a.started = true
		answer.CopyHeader(a.x.w.Header())
		a.written, a.err = answer.Relay(a.x.w, a.unanswered, a.pass)
		return
	}
	body, err := answer.Whole()
	if err != nil {
		a.fail(err)
		return
	}
	a.body = jsonscan.WithoutMark(body)
	if !encoded {
		a.message, _ = mcp.ParseMessage(a.body) // what is none is told by finish
	}
}

// fail notes why there is no answer of the server's.
func (a *answer) fail(err error) {
	a.err = err
	if !errors.As(err, new(*mcp.AnswerError)) && errors.As(err, &a.refusal) {
		a.status = a.refusal.Status
	}
}

// close ends the answer.
func (a *answer) close() {
	if a.from != nil {
		a.from.Close(a.written, a.err)
	}
}

// unanswered returns the id of the request, which is not answered any more.
func (a *answer) unanswered() []byte {
	a.x.free()
	return a.x.id()
}

// pass returns an event as the client gets it; nothing if it gets none.
func (a *answer) pass(e *sse.Event) ([]byte, error) {
	if e.HasData && !e.IsMessage() {
		return nil, nil // clients do not read it, and some do all the same
	}
	data := jsonscan.WithoutMark(e.Data)
	if len(data) > 0 {
		a.denied = a.denied || a.way.session != "" && deniesSession(data)
		m, err := mcp.ParseMessage(data)
		if err != nil {
			return nil, err
		}
		if data, err = a.back(m); err != nil || data == nil {
			return nil, err
		}
	}
	prefix := ""
	if a.way.kind == paired {
		prefix = names.Prefix(a.way.server)
	}
	a.event = e.Rewrite(a.event[:0], data, prefix)
	return a.event, nil
}

// What a client is told in the place of an answer.
const (
	messageUnreachable = "The server cannot be reached."
	messageUnfit       = "The server's answer cannot be passed on."
	messageBroken      = "The server's answer broke off."
)

// verdict is what the answer says of the session in which it was asked.
func (a *answer) verdict() verdict {
	switch {
	case a.way.session == "", a.part.context.Err() != nil:
		return holds
	case a.denied:
		return doubted
	case a.started:
		return holds // a stream that broke off is resumed in the same session
	case a.brokeOff():
		return doubted
	}
	return judge(a.status, a.part.request.Refused(), a.body)
}

// brokeOff reports whether the answer ended before it was complete.
func (a *answer) brokeOff() bool {
	return errors.Is(a.err, errAborted) || a.from != nil && a.from.BrokeOff(a.err)
}

// finish answers the client, where that has not been done yet.
func (a *answer) finish() {
	x, reason := a.x, a.part.request.Refused()
	var unfit *mcp.AnswerError
	switch {
	case a.started:
		if a.brokeOff() {
			panic(http.ErrAbortHandler) // so that it does not look complete
		}
	case a.from != nil && isOwn(reason):
		a.refuse(a.refusal) // there is no room for what the server has answered
	case a.part.context.Err() != nil && access.Cut(a.part.context) == nil:
		if x.r.Context().Err() == nil {
			// The client has cancelled the request, and is told nothing more.
			x.w.Header()[protocol.HeaderContentType] = valueEvents
		}
	case a.refusal != nil && (isOwn(reason) || a.status == http.StatusUnauthorized):
		x.free()
		a.refusal.Write(x.w, a.part.request.ID)
	case x.message.Kind != envelope.Request:
		x.w.WriteHeader(http.StatusAccepted)
	case errors.As(a.err, &unfit):
		a.broken(unfit.Message)
	case a.brokeOff():
		a.broken(messageBroken)
	case a.refusal != nil && a.refusal.Code != 0:
		a.refuse(a.refusal)
	case a.message == nil || a.message.Kind != envelope.Response:
		a.broken(a.refused(reason))
	default:
		a.respond()
	}
}

// refuse passes on a refusal that is an answer to the request. A client with a session
// may give it up for an error of HTTP: and with it all servers but this one.
func (a *answer) refuse(f *access.Refusal) {
	x, answer := a.x, *f
	if x.session != nil || f.Status >= 500 && a.from == nil {
		answer.Status = http.StatusOK
	}
	if x.session != nil {
		x.session.settle(x.id(), "")
	}
	x.free()
	x.rpc(&answer, f.Code).Write(x.w, x.request.ID)
}

// refused is what a client is told of an answer that is no response.
func (a *answer) refused(reason string) string {
	switch {
	case reason != "" || a.status < http.StatusBadRequest:
		return messageUnreachable
	case a.status == http.StatusTooManyRequests:
		return "The server has too many requests: try again later."
	}
	return "The server refuses the request: status " + itoa(a.status) + "."
}

// isEncoded reports whether the body with that header is not what it says: the
// client would read other text than the gateway.
func isEncoded(header http.Header) bool {
	for _, coding := range header[protocol.HeaderContentEncoding] {
		if coding != "identity" {
			return true
		}
	}
	return false
}

// isEraUnknown reports whether the server has answered as one that does not know
// the era of the request.
func (a *answer) isEraUnknown() bool {
	if a.started || a.status < 400 || a.status >= 500 || teachesNothing(a.status) {
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

// respond sends the server's response.
func (a *answer) respond() {
	body, err := a.back(a.message)
	if err != nil || body == nil {
		a.broken(messageUnfit)
		return
	}
	status := a.status
	if a.x.session != nil || status >= 500 {
		status = http.StatusOK // as in refuse
	}
	a.from.CopyHeader(a.x.w.Header())
	a.send(status, body)
}

// broken answers in the place of a server that has not. When it may be asked again
// is the server's to say.
func (a *answer) broken(message string) {
	header := a.x.w.Header()
	header[protocol.HeaderContentType] = valueJSON
	if a.from != nil && a.from.Header[protocol.HeaderRetryAfter] != nil {
		header[protocol.HeaderRetryAfter] = a.from.Header[protocol.HeaderRetryAfter]
	}
	a.send(http.StatusOK, protocol.Error(a.x.id(), protocol.CodeInternalError, message, protocol.RequestID(a.x.request.ID)))
}

func (a *answer) send(status int, body []byte) {
	a.x.free()
	a.x.w.Header()[protocol.HeaderContentLength] = []string{strconv.Itoa(len(body))}
	a.x.w.WriteHeader(status)
	a.written, _ = a.x.write(body) // a client that is gone needs no answer
}

func itoa(n int) string { return strconv.Itoa(n) }
