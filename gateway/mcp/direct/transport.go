package direct

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Memory holds a request's body. Somebody may still send it when the answer is there.
type Memory interface {
	Retain()
	Release()
}

// Request is one to a server. Its header must not be changed until Send or Open returns.
type Request struct {
	Method string
	Header http.Header
	Body   []byte // nil: there is none
	Memory Memory // of Body; nil: nobody else uses it
}

// Options of a Transport.
type Options struct {
	URL  *url.URL                                                             // of the server, without user and fragment
	Dial func(ctx context.Context, network, address string) (net.Conn, error) // in the clear
	TLS  *tls.Config                                                          // used with https

	HandshakeTimeout time.Duration // of TLS; 0: none
	HeaderTimeout    time.Duration // of an answer's header, once the request is sent; 0: none

	// Layered tells that Dial returns connections of which nobody can tell whether they are idle.
	// All of them are http.Transport's then.
	Layered bool
}

// Transport sends requests to one server. It must be closed.
type Transport struct {
	options  Options
	secure   bool
	address  string
	target   string        // see question
	template *http.Request // of those that are sent by http.Transport
	through  *http.Transport
	indirect bool        // nothing else is used
	isHTTP2  atomic.Bool // the server has chosen it at the last handshake
	idle     pool

	mu     sync.Mutex
	parked []net.Conn // that http.Transport will take
}

// New returns a Transport. It reaches nobody yet.
func New(options Options) *Transport {
	u := options.URL
	t := &Transport{
		options:  options,
		secure:   u.Scheme == "https",
		address:  u.Host,
		target:   " " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\n",
		indirect: options.Layered || !canLook,
		template: &http.Request{URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1},
	}
	if u.Port() == "" {
		t.address = net.JoinHostPort(u.Hostname(), map[bool]string{false: "80", true: "443"}[t.secure])
	}
	if t.secure {
		t.options.TLS = options.TLS.Clone()
		t.options.TLS.ServerName = u.Hostname()
		t.options.TLS.NextProtos = []string{"h2", "http/1.1"}
	}
	t.through = &http.Transport{
		DialContext:           options.Dial,
		DialTLSContext:        func(ctx context.Context, _, address string) (net.Conn, error) { return t.take(ctx, address) },
		ResponseHeaderTimeout: options.HeaderTimeout,
		MaxIdleConnsPerHost:   maxIdle,
		// Each stream holds a connection, and so a pair of these.
		WriteBufferSize:        2 << 10,
		ReadBufferSize:         2 << 10,
		IdleConnTimeout:        idleTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // answers go on as they came
		MaxResponseHeaderBytes: maxHeader,
	}
	return t
}

// Close ends the idle connections. Requests in flight go on: they are cut by their contexts.
func (t *Transport) Close() {
	t.idle.close()
	t.through.CloseIdleConnections()
}

// RoundTrip is that of http.Transport, for requests to other URLs of the server.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) { return t.through.RoundTrip(r) }

// Send sends a request whose answer is expected soon.
func (t *Transport) Send(ctx context.Context, r *Request) (*http.Response, error) {
	q := question{Request: r, target: t.target}
	for !t.indirect && !t.isHTTP2.Load() && ctx.Err() == nil {
		c := t.idle.take()
		reused := c != nil
		if !reused {
			raw, err := t.dial(ctx, t.address)
			if err != nil {
				return nil, err
			}
			if isHTTP2(raw) {
				return t.roundTripOn(ctx, r, raw)
			}
			c = newConn(raw)
		}
		a, err := c.exchange(ctx, q, t.options.HeaderTimeout)
		if err == nil {
			if !a.Close {
				a.body.pool = &t.idle
			}
			return t.respond(a), nil
		}
		// The server may end a connection at the moment at which it is used again.
		// A request of which it has got nothing can be sent again.
		if !reused || c.written || ctx.Err() != nil {
			return nil, err
		}
	}
	return t.roundTrip(ctx, r)
}

// Open sends a request whose answer is a stream that may stay open for hours: there are thousands of
// these, and most of them are silent. In HTTP/1.1 each has a connection of its own in any case.
func (t *Transport) Open(ctx context.Context, r *Request) (*http.Response, error) {
	if !t.indirect && !t.isHTTP2.Load() {
		raw, err := t.dial(ctx, t.address)
		if err != nil {
			return nil, err
		}
		if isHTTP2(raw) {
			return t.roundTripOn(ctx, r, raw)
		}
		a, err := newConn(raw).exchange(ctx, question{Request: r, target: t.target, once: true}, t.options.HeaderTimeout)
		if err != nil {
			return nil, err
		}
		a.body.c.in.Shrink(streamSize)
		return t.respond(a), nil
	}
	return t.roundTrip(ctx, r)
}

func (t *Transport) respond(a *answer) *http.Response {
	a.Request = t.template
	return &a.Response
}

// Hurry bounds the time that the server may take from one part of the answer to the next. A reader
// that is slow is not the server's fault.
func Hurry(response *http.Response, wait time.Duration) {
	switch b := response.Body.(type) {
	case *body:
		b.limit, b.wait = wait > 0, wait
	case *throughBody:
		b.wait = wait
	}
}

// AwaitSent waits a little until all of the request is sent, where somebody still sends it.
func AwaitSent(response *http.Response) {
	if b, ok := response.Body.(*body); ok && b.c != nil && b.c.helper != nil {
		b.c.awaitSent()
	}
}

// dial opens a connection, and notes its protocol.
func (t *Transport) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	defer func(ctx context.Context) {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}(ctx)
	raw, err := t.options.Dial(ctx, "tcp", address)
	if err != nil || !t.secure {
		return raw, err
	}
	if t.options.HandshakeTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.options.HandshakeTimeout)
		defer cancel()
	}
	s := newSocket(raw)
	s.tls = true
	secured := tls.Client(s, t.options.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	t.isHTTP2.Store(isHTTP2(secured))
	return secured, nil
}

func isHTTP2(conn net.Conn) bool {
	secured, ok := conn.(*tls.Conn)
	return ok && secured.ConnectionState().NegotiatedProtocol == "h2"
}

// roundTripOn sends a request by http.Transport, which may take the connection for it.
func (t *Transport) roundTripOn(ctx context.Context, r *Request, raw net.Conn) (*http.Response, error) {
	defer t.park(raw)()
	return t.roundTrip(ctx, r)
}

// park keeps a connection for http.Transport, which it may take until the end.
func (t *Transport) park(raw net.Conn) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parked = append(t.parked, raw)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(t.parked, raw); i >= 0 {
			t.parked = slices.Delete(t.parked, i, i+1)
			_ = raw.Close()
		}
	}
}

// take returns a connection that is parked, or a new one.
func (t *Transport) take(ctx context.Context, address string) (net.Conn, error) {
	t.mu.Lock()
	last := len(t.parked) - 1
	if last >= 0 && address == t.address {
		raw := t.parked[last]
		t.parked = slices.Delete(t.parked, last, last+1)
		t.mu.Unlock()
		return raw, nil
	}
	t.mu.Unlock()
	return t.dial(ctx, address)
}
