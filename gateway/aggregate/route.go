package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// mode says which side of a route has sessions.
type mode uint8

const (
	modeStateless       mode = iota // neither: messages pass
	modeSession                     // both: messages pass; the client's session stands for one with each server
	modeImplicitSession             // only the server: the gateway keeps a session for the client
	modeStatelessServer             // only the client: the gateway adds _meta to each request
)

// route is how messages get from a client to one server, and back.
type route struct {
	mode     mode
	server   string
	session  string    // the session with the server, sealed; "" if the server has named none
	version  string    // of that session
	upstream *upstream // nil without a session
	has      messages.Capabilities

	listener implicitListener

	// Guarded by upstream.mu.
	uses     int  // requests in the session
	replaced bool // another session takes its place

	// notifications is another route for notifications and for calls in which the server may ask
	// the client, to a server that has sessions but names none; nil if there is none.
	notifications *route
}

// forNotifications returns the route on which the server sends notifications.
func (r *route) forNotifications() *route {
	if r.notifications != nil {
		return r.notifications
	}
	return r
}

// serverHasSessions reports whether the server has sessions.
func (r *route) serverHasSessions() bool {
	return r.mode == modeSession || r.mode == modeImplicitSession
}

// header returns the headers of a client's request to the server. name is the server's own
// name of what the request is for; "" if there is none.
func (r *route) header(x *exchange, method, name string) http.Header {
	if r.mode == modeImplicitSession {
		return r.gatewayHeader(x) // servers with sessions do not know the client's other headers
	}
	header := x.clientHeader()
	if r.mode == modeStatelessServer {
		delete(header, protocol.HeaderMethod)
		delete(header, protocol.HeaderName)
		if method != "" {
			header[protocol.HeaderMethod] = []string{method}
		}
	}
	switch method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead,
		protocol.MethodTasksGet, protocol.MethodTasksUpdate, protocol.MethodTasksCancel:
		if header[protocol.HeaderName] != nil || r.mode == modeStatelessServer {
			header[protocol.HeaderName] = []string{envelope.EncodeName(name)}
		}
	}
	if r.mode != modeStateless {
		delete(header, protocol.HeaderVersion)
		r.setSession(header)
	}
	return header
}

// gatewayHeader returns the headers of a request in the gateway's own name.
func (r *route) gatewayHeader(x *exchange) http.Header {
	header := x.gatewayHeader()
	r.setSession(header)
	return header
}

// setSession names the protocol version, and the session if there is one.
func (r *route) setSession(header http.Header) {
	if !r.serverHasSessions() {
		header[protocol.HeaderVersion] = []string{protocol.VersionStateless}
	}
	if r.version != "" {
		header[protocol.HeaderVersion] = []string{r.version}
	}
	if r.session != "" {
		header[protocol.HeaderSession] = []string{r.session}
	}
}

// streamHeader makes the headers those of a GET for the session's stream.
func streamHeader(header http.Header) http.Header {
	header[protocol.HeaderAccept] = valueEvents
	delete(header, protocol.HeaderContentType)
	delete(header, protocol.HeaderMethod)
	return header
}

// translated is a client's request as its server gets it.
type translated struct {
	message  *mcp.Message
	toClient toClient // for the answer
	id       []byte   // of the request at the server; nil if it is the client's
}

// translate makes a client's request one for the server. The names in it are the server's.
// The error is a refusal if there is no memory for that.
func (r *route) translate(s *subRequest, m *mcp.Message) (translated, error) {
	x := s.x
	if r.mode != modeImplicitSession && r.mode != modeStatelessServer {
		return translated{message: m, toClient: r.answerFilter(x, nil)}, nil
	}
	size, err := s.reserveCopies(2, m.Data) // of the edited part, and of the whole
	if err != nil {
		return translated{}, err
	}
	defer func() { _ = s.request.Reserve(-size / 2) }() // giving back does not fail
	if r.mode == modeImplicitSession {
		c := &implicitCall{x: x, route: r, method: x.message.Method}
		message, err := c.toServer(m)
		return translated{message: message, toClient: c.toClient, id: c.own}, err
	}
	message, err := messages.AddClientMeta(m.Data, m.Params, x.session.info, x.questions())
	if err != nil {
		return translated{}, err
	}
	if m, err = mcp.ParseMessage(message); err != nil {
		return translated{}, err
	}
	return translated{message: m, toClient: r.answerFilter(x, m.IDOf(m.Data))}, nil
}

// rename gives the names in a server's message the form that clients know. e is its envelope, or
// that of the message before its ids were replaced.
func (r *route) rename(e *envelope.Envelope, message []byte) ([]byte, error) {
	if !e.Names {
		return message, nil
	}
	return rewrite.Answer(message, r.server)
}

// The protocol answers 404 for a session that a server does not know. Many servers answer
// otherwise, above all after a restart. So any error response makes the session doubtful,
// and the next request opens another one: a lost session costs one request, not all.

// sessionState says what an answer means for the session that its request named.
type sessionState uint8

const (
	sessionFine     sessionState = iota
	sessionDoubtful              // the server may not know it
	sessionGone                  // the server does not know it, and has not carried out the request
)

// sessionStateOf judges an answer. The reason is that of the gateway's own refusal; "" if
// the answer is the server's.
func sessionStateOf(status int, reason string, body []byte) sessionState {
	switch {
	case status == http.StatusNotFound && (reason == "" || reason == serverside.ReasonNoSession):
		return sessionGone
	case reason == serverside.ReasonUnreachable, reason == serverside.ReasonUpstreamStatus, reason == serverside.ReasonUnauthorized:
		return sessionDoubtful
	case reason != "" || concernsOneRequest(status) && status != http.StatusForbidden:
		return sessionFine
	case status == http.StatusBadRequest && saysOnlyNoSession(body):
		return sessionGone
	case status >= http.StatusBadRequest, saysNoSession(body):
		return sessionDoubtful
	}
	return sessionFine
}

// concernsOneRequest reports whether the status is about one request alone: its size, its
// frequency, or the rights of its client.
func concernsOneRequest(status int) bool {
	switch status {
	case http.StatusForbidden, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests,
		http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// mayBeNoSession reports whether a server that answers with that status when it is asked
// for its stream may not know the session. Otherwise it has no such stream.
func mayBeNoSession(status int) bool {
	return status >= http.StatusBadRequest && status != http.StatusMethodNotAllowed && status != http.StatusTooManyRequests
}

// maxSessionError bounds the errors in which saysNoSession looks for words. Longer ones
// are about something else.
const maxSessionError = 4 << 10

// noSessionWords are words of errors about sessions that are not known.
var noSessionWords = []string{
	"not found", "not exist", "not initialized", "not valid", "no valid", "no such", "no active", "invalid", "missing",
	"unknown", "expired", "terminated", "closed",
}

// saysNoSession reports whether the message is an error that says that there is no such
// session.
func saysNoSession(message []byte) bool {
	if len(message) > maxSessionError || !bytes.Contains(message, []byte(`"error"`)) {
		return false
	}
	var m struct{ Error struct{ Message string } }
	if json.Unmarshal(message, &m) != nil {
		return false
	}
	text := strings.ToLower(m.Error.Message)
	if !strings.Contains(text, "session") {
		return strings.Contains(text, "server not initialized")
	}
	for _, words := range noSessionWords {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// Words of a text that says nothing but that a session is not known.
var (
	sessionWords = wordSet("session sessions sessionid mcp-session-id session-id session_id")
	absenceWords = wordSet("no not invalid missing unknown expired required terminated closed ended gone lost stale unrecognized unrecognised")
	fillerWords  = wordSet("a an the this that your any it is was are has have been be must does do or and with for in of to by on " +
		"bad request error mcp id header found valid active known such exist exists existing longer could cannot recognized recognised " +
		"provide provided given specified supplied set please initialize initialise initialized initialised again first new create start server")
)

func wordSet(words string) map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(words) {
		set[word] = true
	}
	return set
}

// isAboutSessionOnly reports whether each word of the text is about a session that is not
// known, or is an id.
func isAboutSessionOnly(text string) bool {
	session, absent := false, false
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool {
		return strings.ContainsRune(" \t\r\n.,:;!/()[]'\"`", r)
	}) {
		switch {
		case sessionWords[word]:
			session = true
		case absenceWords[word]:
			absent = true
		case !fillerWords[word] && !strings.ContainsAny(word, "0123456789"):
			return false
		}
	}
	return session && absent
}

// saysOnlyNoSession reports whether the body of a 400 says that there is no such session, and
// nothing else. Then the request was not carried out. The word alone does not tell: tools
// have sessions too.
func saysOnlyNoSession(body []byte) bool {
	body = bytes.TrimSpace(body)
	if len(body) > maxSessionError {
		return false
	}
	if !messages.IsObject(body) {
		return isAboutSessionOnly(string(body))
	}
	var m struct{ Error json.RawMessage }
	if json.Unmarshal(body, &m) != nil {
		return false
	}
	var e struct{ Message string }
	if json.Unmarshal(m.Error, &e) != nil {
		e.Message, _ = messages.StringOf(m.Error)
	}
	return isAboutSessionOnly(e.Message)
}

// isSessionAlive pings the server to learn whether it knows the session. If not, the next
// request opens another one.
func (x *exchange) isSessionAlive(ctx context.Context, r *route) bool {
	ctx, cancel := context.WithTimeout(ctx, x.handler.usualWait())
	defer cancel()
	s := x.oneOfMany(ctx, http.MethodPost, r.server)
	defer s.end()
	if s.refusal != nil {
		return true // nothing says otherwise
	}
	id := strconv.FormatInt(r.upstream.lastID.Add(1), 10)
	answer, _ := s.ask(r.gatewayHeader(x), protocol.Request(protocol.AppendString(nil, "gateway-ping-"+id), protocol.MethodPing, nil))
	r.endIfLost(x, answer.sessionState, answer.status, answer.reason)
	return answer.sessionState == sessionFine
}

// endIfLost makes the next request open another session, unless this one is fine.
func (r *route) endIfLost(x *exchange, state sessionState, status int, reason string) {
	if state == sessionFine || r.session == "" {
		return
	}
	r.upstream.mu.Lock()
	if r.upstream.current == r {
		r.upstream.current = nil
	}
	r.replaced = r.replaced || state == sessionDoubtful // a request that is in it calls release
	r.upstream.mu.Unlock()
	if r.mode == modeImplicitSession && state == sessionGone {
		x.stateOf(r.upstream.server).endsSessions.Store(true)
	}
	if x.handler.endedLog.Allow() {
		x.handler.log.Info("a server has refused a request in a session that the gateway holds with it: the next request begins another session",
			"server", r.server, "client", x.request.Grant.Client, "status", status, "reason", reason, "session_unknown", state == sessionGone)
	}
}

// use counts a request in the session.
func (r *route) use() {
	if r.upstream == nil {
		return
	}
	r.upstream.mu.Lock()
	defer r.upstream.mu.Unlock()
	r.uses++
}

// release undoes use. The last request in a session that was replaced ends it.
func (r *route) release(x *exchange) {
	if r.upstream == nil {
		return
	}
	r.upstream.mu.Lock()
	r.uses--
	last := r.uses == 0 && r.replaced
	r.upstream.mu.Unlock()
	if last {
		go func() {
			ctx, cancel := x.afterRequest(cancelTimeout)
			defer cancel()
			x.deleteSession(ctx, r)
		}()
	}
}

// deleteSession ends the session with the server. The server may refuse.
func (x *exchange) deleteSession(ctx context.Context, r *route) {
	s := x.oneOfMany(ctx, http.MethodDelete, r.server)
	defer s.end()
	if s.refusal == nil {
		_, _ = s.ask(r.gatewayHeader(x), nil)
	}
}
