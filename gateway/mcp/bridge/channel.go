package bridge

import (
	"errors"
	"sync"
	"time"
)

// maxReplies bounds the bridge's own answers under way on one channel, to a
// server that sends requests and does not read.
const maxReplies = 16

// channel is the way to a server, with the requests and sessions on it. It has one
// connection for everything new. Others may be there beside it where the server's
// credentials are leased: see [connection].
type channel struct {
	bridge *Bridge
	key    channelKey
	slot   *slot

	accessors set // of the tokens that used it; guarded by bridge.mu

	started  chan struct{} // closed when the first connection is there, or startErr is set
	startErr error
	born     time.Time
	done     chan struct{} // closed when ended is set

	mu             sync.Mutex
	ended          error                    // why; nil while it goes on
	current        *connection              // it may have stopped: see [channel.isDormant]
	replacement    *replacement             // that is under way; nil: none is
	latest         Credentials              // the last that a request came with
	connections    map[*connection]struct{} // all that are not gone yet
	made           int                      // connections so far
	lastID         int64
	calls          map[int64]*Call
	members        map[*Session]struct{}
	serverRequests map[string]*serverRequest // requests of the server, by the ids that clients see
	level          *Incoming                 // the last logging/setLevel; nil without one
	uses           int                       // HTTP requests that use it
	unused         time.Time                 // since when there are none
	idle           *time.Timer
	replies        chan struct{}

	handshake handshake
	probe     probe
}

// newChannel returns a channel whose first connection has these credentials; nil if the
// server has none.
func newChannel(b *Bridge, key channelKey, s *slot, credentials Credentials) *channel {
	ch := &channel{
		bridge:         b,
		key:            key,
		slot:           s,
		accessors:      make(set),
		started:        make(chan struct{}),
		born:           time.Now(),
		done:           make(chan struct{}),
		connections:    make(map[*connection]struct{}),
		calls:          make(map[int64]*Call),
		members:        make(map[*Session]struct{}),
		serverRequests: make(map[string]*serverRequest),
		replies:        make(chan struct{}, maxReplies),
	}
	ch.handshake.done = make(chan struct{})
	ch.probe.done = make(chan struct{})
	ready := ch.handshake.done
	if key.handshake == noHandshake {
		ready = ch.probe.done
	}
	ch.current, ch.latest = ch.addConnection(credentials, ready), credentials
	return ch
}

// start makes the channel's first connection. If that fails, and others have taken the place
// of its credentials by now, it makes one with them: the server may have refused the former,
// and has not begun anything.
func (ch *channel) start(first *connection) {
	defer close(ch.started)
	err := first.dial()
	if err != nil && first.credentials != nil {
		if next := newest(first.credentials); next != first.credentials {
			err = ch.startAgain(first, next)
		}
	}
	if err == nil {
		return
	}
	ch.close(ending{cause: err, failed: !errors.Is(err, ErrCredentials)})
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.startErr = unsent(ch.ended)
}

// startAgain makes another connection, which no request has used yet, in the first one's
// place.
func (ch *channel) startAgain(first *connection, with Credentials) error {
	ch.mu.Lock()
	if ch.ended != nil {
		defer ch.mu.Unlock()
		return ch.ended
	}
	l := ch.addConnection(with, first.ready)
	l.number, ch.current = first.number, l
	ch.mu.Unlock()
	return l.dial()
}

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
func (ch *channel) endIdle() bool { return ch.close(ending{cause: ErrClosed, ifIdle: true}) }

// finish ends the channel with all requests and sessions on it. The first cause
// counts. failed: the channel ended by itself.
func (ch *channel) finish(cause error, failed bool) {
	ch.close(ending{cause: cause, failed: failed})
}

// ending is how a channel is to end.
type ending struct {
	cause  error
	failed bool // by itself

	ifIdle    bool        // not while a request uses it
	ifCurrent *connection // only where this one carries the channel; nil: in any case
}

// close ends the channel with all requests and sessions on it, and reports whether it has
// ended. The first cause counts.
func (ch *channel) close(e ending) bool {
	ch.mu.Lock()
	if ch.ended != nil {
		ch.mu.Unlock()
		return true
	}
	if e.ifIdle && ch.uses > 0 || e.ifCurrent != nil && (e.ifCurrent != ch.current || e.ifCurrent.stopped() != nil) {
		ch.mu.Unlock()
		return false
	}
	ch.ended = e.cause
	calls := ch.calls
	ch.calls = make(map[int64]*Call)
	for s := range ch.members {
		clear(s.calls) // they end with the channel and its cause
	}
	if ch.idle != nil {
		ch.idle.Stop()
	}
	open := make([]*connection, 0, len(ch.connections))
	for l := range ch.connections {
		if l.closed == nil {
			l.closed = e.cause
			open = append(open, l)
		}
	}
	nothing := len(ch.connections) == 0
	ch.mu.Unlock()

	close(ch.done)
	ch.slot.end()
	ch.bridge.gone(ch, e.failed, time.Since(ch.born))
	for _, l := range open {
		l.hangUp()
	}
	for _, c := range calls {
		c.queue.close(e.cause)
	}
	ch.handshake.fail(e.cause)
	ch.probe.finish(false, e.cause)
	if nothing {
		ch.slot.release()
	}
	return true
}

// notify sends a message that no answer follows.
func (ch *channel) notify(message []byte) error {
	l, err := ch.use()
	if err != nil {
		return err
	}
	defer l.done()
	return l.send(message)
}

// use counts a user of the connection for everything new. It is open until l.done.
func (ch *channel) use() (*connection, error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.ended != nil {
		return nil, unsent(ch.ended)
	}
	if err := ch.current.stopped(); err != nil {
		return nil, unsent(err)
	}
	ch.current.users++
	return ch.current, nil
}

// confirm sends the server the notification "initialized", unless it has got one.
func (ch *channel) confirm(message []byte) error {
	ch.mu.Lock()
	if ch.handshake.confirmed || ch.ended != nil {
		defer ch.mu.Unlock()
		return unsent(ch.ended)
	}
	ch.handshake.confirmed = true
	l := ch.current
	if l.stopped() != nil {
		ch.mu.Unlock()
		return nil // the next server is told
	}
	l.users++
	ch.mu.Unlock()
	defer l.done()
	return l.send(message)
}
