package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/credentials"
)

// dialTimeout bounds the start of a connection.
const dialTimeout = 30 * time.Second

// connection is one [Conn] of a channel: a child process, or a stream of events. It lives
// with the credentials that it was started with. Before those end, another connection takes
// its place in the channel, and it goes on for the requests that are in flight on it.
type connection struct {
	channel     *channel
	credentials Credentials     // nil if the server has none
	number      int             // in the channel, from 0 on
	ready       <-chan struct{} // closed when the server is known to work
	gone        chan struct{}   // closed when nothing of it is left

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	release func() // of the credentials; nil without any
	leaving sync.Once

	// Guarded by channel.mu.
	conn     Conn  // nil until it is made
	closed   error // why; nil while it goes on
	expired  error // its credentials have come to their end: it goes on for a moment, for what is in flight
	replaced bool  // another connection has taken its place
	lost     bool  // its credentials were taken away
	users    int   // requests in flight on it, and messages under way to it
	asked    int   // requests of the server so far
	requests map[string]*serverRequest
}

// Killer is a [Conn] whose server is given no time to end where its credentials were taken
// away.
type Killer interface{ Kill() }

// addConnection adds a connection that is yet to be made. The channel is new, or ch.mu is
// held.
func (ch *channel) addConnection(c Credentials, ready <-chan struct{}) *connection {
	l := &connection{
		channel: ch, credentials: c, number: ch.made, ready: ready, gone: make(chan struct{}),
		requests: make(map[string]*serverRequest),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	ch.made++
	ch.connections[l] = struct{}{}
	return l
}

// dial makes the connection. After an error it has ended, but not the channel for that reason.
func (l *connection) dial() error {
	ch := l.channel
	conn, err := l.connect()
	if err != nil {
		l.end(err)
		l.leave()
	}
	ch.mu.Lock()
	l.conn = conn
	closed := l.closed
	ch.mu.Unlock()
	if closed != nil && conn != nil {
		l.hangUp()
	}
	return closed
}

// connect dials with the connection's credentials, which it holds until the connection is
// gone.
func (l *connection) connect() (Conn, error) {
	if l.credentials != nil {
		release, err := l.credentials.Hold()
		if err != nil {
			return nil, &credentialsError{cause: err}
		}
		l.release = release
		go l.watch()
	}
	ctx, cancel := context.WithTimeout(l.ctx, dialTimeout)
	defer cancel()
	conn, err := l.channel.bridge.Dial(ctx, l.credentials, l)
	if err != nil {
		if l.ctx.Err() == nil {
			l.channel.bridge.Log.Error("cannot start the server", "error", err)
		}
		return nil, &startError{err}
	}
	return conn, nil
}

// Gone is the end of the connection. The channel's slot is free only when all its
// connections are gone.
func (l *connection) Gone(err error) {
	l.fail(&goneError{err})
	l.leave()
}

// leave notes that nothing of the connection is left.
func (l *connection) leave() {
	l.leaving.Do(func() {
		l.cancel()
		close(l.gone)
		if l.release != nil {
			l.release()
		}
		ch := l.channel
		ch.mu.Lock()
		delete(ch.connections, l)
		last := ch.ended != nil && len(ch.connections) == 0
		ch.mu.Unlock()
		if last {
			ch.slot.release()
		}
	})
}

// fail ends a connection that has failed, and with it the channel unless another
// connection has taken its place, or it has not taken that of another yet.
func (l *connection) fail(cause error) {
	failed := !errors.Is(cause, ErrCredentials)
	if !l.channel.close(ending{cause: cause, failed: failed, ifCurrent: l}) {
		l.end(cause)
	}
}

// end ends the connection alone, with the requests in flight on it. The first cause
// counts.
func (l *connection) end(cause error) {
	ch := l.channel
	var calls []*Call
	ch.mu.Lock()
	if l.closed != nil {
		ch.mu.Unlock()
		return
	}
	l.closed = cause
	for _, c := range ch.calls {
		if c.connection == l {
			ch.drop(c)
			calls = append(calls, c)
		}
	}
	for _, r := range l.requests {
		ch.dropRequest(r)
	}
	ch.mu.Unlock()
	l.hangUp()
	for _, c := range calls {
		c.queue.close(cause)
	}
}

// hangUp has the server end. The connection is closed.
func (l *connection) hangUp() {
	l.cancel()
	l.channel.mu.Lock()
	conn, lost := l.conn, l.lost
	l.channel.mu.Unlock()
	if conn == nil {
		return // dial comes back to it
	}
	if killer, ok := conn.(Killer); ok && lost {
		killer.Kill()
		return
	}
	conn.Close()
}

// isOver reports whether the connection is of no more use: nothing new goes over it, and it
// has nothing left to do. channel.mu is held.
func (l *connection) isOver() bool {
	return (l.replaced || l.expired != nil) && l.users == 0 && l.closed == nil
}

// stopped says why nothing new may go over the connection; nil: it may. channel.mu is held.
func (l *connection) stopped() error {
	if l.expired != nil {
		return l.expired
	}
	return l.closed
}

// done undoes use.
func (l *connection) done() {
	l.channel.mu.Lock()
	l.users--
	over := l.isOver()
	l.channel.mu.Unlock()
	if over {
		l.end(ErrClosed)
	}
}

// send writes one message to the server. The connection is in use until it is written: the
// answer may come before.
func (l *connection) send(message []byte) error {
	l.channel.mu.Lock()
	conn, closed := l.conn, l.closed
	if closed == nil {
		l.users++
	}
	l.channel.mu.Unlock()
	if closed != nil {
		return unsent(closed)
	}
	defer l.done()
	err := conn.Send(message)
	if err == nil {
		return nil
	}
	l.fail(&goneError{err})
	l.channel.mu.Lock()
	defer l.channel.mu.Unlock()
	return l.closed // where it was closed meanwhile, that is the cause
}

// reply answers a request of the server in the bridge's own name. The connection's
// reader calls it, and must not wait until the server reads.
func (l *connection) reply(message []byte) {
	select {
	case l.channel.replies <- struct{}{}:
		go func() {
			defer func() { <-l.channel.replies }()
			_ = l.send(message) // an error has ended the connection
		}()
	default:
	}
}

// ask sends the server a request of the bridge's own, and returns the answer.
func (l *connection) ask(ctx context.Context, request func(id []byte) []byte) (Item, error) {
	c := &Call{channel: l.channel, connection: l, queue: newQueue()}
	if err := l.channel.register(c, nil); err != nil {
		return Item{}, err
	}
	defer l.channel.forget(c)
	if err := l.send(request(idText(c.id))); err != nil {
		return Item{}, err
	}
	item, err := c.Next(ctx)
	for err == nil && !item.Final {
		item, err = c.Next(ctx)
	}
	return item, err
}

// watch acts when the credentials of the connection end, or when others are there, until
// the connection is gone.
func (l *connection) watch() {
	superseded := l.credentials.Superseded()
	for {
		select {
		case <-l.credentials.Ended():
			l.lose(l.credentials.Cause())
			return
		case <-superseded:
			superseded = nil
			go l.succeed()
		case <-l.gone:
			return
		}
	}
}

// lose ends a connection whose credentials have ended. If they were taken away, the server
// is killed, even if it is about to end. If not, sessions go on.
func (l *connection) lose(cause error) {
	l.channel.mu.Lock()
	l.lost = errors.Is(cause, credentials.ErrLost)
	ending := l.closed != nil
	l.channel.mu.Unlock()
	if err := (&credentialsError{cause: cause}); l.channel.outlives(l, cause) {
		l.expire(err)
	} else {
		l.fail(err)
	}
	if ending {
		l.hangUp()
	}
}
