package direct

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// roundTrip sends a request by http.Transport.
func (t *Transport) roundTrip(ctx context.Context, r *Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	out := t.template.WithContext(ctx)
	out.Method, out.Header = r.Method, r.Header.Clone()
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // net/http puts its own where the key is missing
	}
	if r.Body != nil {
		out.ContentLength = int64(len(r.Body))
		out.Body = newMessage(r)
		out.GetBody = func() (io.ReadCloser, error) { return newMessage(r), nil }
	}
	response, err := t.through.RoundTrip(out)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response.Body = &throughBody{ReadCloser: response.Body, ctx: ctx, cancel: cancel}
	return response, nil
}

// throughBody is the body of an answer that came by http.Transport. It has no orderly end either once
// its request was cancelled.
type throughBody struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // of the request
	cancel context.CancelCauseFunc
	wait   time.Duration // for its next part; 0: for ever
	timer  *time.Timer   // nil: there was no need yet
}

func (b *throughBody) Read(p []byte) (int, error) {
	if b.wait > 0 && b.timer == nil {
		b.timer = time.AfterFunc(b.wait, func() { b.cancel(ErrStalled) })
	} else if b.wait > 0 {
		b.timer.Reset(b.wait)
	}
	n, err := b.ReadCloser.Read(p)
	if b.timer != nil {
		b.timer.Stop() // a client that is slow to take it is not the server's fault
	}
	if cause := context.Cause(b.ctx); cause != nil {
		return 0, cause
	}
	return n, err
}

func (b *throughBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// message is a request's body for http.Transport, which closes it when it is done with it, perhaps
// from another goroutine than the one that reads, and after the answer.
type message struct {
	mu     sync.Mutex
	memory Memory        // nil once closed, or if there is none
	rest   *bytes.Reader // nil once closed
}

func newMessage(r *Request) *message {
	if r.Memory != nil {
		r.Memory.Retain()
	}
	return &message{memory: r.Memory, rest: bytes.NewReader(r.Body)}
}

func (m *message) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rest == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	return m.rest.Read(p)
}

func (m *message) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.memory != nil {
		m.memory.Release()
	}
	m.memory, m.rest = nil, nil
	return nil
}
