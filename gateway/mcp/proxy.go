package mcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/mcp/direct"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

// proxy passes requests on to a streamable HTTP server, and its answers back.
type proxy struct {
	upstream    *upstream
	credentials *credentials.Server // nil: none are leased
	limits      config.Limits
}

func (p *proxy) close() { p.upstream.close() }

// proxied is one request that the proxy passes on.
type proxied struct {
	*Answer
	proxy  *proxy
	owner  session.Owner
	sealed string // the session id that the client sent; "" if none

	upstreamSession string // what it stands for at the server
	lastEventID     string // of the stream's events; "" if none had one

	set      *credentials.Set // nil: the server has none that are leased
	use      credentials.Use  // of set
	ctx      *cut             // of the request to the server
	cancel   context.CancelCauseFunc
	mu       sync.Mutex // of cancel, where others call it, and of over
	over     error      // why the stream has ended for good; nil: it goes on
	first    cut
	traced   func(status int, err error)
	out      direct.Request
	response *http.Response
	decoder  *sse.Decoder // nil until the first event is asked for
	unlisted func()       // takes the stream from those that end with the gateway; nil: it is none of them
}

func (p *proxy) call(ctx context.Context, a *Answer) error {
	q := &a.proxied
	q.Answer, q.proxy, q.owner = a, p, a.ownerOf()
	q.first.Context = ctx
	q.ctx, q.cancel = &q.first, q.first.cut
	err := q.lease(ctx)
	if err == nil {
		err = q.admit(ctx)
	}
	if err != nil {
		q.use.End()
		q.ctx.end()
		return err
	}
	if err = q.send(ctx); err == nil {
		err = q.accept()
	}
	if err != nil {
		q.close()
		return err
	}
	a.source = q
	return nil
}

// admit opens the request's session, records the decision, and takes one of the server's
// slots. The caller releases it where the error is nil.
func (q *proxied) admit(ctx context.Context) error {
	var f *access.Refusal
	q.upstreamSession, f = q.openSession(ctx)
	if f == nil {
		f = q.decide()
	}
	if f == nil && !q.proxy.upstream.acquire() {
		f = q.busy()
	}
	if f != nil {
		return f
	}
	return nil
}

// send sends the request to the server, and reads the header of the answer. Where the server
// refuses leased credentials, and Vault has others by now, it does so a second time: a server
// that refuses them has done nothing.
func (q *proxied) send(ctx context.Context) error {
	err := q.sendOnce(ctx)
	if err != nil || q.set == nil || q.response.StatusCode != http.StatusUnauthorized {
		return err
	}
	next := q.set.Rejected(q.ctx)
	if next == nil {
		return nil
	}
	q.endResponse()
	q.use.End()
	if q.use.Begin(next, q.cancel, q.idle()) != nil {
		return q.withoutCredentials(ctx, errShortLived)
	}
	q.set, q.request.Credentials = next, next
	if f := q.decide(); f != nil { // so that the log has the credentials of what is sent
		return f
	}
	return q.sendOnce(ctx)
}

func (q *proxied) sendOnce(ctx context.Context) error {
	header := headers.Get().(http.Header)
	q.outgoing(header)
	q.traced = q.request.TraceUpstream(header)
	q.out = direct.Request{Method: q.method, Header: header}
	if q.body != nil {
		q.out.Body, q.out.Memory = q.body.data, q.body
	}
	response, err := q.proxy.upstream.send(q.ctx, &q.out, q.idle()) //nolint:bodyclose // close closes it
	q.out = direct.Request{}
	clear(header)
	headers.Put(header)
	if err != nil {
		q.traced(0, err)
		if q.hasEndedCredentials() && ctx.Err() == nil {
			return q.withoutCredentials(ctx, context.Cause(q.ctx))
		}
		return q.failure(ctx, err)
	}
	q.response = response
	q.proxy.upstream.hurry(response)
	return nil
}

// accept makes sure that the client may get the answer.
func (q *proxied) accept() error {
	a, response := q.Answer, q.response
	q.proxy.upstream.tellMisfit(q.handler.log, response)
	a.enforced = a.enforced || enforces(a.judgeNow()) // the server may have waited for that
	f := q.judge(response)
	if f == nil {
		f = q.answerSession()
	}
	if f != nil {
		return f
	}
	a.Status, a.Header, a.raw = response.StatusCode, response.Header, response
	a.Stream = mediaType(protocol.First(a.Header, protocol.HeaderContentType)) == protocol.MediaEventStream
	if a.enforced {
		q.declare()
	}
	if a.Stream {
		q.beginStream()
	}
	a.copyList(response)
	a.watch(response, q.cancel)
	if !a.Stream && a.isFiltered() {
		return a.gatherFiltered()
	}
	return nil
}

// declare has the answer declare the charset in which the gateway reads it. A client that decodes it
// by another one, such as UTF-7, would read a text that nobody has judged.
func (q *proxied) declare() {
	media := mediaType(protocol.First(q.Header, protocol.HeaderContentType))
	if media == protocol.MediaJSON || media == protocol.MediaEventStream {
		q.Header[protocol.HeaderContentType] = []string{media}
	}
}

// beginStream prepares to pass on a stream.
func (q *proxied) beginStream() {
	a := q.Answer
	a.inEvents = q.set != nil || a.isFiltered() // so that it can be gone on with between two of them, or changed
	if a.idle() {
		q.unlisted = q.handler.streams.Add(q.cancel, q.proxy.limits.MaxStreamAge)
		q.request.OnExpiry(func() { q.endFor(sse.ErrExpired) })
		q.request.OnRules(q.grant, func() { q.endFor(sse.ErrRules) })
	}
	a.rpcID = bytes.Clone(a.id())
	if a.body == nil || q.isSent() {
		a.release() // a stream may be open for hours
	}
}

// endFor ends the stream for good, also where it is being opened again. Any goroutine may call it.
func (q *proxied) endFor(cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = cause
	q.cancel(cause)
}

// isSent reports whether nobody reads the message any more, in order to send it. While
// somebody does, its memory counts.
func (q *proxied) isSent() bool {
	direct.AwaitSent(q.response)
	return !q.body.pooled || q.body.uses.Load() == 1
}

// nextEvent returns the next event that the client gets, filtered.
func (q *proxied) nextEvent() (*sse.Event, error) {
	for {
		event, err := q.decoder.Next()
		for err != nil && q.reopen() {
			event, err = q.decoder.Next()
		}
		if err != nil {
			return nil, err
		}
		if len(event.ID()) > 0 {
			q.lastEventID = string(event.ID())
		}
		if pass, err := q.filterEvent(event); pass || err != nil {
			return event, err
		}
	}
}

// next returns the next event, filtered. One that cannot be read ends the
// stream.
func (q *proxied) next() (*sse.Event, error) {
	if q.decoder == nil {
		q.decoder = q.newDecoder()
	}
	event, err := q.nextEvent()
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return event, err
	case errors.Is(err, sse.ErrTooLarge):
		return nil, q.tooLarge()
	case errors.As(err, new(*filterError)), errors.As(err, new(*access.Refusal)):
		return nil, &AnswerError{Message: messageUnfit, Err: err}
	case q.hasEndedCredentials() && !q.idle():
		return nil, &AnswerError{Message: messageCredentials, Err: context.Cause(q.ctx)}
	}
	return nil, &readError{err}
}

func (q *proxied) newDecoder() *sse.Decoder {
	d := sse.NewDecoder(q.response.Body, int(q.proxy.limits.MaxList))
	d.Reserve = q.request.Reserve
	return d
}

func (q *proxied) ended() error {
	if sse.EndedByGateway(q.ctx) || q.hasEndedCredentials() && q.idle() {
		return context.Cause(q.ctx)
	}
	return nil
}

// endResponse gives up the rest of the answer.
func (q *proxied) endResponse() {
	_ = q.response.Body.Close()
	q.traced(q.response.StatusCode, nil)
	q.response = nil
}

// close ends the request to the server, and with it the rest of the answer.
func (q *proxied) close() {
	if q.response != nil {
		q.endResponse()
	}
	if q.unlisted != nil {
		q.unlisted()
	}
	q.use.End()
	q.ctx.end()
	q.proxy.upstream.release()
}

// idle reports whether the request asks for a stream of what the server has to
// say of its own accord.
func (x *exchange) idle() bool {
	return x.method == http.MethodGet || x.message.Method == protocol.MethodListen
}

// failure is the error of a request that the server did not answer. Without a client
// it is recorded, since there is no refusal to be recorded.
func (x *exchange) failure(ctx context.Context, err error) error {
	if f := x.failed(ctx, err); f != nil {
		return f
	}
	x.request.Outcome(0, 0, err)
	return err
}

// outgoing makes the header of the request for the server.
func (q *proxied) outgoing(out http.Header) {
	requestHeader(out, q.header, q.upstreamSession != "")
	if q.upstreamSession != "" {
		out[protocol.HeaderSession] = []string{q.upstreamSession}
	}
	if q.lastEventID != "" {
		out[protocol.HeaderLastEventID] = []string{q.lastEventID}
	}
	header := q.proxy.upstream.header
	if q.set != nil {
		header = q.set.Header()
	}
	maps.Copy(out, header)
	if q.body != nil {
		out[protocol.HeaderContentType] = valueJSON
	}
}
