package aggregate

import (
	"net/http"
	"slices"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

var (
	valueJSON   = []string{protocol.MediaJSON}
	valueEvents = []string{protocol.MediaEventStream}
	valueAny    = []string{protocol.MediaJSON + ", " + protocol.MediaEventStream}
)

// exchange is one request of a client.
type exchange struct {
	handler *Handler
	w       http.ResponseWriter
	r       *http.Request
	request *access.Request

	message      *mcp.Message
	json, stream bool         // what the client takes for an answer
	session      *session     // nil in the era without sessions
	inFlight     *sessionCall // noted while its answer is not there; nil: it is no call of a session
	shared       bool         // goroutines that outlive the request read its message
	own          *session     // held by the gateway for this request alone; nil: for all of the client
}

// release gives the message back, unless somebody may still read it.
func (x *exchange) release() {
	if x.message != nil && !x.shared {
		x.message.Release()
	}
}

// serve answers the request. A refusal is what is still to be answered.
func (x *exchange) serve() *access.Refusal {
	var f *access.Refusal
	if x.message, f = mcp.ReadMessage(x.r, x.handler.settings().Limits.MaxBody); f != nil {
		return f
	}
	x.json, x.stream = mcp.Accepts(x.r.Header)
	switch {
	case x.r.Method != http.MethodPost && x.message.Stateless:
		x.w.Header().Set("Allow", http.MethodPost)
		return x.plain(http.StatusMethodNotAllowed, "This protocol version has no sessions.")
	case x.r.Method == http.MethodGet:
		return x.feed()
	case x.r.Method == http.MethodDelete:
		return x.terminate()
	case !x.json && !x.stream:
		return x.plain(http.StatusNotAcceptable, "Accept must list application/json and text/event-stream.")
	case x.starts():
		return x.initialize()
	case x.sessionless():
		return x.withoutSession()
	case !protocol.SpeaksSessions(x.r.Header):
		return x.plain(http.StatusBadRequest, "This protocol version is not supported.")
	}
	return x.inSession()
}

// starts reports whether the message starts a session.
func (x *exchange) starts() bool {
	return x.message.Kind == envelope.Request && x.message.Method == protocol.MethodInitialize && !x.message.Stateless
}

// sessionless reports whether the message is of the era without sessions: also
// if it declares a version that nobody knows.
func (x *exchange) sessionless() bool {
	return x.message.Stateless || x.message.Version != "" && x.r.Header[protocol.HeaderSession] == nil
}

// withoutSession serves a message of the era without sessions.
func (x *exchange) withoutSession() *access.Refusal {
	version := x.message.Version
	switch {
	case x.message.Kind == envelope.Response:
		return x.plain(http.StatusBadRequest, "A message must be a request or a notification.")
	case x.message.Kind == envelope.Notification:
		return x.answerAccepted() // cancelling is closing the stream; others mean nothing to a server without sessions
	case version == "":
		f := x.plain(http.StatusBadRequest, "params._meta must declare the protocol version.")
		f.Code = protocol.CodeInvalidParams
		return f
	case version != protocol.VersionStateless:
		return x.badVersion(version)
	}
	method := x.message.Method
	if _, lists := rewrite.KindOf(method); lists || method == protocol.MethodDiscover || method == protocol.MethodListen {
		// What no server sees, no server checks.
		if f := x.checkMeta(); f != nil {
			return f
		}
	}
	switch method {
	case protocol.MethodDiscover:
		return x.discover()
	case protocol.MethodListen:
		return x.listen()
	}
	return x.asks()
}

// checkMeta refuses a request that does not say what its client can do, which
// each request must without sessions.
func (x *exchange) checkMeta() *access.Refusal {
	params, err := members(x.message.Data, x.message.Params)
	if err == nil {
		meta, _ := find(params, "_meta")
		var list []member
		if list, err = members(x.message.Data, meta.at); err == nil {
			if can, found := find(list, protocol.MetaClientCapabilities); found && isObject(can.raw) {
				return nil
			}
		}
	}
	f := x.plain(http.StatusBadRequest, "params._meta must declare the client's capabilities.")
	f.Code = protocol.CodeInvalidParams
	return f
}

// asks serves what clients of both eras ask.
func (x *exchange) asks() *access.Refusal {
	if kind, ok := rewrite.KindOf(x.message.Method); ok {
		return x.list(kind)
	}
	switch x.message.Method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead, protocol.MethodComplete:
		return x.call()
	case protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		if x.session != nil {
			return x.call()
		}
	}
	return x.unknownMethod()
}

// client is the client's unchanging id.
func (x *exchange) client() string { return x.request.Grant.ClientID }

// id returns the id of the request's message as it stands there; nil if it is
// no request.
func (x *exchange) id() []byte {
	if x.message == nil || x.message.Kind != envelope.Request {
		return nil
	}
	return x.message.IDOf(x.message.Data)
}

// decide records that the gateway answers the request itself.
func (x *exchange) decide() *access.Refusal {
	if err := x.request.Decide(access.Decision{Allow: true, Reason: access.ReasonAllowed}); err != nil {
		f := access.AuditRefusal()
		f.Detail = err.Error()
		return f
	}
	return nil
}

// answerResult answers the request with a result of the gateway's own.
func (x *exchange) answerResult(result []byte) {
	body := append(x.beginResult(make([]byte, 0, len(result)+128)), result...)
	x.answerJSON(http.StatusOK, protocol.EndResult(body))
}

// beginResult appends the answer to the request, up to its result.
func (x *exchange) beginResult(dst []byte) []byte {
	return protocol.BeginResult(dst, x.id())
}

func (x *exchange) answerJSON(status int, body []byte) {
	header := x.w.Header()
	if !x.json && status == http.StatusOK {
		header[protocol.HeaderContentType] = valueEvents
		body = append(append([]byte("event: message\ndata: "), oneLine(body)...), "\n\n"...)
	} else {
		header[protocol.HeaderContentType] = valueJSON
	}
	header[protocol.HeaderContentLength] = []string{strconv.Itoa(len(body))}
	x.w.WriteHeader(status)
	n, err := x.write(body)
	x.request.Outcome(status, n, err)
}

// smallBody is what is left to a client to read when it likes: more would wait in
// the gateway's memory, and beyond the end of the client's access.
const smallBody = 32 << 10

// write writes all of an answer's body.
func (x *exchange) write(body []byte) (int64, error) {
	if len(body) <= smallBody {
		n, err := x.w.Write(body)
		return int64(n), err
	}
	s := sse.NewWriter(x.r.Context(), x.w, 0)
	var err error
	for part := range slices.Chunk(body, smallBody) {
		if _, err = s.Write(part); err != nil {
			break
		}
	}
	return s.Close(), err
}

// oneLine returns the JSON without line breaks, which are but white space in it.
func oneLine(message []byte) []byte {
	out := message
	for i, c := range message {
		if c == '\n' || c == '\r' {
			if &out[0] == &message[0] {
				out = append([]byte(nil), message...)
			}
			out[i] = ' '
		}
	}
	return out
}

// answerAccepted answers what needs no answer.
func (x *exchange) answerAccepted() *access.Refusal {
	if f := x.decide(); f != nil {
		return f
	}
	x.w.WriteHeader(http.StatusAccepted)
	x.request.Outcome(http.StatusAccepted, 0, nil)
	return nil
}
