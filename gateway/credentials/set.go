package credentials

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Why a Set must not be used any more. A request that is under way then fails with it.
var (
	// ErrEnded: the credentials have reached their end in Vault. Requests that begin get others.
	ErrEnded = errors.New("the server's credentials have ended")
	// ErrLost: the principal has lost its access.
	ErrLost = errors.New("the client has lost its access, and its credentials with it")
	// ErrReplaced ends streams on which a server sends messages unasked: a client that
	// opens them again gets the new credentials. Requests under way go on.
	ErrReplaced = errors.New("the server's credentials were replaced")
	// ErrUnused: the credentials were not used for idle_timeout.
	ErrUnused = errors.New("nobody has used the server's credentials")
	// ErrClosed: the registration has changed or ended, or the gateway shuts down.
	ErrClosed = errors.New("the server's credentials were given up")
)

// IsEnd reports whether the error is one of those with which sets end.
func IsEnd(err error) bool {
	for _, end := range []error{ErrEnded, ErrLost, ErrReplaced, ErrUnused, ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// releaseTimeout is how long after its end a Set's users may take to let go of it, before its
// credentials are revoked all the same. A child process is killed sooner.
const releaseTimeout = 500 * time.Millisecond

// Set has the rendered values with which the requests of one principal to one server are
// sent. It is immutable except for its end, and any goroutine may use it.
type Set struct {
	rendered

	lease    *lease // that its values come from; several sets may come from one
	askAgain func(ctx context.Context, refused *Set) *Set

	superseded chan struct{} // closed when successor is set
	ended      chan struct{} // closed when cause is set

	mu        sync.Mutex
	successor *Set
	cause     error
	users     int    // requests and holds
	retired   bool   // no request begins with it any more
	first     *Use   // list of the requests
	given     bool   // the lease has it back
	after     func() // called then; nil: nothing is
}

// rendered are a registration's values with the credentials in them.
type rendered struct {
	header http.Header
	env    map[string]string
	files  map[string]string

	secrets []string // the fields of credentials in them
}

func newSet(values rendered, from *lease, askAgain func(context.Context, *Set) *Set) *Set {
	from.take()
	return &Set{
		rendered: values, lease: from, askAgain: askAgain,
		superseded: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Rejected is called when the server refuses the set's credentials, which are then read
// again, at most once in 30 seconds. It waits for that, and returns the set that has other
// values; nil if there is none.
func (s *Set) Rejected(ctx context.Context) *Set { return s.askAgain(ctx, s) }

// Header returns all headers of the registration. It must not be changed.
func (s *Set) Header() http.Header { return s.header }

// Env returns the environment of the child process, in which {{file.NAME}} stands for the
// path of a file. It must not be changed.
func (s *Set) Env() map[string]string { return s.env }

// Files returns the contents of the files of the child process, by name. It must not be
// changed.
func (s *Set) Files() map[string]string { return s.files }

// Secrets returns the fields of credentials that are in the values, each by itself. It must not
// be changed.
func (s *Set) Secrets() []string { return s.secrets }

// Accessor returns the accessor of the Vault token with the client's alias that the credentials
// hang on; "" if none does.
func (s *Set) Accessor() string { return s.lease.accessor() }

// PersonAccessor returns that of the one with the person's alias; "" if none does.
func (s *Set) PersonAccessor() string { return s.lease.personAccessor() }

// LeaseIDs returns the ids of the credentials' leases in Vault. It must not be changed.
func (s *Set) LeaseIDs() []string { return s.lease.ids }

// Superseded is closed when Successor has the credentials that new requests get.
func (s *Set) Superseded() <-chan struct{} { return s.superseded }

// Successor returns the set that has taken this one's place; nil before that.
func (s *Set) Successor() *Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.successor
}

// Ended is closed when the set may not be used any more. Cause says why.
func (s *Set) Ended() <-chan struct{} { return s.ended }

// Cause says why the set has ended; nil before that.
func (s *Set) Cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// Hold keeps the credentials from being revoked for a user that lives longer than a request,
// until it calls release, and no longer than a moment beyond Ended. It fails with the cause
// of a set that has ended.
func (s *Set) Hold() (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return nil, s.cause
	}
	s.users++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		s.users--
		s.giveBackLocked()
		s.mu.Unlock()
	}), nil
}

// Use is one request that is sent with a set. It is part of the request, so that it costs
// nothing of its own.
type Use struct {
	set        *Set
	cancel     context.CancelCauseFunc
	stream     bool
	next, prev *Use
}

// Begin notes that a request is sent with the set: cancel ends it, with one of this
// package's errors, when the set ends. A stream on which the server sends messages unasked
// also ends when the set is superseded. Begin fails where the set has ended already.
func (u *Use) Begin(s *Set, cancel context.CancelCauseFunc, stream bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause != nil:
		return s.cause
	case stream && (s.successor != nil || s.retired):
		return ErrReplaced
	}
	u.set, u.cancel, u.stream = s, cancel, stream
	if u.next = s.first; u.next != nil {
		u.next.prev = u
	}
	s.first = u
	s.users++
	return nil
}

// End notes that the request is over. It does nothing where Begin was not called, or failed.
func (u *Use) End() {
	s := u.set
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.prev != nil {
		u.prev.next = u.next
	} else {
		s.first = u.next
	}
	if u.next != nil {
		u.next.prev = u.prev
	}
	u.set, u.next, u.prev = nil, nil, nil
	s.users--
	s.giveBackLocked()
}

// usable reports whether new requests may be sent with the set.
func (s *Set) usable(now time.Time) bool {
	select {
	case <-s.ended:
		return false
	case <-s.superseded:
		return false
	default:
		return !s.lease.hasEnded(now)
	}
}

// inUse reports whether a request uses the set.
func (s *Set) inUse() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users > 0
}

// supersede puts another set in this one's place. Requests under way go on.
func (s *Set) supersede(successor *Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.successor != nil || s.cause != nil {
		return
	}
	s.successor = successor
	close(s.superseded)
	s.retireLocked()
}

// retire makes the set that of the requests under way alone.
func (s *Set) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.retireLocked()
	}
}

func (s *Set) retireLocked() {
	s.retired = true
	for u := s.first; u != nil; u = u.next {
		if u.stream {
			u.cancel(ErrReplaced)
		}
	}
	s.giveBackLocked()
}

// end cuts everything that uses the set.
func (s *Set) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return
	}
	s.cause = cause
	close(s.ended)
	for u := s.first; u != nil; u = u.next {
		u.cancel(cause)
	}
	if s.giveBackLocked(); !s.given {
		time.AfterFunc(releaseTimeout, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.users = 0
			s.giveBackLocked()
		})
	}
}

// onGivenBack has f called when the lease has the set back.
func (s *Set) onGivenBack(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given {
		f()
		return
	}
	s.after = f
}

// giveBackLocked gives the lease back once the set is not in use and will not be used again.
// s.mu is held.
func (s *Set) giveBackLocked() {
	if s.given || s.users > 0 || !s.retired && s.cause == nil {
		return
	}
	s.given = true
	if s.cause == nil { // a request that has it, and has not begun, gets another one
		s.cause = ErrUnused
		close(s.ended)
	}
	if s.after != nil {
		s.after()
	}
	s.lease.giveBack()
}
