package aggregate

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// errReplaced: the client has opened its session's stream once more.
var errReplaced = errors.New("another stream of the session has taken the place of this one")

// clientStream is a stream on which a client gets the notifications of all its servers. One
// goroutine writes to the client. Each server has a listener, which waits while the client
// does not read.
type clientStream struct {
	x       *exchange
	watcher *watcher
	context context.Context
	cancel  context.CancelCauseFunc
	events  chan []byte

	// A session's stream and a subscriptions/listen differ in these.
	announces messages.Changes                             // the lists whose changes the client wants to know
	announce  func(method string) []byte                   // makes a notification of the gateway's own
	wants     func(server string) messages.NotificationSet // what the client wants of a server
	filter    func(r *route) toClient                      // of a server's messages

	mu        sync.Mutex
	listeners map[string]*streamListener // by the server's name
	running   sync.WaitGroup
}

func (x *exchange) newClientStream(w *watcher) *clientStream {
	c := &clientStream{x: x, watcher: w, events: make(chan []byte), listeners: make(map[string]*streamListener)}
	c.context, c.cancel = context.WithCancelCause(x.r.Context())
	return c
}

// serveStream serves a session's stream.
func (x *exchange) serveStream() *access.Refusal {
	if server, id, ok := messages.SplitServer(protocol.First(x.r.Header, protocol.HeaderLastEventID)); ok {
		return x.resume(server, id)
	}
	if f := x.request.Allow(); f != nil {
		return f
	}
	s := x.session
	c := x.newClientStream(s.watcher)
	c.announces = messages.ChangedAll
	c.announce = func(method string) []byte { return protocol.Notification(method, nil) }
	c.wants = s.notificationsOf
	c.filter = func(r *route) toClient { return r.notificationFilter(s) }
	s.attach(c)
	defer s.detach(c)
	c.listenToAll()
	c.serve(nil)
	return nil
}

// attach makes c the session's stream, and ends the one before.
func (s *session) attach(c *clientStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.cancel(errReplaced)
	}
	s.stream = c
	if s.over {
		c.cancel(errEnded)
	}
}

func (s *session) detach(c *clientStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == c {
		s.stream = nil
	}
}

// resume continues a server's stream behind the event: the rest of an answer whose stream
// broke off.
func (x *exchange) resume(server, event string) *access.Refusal {
	unknown := serverside.BadRequest(nil, http.StatusBadRequest, "There is no such stream to be resumed.")
	r := x.session.readyRoute(server)
	if r == nil || r.mode != modeSession {
		return unknown
	}
	s := x.subRequest(x.r.Context(), x.request.ID, http.MethodGet, server)
	defer s.end()
	if s.refusal != nil {
		s.answerRefusal(unknown)
		return nil
	}
	header := r.header(x, "", "")
	header[protocol.HeaderLastEventID] = []string{event}
	out := &answer{x: x, route: r, toClient: r.resumedFilter(x.session), sub: s}
	defer out.close()
	out.take(header, nil)
	if out.started {
		out.finish()
		return nil
	}
	if r.session != "" && mayBeNoSession(out.status) {
		x.isSessionAlive(x.r.Context(), r) // if not, the next request opens another session
	}
	return unknown
}

// serve writes the stream until it ends. The first message is sent first.
func (c *clientStream) serve(first []byte) {
	x, limits := c.x, c.x.handler.settings().Limits
	defer c.end()
	defer x.handler.streams.Add(c.cancel, limits.MaxStreamAge)()
	x.request.OnExpiry(func() { c.cancel(sse.ErrExpired) })
	header := x.w.Header()
	header[protocol.HeaderContentType] = valueEvents
	header["Cache-Control"] = []string{"no-cache, no-transform"}
	header["X-Accel-Buffering"] = []string{"no"}
	x.w.WriteHeader(http.StatusOK)
	s := sse.NewWriter(x.r.Context(), x.w, limits.KeepAlive)
	s.Flush()
	err := c.writeAll(s, first)
	switch {
	case sse.EndedByGateway(c.context):
		err = context.Cause(c.context)
		s.ComeBack()
	case errors.Is(err, errReplaced), errors.Is(err, errEnded):
		err = nil
	}
	x.request.Outcome(http.StatusOK, s.Close(), err)
	if access.CutCause(x.r.Context()) != nil {
		panic(http.ErrAbortHandler) // so that it does not look complete
	}
}

// end stops all listeners.
func (c *clientStream) end() {
	c.mu.Lock()
	c.cancel(nil) // no listener is started any more
	c.mu.Unlock()
	c.running.Wait()
}

// writeAll writes messages as they come.
func (c *clientStream) writeAll(s *sse.Writer, first []byte) (err error) {
	var event []byte
	write := func(message []byte) error {
		event = sse.AppendMessage(append(event[:0], "event: message\n"...), message)
		_, err := s.Write(event)
		return err
	}
	if first != nil {
		err = write(first)
	}
	for err == nil {
		select {
		case message := <-c.events:
			err = write(message)
		case <-c.watcher.wake:
			changed := c.watcher.take()
			c.listenToAll() // there may be new servers
			for _, n := range messages.ListNotifications {
				if err == nil && changed&c.announces&n.Change != 0 {
					err = write(c.announce(n.Method))
				}
			}
		case <-c.context.Done():
			err = context.Cause(c.context)
		}
	}
	return err
}

// put hands a message to the goroutine that writes, and waits for it.
func (c *clientStream) put(message []byte) error {
	select {
	case c.events <- message:
		return nil
	case <-c.context.Done():
		return context.Cause(c.context)
	}
}
