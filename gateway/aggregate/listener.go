package aggregate

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
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
		if !c.wants(server.Name).empty() {
			c.listenTo(server.Name)
		}
	}
}

func (c *clientStream) listenTo(server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners[server] != nil || c.context.Err() != nil {
		return
	}
	client, open := c.x.client(), &c.x.handler.openStreams
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
	wanted := c.wants(l.server)
	announce := func() { c.watcher.notify(r.has.changes() & wanted.lists) }
	out := &serverStream{listener: l, toClient: c.filter(r)}
	out.onOpen = func() {
		if again || state.wasAbsent(x.client()) || time.Since(began) > x.handler.usualWait() {
			announce()
		}
		if r.serverHasSessions() {
			l.markReady() // other servers acknowledge
		}
	}
	if r.mode == modeImplicitSession {
		x.subscribe(ctx, r, wanted.resources)
	}
	status := l.open(ctx, r, wanted, out)
	switch {
	case !out.isOpen() && r.session != "" && mayBeNoSession(status) && !x.isSessionAlive(ctx, r):
		return 0, false // the next attempt opens another session
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		if (again || state.wasAbsent(x.client())) && !out.isOpen() {
			announce()
		}
		return 0, true // it has no such stream
	case !out.isOpen():
		return 0, false
	}
	return time.Since(out.began), false
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
func (l *streamListener) open(ctx context.Context, r *route, wanted notificationSet, out *serverStream) (status int) {
	x, method := l.stream.x, http.MethodPost
	if r.serverHasSessions() {
		method = http.MethodGet
	}
	s := x.oneOfMany(ctx, method, l.server)
	defer s.end()
	if s.refusal != nil {
		return s.refusal.Status
	}
	if method == http.MethodGet {
		return out.read(s, streamHeader(r.header(x, "", "")), nil)
	}
	header := r.header(x, protocol.MethodListen, "")
	header[protocol.HeaderAccept] = valueAny
	header[protocol.HeaderVersion] = []string{protocol.VersionStateless}
	header[protocol.HeaderMethod] = []string{protocol.MethodListen}
	text, err := x.listenMessage(wanted)
	if err != nil {
		return http.StatusBadRequest
	}
	m, err := mcp.ParseMessage(text)
	if err != nil {
		return http.StatusBadRequest
	}
	out.acknowledged = true
	return out.read(s, header, m)
}

// serverStream reads one stream of a server, for a stream of the client.
type serverStream struct {
	listener     *streamListener
	toClient     toClient
	acknowledged bool      // it is the answer to a subscriptions/listen
	onOpen       func()    // called when the stream is open
	began        time.Time // zero: it was never open
	bytes        int64
}

func (o *serverStream) isOpen() bool { return !o.began.IsZero() }

// read sends the request for the stream, and reads the stream to its end.
func (o *serverStream) read(s *subRequest, header http.Header, m *mcp.Message) (status int) {
	var err error
	defer s.guard(&err)
	answer, err := s.call(header, m)
	if err != nil {
		if f := new(access.Refusal); errors.As(err, &f) {
			status = f.Status
		}
		return status
	}
	defer func() { answer.Close(o.bytes, err) }()
	if answer.Status == http.StatusOK && answer.Stream {
		o.began = time.Now()
		o.onOpen()
		err = answer.Events(o.event)
	}
	return answer.Status
}

// event passes an event on to the client's stream.
func (o *serverStream) event(e *sse.Event) error {
	o.bytes += int64(len(e.Data))
	if !e.IsMessage() || len(e.Data) == 0 {
		return nil
	}
	message, err := o.translate(jsonscan.WithoutMark(e.Data))
	if err != nil {
		// The stream ends, so that a server which goes on like that is not asked without a
		// pause, and does not fill the log.
		o.listener.stream.x.handler.log.Warn("a server says what cannot be passed on: its stream ends", "server", o.listener.server, "error", err)
		return err
	}
	if message == nil {
		return nil
	}
	return o.listener.stream.put(bytes.Clone(message))
}

// translate returns a message as the client gets it; nil if it does not get it.
func (o *serverStream) translate(data []byte) ([]byte, error) {
	m, err := mcp.ParseMessage(data)
	if err != nil {
		return nil, err
	}
	if o.acknowledged {
		switch {
		case m.Kind != envelope.Notification:
			return nil, nil // the end of the stream: another one follows
		case m.Method == protocol.MethodAcknowledged:
			o.listener.markReady()
			return nil, nil
		}
	}
	return o.toClient(m)
}
