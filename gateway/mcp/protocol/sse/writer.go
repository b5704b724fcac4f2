package sse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// writeTimeout bounds one write to a client that does not read.
const writeTimeout = 30 * time.Second

// longAgo is a deadline that lets nothing more be written.
var longAgo = time.Unix(1, 0)

// Why the gateway ended a stream that could have gone on. The client may open
// it anew.
var (
	errAge      = errors.New("the stream has reached its maximal age")
	errDraining = errors.New("the gateway is shutting down")
)

// EndedByGateway reports whether the stream's end is an orderly one.
func EndedByGateway(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, errAge) || errors.Is(cause, errDraining)
}

// Writer writes events to a client. While nothing is written it sends comments,
// so that nobody on the way takes the connection for dead. A client that does
// not read does not hold it for ever: not beyond writeTimeout, and not beyond
// its context.
type Writer struct {
	mu        sync.Mutex
	w         http.ResponseWriter
	control   *http.ResponseController
	keepAlive time.Duration
	timer     *time.Timer
	last      time.Time // of the last write
	tail      [4]byte   // the last bytes written
	written   int64
	err       error // of the first write that failed
	closed    bool

	detach func() bool  // stops watching the context
	ended  func() error // the context's error
}

// NewWriter starts a stream on w, whose header must be written. It must be
// closed before the handler returns.
func NewWriter(ctx context.Context, w http.ResponseWriter, keepAlive time.Duration) *Writer {
	s := &Writer{
		w:         w,
		control:   http.NewResponseController(w),
		keepAlive: keepAlive,
		ended:     ctx.Err,
		last:      time.Now(),
		tail:      [4]byte{'\n', '\n', '\n', '\n'},
	}
	s.mu.Lock() // both functions may run before this one returns
	defer s.mu.Unlock()
	s.detach = context.AfterFunc(ctx, func() {
		// Releases a write that the client does not take.
		_ = s.control.SetWriteDeadline(longAgo)
	})
	if keepAlive > 0 {
		s.timer = time.AfterFunc(keepAlive, s.tick)
	}
	return s
}

// Write sends p at once.
func (s *Writer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush sends the header, and nothing else.
func (s *Writer) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = s.control.Flush()
}

func (s *Writer) write(p []byte) error {
	if s.err != nil || len(p) == 0 {
		return s.err
	}
	now := time.Now()
	_ = s.control.SetWriteDeadline(now.Add(writeTimeout)) // not all writers have one
	if s.ended() != nil {                                 // perhaps just before that
		_ = s.control.SetWriteDeadline(longAgo)
	}
	n, err := s.w.Write(p)
	s.written += int64(n)
	if err == nil {
		err = s.control.Flush()
	}
	s.err = err
	s.last = now
	s.tail = tailOf(s.tail, p)
	return err
}

// tick runs on the timer.
func (s *Writer) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.err != nil {
		return
	}
	wait := s.keepAlive - time.Since(s.last)
	if wait <= 0 {
		// In the middle of an event a comment would become part of it.
		if betweenEvents(s.tail) {
			_ = s.write(comment) // kept in err
		}
		wait = s.keepAlive
	}
	s.timer.Reset(wait)
}

var comment = []byte(":\n\n")

// ComeBack tells a client whose stream ends how long to wait before it opens
// another: not all of them at the same time.
func (s *Writer) ComeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if betweenEvents(s.tail) {
		wait := 500 + rand.IntN(2500) //nolint:gosec // spreading load needs no secrecy
		_ = s.write(fmt.Appendf(nil, "retry: %d\n\n", wait))
	}
}

// Close ends the writing, and returns what was written. The connection can be
// used for further requests.
func (s *Writer) Close() int64 {
	if s.timer != nil {
		s.timer.Stop()
	}
	detached := s.detach()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if detached {
		_ = s.control.SetWriteDeadline(time.Time{})
	}
	return s.written
}

// tailOf returns the last four bytes of what was written.
func tailOf(tail [4]byte, p []byte) [4]byte {
	if len(p) >= len(tail) {
		return [4]byte(p[len(p)-len(tail):])
	}
	copy(tail[:], tail[len(p):])
	copy(tail[len(tail)-len(p):], p)
	return tail
}

// betweenEvents reports whether what ends with tail ends with a blank line.
func betweenEvents(tail [4]byte) bool {
	return bytes.HasSuffix(tail[:], []byte("\n\n")) ||
		bytes.HasSuffix(tail[:], []byte("\r\r")) ||
		string(tail[:]) == "\r\n\r\n"
}

// Streams are those of a handler that only servers have something to say on:
// they never end by themselves.
type Streams struct {
	mu       sync.Mutex
	open     map[*context.CancelCauseFunc]struct{}
	draining bool
}

// Add ends the stream when it has become old, and when the gateway shuts down.
// The returned function must be called at the stream's end.
func (s *Streams) Add(cancel context.CancelCauseFunc, age time.Duration) (remove func()) {
	var timer *time.Timer
	if age > 0 {
		// Not all at the same time.
		age -= rand.N(age/10 + 1) //nolint:gosec // spreading load needs no secrecy
		timer = time.AfterFunc(age, func() { cancel(errAge) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		cancel(errDraining)
	}
	if s.open == nil {
		s.open = make(map[*context.CancelCauseFunc]struct{})
	}
	s.open[&cancel] = struct{}{}
	return func() {
		if timer != nil {
			timer.Stop()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, &cancel)
	}
}

// Drain ends all of them, and those that are yet to come.
func (s *Streams) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for cancel := range s.open {
		(*cancel)(errDraining)
	}
}
