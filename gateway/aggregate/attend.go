package aggregate

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// A server may ask, on the stream on which it speaks of its own accord, whether
// anybody is left in a session, and end the session if nobody answers. So where the
// gateway holds a session, it listens there for a while, answers what it is asked, and
// stays as long as the session lives if it is asked anything, or if the server has
// ended a session before. To most servers that would be a connection for nothing.

const (
	// attendAfter spares the stream to sessions that hardly live.
	attendAfter = time.Second
	// attendFor is how long the gateway goes on listening in a session that nobody
	// uses, and in which it was asked nothing.
	attendFor = 3 * time.Second
)

// attendance tells whether the stream of a session is kept open.
type attendance struct{ state atomic.Int32 }

const (
	unattended int32 = iota
	attended
	unwanted // the server has no such stream, or has no use for it
)

// attend has the session's stream kept open, unless it is already. Where the
// requests in flight to a server are bounded, streams would take the place of
// calls.
func (x *exchange) attend(v *way) {
	if v.kind != hidden || v.session == "" || v.attendance.state.Load() != unattended ||
		x.handler.settings().Upstream(v.server).MaxConcurrent > 0 ||
		!v.attendance.state.CompareAndSwap(unattended, attended) {
		return
	}
	if !x.handler.upstreams.take(x.client()) {
		v.attendance.state.Store(unattended)
		return
	}
	// Nothing of the request that was the first may be kept for as long.
	own := &exchange{handler: x.handler, request: x.request, r: x.r.WithContext(x.r.Context())}
	own.r.Body, own.r.Header = http.NoBody, nil
	go func() {
		defer x.handler.upstreams.release(own.client())
		v.attendance.state.Store(own.attendTo(v))
	}()
}

// attendTo keeps the stream open, until the session ends or the stream is not to
// be had.
func (x *exchange) attendTo(v *way) int32 {
	ctx, cancel := context.WithCancel(context.WithoutCancel(x.r.Context()))
	defer cancel()
	defer context.AfterFunc(v.leg.session.life, cancel)()
	for wait := attendAfter; ; wait = min(2*wait, reopenMax) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return unattended
		}
		if v.leg.way() != v {
			return unattended
		}
		began := time.Now()
		status, streamed, refused := x.hear(ctx, v)
		switch {
		case ctx.Err() != nil, refused:
			return unattended
		case streamed && !v.wantsListener.Load():
			return unwanted
		case !streamed && doubts(status) && !x.alive(ctx, v):
			return unattended
		case !streamed && status < http.StatusInternalServerError && status != http.StatusTooManyRequests:
			return unwanted
		case time.Since(began) > reopenMax:
			wait = reopenMin / 2
		}
	}
}

// hear opens the stream and reads it to its end.
func (x *exchange) hear(ctx context.Context, v *way) (status int, streamed, refused bool) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	p := x.part(listening, x.partID(v.server), http.MethodGet, v.server)
	defer p.end()
	if p.refusal != nil {
		return 0, false, true
	}
	if p.known().endsSessions.Load() {
		v.wantsListener.Store(true)
	}
	go v.leaveUnasked(listening, stop)
	header := v.ownHeader(x)
	header["Accept"] = valueEvents
	delete(header, protocol.HeaderContentType)
	status, streamed = x.answerAll(p, v, header)
	return status, streamed, false
}

// leaveUnasked ends the listening in a session that nobody uses, unless the server
// has a use for it.
func (v *way) leaveUnasked(ctx context.Context, stop context.CancelFunc) {
	ticker := time.NewTicker(attendFor / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if v.wantsListener.Load() {
			return
		}
		if v.leg.session.unusedFor() >= attendFor {
			stop()
			return
		}
	}
}

// answerAll reads a stream that no client gets, and answers what the server asks on it.
func (x *exchange) answerAll(p *part, v *way, header http.Header) (status int, streamed bool) {
	var err error
	defer p.guard(&err)
	answer, err := p.call(header, nil)
	if err != nil {
		if f := new(access.Refusal); errors.As(err, &f) {
			status = f.Status
		}
		return status, false
	}
	var bytes int64
	defer func() { answer.Close(bytes, err) }()
	if answer.Status != http.StatusOK || !answer.Stream {
		return answer.Status, false
	}
	err = answer.Events(func(e *sse.Event) error {
		bytes += int64(len(e.Data))
		if e.IsMessage() && len(e.Data) > 0 {
			if m, err := mcp.ParseMessage(e.Data); err == nil && m.Kind == envelope.Request {
				v.wantsListener.Store(true)
				x.answerServer(v, m)
			}
		}
		return nil
	})
	return answer.Status, true
}
