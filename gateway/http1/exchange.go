package http1

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// pendingSize is how much of an answer's body waits for more.
const pendingSize = 4 << 10

// output holds the bytes of an answer that are on their way, from a write to the next flush.
type output struct {
	head    []byte // status and fields, and then the lines of chunks
	pending []byte
}

var outputs = sync.Pool{New: func() any {
	return &output{head: make([]byte, 0, 2*pendingSize), pending: make([]byte, 0, pendingSize)}
}}

var (
	errAnswered = errors.New("http: the handler has returned")
	longAgo     = time.Unix(1, 0)
)

// exchange is a request and the [http.ResponseWriter] of its answer. No other request gets it.
type exchange struct {
	c       *conn
	request *http.Request
	body    body
	cancel  context.CancelFunc

	done    atomic.Bool // the handler has returned
	readSet atomic.Bool // it has bounded the reads of the body

	mu        sync.Mutex
	watched   uint64     // the number of its watch; 0: there is none
	writeSet  bool       // the handler has bounded its writes
	asking    sync.Mutex // held for a write to the client, as mu must never be: the lookout waits for it
	continues bool       // the client waits for 100 Continue

	header    http.Header
	status    int  // 0: the handler has set none yet
	committed bool // the header is complete
	noBody    bool // the answer has none, whatever the handler writes
	chunked   bool
	closes    bool  // the connection ends with the answer
	length    int64 // of the body; -1: not known
	written   int64
	out       *output // nil: nothing waits
}

func newExchange(c *conn, r *http.Request, h *head, cancel context.CancelFunc) *exchange {
	x := &exchange{c: c, request: r, cancel: cancel, length: -1, header: make(http.Header), closes: r.Close, continues: h.expects}
	x.body.x, x.body.chunked, x.body.left = x, h.chunked, max(r.ContentLength, 0)
	if r.Body = &x.body; r.ContentLength == 0 {
		r.Body, x.body.err = http.NoBody, io.EOF
	}
	return x
}

// leave notes that the handler has returned.
func (x *exchange) leave() {
	x.cancel()
	x.c.current.Store(nil)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.done.Store(true)
	if x.watched != 0 {
		unwatch(x)
	}
}

// goOn tells a client that waits for it to send the body.
func (x *exchange) goOn() error {
	x.asking.Lock()
	defer x.asking.Unlock()
	if !x.continues {
		return nil
	}
	x.continues = false
	_, err := io.WriteString(x.c.net, "HTTP/1.1 100 Continue\r\n\r\n")
	return err
}

// Header is that of the answer, until WriteHeader.
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader takes the status and the header as they are, once. None of class 1xx is sent.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 && !x.done.Load() {
		x.setHeader(status)
	}
}

func (x *exchange) setHeader(status int) {
	x.status = status
	bodiless := status == http.StatusNoContent || status == http.StatusNotModified
	x.noBody = bodiless || x.request.Method == http.MethodHead
	x.closes = x.closes || httpguts.HeaderValuesContainsToken(x.header["Connection"], "close")
	if lengths := x.header["Content-Length"]; len(lengths) == 1 && !bodiless {
		if n, err := strconv.ParseUint(lengths[0], 10, 63); err == nil {
			x.length = int64(n)
		}
	}
	o := x.output()
	o.head = append(strconv.AppendInt(append(o.head, "HTTP/1.1 "...), int64(status), 10), ' ')
	o.head = append(append(o.head, http.StatusText(status)...), '\r', '\n')
	o.head = appendFields(o.head, x.header)
}

func (x *exchange) output() *output {
	if x.out == nil {
		x.out = outputs.Get().(*output)
	}
	return x.out
}

// Write takes bytes of the answer's body.
func (x *exchange) Write(p []byte) (int, error) {
	if x.done.Load() {
		return 0, errAnswered
	}
	if x.status == 0 {
		x.setHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0: // allowed where there is no body, too
		return 0, nil
	case x.c.failed != nil:
		return 0, x.c.failed
	case x.length >= 0 && x.written+int64(len(p)) > x.length:
		return 0, http.ErrContentLength
	case x.noBody && x.request.Method != http.MethodHead:
		return 0, http.ErrBodyNotAllowed
	}
	x.written += int64(len(p))
	if x.noBody {
		return len(p), nil
	}
	if o := x.output(); len(o.pending)+len(p) <= pendingSize {
		o.pending = append(o.pending, p...)
		return len(p), nil
	}
	return len(p), x.send(p, false)
}

// Flush is [http.Flusher].
func (x *exchange) Flush() { _ = x.FlushError() }

// FlushError sends the waiting bytes. A stream keeps no buffer, and its connection neither.
func (x *exchange) FlushError() error {
	if x.done.Load() {
		return errAnswered
	}
	err := x.send(nil, false)
	x.release()
	if x.body.mu.TryLock() { // else the body is read at present
		defer x.body.mu.Unlock()
		if x.c.in.Len() == 0 {
			x.c.in.Release()
		}
	}
	return err
}

// SetReadDeadline bounds the reads of the request's body; for [http.ResponseController].
func (x *exchange) SetReadDeadline(t time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done.Load() {
		return errAnswered
	}
	x.readSet.Store(true)
	x.c.within(t)
	return nil
}

// SetWriteDeadline bounds the writes of the answer, likewise. Any goroutine may call it.
func (x *exchange) SetWriteDeadline(t time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done.Load() {
		return errAnswered
	}
	x.writeSet = true
	return x.c.net.SetWriteDeadline(t)
}

// send writes the waiting bytes, p, and the end if it is the last.
func (x *exchange) send(p []byte, last bool) error {
	if x.status == 0 {
		x.setHeader(http.StatusOK)
	}
	o := x.output()
	if !x.committed {
		x.commit(p, last)
	}
	end := ""
	if size := len(o.pending) + len(p); x.chunked && size > 0 {
		o.head, end = append(strconv.AppendInt(o.head, int64(size), 16), '\r', '\n'), "\r\n"
	}
	if x.chunked && last {
		end += "0\r\n\r\n"
	}
	err := x.c.writeOutput(o, p, end)
	if err != nil {
		x.cancel()
	}
	return err
}

// commit completes the header: it says how the body ends, and whether the connection does. Before,
// it reads the rest of the request, as many clients send all of it before they read.
func (x *exchange) commit(p []byte, last bool) {
	x.committed = true
	x.asking.Lock()
	unasked := x.continues
	x.continues = false
	x.asking.Unlock()
	x.closes = x.closes || unasked || x.c.server.draining.Load()
	x.closes = !x.body.discard(!x.closes) || x.closes

	o := x.out
	if last && x.length < 0 && !x.noBody {
		x.length = int64(len(o.pending) + len(p))
	}
	switch {
	case x.length >= 0:
		o.head = append(strconv.AppendInt(append(o.head, "Content-Length: "...), x.length, 10), '\r', '\n')
	case !x.noBody && x.request.ProtoMinor > 0:
		x.chunked = true
		o.head = append(o.head, "Transfer-Encoding: chunked\r\n"...)
	}
	if x.header["Date"] == nil {
		o.head = append(time.Now().UTC().AppendFormat(append(o.head, "Date: "...), http.TimeFormat), '\r', '\n')
	}
	if x.closes {
		o.head = append(o.head, "Connection: close\r\n"...)
	}
	o.head = append(o.head, '\r', '\n')
}

// end completes the answer, and reports whether another request may follow. A client must see that
// an answer is not complete, and one that still sends must be able to read its answer.
func (x *exchange) end() bool {
	err := x.send(nil, true)
	x.release()
	if x.closes {
		x.c.within(longAgo) // whoever still reads the body gives up
	}
	_ = x.body.Close()
	if x.writeSet {
		_ = x.c.net.SetWriteDeadline(time.Time{})
	}
	switch {
	case err != nil || x.length > x.written && !x.noBody:
		return false
	case x.closes && (x.c.in.Len() > 0 || x.body.err != io.EOF): //nolint:errorlint // ours
		x.c.linger()
	}
	return !x.closes
}

func (x *exchange) release() {
	if o := x.out; o != nil && cap(o.head) == 2*pendingSize {
		outputs.Put(o)
	}
	x.out = nil
}

// appendFields writes the valid fields of a header, but for the server's own: none brings another line.
func appendFields(b []byte, header http.Header) []byte {
	for name, values := range header {
		switch http.CanonicalHeaderKey(name) {
		case "Connection", "Keep-Alive", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, value := range values {
			if httpguts.ValidHeaderFieldValue(value) {
				b = append(append(append(append(b, name...), ": "...), value...), '\r', '\n')
			}
		}
	}
	return b
}
