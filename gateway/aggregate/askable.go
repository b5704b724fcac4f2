package aggregate

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// maxQuestions bounds the questions of one call that have no answer yet.
const maxQuestions = 16

// Why a waiting call ends without an answer.
var (
	errUnanswered = errors.New("the client has not answered the server's question in time")
	errDisplaced  = errors.New("too many calls of the client wait for its answers")
	errUnasked    = errors.New("the server's question did not reach the client")
)

// askableCall is a call of a client without sessions that can be asked something, to a server that
// may have sessions. It runs on a goroutine of its own, since it outlives the request of the client
// that began it: when the server asks, that request is answered with the questions, and the call
// waits. The request in which the client gives the answers gets what the server says from then on.
type askableCall struct {
	x         *exchange // of the call, without the client's connection
	target    rewrite.Target
	questions messages.Questions // that the client has declared
	context   context.Context
	cancel    context.CancelCauseFunc

	start    sync.Once       // with the first client
	done     chan struct{}   // closed at the call's end; the next two are set by then
	refusal  *access.Refusal // of the call, to be answered by whoever is there
	panicked any

	abort aborter

	mu       sync.Mutex
	serverID string // of the registration; set with the next two before the server gets the call
	route    *route
	request  *access.Request // in whose memory the questions count
	access   context.Context // ends when the client's access does, too
	client   *attachment     // nil while the call waits
	arrived  chan struct{}
	last     *attachment    // the present client's, or else the last one's
	header   http.Header    // of the answer, before its beginning
	stream   http.Header    // of the answer, once it is a stream; nil: it is none
	answered bool           // the server has answered the call
	asked    []openQuestion // without an answer of the client
	given    int            // how many of them the client has
	next     int            // number of the next question
}

// openQuestion is a question of the server that the client has not answered.
type openQuestion struct {
	messages.Question
	key string // in inputRequests
	id  []byte // of the server's request
}

// isAskable reports whether the server may ask something in the middle of the call that only the
// gateway can translate.
func (x *exchange) isAskable(server string) bool {
	return x.session == nil && messages.MayBeAsked(x.message.Method) && !x.isStatelessServer(server) && x.questions().Any()
}

// isStatelessServer reports whether the server is known to serve clients without sessions.
func (x *exchange) isStatelessServer(server string) bool {
	registered := x.handler.options.Registry.Servers()[server]
	return registered != nil && x.stateOf(registered).supportsStateless(time.Now()) == supported
}

// callAskable sends the request to the server, which may ask something before it answers.
func (x *exchange) callAskable(target rewrite.Target) *access.Refusal {
	c := &askableCall{target: target, questions: x.questions(), done: make(chan struct{}), arrived: make(chan struct{})}
	c.context, c.cancel = context.WithCancelCause(context.WithoutCancel(x.r.Context()))
	c.access = c.context
	r := x.r.WithContext(c.context)
	r.Body = http.NoBody
	c.x = &exchange{
		handler: x.handler, request: x.request, r: r, json: x.json, stream: x.stream, askable: c, uri: x.uri,
		message: &mcp.Message{Envelope: x.message.Envelope, Data: bytes.Clone(x.message.Data), Stateless: x.message.Stateless},
	}
	c.x.w = (*callWriter)(c)
	c.x.declared.once.Do(func() { c.x.declared.Questions = c.questions })
	_, f := c.attend(x)
	return f
}

// run runs the call to its end.
func (c *askableCall) run() {
	defer close(c.done)
	defer c.x.handler.waiting.remove(c)
	defer c.cancel(nil)
	defer func() { c.panicked = recover() }()
	c.refusal = c.x.callUntilAnswered(c.context, c.target)
}

// ask asks the client, and is called with the server's request. The error says why it is not asked.
func (c *askableCall) ask(m *mcp.Message) error {
	var params []byte
	if !m.Params.None() {
		params = m.Params.Of(m.Data)
	}
	q, err := c.questions.Translate(m.Method, params)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.context.Err() != nil || c.answered || c.request == nil:
		return messages.ErrNoCallAsked
	case len(c.asked) >= maxQuestions:
		return messages.QuestionError("The call has too many questions without an answer.")
	}
	if err := c.request.Reserve(int64(len(q.Params))); err != nil {
		return messages.QuestionError("The gateway has no memory for the question at the moment.")
	}
	q.Params = bytes.Clone(q.Params)
	c.next++
	c.asked = append(c.asked, openQuestion{Question: q, key: "question-" + strconv.Itoa(c.next), id: bytes.Clone(m.IDOf(m.Data))})
	if c.client == nil {
		return nil // they are given to the client when it is back
	}
	return c.giveQuestions()
}

// giveQuestions answers the present client's request with all questions, and lets the call wait. If
// it cannot, the last question is withdrawn. c.mu is held.
func (c *askableCall) giveQuestions() error {
	a := c.client
	state, err := c.x.handler.waiting.add(c)
	if err != nil {
		last := len(c.asked) - 1
		c.forgetParams(&c.asked[last])
		c.asked = c.asked[:last]
		return err
	}
	c.given = len(c.asked)
	result := protocol.Result(a.id, c.inputRequired(state))
	for i := range c.asked {
		c.forgetParams(&c.asked[i])
	}
	begun := c.stream != nil
	a.asked.Store(true)
	n, err := a.answer(result, begun)
	a.written += n
	c.client, c.arrived = nil, make(chan struct{})
	close(a.released)
	if err != nil {
		c.cancel(errUnasked)
	}
	return nil
}

// forgetParams frees the text of a question. c.mu is held.
func (c *askableCall) forgetParams(q *openQuestion) {
	_ = c.request.Reserve(-int64(len(q.Params))) // giving back does not fail
	q.Params = nil
}

// inputRequired builds the result that has the questions. c.mu is held.
func (c *askableCall) inputRequired(state string) []byte {
	requests := make([][]byte, 0, len(c.asked))
	for i := range c.asked {
		q := &c.asked[i]
		request := protocol.Object(protocol.StringMember("method", q.Method), protocol.Member("params", q.Params))
		requests = append(requests, protocol.Member(q.key, request))
	}
	return protocol.Object(
		protocol.StringMember("resultType", protocol.ResultInputRequired),
		protocol.Member("inputRequests", protocol.Object(requests...)),
		protocol.StringMember("requestState", state))
}

// addressee prepares a message of the server for the present client. It reports false if nobody is
// there to get it. The answer to the call waits for the client.
func (c *askableCall) addressee(m *mcp.Message) (a *attachment, there bool) {
	if m.Kind == envelope.Response {
		c.mu.Lock()
		c.answered = true // from now on, nothing is asked
		c.mu.Unlock()
		a, err := c.await()
		return a, err == nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.client != nil
}

// await waits until a client is there. The error is the cause of the call's end, or of the end of its
// client's access: none will come.
func (c *askableCall) await() (*attachment, error) {
	for {
		c.mu.Lock()
		client, arrived, life := c.client, c.arrived, c.access
		c.mu.Unlock()
		if client != nil {
			return client, nil
		}
		select {
		case <-arrived:
		case <-life.Done():
			return nil, context.Cause(life)
		}
	}
}

// id returns the id of the client's request that is answered.
func (c *askableCall) id() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last.id
}

// use notes the route of the call, on which the server may ask from now on. Questions can also come on
// the session's own stream, so the call waits until that is open.
func (c *askableCall) use(s *subRequest, r *route) error {
	if err := s.request.Reserve(2 * int64(len(c.x.message.Data))); err != nil { // as long as the call lasts
		return err
	}
	c.mu.Lock()
	c.serverID, c.route, c.request, c.access = s.server().ID, r, s.request, s.context
	c.mu.Unlock()
	u := r.upstream
	u.mu.Lock()
	u.askable = put(u.askable, c, struct{}{})
	u.mu.Unlock()
	r.listener.await(s.context)
	return nil
}

// endUse undoes use.
func (c *askableCall) endUse() {
	c.mu.Lock()
	u := c.route.upstream
	c.request, c.access = nil, c.context // nothing counts any more
	c.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.askable, c)
}

// onlyAskable returns the one call in flight in the session; nil if there is none, or more than one.
func (u *upstream) onlyAskable() *askableCall {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.askable) != 1 {
		return nil
	}
	for c := range u.askable {
		return c
	}
	return nil
}

// askClientOf asks the client what its server asks: in the call whose answer the request came in, or in
// the only one in flight. The error says why it is not asked.
func (x *exchange) askClientOf(r *route, m *mcp.Message) error {
	c := x.askable
	if c == nil {
		c = r.upstream.onlyAskable()
	}
	if c == nil {
		return messages.ErrNoCallAsked
	}
	return c.ask(m)
}

// wasAsked reports whether the server has asked something in the call.
func (x *exchange) wasAsked() bool {
	c := x.askable
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next > 0
}
