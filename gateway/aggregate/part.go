package aggregate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// part is what a request asks of one server. It is decided, audited and cut like a
// request to that server's own endpoint.
type part struct {
	x       *exchange
	context context.Context
	request *access.Request
	method  string // of HTTP
	end     func() // must be called

	// refusal is why the client may not reach the server; nil if it may.
	refusal *access.Refusal
}

// part makes a part for the server of that name. id stands in its audit lines.
func (x *exchange) part(ctx context.Context, id, method, server string) *part {
	p := &part{x: x, method: method}
	p.context, p.end, p.refusal = x.request.SubRequest(ctx, id, method, server)
	p.request = access.FromContext(p.context)
	return p
}

// partID names a part that is one of several of its request.
func (x *exchange) partID(server string) string { return x.request.ID + "." + server }

func (p *part) server() *grants.Server { return p.request.Server }

// call has the server answer. See [mcp.Handler.Call].
func (p *part) call(header http.Header, m *mcp.Message) (*mcp.Answer, error) {
	return p.x.handler.options.Next.Call(p.context, mcp.Call{Request: p.request, Method: p.method, Header: header, Message: m})
}

// guard makes a panic an error of this part alone: it may be on a goroutine that
// net/http does not look after. It must be deferred.
func (p *part) guard(err *error) { //nolint:gocritic // the result of who defers it
	if cause := recover(); cause != nil {
		p.x.handler.log.Error("panic while serving a part of a request", "cause", cause, "stack", string(debug.Stack()))
		*err = errAborted
	}
}

// refuse answers the client's request in the part's name.
func (p *part) refuse(f *access.Refusal) {
	p.x.free()
	p.request.Method = p.x.request.Method
	access.Refuse(p.x.w, p.x.r.WithContext(p.context), f)
}

// known is what is known of the part's server.
func (p *part) known() *known { return p.x.handler.servers.of(p.server().ID) }

// requestHeader returns the client's header for a request to one server. What is
// not the server's to see is left out at its endpoint.
func (x *exchange) requestHeader() http.Header {
	header := make(http.Header, len(x.r.Header)+4)
	for key, values := range x.r.Header {
		switch key {
		case "Authorization", "Cookie", protocol.HeaderContentLength, protocol.HeaderContentType, protocol.HeaderSession, protocol.HeaderLastEventID:
		default:
			header[key] = values
		}
	}
	header[protocol.HeaderContentType] = valueJSON
	return header
}

// ownHeader returns the header of a request that the gateway makes of its own
// accord. Nothing of the client's is in it: what a server thinks of the request
// counts for all clients.
func (x *exchange) ownHeader() http.Header {
	return http.Header{
		"Accept":                   valueAny,
		protocol.HeaderContentType: valueJSON,
		protocol.HeaderUserAgent:   {"mcp-gateway/" + x.handler.options.Version},
	}
}

// fetched is the whole answer to a request that the gateway makes for itself. Of a
// stream it is the response alone.
type fetched struct {
	status  int
	session string
	body    []byte
	refusal *access.Refusal // of the gateway, in place of the server's answer

	verdict verdict // of the session in which it was asked, if it was in one
	reason  string  // of the refusal
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
func (p *part) ask(header http.Header, message []byte) (*fetched, error) {
	var m *mcp.Message
	if message != nil {
		var err error
		if m, err = mcp.ParseMessage(message); err != nil {
			return &fetched{}, fmt.Errorf("the gateway's own message is malformed: %w", err)
		}
	}
	c, err := p.fetch(header, m)
	if err != nil || c.status == http.StatusAccepted { // nothing is said to a notification
		return c, err
	}
	if c.refusal != nil {
		return c, &serverError{c.status, c.refusal.Code}
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
func (p *part) fetch(header http.Header, m *mcp.Message) (*fetched, error) {
	c := &fetched{}
	header["Accept"] = valueAny // whatever the client takes
	err := p.read(c, header, m)
	c.reason = p.request.Refused()
	if p.context.Err() != nil {
		if f := access.Cut(p.context); f != nil {
			return c, f
		}
		return c, p.context.Err()
	}
	if errors.As(err, new(*mcp.AnswerError)) {
		return c, err
	}
	aborted := err != nil && !errors.As(err, &c.refusal)
	if c.refusal != nil {
		c.status = c.refusal.Status
	}
	switch {
	case header[protocol.HeaderSession] == nil:
	case aborted:
		c.verdict = doubted
	default:
		c.verdict = judge(c.status, c.reason, c.body)
	}
	switch {
	case isOwn(c.reason):
		return c, &access.Refusal{Status: c.status, Reason: c.reason, Message: "The gateway cannot serve requests at the moment.", RetryAfter: retryAfter}
	case c.verdict == gone:
		return c, errLost
	case aborted:
		return c, errAborted
	case c.reason != "" && (c.status >= 500 || c.status == http.StatusTooManyRequests):
		return c, errors.New(c.reason)
	case c.status >= 500 || c.status == http.StatusTooManyRequests:
		return c, errors.New("status " + itoa(c.status))
	}
	return c, nil
}

// read reads the answer.
func (p *part) read(c *fetched, header http.Header, m *mcp.Message) (err error) {
	defer p.guard(&err)
	answer, err := p.call(header, m)
	if err != nil {
		return err
	}
	defer func() { answer.Close(int64(len(c.body)), err) }()
	c.status, c.session = answer.Status, answer.Session
	if answer.Stream {
		return answer.Events(c.event)
	}
	body, err := answer.Whole()
	if err != nil {
		return err
	}
	body = jsonscan.WithoutMark(body)
	if err := p.request.Reserve(max(0, int64(len(body)-uncounted))); err != nil {
		if f := new(access.Refusal); errors.As(err, &f) {
			p.request.Record(f)
		}
		return err
	}
	c.body = bytes.Clone(body)
	return nil
}

// uncounted is how much of an answer is not counted: most are small.
const uncounted = 8 << 10

// event keeps the response of a stream.
func (c *fetched) event(e *sse.Event) error {
	if !e.IsMessage() || len(e.Data) == 0 || c.body != nil {
		return nil
	}
	data := jsonscan.WithoutMark(e.Data)
	if m, err := envelope.Parse(data); err == nil && m.Kind == envelope.Response {
		c.body = bytes.Clone(data)
	}
	return nil
}
