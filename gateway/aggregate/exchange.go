package aggregate

import (
	"net/http"
	"slices"
	"strconv"
	"sync"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

var (
	valueJSON   = []string{protocol.MediaJSON}
	valueEvents = []string{protocol.MediaEventStream}
	valueAny    = []string{protocol.MediaJSON + ", " + protocol.MediaEventStream}
)

// exchange is one request of a client, and its answer.
type exchange struct {
	handler *Handler
	w       http.ResponseWriter
	r       *http.Request
	request *access.Request

	message      *mcp.Message
	json, stream bool         // the client accepts these as answers
	session      *session     // nil without sessions
	inFlight     *sessionCall // nil unless the request is a call of a session in flight
	shared       bool         // goroutines that outlive the request read its message
	ownSession   *session     // the implicit session of this request alone; nil: of the client
	askable      *askableCall // the call that the exchange is of; nil: the client's own request
	given        *answers     // that come with the call; nil without any
	uri          []byte       // of the resource, as the client names it; nil without one

	declared struct { // what the client of a request without a session can be asked
		once sync.Once
		messages.Questions
	}
}

// release frees the message, unless a goroutine may still read it.
func (x *exchange) release() {
	if x.message != nil && !x.shared {
		x.message.Release()
	}
}

// serve answers the request. A refusal is left to the caller to answer.
func (x *exchange) serve() *access.Refusal {
	var f *access.Refusal
	if x.message, f = mcp.ReadMessage(x.r, x.handler.settings().Limits.MaxBody); f != nil {
		return f
	}
	x.json, x.stream = mcp.Accepts(x.r.Header)
	purpose, f := serverside.PurposeOf(&serverside.Request{
		Method: x.r.Method, Header: x.r.Header, Message: &x.message.Envelope, ID: x.id(),
		Stateless: x.message.Stateless, AcceptsJSON: x.json, AcceptsStream: x.stream,
	})
	if f != nil {
		return f
	}
	switch purpose {
	case serverside.Initialize:
		return x.initialize()
	case serverside.Stateless:
		return x.serveStateless()
	case serverside.Listen:
		return x.inSession(x.serveStream)
	case serverside.Terminate:
		return x.inSession(x.terminate)
	default:
		return x.inSession(x.serveInSession)
	}
}

// inSession finds the session that the request names, and serves the request in it.
func (x *exchange) inSession(serve func() *access.Refusal) *access.Refusal {
	id := protocol.First(x.r.Header, protocol.HeaderSession)
	x.session = x.handler.sessions.find(x.r.Context(), id, x.request.Grant)
	if x.session == nil {
		return serverside.NoSession(x.id())
	}
	defer x.session.release()
	x.request.Session = mcp.HashSession(id)
	return serve()
}

// serveInSession serves a message of a session.
func (x *exchange) serveInSession() *access.Refusal {
	switch x.message.Kind {
	case envelope.Response:
		return x.forwardResponse()
	case envelope.Notification:
		return x.forwardNotification()
	}
	switch x.message.Method {
	case protocol.MethodPing:
		if f := x.request.Allow(); f != nil {
			return f
		}
		x.answerResult([]byte("{}"))
		return nil
	case protocol.MethodSetLevel:
		return x.setLevel()
	}
	return x.serveRequest()
}

// serveStateless serves a message without a session.
func (x *exchange) serveStateless() *access.Refusal {
	if x.message.Kind == envelope.Notification {
		// To cancel, a client closes its stream. Other notifications mean nothing here.
		return x.answerAccepted()
	}
	if x.message.Version != protocol.VersionStateless {
		return x.badVersion(x.message.Version)
	}
	method := x.message.Method
	if kind, lists := rewrite.KindOf(method); lists && kind != rewrite.Tasks || method == protocol.MethodDiscover || method == protocol.MethodListen {
		// The gateway answers these itself, so no server checks them.
		if f := x.checkCapabilities(); f != nil {
			return f
		}
	}
	switch method {
	case protocol.MethodDiscover:
		return x.discover()
	case protocol.MethodListen:
		return x.listen()
	}
	return x.serveRequest()
}

// checkCapabilities refuses a stateless request that does not declare the client's
// capabilities.
func (x *exchange) checkCapabilities() *access.Refusal {
	if messages.IsObject(x.message.Capabilities.Of(x.message.Data)) {
		return nil
	}
	return serverside.InvalidParams(x.id(), "params._meta must declare the client's capabilities.")
}

// serveRequest serves requests that are the same with sessions and without.
func (x *exchange) serveRequest() *access.Refusal {
	if kind, ok := rewrite.KindOf(x.message.Method); ok && (kind != rewrite.Tasks || x.session != nil) {
		return x.list(kind)
	}
	switch x.message.Method {
	case protocol.MethodTasksGet, protocol.MethodTasksUpdate, protocol.MethodTasksCancel:
		return x.call()
	case protocol.MethodTasksResult:
		if x.session != nil {
			return x.call()
		}
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead, protocol.MethodComplete:
		return x.call()
	case protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		if x.session != nil {
			return x.call()
		}
	}
	return x.unknownMethod()
}

// client is the client's id.
func (x *exchange) principal() grants.Principal { return x.request.Grant.Principal() }

// id returns the id of the request as it stands in the message; nil if the message is not
// a request.
func (x *exchange) id() []byte {
	if x.askable != nil {
		return x.askable.id()
	}
	if x.message == nil || x.message.Kind != envelope.Request {
		return nil
	}
	return x.message.IDOf(x.message.Data)
}

// answerResult answers the request with a result of the gateway's own.
func (x *exchange) answerResult(result []byte) {
	x.answerJSON(protocol.Result(x.id(), result))
}

// answerJSON answers with a message: as an event where the client accepts only streams.
func (x *exchange) answerJSON(body []byte) {
	header := x.w.Header()
	header[protocol.HeaderContentType] = valueJSON
	if !x.json {
		header[protocol.HeaderContentType] = valueEvents
		body = sse.AppendMessage([]byte("event: message\n"), body)
	}
	n, err := x.writeBody(http.StatusOK, body)
	x.request.Outcome(http.StatusOK, n, err)
}

// answerAccepted answers a message that needs no answer.
func (x *exchange) answerAccepted() *access.Refusal {
	if f := x.request.Allow(); f != nil {
		return f
	}
	x.w.WriteHeader(http.StatusAccepted)
	x.request.Outcome(http.StatusAccepted, 0, nil)
	return nil
}

const (
	// smallBody is the size up to which a client may read an answer as slowly as it likes.
	// More would take the gateway's memory, and would outlast the end of the client's access.
	smallBody = 32 << 10

	// bodyPart is how much of a larger one a client must take in the time of one write.
	bodyPart = 128 << 10
)

// writeBody writes all of an answer's body.
func (x *exchange) writeBody(status int, body []byte) (int64, error) {
	x.w.Header()[protocol.HeaderContentLength] = []string{strconv.Itoa(len(body))}
	x.w.WriteHeader(status)
	if len(body) <= smallBody {
		n, err := x.w.Write(body)
		return int64(n), err
	}
	s := sse.NewWriter(x.r.Context(), x.w, 0)
	var err error
	for part := range slices.Chunk(body, bodyPart) {
		if _, err = s.Write(part); err != nil {
			break
		}
	}
	return s.Close(), err
}

// questions returns what the client can be asked while this request lasts.
func (x *exchange) questions() messages.Questions {
	if x.session != nil {
		if !x.stream {
			return x.session.questions & messages.ShowsApps // there is no stream for a question
		}
		return x.session.questions
	}
	x.declared.once.Do(func() { x.declared.Questions = x.declaredQuestions() })
	return x.declared.Questions
}

// declaredQuestions returns what the client of the stateless request declares.
func (x *exchange) declaredQuestions() messages.Questions {
	return messages.QuestionsIn(x.message.Capabilities.Of(x.message.Data))
}
