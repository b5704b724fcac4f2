package mcp

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/toollist"
	"vault-plugin-secrets-mcp/gateway/mcp/stdio"
)

// answer sends the answer to a request: as JSON if it is the first thing that
// the server says, and otherwise as a stream. The session is that which the
// request starts, or nil.
func (c *conversation) answer(w http.ResponseWriter, r *http.Request, call *bridge.Call, starts *bridge.Session) *access.Refusal {
	done := false
	defer func() {
		// Without sessions a client cancels by going away. With them it may
		// only have lost its connection; but who may not go on, must not.
		call.Close(!done && (c.stateless || access.Cut(r.Context()) != nil))
	}()
	wait := c.upstream.Timeout
	if c.accepts.stream && c.limits.KeepAlive > 0 && (wait <= 0 || wait > c.limits.KeepAlive) {
		wait = c.limits.KeepAlive
	}
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if wait > 0 {
		ctx, cancel = context.WithTimeout(ctx, wait)
	}
	item, err := call.Next(ctx)
	cancel()
	switch {
	case err == nil && item.Final && (c.accepts.json || !c.accepts.stream):
		done = true
		return c.answerJSON(w, item, starts)
	case err != nil && r.Context().Err() == nil && errors.Is(err, context.DeadlineExceeded) && c.accepts.stream:
		// Nothing yet: keep the connection alive while the server works.
	case err != nil:
		if starts != nil {
			starts.End()
		}
		return c.unanswered(r.Context(), err)
	}
	if starts != nil {
		w.Header()[protocol.HeaderSession] = []string{starts.ID}
	}
	var pending []bridge.Item
	if err == nil {
		pending = append(pending, item)
	}
	listens := c.message.Method == protocol.MethodListen
	c.stream(w, r, pending, listens, func(ctx context.Context) (bridge.Item, error) {
		item, err := call.Next(ctx)
		done = err == nil && item.Final
		return item, err
	})
	return nil
}

func (c *conversation) answerJSON(w http.ResponseWriter, item bridge.Item, starts *bridge.Session) *access.Refusal {
	message, err := c.filtered(item.Message)
	if err != nil {
		return c.badAnswer("it cannot be filtered: " + err.Error())
	}
	header := w.Header()
	if starts != nil {
		if item.Failed {
			starts.End()
		} else {
			header[protocol.HeaderSession] = []string{starts.ID}
		}
	}
	status := http.StatusOK
	if c.stateless {
		status = statusOf(item)
	}
	header[protocol.HeaderContentType] = valueJSON
	header[protocol.HeaderContentLength] = []string{strconv.Itoa(len(message))}
	w.WriteHeader(status)
	n, err := w.Write(message)
	c.request.Outcome(status, int64(n), err)
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

func (c *conversation) filtered(message []byte) ([]byte, error) {
	if c.tools == nil {
		return message, nil
	}
	return toollist.Filter(message, c.tools.Allows)
}

// stream sends messages as events: first those that are there, then those that
// next returns, until the final one.
func (c *conversation) stream(w http.ResponseWriter, r *http.Request, pending []bridge.Item, idle bool, next func(context.Context) (bridge.Item, error)) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	if idle {
		defer c.handler.streams.Add(cancel, c.limits.MaxStreamAge)()
	}
	id := string(c.id())
	c.release() // a stream may be open for hours

	header := w.Header()
	header[protocol.HeaderContentType] = []string{protocol.MediaEventStream}
	header["Cache-Control"] = []string{"no-cache, no-transform"}
	header["X-Accel-Buffering"] = []string{"no"}
	w.WriteHeader(http.StatusOK)
	s := sse.NewWriter(r.Context(), w, c.limits.KeepAlive)
	s.Flush()
	err := c.events(ctx, s, pending, next)
	if err != nil && sse.EndedByGateway(ctx) {
		err = context.Cause(ctx)
		s.ComeBack()
	} else if err != nil && ctx.Err() == nil && id != "" {
		message := messageUnfit
		switch {
		case isTooLarge(err):
			message = messageEndless
		case errors.Is(err, os.ErrDeadlineExceeded):
			message = messageLate
		}
		_, _ = s.Write(errorEvent([]byte(id), message, c.request.ID)) // the stream ends in any case
	}
	if errors.Is(err, bridge.ErrClosed) && ctx.Err() == nil {
		err = nil // the session has ended, or another stream has taken its place
	}
	c.finish(r.Context(), http.StatusOK, s.Close(), err)
}

func (c *conversation) events(ctx context.Context, s *sse.Writer, pending []bridge.Item, next func(context.Context) (bridge.Item, error)) error {
	var event []byte
	for {
		var item bridge.Item
		var err error
		if len(pending) > 0 {
			item, pending = pending[0], pending[1:]
		} else if item, err = next(ctx); err != nil {
			return err
		}
		message, err := c.filtered(item.Message)
		if err != nil {
			return &filterError{err}
		}
		event = sse.AppendData(append(event[:0], "event: message\n"...), message)
		event = append(event, '\n')
		if _, err := s.Write(event); err != nil || item.Final {
			return err
		}
	}
}

// unanswered is the answer where the bridge could not get one; nil if the client
// is gone.
func (c *conversation) unanswered(ctx context.Context, err error) *access.Refusal {
	var wait *bridge.BackoffError
	switch {
	case errors.Is(err, bridge.ErrNoSession):
		return c.noSession(nil)
	case ctx.Err() != nil:
	case errors.Is(err, bridge.ErrNeedsSession):
		// No error of the newer era: by that clients know to fall back.
		return c.plain(http.StatusBadRequest, "This server needs a session: send initialize first.")
	case errors.Is(err, bridge.ErrDuplicate):
		return c.plain(http.StatusBadRequest, "A request of this id is in flight already.")
	case errors.Is(err, bridge.ErrBusy), errors.Is(err, bridge.ErrFull):
		f := c.busy()
		f.Detail = err.Error()
		return f
	case errors.As(err, &wait):
		f := c.busy()
		f.Reason, f.Detail, f.RetryAfter = reasonUnreachable, err.Error(), wait.Wait
		f.Message = "The server has failed, and is started again in a while."
		return f
	case errors.Is(err, bridge.ErrSlow):
		return c.badAnswer(err.Error())
	case isTooLarge(err):
		f := c.badAnswer(err.Error())
		f.Message = messageEndless
		return f
	}
	f := c.failed(ctx, err)
	if f == nil {
		c.request.Outcome(0, 0, err)
	}
	return f
}

// messageEndless is told of requests that were in flight when the server sent what
// is too large to be kept: it may be the answer to any of them.
var messageEndless = "The server has sent a message of more than " + config.FormatSize(maxChannelMessage) +
	", this gateway's limit for one, and the connection to it was ended. The request may have been carried out."

func isTooLarge(err error) bool {
	return errors.Is(err, sse.ErrTooLarge) || errors.Is(err, stdio.ErrMessageSize)
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
