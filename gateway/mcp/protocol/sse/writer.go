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

// firstComment is the longest time until the first byte of a stream. Some proxies hold back its
// header until then, as nginx does towards HTTP/2, and clients wait for the header.
const firstComment = 200 * time.Millisecond

// longAgo is a deadline that ends all writes.
var longAgo = time.Unix(1, 0)

// Why the gateway ended a stream in good order. The client may open it again.
var (
	errAge      = errors.New("the stream has reached its maximal age")
	errDraining = errors.New("the gateway is shutting down")

	// ErrExpired: the client opens another one with its next token.
	ErrExpired = errors.New("the token with which the stream was opened has expired")

	// ErrRules: the client opens another one, with what its present rules allow.
	ErrRules = errors.New("the client's rules have changed since the stream was opened")
)

// EndedByGateway reports whether the stream's end is an orderly one.
func EndedByGateway(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, errAge) || errors.Is(cause, errDraining) || errors.Is(cause, ErrExpired) || errors.Is(cause, ErrRules)
}

// Writer writes events to a client. While there are none it sends comments, so that no
// proxy on the way closes the connection as dead. A write to a client that does not read
// ends at writeTimeout, or with the context.
type Writer struct {
	mu        sync.Mutex
	w         http.ResponseWriter
	control   *http.ResponseController
	keepAlive time.Duration
	timer     *time.Timer
	last      time.Time // of the last write
	tail      [4]byte   // the last bytes written
	written   int64
	err       error // of the first failed write
	closed    bool

	detach func() bool  // stops watching the context
	ended  func() error // the context's error
}

// NewWriter starts a stream on w. Write the header first, and close the Writer before the
// handler returns.
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
		// This ends a write to a client that does not read.
		_ = s.control.SetWriteDeadline(longAgo)
	})
	if keepAlive > 0 {
		s.timer = time.AfterFunc(min(keepAlive, firstComment), s.tick)
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
	_ = s.control.SetWriteDeadline(now.Add(writeTimeout)) // not all writers have deadlines
	if s.ended() != nil {                                 // it may have ended just before that
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
	if wait <= 0 || s.written == 0 {
		// Within an event, a comment would become part of it.
		if betweenEvents(s.tail) {
			_ = s.write(comment) // the error is in s.err
		}
		wait = s.keepAlive
	}
	s.timer.Reset(wait)
}

var comment = []byte(":\n\n")

// ComeBack tells a client whose stream ends how long it should wait before it opens
// another. The time is random, so that not all clients come back at once.
func (s *Writer) ComeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if betweenEvents(s.tail) {
		wait := 500 + rand.IntN(2500) //nolint:gosec // spreading load needs no secrecy
		_ = s.write(fmt.Appendf(nil, "retry: %d\n\n", wait))
	}
}

// Close ends the stream, and returns the number of bytes written. The connection can
// carry further requests.
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

// tailOf returns the last four bytes after p was written.
func tailOf(tail [4]byte, p []byte) [4]byte {
	if len(p) >= len(tail) {
		return [4]byte(p[len(p)-len(tail):])
	}
	copy(tail[:], tail[len(p):])
	copy(tail[len(tail)-len(p):], p)
	return tail
}

// betweenEvents reports whether tail ends with a blank line.
func betweenEvents(tail [4]byte) bool {
	return bytes.HasSuffix(tail[:], []byte("\n\n")) ||
		bytes.HasSuffix(tail[:], []byte("\r\r")) ||
		string(tail[:]) == "\r\n\r\n"
}

// Streams are the streams of a handler that carry servers' notifications only. They do
// not end by themselves.
type Streams struct {
	mu       sync.Mutex
	open     map[*context.CancelCauseFunc]struct{}
	draining bool
}

// Add ends the stream at that age, and when the gateway shuts down. Call the returned
// function at the stream's end.
func (s *Streams) Add(cancel context.CancelCauseFunc, age time.Duration) (remove func()) {
	var timer *time.Timer
	if age > 0 {
		// A random time, so that not all end at once.
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

// Drain ends all streams, and those that come later.
func (s *Streams) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for cancel := range s.open {
		(*cancel)(errDraining)
	}
}
