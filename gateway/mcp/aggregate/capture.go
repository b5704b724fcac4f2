package aggregate

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// tooLargeError: a server's answer is larger than what is kept of one.
type tooLargeError struct{ limit int64 }

func (e *tooLargeError) Error() string {
	return "the server's answer is larger than limits.max_list, " + config.FormatSize(e.limit)
}

// capture takes the whole answer to a request that the gateway makes for itself.
// Of a stream it keeps the response alone.
type capture struct {
	limit   int64
	request *access.Request // that keeps it
	header  http.Header
	status  int
	body    []byte        // of an answer that is no stream; the response of one that is
	events  *sse.Splitter // nil if it is none

	tooLarge bool

	verdict verdict // of the session in which it was asked, if it was in one
	reason  string  // of the gateway's own refusal
}

func newCapture(limit int64, request *access.Request) *capture {
	return &capture{limit: limit, request: request, header: make(http.Header)}
}

// uncounted is how much of an answer is not counted: most are small.
const uncounted = 8 << 10

// reserve counts what an answer takes as it grows: growing takes twice its size.
func reserve(request *access.Request, from, to int) error {
	return request.Reserve(2 * int64(max(0, to-uncounted)-max(0, from-uncounted)))
}

func (c *capture) Header() http.Header { return c.header }

func (c *capture) WriteHeader(status int) {
	if c.status != 0 || status < 200 {
		return
	}
	c.status = status
	if isStream(c.header) {
		c.events = sse.NewSplitter(int(c.limit))
		c.events.Reserve = c.request.Reserve
	}
}

func (c *capture) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.events != nil {
		err := c.events.Push(p, c.event)
		c.tooLarge = errors.Is(err, sse.ErrTooLarge)
		return len(p), err
	}
	if int64(len(c.body)+len(p)) > c.limit {
		c.tooLarge = true
		return 0, &tooLargeError{c.limit}
	}
	if err := reserve(c.request, len(c.body), len(c.body)+len(p)); err != nil {
		return 0, err
	}
	if c.body == nil {
		if n, err := strconv.ParseInt(protocol.First(c.header, protocol.HeaderContentLength), 10, 64); err == nil && n > 0 && n <= int64(max(uncounted, 2*len(p))) {
			c.body = make([]byte, 0, n)
		}
	}
	c.body = append(c.body, p...)
	return len(p), nil
}

// FlushError is for those who write streams.
func (c *capture) FlushError() error { return nil }

func (c *capture) event(e *sse.Event) error {
	if !e.IsMessage() || len(e.Data) == 0 || c.body != nil {
		return nil
	}
	data := jsonscan.WithoutMark(e.Data)
	if m, err := envelope.Parse(data); err == nil && m.Kind == envelope.Response {
		c.body = append([]byte(nil), data...)
	}
	return nil
}

// serverError is a JSON-RPC error, or a status, by which a server says that it
// does not do what it was asked.
type serverError struct {
	status int
	code   int // 0 without a JSON-RPC error
}

func (e *serverError) Error() string {
	return "the server answers with an error: status " + itoa(e.status) + ", code " + itoa(e.code)
}

var (
	// errLost: the session with the server has ended.
	errLost = errors.New("the server has ended the session")
	// errAborted: the answer broke off.
	errAborted = errors.New("the server's answer broke off")
	// errNoAnswer: there was none.
	errNoAnswer = errors.New("the server has not answered the message")
)

// ask sends a message that is the gateway's own, and waits for the answer. The
// error is a [serverError] where the server refuses, a refusal where the gateway
// does, or one of the above.
func (p *part) ask(header http.Header, body []byte) (*capture, error) {
	c, err := p.fetch(header, body)
	if err != nil || c.status == http.StatusAccepted { // nothing is said to a notification
		return c, err
	}
	e, err := envelope.Parse(c.body)
	switch {
	case err == nil && e.Failed:
		return c, &serverError{c.status, e.ErrorCode}
	case c.status >= 300:
		return c, &serverError{status: c.status}
	case err != nil || e.Kind != envelope.Response:
		return c, errNoAnswer
	}
	return c, nil
}

// fetch is ask for who reads the answer, which may be an error. There is one in
// any case.
func (p *part) fetch(header http.Header, body []byte) (*capture, error) {
	c := newCapture(p.x.handler.settings().Limits.MaxList, p.request)
	header["Accept"] = valueAny // whatever the client takes
	aborted := p.serve(header, body, c)
	c.body = jsonscan.WithoutMark(c.body)
	reason := p.request.Refused()
	c.reason = reason
	if p.context.Err() != nil {
		if f := access.Cut(p.context); f != nil {
			return c, f
		}
		return c, p.context.Err()
	}
	if c.tooLarge {
		return c, &tooLargeError{c.limit}
	}
	switch {
	case header[protocol.HeaderSession] == nil:
	case aborted:
		c.verdict = doubted
	default:
		c.verdict = judge(c.status, reason, c.body)
	}
	switch {
	case isOwn(reason):
		return c, &access.Refusal{Status: c.status, Reason: reason, Message: "The gateway cannot serve requests at the moment.", RetryAfter: retryAfter}
	case c.verdict == gone:
		return c, errLost
	case aborted:
		return c, errAborted
	case c.status >= 500 || c.status == http.StatusTooManyRequests || c.status == 0:
		if reason == "" {
			reason = "status " + itoa(c.status)
		}
		return c, errors.New(reason)
	}
	return c, nil
}

// isStream reports whether the answer with that header is a stream of events.
func isStream(header http.Header) bool {
	media, _, _ := strings.Cut(protocol.First(header, protocol.HeaderContentType), ";")
	return strings.EqualFold(strings.TrimSpace(media), valueEvents[0])
}
