package aggregate

import (
	"container/list"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// session is one of a client's: it stands for one with each server.
type session struct {
	id       string
	table    *sessions
	clientID string
	isHidden bool // held by the gateway for a client without sessions
	watcher  *watcher
	watchers *watchers

	life    context.Context // until it ends
	endLife context.CancelFunc

	hello []byte // the message that begins a session with a server
	info  []byte // who the client says that it is

	// Guarded by table.mu.
	accessors map[string]struct{} // of the tokens it was used with
	uses      int
	unused    time.Time     // since when nobody uses it
	waiting   *list.Element // among those that nobody uses; nil: it is in use, or has ended
	idle      *time.Timer

	mu    sync.Mutex
	legs  map[string]*leg
	level []byte // the client's last logging/setLevel
	// URIs that the client has subscribed to, by servers without sessions.
	subscribed map[string][]string
	calls      map[string]*sessionCall
	left       []*sessionCall // those whose client has gone, oldest first
	owed       owed
	feed       *feed
	over       bool
}

func (h *Handler) newSession(grant *grants.Grant, hello, info []byte) *session {
	reach, _ := h.reach(grant)
	s := &session{
		clientID: grant.ClientID, hello: hello, info: info, watchers: &h.watchers,
		accessors: map[string]struct{}{grant.Accessor: {}},
		legs:      make(map[string]*leg), calls: make(map[string]*sessionCall), subscribed: make(map[string][]string),
	}
	s.life, s.endLife = context.WithCancel(h.closing)
	s.watcher = newWatcher(grant, reach, s.prune)
	h.watchers.add(s.watcher)
	return s
}

// hiddenSession returns the session that the gateway holds for a client without
// one. It must be released.
func (x *exchange) hiddenSession() (*session, error) {
	return x.handler.sessions.hidden(x.request.Grant, func() *session {
		return x.handler.newSession(x.request.Grant, x.handler.helloMessage(), x.handler.info())
	})
}

// release undoes the table's acquire.
func (s *session) release() { s.table.release(s) }

// unusedFor is for how long nobody has used the session.
func (s *session) unusedFor() time.Duration {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.waiting == nil {
		return 0
	}
	return time.Since(s.unused)
}

// end ends what lives on the session. It is called by the table.
func (s *session) end() {
	s.watchers.remove(s.watcher)
	s.endLife()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	if s.feed != nil {
		s.feed.cancel(errEnded)
	}
	for _, call := range s.calls {
		call.cancel(errEnded)
	}
}

// prune drops the legs to servers that the client may not reach any more.
func (s *session) prune(reach []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, l := range s.legs {
		if !slices.Contains(reach, l.server.ID) {
			delete(s.legs, name)
		}
	}
}

// ready returns the ways that are in use.
func (s *session) ready() []*way {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ways []*way
	for _, l := range s.legs {
		if v := l.way(); v != nil {
			ways = append(ways, v)
		}
	}
	return ways
}

// readyTo returns the way to the server of that name, if it is in use.
func (s *session) readyTo(server string) *way {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.legs[server]; l != nil {
		return l.way()
	}
	return nil
}

func (s *session) logLevel() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level
}

// sessionCall is a request of the client in flight.
type sessionCall struct {
	session *session
	id      string
	server  string
	context context.Context
	cancel  context.CancelCauseFunc
	left    bool // the client has lost its connection; guarded by session.mu
}

// maxLeft bounds the requests that are remembered for being cancelled, though
// nobody waits for their answer.
const maxLeft = 64

// begin notes a request to the server, so that it can be cancelled.
func (x *exchange) begin(server string) (*sessionCall, *access.Refusal) {
	c := &sessionCall{session: x.session, id: string(x.id()), server: server}
	c.context, c.cancel = context.WithCancelCause(x.r.Context())
	s := x.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		c.cancel(errEnded)
		return nil, x.noSession()
	}
	if other := s.calls[c.id]; other != nil && !other.left {
		c.cancel(nil)
		return nil, x.plain(http.StatusBadRequest, "A request of this id is in flight already.")
	}
	s.calls[c.id] = c
	x.inFlight = c
	s.owe(x, server)
	return c, nil
}

// free has the request's id serve another request: the client is about to read its
// answer, and may be faster than what is still to be done about this one.
func (x *exchange) free() {
	c := x.inFlight
	if c == nil {
		return
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if c.session.calls[c.id] == c {
		delete(c.session.calls, c.id)
	}
}

// end forgets the request. One whose client has gone may go on at the server,
// which is still to hear if it is cancelled: clients go first, and say so then.
func (c *sessionCall) end() {
	gone := c.context.Err() != nil
	c.cancel(nil)
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[c.id] != c {
		return
	}
	if !gone {
		delete(s.calls, c.id)
		return
	}
	c.left = true
	s.left = append(s.left, c)
	if len(s.left) > maxLeft {
		if oldest := s.left[0]; s.calls[oldest.id] == oldest {
			delete(s.calls, oldest.id)
		}
		s.left = s.left[1:]
	}
}

// inSession serves a message of a session.
func (x *exchange) inSession() *access.Refusal {
	if f := x.enter(); f != nil {
		return f
	}
	defer x.session.release()
	switch x.message.Kind {
	case envelope.Response:
		return x.respond()
	case envelope.Notification:
		return x.notify()
	}
	switch x.message.Method {
	case protocol.MethodPing:
		if f := x.decide(); f != nil {
			return f
		}
		x.answerResult([]byte("{}"))
		return nil
	case protocol.MethodSetLevel:
		return x.setLevel()
	}
	return x.asks()
}
