package bridge

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// dialTimeout bounds the start of a channel.
	dialTimeout = 30 * time.Second

	// maxCalls bounds the requests in flight on one channel.
	maxCalls = 1024

	// maxReplies bounds the bridge's own answers under way on one channel, to a
	// server that sends requests and does not read.
	maxReplies = 16
)

// channel is the one connection to a server, with the requests and sessions on it.
type channel struct {
	bridge *Bridge
	key    channelKey
	slot   *slot

	accessors set // of the tokens that used it; guarded by bridge.mu

	started  chan struct{} // closed when conn or startErr is set
	startErr error
	born     time.Time

	mu             sync.Mutex
	conn           Conn
	ended          error // why; nil while it goes on
	lastID         int64
	calls          map[int64]*Call
	members        map[*Session]struct{}
	serverRequests map[string]*Session // requests of the server, by their ids
	uses           int                 // HTTP requests that use it
	unused         time.Time           // since when there are none
	idle           *time.Timer
	replies        chan struct{}

	handshake handshake
	probe     probe
}

func newChannel(b *Bridge, key channelKey, s *slot) *channel {
	ch := &channel{
		bridge:         b,
		key:            key,
		slot:           s,
		accessors:      make(set),
		started:        make(chan struct{}),
		born:           time.Now(),
		calls:          make(map[int64]*Call),
		members:        make(map[*Session]struct{}),
		serverRequests: make(map[string]*Session),
		replies:        make(chan struct{}, maxReplies),
	}
	ch.handshake.done = make(chan struct{})
	ch.probe.done = make(chan struct{})
	return ch
}

// start makes the channel.
func (ch *channel) start() {
	defer close(ch.started)
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := ch.bridge.Dial(ctx, ch)
	if err != nil {
		ch.bridge.Log.Error("cannot start the server", "error", err)
		ch.startErr = &startError{err}
		ch.finish(ch.startErr, true)
		ch.slot.release()
		return
	}
	ch.mu.Lock()
	ch.conn = conn
	ended := ch.ended
	ch.mu.Unlock()
	if ended != nil {
		ch.startErr = ended
		conn.Close()
	}
}

// startError is an [ErrStart] with its cause.
type startError struct{ err error }

func (e *startError) Error() string   { return ErrStart.Error() + ": " + e.err.Error() }
func (e *startError) Unwrap() []error { return []error{ErrStart, e.err} }

// addMember adds a session to the channel.
func (ch *channel) addMember(s *Session) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.members[s] = struct{}{}
}

// alone reports whether the channel has no session.
func (ch *channel) alone() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return len(ch.members) == 0
}

// sessions returns the sessions on the channel.
func (ch *channel) sessions() []*Session {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	list := make([]*Session, 0, len(ch.members))
	for s := range ch.members {
		list = append(list, s)
	}
	return list
}

// acquire counts an HTTP request that uses the channel. The caller must release it,
// even if acquire reports that the channel has ended.
func (ch *channel) acquire() (goesOn bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.uses++
	if ch.idle != nil {
		ch.idle.Stop()
	}
	return ch.ended == nil
}

// release undoes acquire.
func (ch *channel) release() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.uses--
	if ch.uses > 0 || ch.ended != nil {
		return
	}
	ch.unused = time.Now()
	if ch.bridge.IdleTimeout <= 0 {
		return
	}
	if ch.idle == nil {
		ch.idle = time.AfterFunc(ch.bridge.IdleTimeout, ch.expire)
	} else {
		ch.idle.Reset(ch.bridge.IdleTimeout)
	}
}

// expire ends a channel that was unused for long.
func (ch *channel) expire() {
	if since, idle := ch.idleSince(); idle && time.Since(since) >= ch.bridge.IdleTimeout {
		ch.end(ErrClosed)
	}
}

// idleSince returns the time since when no request uses the channel.
func (ch *channel) idleSince() (since time.Time, idle bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.unused, ch.uses == 0
}

// end closes the channel.
func (ch *channel) end(cause error) { ch.finish(cause, false) }

// endIdle closes the channel if it is idle, and reports whether it has ended.
func (ch *channel) endIdle() bool { return ch.close(ErrClosed, false, true) }

// Gone is the end of the channel. Its slot is free only now.
func (ch *channel) Gone(err error) {
	ch.finish(&goneError{err}, true)
	ch.slot.release()
}

// goneError is an [ErrGone] with its cause.
type goneError struct{ err error }

func (e *goneError) Error() string {
	if e.err == nil {
		return ErrGone.Error()
	}
	return ErrGone.Error() + ": " + e.err.Error()
}

func (e *goneError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrGone}
	}
	return []error{ErrGone, e.err}
}

// finish ends the channel with all requests and sessions on it. The first cause
// counts. failed: the channel ended by itself.
func (ch *channel) finish(cause error, failed bool) { ch.close(cause, failed, false) }

// close is finish. With idle it leaves a channel alone that is in use, and reports
// false.
func (ch *channel) close(cause error, failed, idle bool) bool {
	ch.mu.Lock()
	if ch.ended != nil || idle && ch.uses > 0 {
		defer ch.mu.Unlock()
		return ch.ended != nil
	}
	ch.ended = cause
	conn, calls := ch.conn, ch.calls
	ch.calls = make(map[int64]*Call)
	for s := range ch.members {
		clear(s.calls) // they end with the channel and its cause
	}
	if ch.idle != nil {
		ch.idle.Stop()
	}
	ch.mu.Unlock()

	ch.slot.end()
	ch.bridge.gone(ch, failed, time.Since(ch.born))
	for _, c := range calls {
		c.queue.close(cause)
	}
	ch.handshake.fail(cause)
	ch.probe.finish(false, cause)
	if conn != nil {
		conn.Close()
	}
	return true
}

// send writes one message to the server.
func (ch *channel) send(message []byte) error {
	ch.mu.Lock()
	conn, ended := ch.conn, ch.ended
	ch.mu.Unlock()
	if ended != nil {
		return ended
	}
	if err := conn.Send(message); err != nil {
		ch.finish(&goneError{err}, true)
		return &goneError{err}
	}
	return nil
}

// reply answers a request of the server in the bridge's own name. The channel's
// reader calls it, and must not wait until the server reads.
func (ch *channel) reply(message []byte) {
	select {
	case ch.replies <- struct{}{}:
		go func() {
			defer func() { <-ch.replies }()
			_ = ch.send(message) // an error has ended the channel
		}()
	default:
	}
}

// register gives the request a new id on the channel.
func (ch *channel) register(c *Call) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.ended != nil {
		return ch.ended
	}
	if len(ch.calls) >= maxCalls {
		return ErrBusy
	}
	if c.session != nil {
		if c.session.ended != nil {
			return c.session.ended
		}
		id := string(c.clientID)
		if c.session.calls[id] != nil {
			return ErrDuplicate
		}
		c.session.calls[id] = c
	}
	ch.lastID++
	c.id = ch.lastID
	ch.calls[c.id] = c
	return nil
}

// crowded reports whether a request that no client waits for takes others' room.
func (ch *channel) crowded() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.bridge.Shared || len(ch.calls) > maxCalls/2
}

// forget takes the request off the channel. Messages for it are dropped.
func (ch *channel) forget(c *Call) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	delete(ch.calls, c.id)
	if c.session != nil && c.session.calls[string(c.clientID)] == c {
		delete(c.session.calls, string(c.clientID))
	}
}

// callOf returns the request in flight with this id.
func (ch *channel) callOf(raw []byte) *Call {
	// Some servers return a number as a string, or with the fraction .0.
	text := strings.TrimSuffix(strings.Trim(string(raw), `"`), ".0")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.calls[id]
}
