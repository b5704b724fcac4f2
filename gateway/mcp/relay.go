package mcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/toollist"
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

// answer passes the server's answer on to the client. cancel ends the server's
// side of it.
func (pass *passage) answer(w http.ResponseWriter, r *http.Request, response *http.Response, cancel context.CancelCauseFunc) {
	header := w.Header()
	pass.proxy.upstream.tellMisfit(pass.proxy.handler.log, response)
	f := pass.judge(response)
	if f == nil {
		f = pass.answerSession(header, response.Header)
	}
	if f != nil {
		access.Refuse(w, r, f)
		return
	}
	streams := mediaType(protocol.First(response.Header, protocol.HeaderContentType)) == protocol.MediaEventStream
	if pass.tools != nil && !streams {
		pass.answerFiltered(w, r, response)
		return
	}
	if streams {
		pass.relayStream(w, r, response, cancel)
		return
	}
	pass.relayBody(w, r, response)
}

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
	if x.tools == nil {
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

// finish records how the answer ended. One that broke off must not look
// complete to the client, so its connection is ended too.
func (x *exchange) finish(ctx context.Context, status int, written int64, err error) {
	x.request.Outcome(status, written, err)
	var broken *readError
	if errors.As(err, &broken) || err != nil && access.Cut(ctx) != nil {
		panic(http.ErrAbortHandler)
	}
}

// readError tells the server's failures from the client's.
type readError struct{ err error }

func (e *readError) Error() string { return "reading the server's answer: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// relayBody passes on an answer that is no stream of events.
func (pass *passage) relayBody(w http.ResponseWriter, r *http.Request, response *http.Response) {
	status, length := response.StatusCode, response.ContentLength
	buffer := bodyBuffers.Get().(*[bodyBuffer]byte)
	defer bodyBuffers.Put(buffer)
	if length >= 0 && length <= int64(len(buffer)) {
		// Read before anything is said, so that a failure can be told.
		body := buffer[:length]
		if _, err := io.ReadFull(response.Body, body); err != nil {
			pass.fail(w, r, err)
			return
		}
		copyResponseHeader(w.Header(), response.Header)
		w.WriteHeader(status)
		n, err := w.Write(body)
		pass.finish(r.Context(), status, int64(n), err)
		return
	}
	// Of unknown length, so its parts may come slowly, or too long to be left
	// to a client that does not read.
	copyResponseHeader(w.Header(), response.Header)
	w.WriteHeader(status)
	s := sse.NewWriter(r.Context(), w, 0)
	err := relay(s, response.Body, buffer[:])
	pass.finish(r.Context(), status, s.Close(), err)
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

// relayPart copies what is there. The error is io.EOF at the end.
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

// relayStream passes a stream of events on.
func (pass *passage) relayStream(w http.ResponseWriter, r *http.Request, response *http.Response, cancel context.CancelCauseFunc) {
	ctx, limits := response.Request.Context(), &pass.proxy.limits
	if pass.idle() {
		defer pass.proxy.handler.streams.Add(cancel, limits.MaxStreamAge)()
	}
	id := bytes.Clone(pass.id())
	pass.release() // a stream may be open for hours

	copyResponseHeader(w.Header(), response.Header)
	delete(w.Header(), protocol.HeaderContentLength)
	w.WriteHeader(response.StatusCode)
	s := sse.NewWriter(r.Context(), w, limits.KeepAlive)
	s.Flush()
	var err error
	if pass.tools != nil {
		err = pass.filterStream(s, response.Body, id)
	} else {
		buffer := streamBuffers.Get().(*[streamBuffer]byte)
		err = relay(s, response.Body, buffer[:])
		streamBuffers.Put(buffer)
	}
	if err != nil && sse.EndedByGateway(ctx) {
		err = context.Cause(ctx)
		s.ComeBack()
	}
	written := s.Close()
	pass.finish(r.Context(), response.StatusCode, written, err)
}

// filterStream passes events on with their lists filtered. One that cannot be
// read ends the stream.
func (pass *passage) filterStream(s *sse.Writer, from io.Reader, id []byte) error {
	decoder := sse.NewDecoder(from, int(pass.proxy.limits.MaxList))
	decoder.Reserve = pass.request.Reserve
	for {
		event, err := decoder.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var out []byte
		if err == nil {
			out, err = filterEvent(event, pass.tools)
		}
		switch {
		case err == nil:
			if _, err := s.Write(out); err != nil {
				return err
			}
			continue
		case errors.As(err, new(*filterError)) || errors.Is(err, sse.ErrTooLarge) || errors.As(err, new(*access.Refusal)):
			message := messageUnfit
			if errors.Is(err, sse.ErrTooLarge) {
				message = pass.tooLarge().Message
			}
			if len(id) > 0 {
				_, _ = s.Write(errorEvent(id, message, pass.request.ID)) // the stream ends in any case
			}
			return err
		default:
			return &readError{err}
		}
	}
}

// filterError: an event could not be read, so it could not be filtered.
type filterError struct{ err error }

func (e *filterError) Error() string { return "filtering the server's answer: " + e.err.Error() }
func (e *filterError) Unwrap() error { return e.err }

// filterEvent returns the event's bytes with its list filtered.
func filterEvent(event *sse.Event, tools toolRules) ([]byte, error) {
	if !event.HasData || len(event.Data) == 0 {
		return event.Raw, nil
	}
	if !event.IsMessage() && !looksLikeJSON(event.Data) {
		return event.Raw, nil // of another kind, which clients do not read as a message
	}
	filtered, err := toollist.Filter(event.Data, tools.Allows)
	if err != nil {
		return nil, &filterError{err}
	}
	if len(filtered) == len(event.Data) && (len(filtered) == 0 || &filtered[0] == &event.Data[0]) {
		return event.Raw, nil
	}
	return event.WithData(nil, filtered), nil
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

// failReading answers where the server's answer could not be read to its end.
func (pass *passage) failReading(w http.ResponseWriter, r *http.Request, err error) {
	var full *access.Refusal
	if errors.As(err, &full) {
		access.Refuse(w, r, pass.rpc(full.Answered(), protocol.CodeInternalError))
		return
	}
	pass.fail(w, r, err)
}

// answerFiltered passes on an answer that is no stream, with its list filtered.
func (pass *passage) answerFiltered(w http.ResponseWriter, r *http.Request, response *http.Response) {
	limit := pass.proxy.limits.MaxList
	whole, err := readAll(io.LimitReader(response.Body, limit+1), response.ContentLength, limit+1, pass.request.Reserve)
	if err != nil {
		pass.failReading(w, r, err)
		return
	}
	defer whole.release()
	body := whole.data
	if err := pass.request.Reserve(2 * whole.kept()); err != nil { // what is cut out, and what is left
		pass.failReading(w, r, err)
		return
	}
	if int64(len(body)) > limit {
		access.Refuse(w, r, pass.tooLarge())
		return
	}
	media := mediaType(protocol.First(response.Header, protocol.HeaderContentType))
	switch {
	case len(body) == 0:
	case media == protocol.MediaJSON:
		if body, err = toollist.Filter(jsonscan.WithoutMark(body), pass.tools.Allows); err != nil {
			access.Refuse(w, r, pass.badAnswer("it cannot be filtered: "+err.Error()))
			return
		}
	case response.StatusCode < 400:
		access.Refuse(w, r, pass.badAnswer("it is neither JSON nor a stream of events, and cannot be filtered"))
		return
	}
	header := w.Header()
	copyResponseHeader(header, response.Header)
	for _, key := range [...]string{"Etag", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		delete(header, key) // of the body that was
	}
	header[protocol.HeaderContentLength] = []string{strconv.Itoa(len(body))}
	if response.StatusCode == http.StatusNoContent {
		delete(header, protocol.HeaderContentLength)
	}
	w.WriteHeader(response.StatusCode)
	n, err := w.Write(body)
	pass.finish(r.Context(), response.StatusCode, int64(n), err)
}
