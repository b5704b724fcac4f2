package aggregate

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// session is a client's session with /mcp. It stands for one session with each server.
type session struct {
	id        string
	table     *sessions // nil for the implicit session of one request
	principal grants.Principal
	implicit  bool // the client has no sessions: see implicit.go
	watcher   *watcher
	watchers  *watchers

	life    context.Context // until the session ends
	endLife context.CancelFunc

	initialize []byte             // the message that opens a session with a server
	info       []byte             // the clientInfo of initialize
	version    string             // of the client's session
	questions  messages.Questions // what the client can be asked

	// Guarded by table.mu.
	tokens  map[string]grants.Stay // that have used the session, by what they hang on; the last stay of each
	uses    int
	unused  time.Time     // when the last use ended
	waiting *list.Element // among the unused sessions; nil: it is in use, or has ended
	idle    *time.Timer

	mu           sync.Mutex
	upstreams    map[string]*upstream // by the server's name
	level        []byte               // the client's last logging/setLevel
	subscribed   map[string][]string  // URIs, by the names of servers without sessions
	calls        map[string]*sessionCall
	disconnected []*sessionCall // those whose client has closed the connection, oldest first
	pending      pendingRequests
	stream       *clientStream
	expected     map[string]expected // questions of servers without sessions, by the ids of the requests to the client
	lastAsked    int64               // of these ids
	over         bool
}

// Why a request or a stream of a session was ended.
var (
	errEnded     = errors.New("the session has ended")
	errCancelled = errors.New("the client has cancelled the request")
)

func (h *Handler) newSession(grant *grants.Grant, initialize, info []byte) *session {
	reachable, _ := h.reachable(grant)
	s := &session{
		principal: grant.Principal(), initialize: initialize, info: info, watchers: &h.watchers,
		tokens:    map[string]grants.Stay{grant.Anchor(): grant.Stay()},
		upstreams: make(map[string]*upstream), calls: make(map[string]*sessionCall), subscribed: make(map[string][]string),
	}
	s.life, s.endLife = context.WithCancel(h.closing)
	s.watcher = newWatcher(grant, reachable, s.dropUpstreams)
	h.watchers.add(s.watcher)
	return s
}

// newImplicitSession makes a session for a client without sessions. The gateway declares
// in it what the client can be asked.
func (h *Handler) newImplicitSession(grant *grants.Grant, q messages.Questions) *session {
	initialize := protocol.Request([]byte(`"initialize"`), protocol.MethodInitialize,
		protocol.InitializeParams(protocol.LatestSessionVersion, h.info(), q.Capabilities()))
	s := h.newSession(grant, initialize, h.info())
	s.implicit, s.version, s.questions = true, protocol.LatestSessionVersion, q
	return s
}

func (s *session) implicitKey() implicitKey { return implicitKey{s.principal, s.questions} }

// asker is who asks the servers to open sessions for this one: the client in its own words,
// or the gateway.
func (s *session) asker() grants.Principal {
	if s.implicit {
		return gatewayItself
	}
	return s.principal
}

// release undoes the table's acquire.
func (s *session) release() { s.table.release(s) }

// unusedFor is how long the session has not been used.
func (s *session) unusedFor() time.Duration {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.waiting == nil {
		return 0
	}
	return time.Since(s.unused)
}

// end ends the requests in flight in the session. The table calls it.
func (s *session) end() {
	s.watchers.remove(s.watcher)
	s.endLife()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.stream != nil {
		s.stream.cancel(errEnded)
	}
	for _, call := range s.calls {
		call.cancel(errEnded)
	}
}

// dropUpstreams drops the servers that the client may not reach any more.
func (s *session) dropUpstreams(reachable []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range s.upstreams {
		if !slices.Contains(reachable, u.server.ID) {
			delete(s.upstreams, name)
		}
	}
}

// routes returns the routes that are ready.
func (s *session) routes() []*route {
	s.mu.Lock()
	defer s.mu.Unlock()
	var routes []*route
	for _, u := range s.upstreams {
		if r := u.route(); r != nil {
			routes = append(routes, r)
		}
	}
	return routes
}

// readyRoute returns the route to the server of that name, if it is ready.
func (s *session) readyRoute(server string) *route {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.upstreams[server]; u != nil {
		return u.route()
	}
	return nil
}

func (s *session) logLevel() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level
}

// forwardResponse sends the client's response to the server that has asked.
func (x *exchange) forwardResponse() *access.Refusal {
	server, id, ok := messages.SplitID(x.message.ID.Of(x.message.Data))
	if !ok {
		return x.answerAccepted() // no server waits for it
	}
	if x.session.isExpected(x.message) {
		f := x.answerAccepted()
		if f == nil {
			x.session.takeResponse(x.message)
		}
		return f
	}
	return x.forward(server, x.message.ID, id)
}

// forward sends the message to one server, with the id or token at that place as the server
// wrote it.
func (x *exchange) forward(server string, at envelope.Span, id []byte) *access.Refusal {
	if f := x.answerAccepted(); f != nil {
		return f
	}
	r := x.session.readyRoute(server)
	if r == nil || r.mode != modeSession {
		return nil
	}
	message := envelope.Replace(nil, x.message.Data, envelope.Part{Span: at, Text: id})
	x.sendOrLog(x.r.Context(), r, message)
	return nil
}

func (x *exchange) sendOrLog(ctx context.Context, r *route, message []byte) {
	if err := x.send(ctx, r, message); err != nil {
		x.handler.log.Debug("a message for a server was not delivered", "server", r.server, "error", err)
	}
}

// forwardNotification sends the client's notification to the servers that it concerns.
// Most concern none: each server gets notifications/initialized when its own session is
// opened.
func (x *exchange) forwardNotification() *access.Refusal {
	m := x.message
	switch m.Method {
	case protocol.MethodCancelled:
		if !m.RequestID.None() {
			return x.cancelRequest()
		}
	case protocol.MethodProgress:
		if m.ProgressToken.None() {
			break
		}
		if server, token, ok := messages.SplitID(m.ProgressToken.Of(m.Data)); ok {
			return x.forward(server, m.ProgressToken, token)
		}
	case protocol.MethodRootsChanged:
		f := x.answerAccepted()
		if f == nil {
			x.shared = true // some may still be sent when their answers are there
			x.sendToAll(m.Data, func(r *route) bool { return r.mode == modeSession })
		}
		return f
	}
	return x.answerAccepted()
}

// cancelRequest cancels a request of the client's, or one of a server's.
func (x *exchange) cancelRequest() *access.Refusal {
	m, s := x.message, x.session
	id := m.RequestID.Of(m.Data)
	if server, itsID, ok := messages.SplitID(id); ok && s.readyRoute(server) != nil {
		return x.forward(server, m.RequestID, itsID)
	}
	s.mu.Lock()
	call := s.calls[string(bytes.TrimSpace(id))]
	s.mu.Unlock()
	if call == nil {
		return x.answerAccepted() // it has its answer
	}
	if r := s.readyRoute(call.server); r != nil && r.mode == modeSession {
		return x.forward(call.server, m.RequestID, id)
	}
	call.cancel(errCancelled)
	return x.answerAccepted()
}

// setLevel tells all servers which log messages the client wants.
func (x *exchange) setLevel() *access.Refusal {
	if len(x.message.Data) > maxLevel {
		return x.tooLong()
	}
	if f := x.request.Allow(); f != nil {
		return f
	}
	message := bytes.Clone(x.message.Data)
	x.session.mu.Lock()
	x.session.level = message
	x.session.mu.Unlock()
	x.sendToAll(message, func(r *route) bool { return r.mode == modeSession && r.has.Logging })
	x.answerResult([]byte("{}"))
	return nil
}

// sendToAll sends a message on those ready routes that are wanted. A server that does not
// take it in time does not get it.
func (x *exchange) sendToAll(message []byte, wanted func(*route) bool) {
	ctx, cancel := context.WithTimeout(x.r.Context(), x.handler.usualWait())
	defer cancel()
	var all sync.WaitGroup
	for _, r := range x.session.routes() {
		if wanted(r) {
			all.Go(func() { x.sendOrLog(ctx, r, message) })
		}
	}
	all.Wait()
}

// endRoutes ends the session's sessions with servers.
func (x *exchange) endRoutes(ctx context.Context, s *session) {
	var all sync.WaitGroup
	for _, r := range s.routes() {
		if r.session != "" {
			all.Go(func() { x.deleteSession(ctx, r) })
		}
	}
	all.Wait()
}
