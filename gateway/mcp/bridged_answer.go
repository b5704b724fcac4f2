package mcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
	"vault-plugin-secrets-mcp/gateway/mcp/stdio"
)

// answer takes the answer to a request: as JSON if it is the first thing that the
// server says, and otherwise as a stream. The session is that which the request
// starts, or nil.
func (c *conversation) answer(ctx context.Context, starts *bridge.Session) error {
	wait := c.upstream.Timeout
	if c.accepts.stream && c.limits.KeepAlive > 0 && (wait <= 0 || wait > c.limits.KeepAlive) {
		wait = c.limits.KeepAlive
	}
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if wait > 0 {
		waiting, cancel = context.WithTimeout(ctx, wait)
	}
	item, err := c.inFlight.Next(waiting)
	cancel()
	switch {
	case err == nil && item.Final && (c.accepts.json || !c.accepts.stream):
		c.done = true
		c.copyList(&item)
		return c.answerJSON(item, starts)
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && c.accepts.stream:
		// Nothing yet: keep the connection alive while the server works.
	case err != nil:
		if starts != nil {
			starts.End()
		}
		return c.unanswered(ctx, err)
	}
	if starts != nil {
		c.Session = starts.ID
	}
	if err == nil {
		c.pending = append(c.pending, item)
	}
	c.stream(ctx)
	return nil
}

func (c *conversation) answerJSON(item bridge.Item, starts *bridge.Session) error {
	message, err := c.filtered(item.Message)
	if err != nil {
		return c.badAnswer("it cannot be filtered: " + err.Error())
	}
	if starts != nil {
		if item.Failed {
			starts.End()
		} else {
			c.Session = starts.ID
		}
	}
	c.Status = http.StatusOK
	if c.stateless {
		c.Status = statusOf(item)
	}
	c.Header, c.whole = http.Header{protocol.HeaderContentType: valueJSON}, message
	return nil
}

// statusOf is the HTTP status that the era without sessions wants for an error.
func statusOf(item bridge.Item) int {
	if item.Failed {
		switch item.Code {
		case protocol.CodeMethodNotFound:
			return http.StatusNotFound
		case protocol.CodeInvalidParams, protocol.CodeHeaderMismatch, protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion:
			return http.StatusBadRequest
		}
	}
	return http.StatusOK
}

// stream makes the answer a stream: of the messages that are there, and of those that
// follow until the final one.
func (c *conversation) stream(ctx context.Context) {
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	if c.idle() {
		c.unlisted = c.handler.streams.Add(c.cancel, c.limits.MaxStreamAge)
		c.request.OnExpiry(func() { c.cancel(sse.ErrExpired) })
		c.request.OnRules(c.grant, func() { c.cancel(sse.ErrRules) })
	}
	c.rpcID = bytes.Clone(c.id())
	c.release() // a stream may be open for hours
	c.Status, c.Stream = http.StatusOK, true
	c.Header = http.Header{
		protocol.HeaderContentType: {protocol.MediaEventStream},
		"Cache-Control":            {"no-cache, no-transform"},
		"X-Accel-Buffering":        {"no"},
	}
}

// next returns the next message as an event.
func (c *conversation) next() (*sse.Event, error) {
	message, err := c.nextMessage()
	if errors.Is(err, bridge.ErrClosed) && c.ctx.Err() == nil || errors.Is(err, io.EOF) {
		return nil, io.EOF // the session has ended, or another stream has taken its place
	}
	switch {
	case err == nil:
		c.event = sse.Event{Data: message, HasData: true}
		return &c.event, nil
	case c.ctx.Err() != nil:
		return nil, err
	case isTooLarge(err):
		return nil, &AnswerError{Message: messageEndless, Err: err}
	case errors.Is(err, bridge.ErrCredentials) && c.idle():
		return nil, io.EOF // whoever opens the stream again gets the new ones
	case errors.Is(err, bridge.ErrCredentials):
		return nil, &AnswerError{Message: messageCredentials, Err: err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &AnswerError{Message: messageLate, Err: err}
	}
	return nil, &AnswerError{Message: messageUnfit, Err: err}
}

// nextMessage returns the next message that the client gets.
func (c *conversation) nextMessage() ([]byte, error) {
	for {
		item, err := c.take()
		if err != nil {
			return nil, err
		}
		message, err := c.filtered(item.Message)
		if err != nil {
			return nil, &filterError{err}
		}
		if message != nil {
			return message, nil
		}
	}
}

// take returns the next message: io.EOF behind the final one.
func (c *conversation) take() (item bridge.Item, err error) {
	switch {
	case c.done:
		return item, io.EOF
	case len(c.pending) > 0:
		item, c.pending = c.pending[0], c.pending[1:]
	case c.feed != nil:
		item, err = c.feed.Next(c.ctx)
	default:
		item, err = c.inFlight.Next(c.ctx)
	}
	if c.done = err == nil && item.Final; c.done {
		c.copyList(&item)
	}
	return item, err
}

func (c *conversation) ended() error {
	if c.ctx != nil && sse.EndedByGateway(c.ctx) {
		return context.Cause(c.ctx)
	}
	return nil
}

// close gives back what the request was served with.
func (c *conversation) close() {
	if c.inFlight != nil {
		// Without sessions a client cancels by going away. With them it may
		// only have lost its connection; but who may not go on, must not.
		c.inFlight.Close(!c.done && (c.stateless || access.CutCause(c.client) != nil))
	}
	if c.feed != nil {
		c.feed.Close()
	}
	if c.cancel != nil {
		c.cancel(nil)
	}
	if c.unlisted != nil {
		c.unlisted()
	}
	if c.session != nil {
		c.session.Release()
	}
}

// unanswered is the error where the bridge could not get an answer.
func (c *conversation) unanswered(ctx context.Context, err error) error {
	var wait *bridge.BackoffError
	switch {
	case errors.Is(err, bridge.ErrNoSession):
		return serverside.NoSession(c.id())
	case ctx.Err() != nil:
	case errors.Is(err, bridge.ErrNeedsSession):
		// No error of the newer era: by that clients know to fall back.
		return serverside.BadRequest(c.id(), http.StatusBadRequest, "This server needs a session: send initialize first.")
	case errors.Is(err, bridge.ErrDuplicate):
		return serverside.BadRequest(c.id(), http.StatusBadRequest, serverside.MessageDuplicate)
	case errors.Is(err, bridge.ErrBusy), errors.Is(err, bridge.ErrFull):
		f := c.busy()
		f.Detail = err.Error()
		return f
	case errors.As(err, &wait):
		f := c.busy()
		f.Reason, f.Detail, f.RetryAfter = serverside.ReasonUnreachable, err.Error(), wait.Wait
		f.Message = "The server has failed, and is started again in a while."
		return f
	case errors.Is(err, bridge.ErrCredentials):
		return c.credentialsEnded(ctx, err)
	case errors.As(err, new(*unauthorizedError)):
		f := c.badAnswer(err.Error())
		f.Reason, f.Message = serverside.ReasonUnauthorized, "The server refuses the gateway's credentials."
		return f
	case errors.Is(err, bridge.ErrSlow):
		return c.badAnswer(err.Error())
	case isTooLarge(err):
		f := c.badAnswer(err.Error())
		f.Message = messageEndless
		return f
	}
	return c.failure(ctx, err)
}

// credentialsEnded is the error where the credentials of the channel have ended.
func (c *conversation) credentialsEnded(ctx context.Context, err error) error {
	if errors.Is(err, bridge.ErrUnsent) {
		return c.withoutCredentials(ctx, errors.New("before the request was sent: "+err.Error()))
	}
	f := &access.Refusal{
		Status:  http.StatusServiceUnavailable,
		Reason:  serverside.ReasonCredentials,
		Detail:  err.Error(),
		Message: messageCredentials,
	}
	if c.id() != nil {
		// Clients do not read the body of a 503, and take it for an invitation to send the
		// request again.
		f.Status = http.StatusOK
	}
	return c.rpc(f)
}

// messageEndless is told of requests that were in flight when the server sent what
// is too large to be kept: it may be the answer to any of them.
var messageEndless = "The server has sent a message of more than " + config.FormatSize(maxChannelMessage) +
	", this gateway's limit for one, and the connection to it was ended. The request may have been carried out."

func isTooLarge(err error) bool {
	return errors.Is(err, sse.ErrTooLarge) || errors.Is(err, stdio.ErrMessageSize)
}

// Accepts returns which kinds of answer the client takes: JSON, and streams of
// events.
func Accepts(header http.Header) (json, stream bool) {
	a := acceptsOf(header[protocol.HeaderAccept])
	return a.json, a.stream
}

// accepts is what a client takes for an answer.
type accepts struct{ json, stream bool }

func acceptsOf(header []string) accepts {
	var a accepts
	if len(header) == 0 {
		return accepts{json: true, stream: true}
	}
	for _, value := range header {
		for part := range strings.SplitSeq(value, ",") {
			switch mediaType(part) {
			case "*/*":
				a.json, a.stream = true, true
			case protocol.MediaJSON, "application/*":
				a.json = true
			case protocol.MediaEventStream, "text/*":
				a.stream = true
			}
		}
	}
	return a
}
