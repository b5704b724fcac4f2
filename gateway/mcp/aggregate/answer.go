package aggregate

import (
	"errors"
	"net/http"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// answer takes what a server answers to a client's request, and passes it on. A
// stream goes on as it comes. Anything else is kept until it is all there: then
// it can still be asked again, if the session with the server was lost.
type answer struct {
	x      *exchange
	way    *way
	back   back
	header http.Header // as the server's endpoint sets it
	status int

	body     []byte
	events   *sse.Splitter // nil: no stream
	event    []byte        // the one being written
	started  bool          // the client has got the beginning
	tooLarge bool
	denied   bool            // it is an error that says that there is no such session
	full     *access.Refusal // there is no room for it
}

func (x *exchange) newAnswer(v *way, b back) *answer {
	return &answer{x: x, way: v, back: b, header: make(http.Header)}
}

// limit bounds what is kept of an answer.
func (a *answer) limit() int64 { return a.x.handler.settings().Limits.MaxList }

func (a *answer) Header() http.Header { return a.header }

// Unwrap is for those who set deadlines.
func (a *answer) Unwrap() http.ResponseWriter { return a.x.w }

// FlushError sends what was written.
func (a *answer) FlushError() error {
	if !a.started {
		return nil
	}
	return http.NewResponseController(a.x.w).Flush()
}

func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 {
		return
	}
	a.status = status
	if status != http.StatusOK || !isStream(a.header) || isEncoded(a.header) {
		return
	}
	a.events = sse.NewSplitter(int(a.limit()))
	a.events.Reserve = a.x.request.Reserve
	mcp.CopyHeader(a.x.w.Header(), a.header)
	a.x.w.WriteHeader(status)
	a.started = true
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.events != nil {
		if err := a.events.Push(p, a.pass); err != nil {
			switch {
			case errors.Is(err, sse.ErrTooLarge):
				a.tooLarge = true
				a.fail(a.x.tooLarge(a.way.server))
				err = &tooLargeError{a.limit()}
			case errors.As(err, &a.full):
				a.fail(messageUnfit)
			}
			return 0, err
		}
		return len(p), nil
	}
	if int64(len(a.body)+len(p)) > a.limit() {
		a.tooLarge = true
		return 0, &tooLargeError{a.limit()}
	}
	if err := reserve(a.x.request, len(a.body), len(a.body)+len(p)); err != nil {
		_ = errors.As(err, &a.full) // what else it is, finish tells
		return 0, err
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

// pass passes one event on.
func (a *answer) pass(e *sse.Event) error {
	if e.HasData && !e.IsMessage() {
		return nil // clients do not read it, and some do all the same
	}
	data := jsonscan.WithoutMark(e.Data)
	if len(data) > 0 {
		a.denied = a.denied || a.way.session != "" && deniesSession(data)
		var err error
		if data, err = a.back(data); err != nil {
			a.fail(messageUnfit)
			return err
		}
		if data == nil {
			return nil
		}
	}
	prefix := ""
	if a.way.kind == paired {
		prefix = names.Prefix(a.way.server)
	}
	a.event = e.Anew(a.event[:0], data, prefix)
	_, err := a.x.w.Write(a.event)
	return err
}

// fail tells the client, in a stream, that there is no answer to be had.
func (a *answer) fail(message string) {
	a.x.free()
	if id := a.x.id(); id != nil {
		_, _ = a.x.w.Write(sse.AppendMessage(nil,
			protocol.Error(id, protocol.CodeInternalError, message, protocol.RequestID(a.x.request.ID))))
	}
}

// What a client is told in the place of an answer.
const (
	messageUnreachable = "The server cannot be reached."
	messageUnfit       = "The server's answer cannot be passed on."
	messageBroken      = "The server's answer broke off."
)

// tooLarge is what a client is told of an answer of which too much would have to
// be kept, since names in it are changed. The log is told too: a limit is the
// administrator's to set.
func (x *exchange) tooLarge(server string) string {
	limit := x.handler.settings().Limits.MaxList
	x.handler.log.Warn("a server's answer is larger than limits.max_list, and was not passed on",
		"server", server, "method", x.message.Method, "max_list", config.FormatSize(limit), "request_id", x.request.ID)
	what := "The server's answer is larger than "
	if x.message.Method == protocol.MethodToolsCall {
		what = "The tool has run, but its answer is larger than "
	}
	return what + config.FormatSize(limit) + ", this gateway's limit (limits.max_list), and was not passed on."
}

// verdict is what the answer says of the session in which it was asked.
func (a *answer) verdict(p *part, aborted bool) verdict {
	switch {
	case a.way.session == "", p.context.Err() != nil:
		return holds
	case a.denied:
		return doubted
	case a.started:
		return holds // a stream that broke off is resumed in the same session
	case aborted:
		return doubted
	}
	return judge(a.status, p.request.Refused(), a.body)
}

// finish answers the client, where that has not been done yet.
func (a *answer) finish(p *part, aborted bool) {
	if a.started {
		_ = a.events.End(a.pass) // what is left is no whole event
		if aborted {
			panic(http.ErrAbortHandler) // so that it does not look complete
		}
		return
	}
	a.body = jsonscan.WithoutMark(a.body)
	reason := p.request.Refused()
	switch {
	case a.full != nil:
		f := a.x.rpc(a.full.Answered(), protocol.CodeInternalError)
		if a.x.session != nil {
			f.Status = http.StatusOK // as in message
		}
		access.Refuse(a.x.w, a.x.r, f)
	case p.context.Err() != nil && access.Cut(p.context) == nil:
		if a.x.r.Context().Err() == nil {
			// The client has cancelled the request, and is told nothing more.
			a.x.w.Header()[protocol.HeaderContentType] = valueEvents
		}
	case isOwn(reason) || a.status == http.StatusUnauthorized:
		a.send(a.status, a.body)
	case a.x.message.Kind != envelope.Request:
		a.x.w.WriteHeader(http.StatusAccepted)
	case a.tooLarge:
		a.broken(a.x.tooLarge(a.way.server))
	case aborted:
		a.broken(messageBroken)
	case !a.isMessage():
		a.broken(a.refused(reason))
	default:
		a.message()
	}
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

// isMessage reports whether what was answered is a response to the request.
func (a *answer) isMessage() bool {
	if isEncoded(a.header) {
		return false
	}
	e, err := envelope.Parse(a.body)
	return err == nil && e.Kind == envelope.Response
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
	e, err := envelope.Parse(a.body)
	return err != nil || e.ErrorCode == protocol.CodeUnsupportedVersion || e.ErrorCode == protocol.CodeMethodNotFound
}

// message sends the server's response.
func (a *answer) message() {
	body, err := a.back(a.body)
	if err != nil || body == nil {
		a.broken(messageUnfit)
		return
	}
	status := a.status
	if a.x.session != nil || status >= 500 {
		// A client with a session may give it up for an error of HTTP: and with
		// it all servers but this one.
		status = http.StatusOK
	}
	a.send(status, body)
}

// broken answers in the place of a server that has not. When it may be asked again
// is the server's to say.
func (a *answer) broken(message string) {
	later := a.header[protocol.HeaderRetryAfter]
	a.header = http.Header{protocol.HeaderContentType: valueJSON}
	if later != nil {
		a.header[protocol.HeaderRetryAfter] = later
	}
	a.send(http.StatusOK, protocol.Error(a.x.id(), protocol.CodeInternalError, message, protocol.RequestID(a.x.request.ID)))
}

func (a *answer) send(status int, body []byte) {
	a.x.free()
	header := a.x.w.Header()
	mcp.CopyHeader(header, a.header)
	header[protocol.HeaderContentLength] = []string{strconv.Itoa(len(body))}
	a.x.w.WriteHeader(status)
	_, _ = a.x.write(body) // a client that is gone needs no answer
}

func itoa(n int) string { return strconv.Itoa(n) }
