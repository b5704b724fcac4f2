package bridge

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// leased are Credentials under a test's control.
type leased struct {
	superseded, ended chan struct{}

	mu        sync.Mutex
	successor *leased
	cause     error
	holds     int
}

func newLeased() *leased {
	return &leased{superseded: make(chan struct{}), ended: make(chan struct{})}
}

func (l *leased) Superseded() <-chan struct{} { return l.superseded }
func (l *leased) Ended() <-chan struct{}      { return l.ended }

func (l *leased) Successor() Credentials {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.successor == nil {
		return nil
	}
	return l.successor
}

func (l *leased) Cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

func (l *leased) Hold() (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return nil, l.cause
	}
	l.holds++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.holds--
	}), nil
}

// held is how many connections hold the credentials.
func (l *leased) held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds
}

// supersede has others take their place.
func (l *leased) supersede() *leased {
	next := newLeased()
	l.mu.Lock()
	l.successor = next
	l.mu.Unlock()
	close(l.superseded)
	return next
}

func (l *leased) end(cause error) {
	l.mu.Lock()
	l.cause = cause
	l.mu.Unlock()
	close(l.ended)
}

// with is the owner with the credentials.
func with(o Owner, c *leased) Owner {
	o.Credentials = c
	return o
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, time.Millisecond, what)
}
