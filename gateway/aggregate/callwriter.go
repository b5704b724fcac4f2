package aggregate

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// callWriter is the answer of an askable call: it writes to the client that is there, and waits
// while none is.
type callWriter askableCall

// Header returns the header of the answer, before its beginning.
func (w *callWriter) Header() http.Header {
	c := (*askableCall)(w)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header == nil {
		c.header = make(http.Header)
	}
	return c.header
}

// WriteHeader begins the answer. A stream is begun once for each client that comes.
func (w *callWriter) WriteHeader(status int) {
	c := (*askableCall)(w)
	if c.lockAttached() != nil {
		return // the next write tells why
	}
	defer c.mu.Unlock()
	if c.header[protocol.HeaderContentLength] == nil && strings.HasPrefix(protocol.First(c.header, protocol.HeaderContentType), protocol.MediaEventStream) {
		c.stream = maps.Clone(c.header)
	} else {
		c.answered = true
	}
	c.begin(status, c.header)
}

// Write writes to the client that is there. Comments that keep a stream alive are only for one
// that is.
func (w *callWriter) Write(p []byte) (int, error) {
	c := (*askableCall)(w)
	if len(p) > 0 && p[0] == ':' && !c.isAttached() {
		return len(p), nil
	}
	if err := c.lockAttached(); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	control := http.NewResponseController(c.client.x.w)
	c.abort.begin(control)
	defer c.abort.end(control)
	n, err := c.client.x.w.Write(p)
	c.client.written += int64(n)
	if err == nil && c.stream != nil {
		err = control.Flush()
	}
	return n, err
}

// FlushError is [http.Flusher] for [http.ResponseController]. Streams are flushed by Write.
func (w *callWriter) FlushError() error {
	c := (*askableCall)(w)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil || c.stream == nil {
		return nil
	}
	return http.NewResponseController(c.client.x.w).Flush()
}

// SetWriteDeadline bounds the writes to whatever client is there.
func (w *callWriter) SetWriteDeadline(t time.Time) error {
	(*askableCall)(w).abort.set(t)
	return nil
}

func (c *askableCall) isAttached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client != nil
}

// lockAttached waits for a client, and locks c.mu. The error is that of await.
func (c *askableCall) lockAttached() error {
	for {
		if _, err := c.await(); err != nil {
			return err
		}
		c.mu.Lock()
		if c.client != nil {
			return nil
		}
		c.mu.Unlock()
	}
}

// aborter has the deadline of the writes of a call. It is not that of a connection: this may serve
// another request when the call is asked something.
type aborter struct {
	mu       sync.Mutex
	deadline time.Time
	writing  *http.ResponseController // nil between two writes
}

func (a *aborter) set(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deadline = t
	if a.writing != nil {
		_ = a.writing.SetWriteDeadline(t) // not all writers have deadlines
	}
}

func (a *aborter) begin(control *http.ResponseController) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writing = control
	_ = control.SetWriteDeadline(a.deadline)
}

func (a *aborter) end(control *http.ResponseController) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writing = nil
	_ = control.SetWriteDeadline(time.Time{})
}
