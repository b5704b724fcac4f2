package aggregate

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// A server without sessions answers a call with questions, and expects the call again. A client with a
// session gets the questions as requests in the stream of its call, all at once, and its responses make
// the call's repetition. The client's connection is open all the while, so the call counts among the
// client's requests in flight, and ends with them.

// maxRounds bounds how often one call is answered with questions. Clients without sessions have such a
// bound, too.
const maxRounds = 10

// roundPause is the pause before a call is repeated that was answered without a question: the server has
// too much to do.
const roundPause = time.Second

// inputRequired is a server's answer that asks for something. It is an error since the client does not
// have its answer yet.
type inputRequired struct {
	result []byte
	begun  bool // the client has the beginning of its stream
}

func (*inputRequired) Error() string { return "the server asks for something first" }

// Why a client cannot be asked, besides what is wrong with a question.
const (
	errRounds       = messages.QuestionError("The server asks again and again.")
	errClientFailed = messages.QuestionError("The client has answered a question of the server with an error.")
	errManyAsked    = messages.QuestionError("The server asks too many questions at once.")
	errAsksUnclear  = messages.QuestionError("The server asks for something that cannot be read.")
)

// inputRequired returns the answer if it asks a client with a session for something; nil if it does not.
func (a *answer) inputRequired() *inputRequired {
	if a.required == nil && a.message != nil {
		a.required = a.askedIn(a.message)
	}
	if a.required == nil {
		return nil
	}
	return &inputRequired{result: a.required, begun: a.started}
}

// askedIn returns the result of the message if it asks a client with a session for something.
func (a *answer) askedIn(m *mcp.Message) []byte {
	if a.route.mode != modeStatelessServer || m.Kind != envelope.Response || m.Failed || !bytes.Contains(m.Data, []byte(protocol.ResultInputRequired)) {
		return nil
	}
	top, err := messages.ReadObject(m.Data, messages.Whole(m.Data), "result")
	if err != nil || !messages.IsObject(top.Values[0].Of(m.Data)) {
		return nil
	}
	result, err := messages.ReadObject(m.Data, top.Values[0], "resultType")
	if err != nil {
		return nil
	}
	if kind, _ := messages.StringOf(result.Values[0].Of(m.Data)); kind != protocol.ResultInputRequired {
		return nil
	}
	return bytes.Clone(top.Values[0].Of(m.Data))
}

// askedQuestion is one of a server's questions, on its way to a client with a session.
type askedQuestion struct {
	messages.Question
	key string // in inputRequests
	id  string // of the request to the client
}

// answerQuestions has the client answer what the server asks, and returns the call with the answers. The
// message is the first call's, in the server's form.
func (x *exchange) answerQuestions(ctx context.Context, server string, message *mcp.Message, required *inputRequired, round int) (*mcp.Message, error) {
	if round > maxRounds {
		return nil, errRounds
	}
	if err := x.request.Reserve(int64(len(required.result))); err != nil { // as long as the request lasts
		return nil, err
	}
	result, err := messages.ReadObject(required.result, messages.Whole(required.result), "inputRequests", "requestState")
	if err != nil {
		return nil, errAsksUnclear
	}
	asked, err := x.readQuestions(result.Values[0].Of(required.result))
	if err != nil {
		return nil, err
	}
	var answers [][]byte
	if len(asked) > 0 {
		x.beginEvents(required.begun)
		answers, err = x.askClient(ctx, server, asked)
	} else {
		err = backoff.Sleep(ctx, roundPause)
	}
	if err != nil {
		return nil, err
	}
	again, err := messages.Repeat(message.Data, &message.Envelope, answers, result.Values[1].Of(required.result), round)
	if err != nil {
		return nil, err
	}
	return mcp.ParseMessage(again)
}

// readQuestions reads inputRequests, and translates them for the client.
func (x *exchange) readQuestions(requests []byte) ([]*askedQuestion, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	scanner, err := jsonscan.New(requests)
	if err != nil || !messages.IsObject(requests) {
		return nil, errAsksUnclear
	}
	members, err := scanner.Object(nil)
	if err != nil {
		return nil, errAsksUnclear
	}
	var all []*askedQuestion
	for {
		_, more, err := scanner.Next(&members)
		switch {
		case err != nil || members.Ambiguous() != nil:
			return nil, errAsksUnclear
		case !more:
			return all, nil
		case len(all) == maxQuestions:
			return nil, errManyAsked
		}
		key := string(members.Key)
		value, err := scanner.Value()
		if err != nil || !messages.IsObject(value.Of(requests)) {
			return nil, errAsksUnclear
		}
		request, err := messages.ReadObject(requests, value, "method", "params")
		if err != nil {
			return nil, errAsksUnclear
		}
		method, _ := messages.StringOf(request.Values[0].Of(requests))
		q, err := x.questions().Translate(method, request.Values[1].Of(requests))
		if err == nil {
			q, err = q.ForVersion(x.session.version)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, &askedQuestion{Question: q, key: key})
	}
}

// askClient sends the questions to the client in the stream of its call, and waits for all responses. It
// returns them as members of inputResponses.
func (x *exchange) askClient(ctx context.Context, server string, asked []*askedQuestion) ([][]byte, error) {
	responses := make(chan clientResponse, len(asked))
	x.session.expect(server, asked, responses)
	defer x.session.expectNoMore(asked)
	s := sse.NewWriter(ctx, x.w.(*eventsWriter).client, x.handler.settings().Limits.KeepAlive)
	defer s.Close()
	write := func(message []byte) error {
		_, err := s.Write(sse.AppendMessage([]byte("event: message\n"), message))
		return err
	}
	for _, q := range asked {
		if err := write(protocol.Request(protocol.AppendString(nil, q.id), q.Method, q.Params)); err != nil {
			return nil, err
		}
	}
	members := make([][]byte, 0, len(asked))
	for len(members) < len(asked) {
		select {
		case response := <-responses:
			if response.result == nil {
				for _, q := range x.session.expectNoMore(asked) {
					_ = write(protocol.Cancelled(protocol.AppendString(nil, q.id))) // the call ends in any case
				}
				return nil, errClientFailed
			}
			members = append(members, protocol.Member(response.question.key, response.result))
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return members, nil
}

// clientResponse is a client's response to a question. An error has no result.
type clientResponse struct {
	question *askedQuestion
	result   []byte
}

// expected is a question that the client of a session has not answered.
type expected struct {
	question  *askedQuestion
	responses chan<- clientResponse // with room for one
}

// expect gives the questions ids, and has the client's responses to them sent to the channel.
func (s *session) expect(server string, asked []*askedQuestion, responses chan<- clientResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range asked {
		s.lastAsked++
		q.id = names.Prefix(server) + strconv.FormatInt(s.lastAsked, 10)
		s.expected = put(s.expected, q.id, expected{q, responses})
	}
}

// expectNoMore undoes expect, and returns those questions that had no answer.
func (s *session) expectNoMore(asked []*askedQuestion) (unanswered []*askedQuestion) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range asked {
		if _, found := s.expected[q.id]; found {
			delete(s.expected, q.id)
			unanswered = append(unanswered, q)
		}
	}
	return unanswered
}

// isExpected reports whether the client's response is to a question of a server without sessions.
func (s *session) isExpected(m *mcp.Message) bool {
	id, _ := messages.StringOf(m.ID.Of(m.Data))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.expected[id]
	return found
}

// takeResponse gives the client's response to the call that waits for it. Each question has one.
func (s *session) takeResponse(m *mcp.Message) {
	id, _ := messages.StringOf(m.ID.Of(m.Data))
	s.mu.Lock()
	e, found := s.expected[id]
	delete(s.expected, id)
	s.mu.Unlock()
	if !found {
		return
	}
	response := clientResponse{question: e.question}
	if top, err := messages.ReadObject(m.Data, messages.Whole(m.Data), "result"); err == nil && messages.IsObject(top.Values[0].Of(m.Data)) {
		response.result = bytes.Clone(top.Values[0].Of(m.Data))
	}
	e.responses <- response
}

// beginEvents makes the answer to the client a stream of events, which has the answer of the server as its
// last one.
func (x *exchange) beginEvents(begun bool) {
	if _, already := x.w.(*eventsWriter); already {
		return
	}
	if !begun {
		header := x.w.Header()
		header[protocol.HeaderContentType] = valueEvents
		header["Cache-Control"] = []string{"no-cache, no-transform"}
		header["X-Accel-Buffering"] = []string{"no"}
		x.w.WriteHeader(http.StatusOK)
	}
	x.w = &eventsWriter{client: x.w, header: make(http.Header)}
}

// refuseQuestions answers a call whose server asks for something that the client cannot be asked.
func (x *exchange) refuseQuestions(ctx context.Context, server string, err error) *access.Refusal {
	if ctx.Err() != nil {
		return access.CutCause(ctx) // nil: the client has cancelled the call, or is gone
	}
	var q messages.QuestionError
	if !errors.As(err, &q) {
		return x.unreachable(server, err)
	}
	x.session.answered(x.id(), "")
	x.freeID()
	return x.refuse(&access.Refusal{
		Status: http.StatusOK, Reason: serverside.ReasonUnreachable, Detail: "server " + strconv.Quote(server) + ": " + err.Error(),
		Message: "The server asks the client for something before it answers: " + err.Error(),
	}, protocol.CodeInternalError)
}

// eventsWriter is the answer of a call whose client has the beginning of a stream: what would be a whole
// answer becomes the last event of it.
type eventsWriter struct {
	client http.ResponseWriter
	header http.Header // of the answer that would be
	body   []byte
}

func (w *eventsWriter) Header() http.Header { return w.header }

// WriteHeader does nothing: the client has the stream's header.
func (w *eventsWriter) WriteHeader(int) {}

// Unwrap is for [http.ResponseController].
func (w *eventsWriter) Unwrap() http.ResponseWriter { return w.client }

// Write passes events on, and gathers the parts of any other answer.
func (w *eventsWriter) Write(p []byte) (int, error) {
	length, err := strconv.Atoi(protocol.First(w.header, protocol.HeaderContentLength))
	if err != nil {
		return w.client.Write(p)
	}
	w.body = append(w.body, p...)
	if len(w.body) < length {
		return len(p), nil
	}
	message := jsonscan.WithoutMark(bytes.TrimSpace(w.body))
	if m, err := envelope.Parse(message); err != nil || m.Kind != envelope.Response {
		panic(http.ErrAbortHandler) // no message that a client could read in its stream
	}
	if _, err := w.client.Write(sse.AppendMessage([]byte("event: message\n"), message)); err != nil {
		return 0, err
	}
	w.body = nil
	return len(p), http.NewResponseController(w.client).Flush()
}
