package aggregate

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// How long it takes until a server's stream that has ended is opened again.
const (
	reopenMin = time.Second
	reopenMax = time.Minute
)

// errReopen: the client wants other notifications of the server.
var errReopen = errors.New("other notifications of the server are wanted")

// streamListener keeps the stream of one server open, for a stream of the client.
type streamListener struct {
	stream *clientStream
	server string
	reopen context.CancelCauseFunc // ends the present stream of the server; another follows
	ready  chan struct{}           // closed when the first stream is open, or cannot be opened
}

// listenToAll starts listeners for all servers that the client may reach and wants
// notifications of. A dead server is tried again and again, and announced when it is back.
func (c *clientStream) listenToAll() {
	servers, refusal := c.x.request.Servers()
	if refusal != nil {
		return // the stream ends
	}
	for _, server := range servers {
		if !c.wanted(server.Name).Empty() {
			c.listenTo(server.Name)
		}
	}
}

// wanted is the client's request to a server, without the resources that it may not have now.
func (c *clientStream) wanted(server string) messages.NotificationSet {
	n := c.wants(server)
	n.Resources = slices.DeleteFunc(slices.Clone(n.Resources), func(uri string) bool { return !c.x.mayHave(server, uri) })
	return n
}

func (c *clientStream) listenTo(server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners[server] != nil || c.context.Err() != nil {
		return
	}
	client, open := c.x.principal(), &c.x.handler.openStreams
	if !open.take(client) {
		c.x.handler.log.Warn("a client has too many streams of servers open: no more are opened", "client", c.x.request.Grant.Client, "most", maxUpstreamStreams)
		return
	}
	l := &streamListener{stream: c, server: server, ready: make(chan struct{}), reopen: func(error) {}}
	c.listeners[server] = l
	c.running.Go(func() {
		defer open.release(client)
		l.run()
	})
}

// reopen opens the stream of a server again, with the notifications that the client wants
// now.
func (c *clientStream) reopen(server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.listeners[server]; l != nil {
		l.reopen(errReopen)
	}
}

// run opens the server's stream again and again, until it is clear that the server has
// none.
func (l *streamListener) run() {
	c := l.stream
	defer func() {
		l.markReady()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.listeners, l.server)
	}()
	wait, again := reopenMin, false
	for {
		ctx, cancel := context.WithCancelCause(c.context)
		c.mu.Lock()
		l.reopen = cancel
		c.mu.Unlock()
		lasted, over := l.once(ctx, again)
		reopened := errors.Is(context.Cause(ctx), errReopen)
		cancel(nil)
		l.markReady()
		switch {
		case over || c.context.Err() != nil:
			return
		case reopened:
			continue
		case lasted > reopenMax:
			wait = reopenMin
		}
		again = true
		if backoff.Sleep(c.context, wait) != nil {
			return
		}
		wait = min(2*wait, reopenMax)
	}
}

// markReady notes that the first stream is open, or cannot be opened. Only the listener's
// goroutine calls it.
func (l *streamListener) markReady() {
	select {
	case <-l.ready:
	default:
		close(l.ready)
	}
}

// once opens the stream and reads it to its end. It reports how long the stream lasted, and
// whether another attempt is of no use. again tells that a stream has ended before, and the
// client may have missed something since.
func (l *streamListener) once(ctx context.Context, again bool) (lasted time.Duration, over bool) {
	c, x, began := l.stream, l.stream.x, time.Now()
	r, state, over := l.route(ctx)
	if r == nil {
		return 0, over
	}
	wanted := c.wanted(l.server)
	announce := func() { c.watcher.notify(r.has.Changes() & wanted.Lists) }
	var opened time.Time // zero: never
	onOpen := func() {
		opened = time.Now()
		if again || state.wasAbsent(x.principal()) || time.Since(began) > x.handler.usualWait() {
			announce()
		}
		if r.serverHasSessions() {
			l.markReady() // other servers acknowledge
		}
	}
	if r.mode == modeImplicitSession {
		x.subscribe(ctx, r, wanted.Resources)
	}
	status := l.open(ctx, r, wanted, onOpen)
	switch {
	case opened.IsZero() && r.session != "" && mayBeNoSession(status) && !x.isSessionAlive(ctx, r):
		return 0, false // the next attempt opens another session
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		if (again || state.wasAbsent(x.principal())) && opened.IsZero() {
			announce()
		}
		return 0, true // it has no such stream
	case opened.IsZero():
		return 0, false
	}
	return time.Since(opened), false
}

// route returns the route to the server, and its state; nil if there is no route. over tells
// that another attempt is of no use.
func (l *streamListener) route(ctx context.Context) (r *route, state *serverState, over bool) {
	x := l.stream.x
	s := x.oneOfMany(ctx, http.MethodPost, l.server)
	defer s.end()
	if s.refusal != nil {
		return nil, nil, s.refusal.Status == http.StatusForbidden
	}
	r, err := x.route(s)
	if err != nil {
		x.handler.log.Debug("a server cannot be listened to", "server", l.server, "error", err)
		return nil, nil, false
	}
	return r.forNotifications(), s.state(), false
}

// open opens the server's stream, and reads it to its end. It returns the answer's status; 0
// without an answer.
func (l *streamListener) open(ctx context.Context, r *route, wanted messages.NotificationSet, onOpen func()) (status int) {
	x, method := l.stream.x, http.MethodPost
	if r.serverHasSessions() {
		method = http.MethodGet
	}
	s := x.oneOfMany(ctx, method, l.server)
	defer s.end()
	if s.refusal != nil {
		return s.refusal.Status
	}
	filter := l.stream.filter(r)
	if method == http.MethodGet {
		status, _ = s.stream(streamHeader(r.header(x, "", "")), nil, onOpen, func(data []byte) error { return l.pass(data, filter) })
		return status
	}
	header := r.header(x, protocol.MethodListen, "")
	header[protocol.HeaderAccept] = valueAny
	header[protocol.HeaderMethod] = []string{protocol.MethodListen}
	text, err := x.listenMessage(wanted)
	if err != nil {
		return http.StatusBadRequest
	}
	message, err := mcp.ParseMessage(text)
	if err != nil {
		return http.StatusBadRequest
	}
	notifications := func(m *mcp.Message) ([]byte, error) {
		switch {
		case m.Kind != envelope.Notification:
			return nil, nil // the end of the stream: another one follows
		case m.Method == protocol.MethodAcknowledged:
			l.markReady()
			return nil, nil
		}
		return filter(m)
	}
	status, _ = s.stream(header, message, onOpen, func(data []byte) error { return l.pass(data, notifications) })
	return status
}

// pass passes a message on to the client's stream.
func (l *streamListener) pass(data []byte, filter toClient) error {
	var message []byte
	m, err := mcp.ParseMessage(data)
	if err == nil {
		message, err = filter(m)
	}
	if err != nil {
		// The stream ends, so that a server which goes on like that is not asked without a
		// pause, and does not fill the log.
		l.stream.x.handler.log.Warn("a server says what cannot be passed on: its stream ends", "server", l.server, "error", err)
		return err
	}
	if message == nil {
		return nil
	}
	return l.stream.put(bytes.Clone(message))
}
