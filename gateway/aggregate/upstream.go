package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// errNoVersion: the server speaks no protocol version that the client's messages can be
// translated to.
var errNoVersion = errors.New("the server speaks no version of the protocol that can be used here")

// route returns the route to the sub-request's server, and makes it ready. An implicit
// session is in use until the sub-request ends. It is called once for a sub-request.
func (x *exchange) route(s *subRequest) (*route, error) {
	if x.session != nil {
		return x.session.route(s)
	}
	stateless, err := s.isStateless()
	if err != nil {
		return nil, err
	}
	if stateless {
		return s.state().statelessRoute(s.server().Name), nil
	}
	if x.ownSession != nil {
		return x.ownSession.route(s)
	}
	if s.implicit, err = x.handler.sessions.implicit(s.context, x.request.Grant, x.questions(), x.handler.newImplicitSession); err != nil {
		return nil, err
	}
	return s.implicit.route(s)
}

// upstream is one server as a session uses it. The first request that needs the server
// makes the route ready.
type upstream struct {
	session *session
	server  *grants.Server

	turn           chan struct{} // holds a value while a request makes the route ready
	lastID         atomic.Int64  // of the gateway's own requests
	serverRequests *rate.Limiter // that the gateway answers

	mu      sync.Mutex
	current *route                    // nil until it is ready
	askable map[*askableCall]struct{} // in flight in the session
}

// upstream returns the session's upstream for the server.
func (s *session) upstream(server *grants.Server) *upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.upstreams[server.Name]
	if u == nil || u.server.ID != server.ID {
		u = &upstream{
			session: s, server: server, turn: make(chan struct{}, 1),
			serverRequests: rate.NewLimiter(serverRequestsSecond, serverRequestBurst),
		}
		s.upstreams[server.Name] = u
	}
	return u
}

// route returns the route if it is ready, else nil.
func (u *upstream) route() *route {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.current
}

// route returns the session's route to the sub-request's server, and makes it ready.
func (s *session) route(sub *subRequest) (*route, error) {
	u := s.upstream(sub.server())
	r := u.route()
	if r == nil {
		select {
		case u.turn <- struct{}{}:
			defer func() { <-u.turn }()
		case <-sub.context.Done():
			return nil, context.Cause(sub.context)
		}
		if ready := u.route(); ready != nil {
			return ready, nil
		}
		var err error
		if r, err = u.open(sub); err != nil {
			return nil, err
		}
		u.mu.Lock()
		u.current = r
		u.mu.Unlock()
	}
	if s.table != nil { // otherwise the session belongs to one stream, which listens
		sub.x.startListening(r)
	}
	return r, nil
}

// open finds out which versions of the protocol the server speaks, and makes a route: with
// a session if the server has sessions, as the client does.
func (u *upstream) open(s *subRequest) (*route, error) {
	state, asker := s.state(), u.session.asker()
	if !state.refusesSessions(asker, time.Now()) {
		r, err := u.initialize(s)
		if err == nil && r.session == "" && r.mode == modeSession {
			if stateless, err := s.isStateless(); err == nil && stateless {
				r.notifications = &route{mode: modeStatelessServer, server: r.server, upstream: u, has: r.has}
			}
		}
		var refused *serverError
		if !errors.As(err, &refused) || refused.isAboutCredentials() {
			return r, err
		}
		if refused.isAboutSessions() && u.session.hasKnownVersion() {
			state.noteNoSessions(asker, time.Now())
		}
	}
	stateless := false
	if !u.session.implicit {
		var err error
		if stateless, err = s.isStateless(); err != nil {
			return nil, err
		}
	}
	if !stateless {
		state.forgetVersions() // it seems to speak none: something else may be wrong
		return nil, errNoVersion
	}
	d, _ := state.description(gatewayItself)
	return &route{mode: modeStatelessServer, server: u.server.Name, upstream: u, has: d.Has}, nil
}

// initialize opens a session with the server. It sends the client's own initialize, so
// that the server learns the client's capabilities.
func (u *upstream) initialize(s *subRequest) (*route, error) {
	x := s.x
	ask := x.oneOfMany(s.context, http.MethodPost, u.server.Name)
	defer ask.end()
	if ask.refusal != nil {
		return nil, ask.refusal
	}
	answer, err := ask.ask(x.gatewayHeader(), u.session.initialize)
	if err != nil {
		return nil, err
	}
	d, err := messages.ReadDescription(answer.body)
	if err != nil {
		return nil, err
	}
	r := &route{
		mode: modeSession, server: u.server.Name, session: answer.session, version: d.Version, upstream: u, has: d.Has,
	}
	if u.session.implicit {
		r.mode = modeImplicitSession
	}
	s.state().noteDescription(u.session.asker(), d)
	err = x.send(s.context, r, protocol.Notification(protocol.MethodInitialized, nil))
	switch {
	case err == nil:
	case errors.As(err, new(*serverError)), errors.Is(err, errSessionGone):
		x.handler.log.Debug("a server refuses the notification that its session is initialized", "server", r.server, "error", err)
	default:
		return nil, err
	}
	if level := u.session.logLevel(); level != nil && r.has.Logging {
		_ = x.send(s.context, r, level) // log messages are optional
	}
	return r, nil
}

// isAboutSessions reports whether the server refuses sessions, and not what this program
// has sent, which must not count for the client's other programs.
func (e *serverError) isAboutSessions() bool {
	switch e.code {
	case protocol.CodeMethodNotFound, protocol.CodeUnsupportedVersion:
		return true
	case 0:
		return e.status == http.StatusNotFound || e.status == http.StatusMethodNotAllowed
	}
	return false
}

// hasKnownVersion reports whether the client's initialize has a version that exists.
func (s *session) hasKnownVersion() bool {
	var initialize struct {
		Params struct {
			Version string `json:"protocolVersion"`
		} `json:"params"`
	}
	return json.Unmarshal(s.initialize, &initialize) == nil && protocol.IsSessionVersion(initialize.Params.Version)
}

// isStateless reports whether the server can be used without sessions. It asks the server
// if that is not known.
func (s *subRequest) isStateless() (bool, error) {
	state := s.state()
	if stateless := state.supportsStateless(time.Now()); stateless != unknown {
		return stateless == supported, nil
	}
	x := s.x
	ask := x.oneOfMany(s.context, http.MethodPost, s.server().Name)
	defer ask.end()
	if ask.refusal != nil {
		return false, ask.refusal
	}
	header := x.gatewayHeader()
	header[protocol.HeaderVersion] = []string{protocol.VersionStateless}
	header[protocol.HeaderMethod] = []string{protocol.MethodDiscover}
	message := protocol.Request([]byte(`"discover"`), protocol.MethodDiscover, protocol.DiscoverParams(x.handler.info()))
	answer, err := ask.ask(header, message)
	var refused *serverError
	stateless, isError := false, errors.As(err, &refused)
	switch {
	case err == nil && answer.status != http.StatusAccepted:
		d, err := messages.ReadDescription(answer.body)
		if err != nil {
			return false, err
		}
		if messages.ListsStateless(answer.body) {
			state.noteDescription(gatewayItself, d)
			state.noteStateless(supported)
			return true, nil
		}
	case err == nil, errors.Is(err, errNoAnswer):
		// It takes the request for something else.
	case !isError, refused.isAboutCredentials(), refused.code == 0 && concernsOneRequest(refused.status):
		return false, err
	case refused.code == protocol.CodeUnsupportedVersion:
		stateless = messages.ListsStateless(answer.body)
	default:
		stateless = refused.code == protocol.CodeHeaderMismatch || refused.code == protocol.CodeMissingCapability
	}
	if stateless {
		state.noteStateless(supported)
	} else {
		state.noteStateless(unsupported)
	}
	return stateless, nil
}
