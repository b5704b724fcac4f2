package mcp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// Answer is what a server answers to one request. It is read with Next where it is
// a stream, else with Whole, and must be closed.
type Answer struct {
	exchange

	Status  int
	Stream  bool        // of events
	Header  http.Header // the server's: CopyHeader says what of it the client gets
	Session string      // the client's id of the session that it belongs to; "" if none

	handler  *Handler
	client   context.Context // of the client's request
	source   source          // nil: there is nothing to close
	raw      *http.Response  // the body as it comes; nil: it is in whole
	whole    []byte
	inEvents bool         // the stream is passed on event by event
	watched  *watchedBody // that raw has; nil: its body is judged message by message, or not at all
	buffer   *buffer      // that holds whole; nil: nobody shares it
	proxied  proxied      // source, where that is a server on streamable HTTP
}

// source is where an answer comes from.
type source interface {
	// next returns a stream's next event: io.EOF at the end, an [AnswerError] for what
	// cannot be passed on.
	next() (*sse.Event, error)
	// ended returns why the gateway has ended the stream in an orderly way; nil if it
	// has not.
	ended() error
	// close ends what belongs to the answer.
	close()
}

// AnswerError tells that a server's answer, or the rest of it, cannot be passed on.
type AnswerError struct {
	Message string // for the client
	Err     error
}

func (e *AnswerError) Error() string { return e.Err.Error() }
func (e *AnswerError) Unwrap() error { return e.Err }

// readError tells the server's failures from the client's.
type readError struct{ err error }

func (e *readError) Error() string { return "reading the server's answer: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// BrokeOff reports whether the error tells that the answer ended before it was
// complete. It must not look complete to the client.
func (a *Answer) BrokeOff(err error) bool {
	_, broken := errors.AsType[*readError](err)
	return broken || err != nil && access.CutCause(a.client) != nil
}

// Next returns the next event of a stream, which is valid until the next call. The
// error is io.EOF at the end, an [AnswerError], or tells that the stream broke off.
func (a *Answer) Next() (*sse.Event, error) { return a.source.next() }

// Events hands each event of a stream to take, until the stream ends or take fails.
// The error is for Close.
func (a *Answer) Events(take func(*sse.Event) error) error {
	for {
		e, err := a.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = take(e)
		}
		if err != nil {
			if ended := a.source.ended(); ended != nil {
				return ended
			}
			return err
		}
	}
}

// Whole returns the body of an answer that is no stream. It is valid until Close. The
// error is an [AnswerError], a refusal, which is recorded, or tells that the answer
// broke off.
func (a *Answer) Whole() ([]byte, error) {
	if a.raw == nil {
		return a.whole, nil
	}
	length := a.raw.ContentLength
	err := a.gather()
	if err == nil {
		return a.whole, nil
	}
	if broken, ok := errors.AsType[*readError](err); ok && length >= 0 && length <= bodyBuffer {
		err = a.failure(a.client, broken.err)
	}
	if f, ok := errors.AsType[*access.Refusal](err); ok {
		a.request.Record(f)
	}
	return a.whole, err
}

// gather reads the whole body.
func (a *Answer) gather() error {
	limit := a.handler.settings().Limits.MaxList
	b, err := readAll(io.LimitReader(a.raw.Body, limit+1), a.raw.ContentLength, limit+1, a.request.Reserve)
	if err != nil {
		if full, ok := errors.AsType[*access.Refusal](err); ok {
			return a.rpc(full.Answered())
		}
		return &readError{err}
	}
	if int64(len(b.data)) > limit {
		b.giveBack(a.request)
		return a.tooLarge()
	}
	a.raw, a.whole, a.buffer = nil, b.data, b
	return nil
}

// CopyHeader copies those headers of the answer that the client gets with another
// body. The session is not one of them: it is that of the server's own endpoint.
func (a *Answer) CopyHeader(out http.Header) {
	copyResponseHeader(out, a.Header)
	for _, key := range [...]string{protocol.HeaderContentLength, "Etag", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		delete(out, key)
	}
}

// copyHeader copies those headers of the answer that the client gets.
func (a *Answer) copyHeader(out http.Header) {
	copyResponseHeader(out, a.Header)
	a.setSession(out)
	if a.Stream {
		delete(out, protocol.HeaderContentLength)
	}
}

// setSession tells the client its session at the server's own endpoint.
func (a *Answer) setSession(out http.Header) {
	if a.Session != "" {
		out[protocol.HeaderSession] = []string{a.Session}
	}
}

// Close ends the answer, and records its outcome: how many bytes of it the client has
// got, and why no more.
func (a *Answer) Close(written int64, err error) {
	if a.watched != nil {
		a.watched.finish()
	}
	a.request.Outcome(a.Status, written, err)
	if a.source != nil {
		a.source.close()
	}
	if a.buffer != nil {
		a.buffer.giveBack(a.request)
		a.buffer, a.whole = nil, nil
	}
	a.release() // a message that took the place of a caller's
}

// serve passes the answer on to the client.
func (a *Answer) serve(w http.ResponseWriter, r *http.Request) {
	var written int64
	var err error
	defer func() {
		a.Close(written, err)
		if a.BrokeOff(err) {
			panic(http.ErrAbortHandler) // so that it does not look complete
		}
	}()
	switch {
	case a.Stream:
		a.copyHeader(w.Header())
		written, err = a.Relay(w, a.id, nil)
	case a.raw != nil:
		written, err = a.relayBody(w, r)
	default:
		written, err = a.writeWhole(w)
	}
}

func (a *Answer) writeWhole(w http.ResponseWriter) (int64, error) {
	header := w.Header()
	a.CopyHeader(header)
	a.setSession(header)
	if a.whole != nil && a.Status != http.StatusNoContent {
		header[protocol.HeaderContentLength] = []string{strconv.Itoa(len(a.whole))}
	}
	w.WriteHeader(a.Status)
	n, err := w.Write(a.whole)
	return int64(n), err
}
