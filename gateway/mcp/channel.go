package mcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// Bounds of channels to servers of the HTTP+SSE transport. Each is a connection
// to the server, and little else.
const (
	maxChannels          = 4096
	maxChannelsPerClient = 64
	channelIdleTimeout   = 10 * time.Minute
	maxChannelMessage    = 16 << 20
)

// newChannels makes the link to a server of the HTTP+SSE transport, as it was in
// the protocol's first version (2024-11-05).
//
// https://modelcontextprotocol.io/specification/2024-11-05/basic/transports#http-with-sse
func (h *Handler) newChannels(server *grants.Server, c *config.Config) (link, error) {
	leased, err := h.credentialsOf(server)
	if err != nil {
		return nil, err
	}
	settings := c.Upstream(server.Name)
	u, err := newUpstream(server, settings, &c.UpstreamAllow, h.log)
	if err != nil {
		return nil, err
	}
	return &bridged{
		server:      server,
		credentials: leased,
		limits:      c.Limits,
		upstream:    settings,
		bridge: bridge.New(bridge.Options{
			Dial: func(ctx context.Context, of bridge.Credentials, r bridge.Receiver) (bridge.Conn, error) {
				c := &channel{upstream: u, header: u.header, timeout: settings.Timeout, receiver: r}
				if set := setOf(of); set != nil {
					c.header = set.Header()
					c.rejected = func(ctx context.Context) { set.Rejected(ctx) }
				}
				return c.open(ctx)
			},
			Pool:             bridge.NewPool(maxChannels, maxChannelsPerClient),
			Log:              h.log.With("server", server.Name),
			Shared:           server.Shared,
			HandshakeTimeout: settings.Timeout,
			IdleTimeout:      channelIdleTimeout,
		}),
	}, nil
}

// channel is a stream of events from the server, and a URL to which messages
// for it are posted.
type channel struct {
	upstream *upstream
	header   http.Header   // the registration's, on every request
	timeout  time.Duration // of one message's way; 0: none
	endpoint *url.URL

	// rejected is called when the server does not accept the header, and returns when others
	// are there, if there will be some. Nil: nobody wants to know.
	rejected func(ctx context.Context)

	cancel context.CancelFunc
	ctx    context.Context

	mu       sync.Mutex // of receiver's calls
	receiver bridge.Receiver
}

var (
	errBusy     = errors.New("the server has as many requests in flight as it may have")
	errEndpoint = errors.New("the server names an endpoint that is not its own")
)

// open opens the stream, and waits for the server to say where messages go.
func (c *channel) open(ctx context.Context) (bridge.Conn, error) {
	if !c.upstream.acquire() {
		return nil, errBusy
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stopWaiting := context.AfterFunc(ctx, c.cancel)
	events, err := c.connect()
	if err == nil && !stopWaiting() {
		err = ctx.Err()
	}
	if err != nil {
		c.cancel()
		c.upstream.release()
		return nil, err
	}
	go c.read(events)
	return c, nil
}

// connect sends the request for the stream, and reads its first event.
func (c *channel) connect() (*eventStream, error) {
	request := c.upstream.template.WithContext(c.ctx)
	request.Method = http.MethodGet
	request.Header = http.Header{
		protocol.HeaderAccept:         {protocol.MediaEventStream},
		protocol.HeaderAcceptEncoding: valueIdentity,
		protocol.HeaderUserAgent:      nil,
	}
	response, err := c.roundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusUnauthorized && c.rejected != nil {
		c.rejected(c.ctx)
	}
	if isUnauthorized(response.StatusCode) {
		_ = response.Body.Close()
		return nil, &unauthorizedError{response.StatusCode}
	}
	media := mediaType(protocol.First(response.Header, protocol.HeaderContentType))
	if response.StatusCode != http.StatusOK || media != protocol.MediaEventStream {
		_ = response.Body.Close()
		return nil, fmt.Errorf("the server answers with status %d and %q instead of a stream of events", response.StatusCode, media)
	}
	events := &eventStream{body: response.Body, decoder: sse.NewDecoder(response.Body, maxChannelMessage)}
	if c.endpoint, err = events.endpoint(c.upstream.template.URL); err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	return events, nil
}

// roundTrip sends a request with the registration's headers.
func (c *channel) roundTrip(request *http.Request) (*http.Response, error) {
	for key, values := range c.header {
		request.Header[key] = values
	}
	return c.upstream.transport.RoundTrip(request)
}

type eventStream struct {
	body    io.Closer
	decoder *sse.Decoder
}

// endpoint reads the event that says where messages go. That must be at the
// server itself: its credentials are sent along.
func (e *eventStream) endpoint(base *url.URL) (*url.URL, error) {
	for {
		event, err := e.decoder.Next()
		if err != nil {
			return nil, fmt.Errorf("the server names no endpoint: %w", err)
		}
		if !event.HasData {
			continue
		}
		if string(event.Type) != "endpoint" {
			return nil, errors.New("the server's first event is not its endpoint")
		}
		endpoint, err := base.Parse(strings.TrimSpace(string(event.Data)))
		if err != nil || !sameOrigin(endpoint, base) || endpoint.User != nil {
			return nil, errEndpoint // what it names may hold a session id
		}
		endpoint.Fragment, endpoint.RawFragment = "", ""
		return endpoint, nil
	}
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b) && a.Opaque == ""
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// read hands the server's messages on, until the stream ends.
func (c *channel) read(events *eventStream) {
	var err error
	for err == nil {
		var event *sse.Event
		if event, err = events.decoder.Next(); err == nil && event.IsMessage() && len(event.Data) > 0 {
			c.deliver(event.Data)
		}
	}
	_ = events.body.Close()
	c.cancel()
	c.upstream.release()
	if errors.Is(err, io.EOF) {
		err = errors.New("the server has ended the stream")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.receiver.Gone(err)
}

func (c *channel) deliver(message []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.receiver.Message(message)
}

// Close ends the stream.
func (c *channel) Close() { c.cancel() }

// Send posts one message. The answer to it comes on the stream; a refusal of the
// message itself does not, so one is made of it.
func (c *channel) Send(message []byte) error {
	message = bytes.Clone(message) // a server may answer before all is sent, and the rest is sent meanwhile
	ctx, cancel := c.ctx, context.CancelFunc(func() {})
	if c.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
	}
	defer cancel()
	request := c.upstream.template.WithContext(ctx)
	request.Method = http.MethodPost
	request.URL = c.endpoint
	request.Header = http.Header{
		protocol.HeaderAccept:         {"*/*"},
		protocol.HeaderAcceptEncoding: valueIdentity,
		protocol.HeaderContentType:    valueJSON,
		protocol.HeaderUserAgent:      nil,
	}
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
	request.Body, _ = request.GetBody()
	request.ContentLength = int64(len(message))
	response, err := c.roundTrip(request)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection can be used again
	_ = response.Body.Close()
	if response.StatusCode == http.StatusUnauthorized && c.rejected != nil {
		go c.rejected(c.ctx)
	}
	switch status := response.StatusCode; {
	case status >= 200 && status < 300:
		return nil
	case status >= 400 && status < 500 && !lost(status):
		c.refused(message, response)
		return nil
	case isUnauthorized(status):
		return &unauthorizedError{status}
	default:
		return fmt.Errorf("the server answers a message with status %d", status)
	}
}

// unauthorizedError: the server refuses the gateway's credentials. That says nothing about
// its protocol.
type unauthorizedError struct{ status int }

func (e *unauthorizedError) Error() string {
	return "the server refuses the gateway's credentials with status " + strconv.Itoa(e.status)
}

func isUnauthorized(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// lost reports whether a refusal means that the channel is of no more use.
func lost(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusProxyAuthRequired, http.StatusGone:
		return true
	}
	return false
}

// refused answers a request in the server's place.
func (c *channel) refused(message []byte, response *http.Response) {
	e, err := envelope.Parse(message)
	if err != nil || e.Kind != envelope.Request {
		return
	}
	text := "The server refuses the message: status " + strconv.Itoa(response.StatusCode) + "."
	if response.StatusCode == http.StatusTooManyRequests && response.Header[protocol.HeaderRetryAfter] != nil {
		text += " Try again in " + retryAfterOf(response.Header).Round(time.Second).String() + "."
	}
	c.deliver(protocol.Error(e.IDOf(message), protocol.CodeInternalError, text))
}
