package mcp

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/itemlist"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/pins"
)

// streamBuffer is the size of a stream's buffer. Streams are mostly silent, and
// there may be thousands of them.
const streamBuffer = 1 << 10

// bodyBuffer is the size of the buffer for other answers.
const bodyBuffer = 32 << 10

// Buffers for copying answers.
var (
	bodyBuffers   = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}
	streamBuffers = sync.Pool{New: func() any { return new([streamBuffer]byte) }}
)

// judge refuses answers that are not the client's to see. What a server says
// about its own credentials is the gateway's affair, a redirect would lead
// around the registry, and an error page that is no message of the protocol
// tells about what stands behind the gateway. Other errors pass: clients find
// out by them which era a server belongs to.
func (x *exchange) judge(response *http.Response) *access.Refusal {
	switch status := response.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired,
		status < 200, 300 <= status && status < 400:
		return x.badStatus(response)
	case status >= 500:
		media := mediaType(protocol.First(response.Header, protocol.HeaderContentType))
		if media != protocol.MediaJSON && media != protocol.MediaEventStream {
			return x.badStatus(response)
		}
	}
	if !x.isFiltered() {
		return nil
	}
	for _, coding := range response.Header[protocol.HeaderContentEncoding] {
		if coding != "identity" {
			return x.badAnswer("it is encoded, though identity was asked for, and cannot be filtered")
		}
	}
	if len(response.Header[protocol.HeaderContentType]) > 1 {
		return x.badAnswer("it has two media types, and cannot be filtered")
	}
	return nil
}

// relayBody passes on an answer that is no stream of events.
func (a *Answer) relayBody(w http.ResponseWriter, r *http.Request) (int64, error) {
	length := a.raw.ContentLength
	buffer := bodyBuffers.Get().(*[bodyBuffer]byte)
	defer bodyBuffers.Put(buffer)
	if length >= 0 && length <= int64(len(buffer)) {
		// Read before anything is said, so that a failure can be told.
		body := buffer[:length]
		if _, err := io.ReadFull(a.raw.Body, body); err != nil {
			err = a.failure(a.client, err)
			if f, ok := errors.AsType[*access.Refusal](err); ok {
				access.Refuse(w, r, f)
			}
			return 0, nil
		}
		a.copyHeader(w.Header())
		w.WriteHeader(a.Status)
		n, err := w.Write(body)
		return int64(n), err
	}
	// Of unknown length, so its parts may come slowly, or too long to be left
	// to a client that does not read.
	a.copyHeader(w.Header())
	w.WriteHeader(a.Status)
	s := sse.NewWriter(a.client, w, 0)
	err := relay(s, a.raw.Body, buffer[:])
	return s.Close(), err
}

// relay copies from the server to the client, each part as soon as it comes. Where
// more comes than the buffer takes, the next part is read into a larger one.
func relay(s *sse.Writer, from io.Reader, buffer []byte) error {
	for full := false; ; {
		n, err := relayPart(s, from, buffer, full)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		full = n >= len(buffer)
	}
}

// relayPart copies the part that is there. The error is io.EOF at the end.
func relayPart(s *sse.Writer, from io.Reader, buffer []byte, more bool) (int, error) {
	if more && len(buffer) < bodyBuffer {
		larger := bodyBuffers.Get().(*[bodyBuffer]byte)
		defer bodyBuffers.Put(larger)
		buffer = larger[:]
	}
	n, readErr := from.Read(buffer)
	if _, err := s.Write(buffer[:n]); err != nil {
		return n, err
	}
	if readErr != nil && !errors.Is(readErr, io.EOF) {
		readErr = &readError{readErr}
	}
	return n, readErr
}

// Relay passes a stream on to a client, whose header is set by then: each event as
// edit returns it, or as it came without edit; io.EOF of edit is the end of the stream. A client that waits for the answer to
// a request is told in the stream why there is none; id is asked then which request
// that is, and may return nil. Relay returns how many bytes the client has got, and why
// the stream has ended early, for Close.
func (a *Answer) Relay(w http.ResponseWriter, id func() []byte, edit func(*sse.Event) ([]byte, error)) (int64, error) {
	w.WriteHeader(a.Status)
	s := sse.NewWriter(a.client, w, a.handler.settings().Limits.KeepAlive)
	s.Flush()
	var err error
	if a.raw != nil && edit == nil && !a.inEvents {
		buffer := streamBuffers.Get().(*[streamBuffer]byte)
		err = relay(s, a.raw.Body, buffer[:])
		streamBuffers.Put(buffer)
	} else {
		err = a.relayEvents(s, edit)
	}
	if ended := a.source.ended(); err != nil && ended != nil {
		err = ended
		s.ComeBack()
	} else if unfit, ok := errors.AsType[*AnswerError](err); ok {
		if id := id(); id != nil {
			_, _ = s.Write(errorEvent(id, unfit.Message, a.request.ID)) // the stream ends in any case
		}
	}
	return s.Close(), err
}

func (a *Answer) relayEvents(s *sse.Writer, edit func(*sse.Event) ([]byte, error)) error {
	var event []byte
	for {
		e, err := a.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case edit != nil:
			if event, err = edit(e); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return &AnswerError{Message: messageUnfit, Err: err}
			}
		case e.Raw != nil:
			event = e.Raw
		default:
			event = append(sse.AppendData(append(event[:0], "event: message\n"...), e.Data), '\n')
		}
		if _, err := s.Write(event); err != nil {
			return err
		}
	}
}

// filterError: an event could not be read, so it could not be filtered.
type filterError struct{ err error }

func (e *filterError) Error() string { return "filtering the server's answer: " + e.err.Error() }
func (e *filterError) Unwrap() error { return e.err }

// isFiltered reports whether the answer is read, and not passed on as it comes.
func (x *exchange) isFiltered() bool { return x.rules != nil || x.tasks || x.enforced }

// filtered returns a server's message as the client gets it; nil if it does not get it.
func (a *Answer) filtered(message []byte) ([]byte, error) { return a.filteredBy(a.judgeNow(), message) }

func (a *Answer) filteredBy(judge *pins.Judge, message []byte) ([]byte, error) {
	message, err := a.sealTasks(message)
	if err != nil || message == nil {
		return message, err
	}
	filter := itemlist.Filter{Rules: a.rules, Server: a.server.Name, Asked: a.asked()}
	unapproved := 0
	switch {
	case enforces(judge):
		filter.Definitions = a.definitionsBy(judge)
	case judge != nil && a.watched == nil:
		unapproved = itemlist.Observe(message, a.definitionsBy(judge), filter.Asked)
	}
	if filter.Rules != nil || filter.Definitions != nil {
		var cut int
		message, cut, err = filter.Apply(message)
		unapproved += cut
	}
	if enforces(judge) {
		message = sse.OneLine(message) // /mcp may make an event of any message
	}
	a.request.Unapproved(unapproved)
	return message, err
}

// filterEvent has the event filtered, and reports whether the client gets it.
func (a *Answer) filterEvent(event *sse.Event) (pass bool, err error) {
	judge := a.judgeNow()
	if enforces(judge) {
		return a.plainEvent(event, judge)
	}
	if !event.HasData || len(event.Data) == 0 || !event.IsMessage() && !looksLikeJSON(event.Data) {
		return true, nil // without a message, or of another kind, which clients do not read as one
	}
	filtered, err := a.filteredBy(judge, event.Data)
	if err != nil {
		return false, &filterError{err}
	}
	if filtered == nil {
		return false, nil
	}
	if len(filtered) == len(event.Data) && (len(filtered) == 0 || &filtered[0] == &event.Data[0]) {
		return true, nil
	}
	event.Raw, event.Data = event.WithData(nil, filtered), filtered
	return true, nil
}

// plainEvent is filterEvent where the server's pins are enforced. Clients differ in where they end
// a line, and in the events in which they look for messages: a comment here may be a
// message there. So they get those fields that the gateway has read, of messages alone.
func (a *Answer) plainEvent(event *sse.Event, judge *pins.Judge) (pass bool, err error) {
	data := event.Data
	if event.HasData && !event.IsMessage() {
		return false, nil
	}
	if len(data) > 0 {
		if data, err = a.filteredBy(judge, data); err != nil {
			return false, &filterError{err}
		}
		if data == nil {
			return false, nil
		}
	}
	event.Raw, event.Data = event.Plain(nil, data), data
	return len(event.Raw) > 0, nil
}

func looksLikeJSON(data []byte) bool {
	for _, c := range data {
		switch c {
		case ' ', '\t', '\n', '\r':
		case '{', '[':
			return true
		default:
			return false
		}
	}
	return false
}

// errorEvent is an event that answers the request with an error.
func errorEvent(id []byte, message, requestID string) []byte {
	return sse.AppendMessage(nil, protocol.Error(id, protocol.CodeInternalError, message, protocol.RequestID(requestID)))
}

// gatherFiltered reads an answer that is no stream, and filters its list.
func (a *Answer) gatherFiltered() error {
	if err := a.gather(); err != nil {
		if broken, ok := errors.AsType[*readError](err); ok {
			return a.failure(a.client, broken.err)
		}
		if unfit, ok := errors.AsType[*AnswerError](err); ok {
			f := a.badAnswer(err.Error())
			f.Message = unfit.Message
			return f
		}
		return err
	}
	if err := a.request.Reserve(2 * a.buffer.kept()); err != nil { // the part that is cut out, and the rest
		if full, ok := errors.AsType[*access.Refusal](err); ok {
			return a.rpc(full.Answered())
		}
		return err
	}
	var err error
	whole := jsonscan.WithoutMark(a.whole)
	switch media := mediaType(protocol.First(a.Header, protocol.HeaderContentType)); {
	case len(a.whole) == 0:
	case media == protocol.MediaJSON, a.Status >= 400 && json.Valid(whole): // some clients look for a message in any error
		if a.whole, err = a.filtered(whole); err != nil {
			return a.badAnswer("it cannot be filtered: " + err.Error())
		}
		if a.whole == nil {
			return a.badAnswer("it is a notification that the client may not have")
		}
	case a.Status < 400:
		return a.badAnswer("it is neither JSON nor a stream of events, and cannot be filtered")
	}
	return nil
}
