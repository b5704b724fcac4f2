package bridge

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// dialTimeout bounds the making of a channel.
	dialTimeout = 30 * time.Second

	// maxCalls bounds the requests in flight on one channel.
	maxCalls = 1024

	// maxReplies bounds the answers that the bridge itself is sending on one
	// channel, to a server that asks without reading.
	maxReplies = 16
)

// peer is one channel, and what is under way on it.
type peer struct {
	bridge *Bridge
	key    peerKey
	slot   *slot

	accessors set // of the tokens it was used with; guarded by bridge.mu

	started  chan struct{} // closed when conn or startErr is set
	startErr error
	born     time.Time

	mu      sync.Mutex
	conn    Conn
	ended   error // why; nil while it goes on
	lastID  int64
	calls   map[int64]*Call
	members map[*Session]struct{}
	asked   map[string]*Session // requests of the server, by their ids
	uses    int                 // HTTP requests that hold it
	unused  time.Time           // since when there are none
	idle    *time.Timer
	replies chan struct{}

	hello handshake
	probe era
}

func newPeer(b *Bridge, key peerKey, s *slot) *peer {
	p := &peer{
		bridge:    b,
		key:       key,
		slot:      s,
		accessors: make(set),
		started:   make(chan struct{}),
		born:      time.Now(),
		calls:     make(map[int64]*Call),
		members:   make(map[*Session]struct{}),
		asked:     make(map[string]*Session),
		replies:   make(chan struct{}, maxReplies),
	}
	p.hello.done = make(chan struct{})
	p.probe.done = make(chan struct{})
	return p
}

// start makes the channel.
func (p *peer) start() {
	defer close(p.started)
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := p.bridge.Dial(ctx, p)
	if err != nil {
		p.bridge.Log.Error("cannot start the server", "error", err)
		p.startErr = &startError{err}
		p.finish(p.startErr, true)
		p.slot.release()
		return
	}
	p.mu.Lock()
	p.conn = conn
	ended := p.ended
	p.mu.Unlock()
	if ended != nil {
		p.startErr = ended
		conn.Close()
	}
}

// startError is an [ErrStart] with its cause.
type startError struct{ err error }

func (e *startError) Error() string   { return ErrStart.Error() + ": " + e.err.Error() }
func (e *startError) Unwrap() []error { return []error{ErrStart, e.err} }

// join has the session be one of the channel's.
func (p *peer) join(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members[s] = struct{}{}
}

// alone reports whether the channel has no session.
func (p *peer) alone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.members) == 0
}

// sessions are those of the channel.
func (p *peer) sessions() []*Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*Session, 0, len(p.members))
	for s := range p.members {
		list = append(list, s)
	}
	return list
}

// acquire counts an HTTP request that uses the channel. It is to be undone even if
// it reports that the channel has ended.
func (p *peer) acquire() (goesOn bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses++
	if p.idle != nil {
		p.idle.Stop()
	}
	return p.ended == nil
}

// release undoes acquire.
func (p *peer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses--
	if p.uses > 0 || p.ended != nil {
		return
	}
	p.unused = time.Now()
	if p.bridge.IdleTimeout <= 0 {
		return
	}
	if p.idle == nil {
		p.idle = time.AfterFunc(p.bridge.IdleTimeout, p.expire)
	} else {
		p.idle.Reset(p.bridge.IdleTimeout)
	}
}

// expire ends a channel that is not used any more.
func (p *peer) expire() {
	if since, idle := p.idleSince(); idle && time.Since(since) >= p.bridge.IdleTimeout {
		p.end(ErrClosed)
	}
}

// idleSince tells since when nobody uses the channel.
func (p *peer) idleSince() (since time.Time, idle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unused, p.uses == 0
}

// end closes the channel.
func (p *peer) end(cause error) { p.finish(cause, false) }

// endIdle closes a channel that nobody uses, and reports whether that is so.
func (p *peer) endIdle() bool { return p.close(ErrClosed, false, true) }

// Gone is called by the channel when it has ended. Only now it counts no more.
func (p *peer) Gone(err error) {
	p.finish(&goneError{err}, true)
	p.slot.release()
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

// finish ends everything that is under way on the channel. The first cause
// counts. failed tells that the channel ended by itself.
func (p *peer) finish(cause error, failed bool) { p.close(cause, failed, false) }

// close is finish, unless the channel is to be idle and is not. Then it is false.
func (p *peer) close(cause error, failed, idle bool) bool {
	p.mu.Lock()
	if p.ended != nil || idle && p.uses > 0 {
		defer p.mu.Unlock()
		return p.ended != nil
	}
	p.ended = cause
	conn, calls := p.conn, p.calls
	p.calls = make(map[int64]*Call)
	for s := range p.members {
		clear(s.calls) // which end with the channel, for its cause
	}
	if p.idle != nil {
		p.idle.Stop()
	}
	p.mu.Unlock()

	p.slot.end()
	p.bridge.gone(p, failed, time.Since(p.born))
	for _, c := range calls {
		c.queue.close(cause)
	}
	p.hello.fail(cause)
	p.probe.finish(false, cause)
	if conn != nil {
		conn.Close()
	}
	return true
}

// send writes one message to the server.
func (p *peer) send(message []byte) error {
	p.mu.Lock()
	conn, ended := p.conn, p.ended
	p.mu.Unlock()
	if ended != nil {
		return ended
	}
	if err := conn.Send(message); err != nil {
		p.finish(&goneError{err}, true)
		return &goneError{err}
	}
	return nil
}

// reply answers a request of the server in the bridge's own name. It is called
// by the reader, which must not wait for the server to read.
func (p *peer) reply(message []byte) {
	select {
	case p.replies <- struct{}{}:
		go func() {
			defer func() { <-p.replies }()
			_ = p.send(message) // an error has ended the channel
		}()
	default:
	}
}

// register gives the request an id of its own.
func (p *peer) register(c *Call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return p.ended
	}
	if len(p.calls) >= maxCalls {
		return ErrBusy
	}
	if c.session != nil {
		if c.session.over != nil {
			return c.session.over
		}
		id := string(c.clientID)
		if c.session.calls[id] != nil {
			return ErrDuplicate
		}
		c.session.calls[id] = c
	}
	p.lastID++
	c.id = p.lastID
	p.calls[c.id] = c
	return nil
}

// crowded reports whether requests that nobody waits for are in the way.
func (p *peer) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bridge.Shared || len(p.calls) > maxCalls/2
}

// forget takes the request off the channel: what comes for it is dropped.
func (p *peer) forget(c *Call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c.id)
	if c.session != nil && c.session.calls[string(c.clientID)] == c {
		delete(c.session.calls, string(c.clientID))
	}
}

// callOf returns the request in flight whose id the bytes are.
func (p *peer) callOf(raw []byte) *Call {
	// Some servers answer to a number with a string, or with a fraction of zero.
	text := strings.TrimSuffix(strings.Trim(string(raw), `"`), ".0")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[id]
}
