package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// errStalled is a timeout: the server has begun an answer and does not go on.
var errStalled = fmt.Errorf("the answer does not go on: %w", os.ErrDeadlineExceeded)

// watch ends an answer, other than a stream, with which the server does not go on for
// upstream.timeout. It returns nil where there is nothing to wait for: most answers
// arrive together with their header.
func (p *proxy) watch(ctx context.Context, response *http.Response, cancel context.CancelCauseFunc) *stallWatch {
	wait := p.upstream.transport.ResponseHeaderTimeout
	if wait <= 0 || response.ContentLength == 0 || mediaType(protocol.First(response.Header, protocol.HeaderContentType)) == protocol.MediaEventStream {
		return nil
	}
	if body, ok := response.Body.(*directBody); ok && body.isThere() {
		return nil
	}
	w := &stallWatch{ReadCloser: response.Body, ctx: ctx, wait: wait}
	w.timer = time.AfterFunc(wait, func() { cancel(errStalled) })
	response.Body = w
	return w
}

// isThere reports whether all of the answer has been read from the connection.
func (b *directBody) isThere() bool {
	return b.conn != nil && b.response.ContentLength >= 0 && int64(b.conn.reader.Buffered()) >= b.response.ContentLength
}

// stallWatch is a body whose parts must not come too slowly.
type stallWatch struct {
	io.ReadCloser
	ctx   context.Context // of the request
	wait  time.Duration
	timer *time.Timer
}

func (w *stallWatch) Read(p []byte) (int, error) {
	w.timer.Reset(w.wait)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop() // a client that is slow to take it is not the server's fault
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (w *stallWatch) stop() { w.timer.Stop() }
