package aggregate

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// An implicit session is one that the gateway keeps for a client without sessions, to
// reach servers with sessions. Requests of several programs can be in it at once.

// implicitCall is a client's request in an implicit session. It gets an id of its own.
type implicitCall struct {
	x      *exchange
	route  *route
	method string
	logs   bool   // the client wants log messages
	own    []byte // its id, and its progress token, in the session
	id     []byte // the client's
	token  []byte // the client's; nil without one
}

// toServer returns the request as the server gets it: without the _meta that only servers
// without sessions know.
func (c *implicitCall) toServer(m *mcp.Message) (*mcp.Message, error) {
	message, e := m.Data, &m.Envelope
	c.own = strconv.AppendInt(nil, c.route.upstream.lastID.Add(1), 10)
	c.id = bytes.Clone(e.IDOf(message))
	if !e.MetaProgressToken.None() {
		c.token = bytes.Clone(e.MetaProgressToken.Of(message))
	}
	parts := []envelope.Part{{Span: e.ID, Text: c.own}}
	params, err := messages.ReadObject(message, e.Params, "_meta")
	if err != nil {
		return nil, err
	}
	if at := params.Values[0]; !at.None() {
		meta, err := messages.ReadObject(message, at, protocol.MetaLogLevel, protocol.MetaProtocolVersion, protocol.MetaClientInfo,
			protocol.MetaClientCapabilities, protocol.MetaProgressToken)
		if err != nil {
			return nil, err
		}
		c.logs = !meta.Values[0].None()
		if c.token != nil {
			meta.Others = append(meta.Others, protocol.Member(protocol.MetaProgressToken, c.own))
		}
		parts = append(parts, envelope.Part{Span: at, Text: protocol.Object(meta.Others...)})
	}
	return mcp.ParseMessage(envelope.Replace(nil, message, parts...))
}

// toClient translates a message of the session's stream for the client.
func (c *implicitCall) toClient(m *mcp.Message) ([]byte, error) {
	message := m.Data
	if m.Kind == envelope.Request {
		c.x.answerServer(c.route, m)
		return nil, nil
	}
	if c.x.askable != nil {
		a, there := c.x.askable.addressee(m)
		if !there {
			return nil, nil // nobody is there who could be told of progress
		}
		c.id, c.token, c.logs = a.id, a.token, a.logs
	}
	switch {
	case m.Kind == envelope.Response:
		if id := m.IDOf(message); string(id) != "null" && !messages.SameID(id, c.own) {
			return nil, nil
		}
		var err error
		message, err = messages.CompleteResult(envelope.Replace(nil, message, envelope.Part{Span: m.ID, Text: c.id}), c.method)
		if err != nil {
			return nil, err
		}
	case m.Method == protocol.MethodMessage && !c.logs:
		return nil, nil // without a log level, a client wants none
	case m.Method == protocol.MethodCancelled:
		return nil, nil // the server cancels its own request, which the client did not get
	case m.Method == protocol.MethodProgress:
		if c.token == nil || m.ProgressToken.None() || !messages.SameID(m.ProgressToken.Of(message), c.own) {
			return nil, nil
		}
		message = envelope.Replace(nil, message, envelope.Part{Span: m.ProgressToken, Text: c.token})
	}
	return c.route.rename(&m.Envelope, message)
}

// Bounds of the server's requests that are answered in an implicit session.
const (
	serverRequestBurst   = 16
	serverRequestsSecond = 1
)

// answerServer answers a server's request in an implicit session. Where the client has declared
// that it can be asked something, the server may ask it while one of its calls is in flight.
// Otherwise the server may only ping.
func (x *exchange) answerServer(r *route, m *mcp.Message) {
	answer := protocol.EmptyResult(m.IDOf(m.Data))
	switch {
	case m.Method == protocol.MethodPing:
	case !r.upstream.session.questions.Any():
		answer = protocol.Error(m.IDOf(m.Data), protocol.CodeMethodNotFound, protocol.MessageNoClient)
	default:
		err := x.askClientOf(r, m)
		if err == nil {
			return // the client answers
		}
		answer = messages.AsQuestionError(err).Response(m.IDOf(m.Data))
	}
	if !r.upstream.serverRequests.Allow() {
		return // otherwise a server could ask as fast as it is answered
	}
	// The server's stream must not wait for the server.
	go func() {
		ctx, cancel := x.afterRequest(x.handler.usualWait())
		defer cancel()
		if err := x.send(ctx, r, answer); err != nil {
			x.handler.log.Debug("a server's request was not answered", "server", r.server, "error", err)
		}
	}()
}

// A server may ping on its own stream, and end a session in which nobody answers. So the
// gateway listens on that stream for a while. It listens for the whole life of the session
// if the server asks anything, or has ended such a session before. For most servers that
// connection would be a waste.

const (
	// listenAfter is how old an implicit session is when the gateway begins to listen.
	listenAfter = time.Second
	// listenerWait is how long the first call in which the client can be asked something waits for
	// the gateway to listen. Some servers ask on their own stream, and only if it is open.
	listenerWait = time.Second
	// idleListen is how long the gateway goes on listening in a session that is not used,
	// unless the server needs it.
	idleListen = 3 * time.Second
)

// listenState says whether the gateway listens in an implicit session.
type listenState = int32

const (
	listenerOff listenState = iota
	listenerOn
	listenerUseless // the server has no such stream, or does not need a listener, and may ask nothing
)

// implicitListener is the gateway as the listener in an implicit session.
type implicitListener struct {
	state  atomic.Int32 // a listenState
	needed atomic.Bool  // the server needs it

	ready    atomic.Pointer[readiness] // of the present listener; nil: nobody waits for it
	notReady atomic.Bool               // a call has waited for it in vain
}

// readiness tells when the stream was opened, or cannot be.
type readiness struct {
	done chan struct{}
	once sync.Once
}

// markReady lets calls go on that wait for the listener.
func (l *implicitListener) markReady() {
	if ready := l.ready.Load(); ready != nil {
		ready.once.Do(func() { close(ready.done) })
	}
}

// await waits until the gateway listens, if that takes no longer than usual.
func (l *implicitListener) await(ctx context.Context) {
	ready := l.ready.Load()
	if ready == nil || l.state.Load() != listenerOn || l.notReady.Load() {
		return
	}
	timer := time.NewTimer(listenerWait)
	defer timer.Stop()
	select {
	case <-ready.done:
	case <-timer.C:
		l.notReady.Store(true)
	case <-ctx.Done():
	}
}

// startListening starts to listen in an implicit session, unless the gateway does already.
// If the number of requests to the server is bounded, it does not: streams would take the
// place of calls.
func (x *exchange) startListening(r *route) {
	state := &r.listener.state
	if r.mode != modeImplicitSession || r.session == "" || state.Load() != listenerOff ||
		x.handler.settings().Upstream(r.server).MaxConcurrent > 0 ||
		!state.CompareAndSwap(listenerOff, listenerOn) {
		return
	}
	if !x.handler.openStreams.take(x.principal()) {
		state.Store(listenerOff)
		return
	}
	if r.upstream.session.questions.Any() {
		r.listener.ready.Store(&readiness{done: make(chan struct{})})
	}
	// Without the HTTP request, whose header would be kept as long.
	own := &exchange{handler: x.handler, request: x.request, r: new(http.Request).WithContext(x.r.Context())}
	go func() {
		defer x.handler.openStreams.release(own.principal())
		state.Store(own.keepListening(r))
	}()
}

// keepListening opens the stream again and again, until the session ends, or there is no
// use in it.
func (x *exchange) keepListening(r *route) listenState {
	ctx, cancel := context.WithCancel(context.WithoutCancel(x.r.Context()))
	defer cancel()
	defer context.AfterFunc(r.upstream.session.life, cancel)()
	defer r.listener.markReady()
	wait := listenAfter
	asks := r.upstream.session.questions.Any()
	if asks {
		wait = 0 // the server may ask at any time
	}
	for ; ; wait = min(max(2*wait, listenAfter), reopenMax) {
		if backoff.Sleep(ctx, wait) != nil || r.upstream.route() != r {
			return listenerOff
		}
		began := time.Now()
		status, streamed, refused := x.listenOnce(ctx, r)
		switch {
		case ctx.Err() != nil, refused:
			return listenerOff
		case streamed && !r.listener.needed.Load() && asks:
			return listenerOff // until the next call
		case streamed && !r.listener.needed.Load():
			return listenerUseless
		case !streamed && mayBeNoSession(status) && !x.isSessionAlive(ctx, r):
			return listenerOff
		case !streamed && status < http.StatusInternalServerError && status != http.StatusTooManyRequests:
			return listenerUseless
		case time.Since(began) > reopenMax:
			wait = reopenMin / 2
		}
	}
}

// listenOnce opens the stream and reads it to its end.
func (x *exchange) listenOnce(ctx context.Context, r *route) (status int, streamed, refused bool) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	s := x.oneOfMany(listening, http.MethodGet, r.server)
	defer s.end()
	if s.refusal != nil {
		return 0, false, true
	}
	if s.state().endsSessions.Load() {
		r.listener.needed.Store(true)
	}
	go r.stopIdleListening(listening, stop)
	status, streamed = s.stream(streamHeader(r.gatewayHeader(x)), nil, r.listener.markReady, func(data []byte) error {
		if m, err := mcp.ParseMessage(data); err == nil && m.Kind == envelope.Request {
			r.listener.needed.Store(true)
			x.answerServer(r, m)
		}
		return nil
	})
	return status, streamed, false
}

// stopIdleListening stops listening in a session that is not used, unless the server needs
// a listener.
func (r *route) stopIdleListening(ctx context.Context, stop context.CancelFunc) {
	for backoff.Sleep(ctx, idleListen/3) == nil && !r.listener.needed.Load() {
		if r.upstream.session.unusedFor() >= idleListen {
			stop()
			return
		}
	}
}
