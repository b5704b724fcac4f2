package access

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Streams is the middleware before a [Gate] for connections that carry many requests at once, those
// of HTTP/2. Each request has a record of its own, as a connection of HTTP/1.1 has one: it counts for
// its source, and its writes end when they are no longer worth waiting for. The connection below
// waits for the network alone; here it is the client's window that may be closed.
func Streams(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connection(r.Context())
		if c == nil {
			next.ServeHTTP(w, r)
			return
		}
		record := c.stream()
		defer record.connections.release(record)
		if record.admission == rejected {
			panic(http.ErrAbortHandler) // which resets the stream
		}
		out := &streamWriter{ResponseWriter: w, control: http.NewResponseController(w), record: record}
		defer out.leave()
		next.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), connectionKey{}, record)))
		out.finish()
	})
}

// stream returns the record of a new stream on the connection. It has no connection of its own.
func (c *pacedConn) stream() *pacedConn {
	c.arrive()
	s := &pacedConn{connections: c.connections, patience: c.patience, admission: c.admission}
	s.arrived.Store(true)
	if c.admission == admitted {
		s.admission = c.connections.takeStream(s, c)
	}
	return s
}

// takeStream counts a stream of conn for the same source: so a source has no more requests in
// flight over HTTP/2 than over HTTP/1.1.
func (c *Connections) takeStream(stream, conn *pacedConn) admission {
	c.mu.Lock()
	source := conn.source
	c.mu.Unlock()
	if !source.IsValid() {
		return admitted
	}
	a := c.take(stream, source)
	if a != admitted {
		c.warnOf(source)
	}
	return a
}

var errStreamOver = errors.New("the request is over")

// streamWriter is the writer of a stream's answer. Other goroutines than the handler's may use it,
// also after the handler's end, when that of net/http would panic.
type streamWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	record  *pacedConn

	writing sync.Mutex // held by whoever writes
	began   bool       // the header is complete
	unsent  bool       // part of the body waits in net/http

	mu    sync.Mutex // guards the rest, and the control
	over  bool
	since time.Time // when the write at hand began; zero: there is none
	timer *time.Timer
}

// connectionFields belong to a connection of HTTP/1.1, which HTTP/2 has not (RFC 9113, section 8.2.2). Of
// Connection net/http makes a GOAWAY.
var connectionFields = [...]string{"Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Trailer"}

// begin completes the header.
func (w *streamWriter) begin() {
	if !w.began {
		w.began = true
		for _, name := range connectionFields {
			delete(w.Header(), name)
		}
	}
}

// WriteHeader is [http.ResponseWriter].
func (w *streamWriter) WriteHeader(status int) {
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.isOver() {
		return
	}
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

// Write writes p in pieces, each in time.
func (w *streamWriter) Write(p []byte) (written int, err error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.begin()
	w.unsent = w.unsent || len(p) > 0
	for first := true; err == nil && (first || written < len(p)); first = false {
		var n int
		piece := p[written : written+pieceSize(len(p)-written)]
		err = w.patiently(func() (err error) {
			n, err = w.ResponseWriter.Write(piece)
			return err
		})
		written += n
	}
	return written, err
}

// Flush is [http.Flusher].
func (w *streamWriter) Flush() { _ = w.FlushError() }

// FlushError sends the waiting bytes, for [http.ResponseController].
func (w *streamWriter) FlushError() error {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.begin()
	err := w.patiently(w.control.Flush)
	w.unsent = w.unsent && err != nil
	return err
}

// SetReadDeadline bounds the reads of the request's body; for [http.ResponseController].
func (w *streamWriter) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return errStreamOver
	}
	return w.control.SetReadDeadline(t)
}

// SetWriteDeadline bounds the writes of the answer, likewise. When it has passed, the stream is
// reset.
func (w *streamWriter) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return errStreamOver
	}
	return w.control.SetWriteDeadline(t)
}

// patiently calls write, and resets the stream when the write is no longer worth waiting for.
func (w *streamWriter) patiently(write func() error) error {
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return errStreamOver
	}
	w.since = time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(writeSlice, w.look)
	} else {
		w.timer.Reset(writeSlice)
	}
	w.mu.Unlock()
	err := write()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Time{}
	w.timer.Stop()
	return err
}

// look runs while a write waits.
func (w *streamWriter) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over || w.since.IsZero():
	case time.Since(w.since) >= w.record.patience || w.record.serving.Load().ended():
		_ = w.control.SetWriteDeadline(time.Unix(1, 0))
	default:
		w.timer.Reset(writeSlice)
	}
}

func (w *streamWriter) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// finish sends the rest of the answer. net/http would do so when the handler has returned, and
// nobody would bound or count it.
func (w *streamWriter) finish() {
	if w.unsent {
		_ = w.FlushError()
	}
}

// leave notes that the handler has returned.
func (w *streamWriter) leave() {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin()
	w.over = true
}
