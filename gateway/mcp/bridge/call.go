package bridge

import (
	"context"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// maxCalls bounds the requests in flight on one channel.
const maxCalls = 1024

// Call is a request in flight.
type Call struct {
	channel    *channel
	connection *connection // over which it goes; nil where the bridge answers it
	session    *Session    // nil in the stateless era
	queue      *queue

	id       int64  // on the channel
	clientID []byte // as in the request
	token    []byte // the client's progress token, as in the request; nil if none

	streams     bool                             // the client takes messages before the answer
	listen      bool                             // it is subscriptions/listen
	onHandshake func([]byte, *envelope.Envelope) // takes the answer if the request is the channel's handshake; else nil
	done        bool                             // the client has the answer; only its goroutine uses this
}

// Incoming is a message from a client.
type Incoming struct {
	Envelope *envelope.Envelope
	Message  []byte
	// Streams: the client accepts a stream of messages as the answer.
	Streams bool
}

func newCall(ch *channel, s *Session, in Incoming) *Call {
	c := &Call{
		channel:  ch,
		session:  s,
		queue:    newQueue(),
		clientID: clone(in.Envelope.ID.Of(in.Message)),
		streams:  in.Streams,
		listen:   s == nil && in.Envelope.Method == protocol.MethodListen,
	}
	if t := in.Envelope.MetaProgressToken; !t.None() {
		c.token = clone(t.Of(in.Message))
	}
	return c
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// callInSession is call, in a session, whose channel may be dormant.
func (ch *channel) callInSession(ctx context.Context, s *Session, in Incoming) (c *Call, err error) {
	err = ch.withConnection(ctx, func() (err error) {
		c, err = ch.call(s, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// call sends the request with a new id.
func (ch *channel) call(s *Session, in Incoming) (*Call, error) {
	c := newCall(ch, s, in)
	if err := ch.register(c, &in); err != nil {
		return nil, err
	}
	return c, c.send(in)
}

func (c *Call) send(in Incoming) error {
	if err := c.connection.send(in.withID(idText(c.id))); err != nil {
		c.channel.forget(c)
		if c.queue.holds() {
			return nil // the server has got it, and says so itself
		}
		return err
	}
	return nil
}

// Next waits for the next message that belongs to the request. None follows the
// final one. The error is that of ctx, [ErrGone], [ErrSlow], or [ErrClosed].
func (c *Call) Next(ctx context.Context) (Item, error) {
	item, err := c.queue.next(ctx)
	c.done = err == nil && item.Final
	return item, err
}

// Close ends the wait. A request without an answer continues, and its answer is
// dropped. Close cancels it if cancel is set, and on a channel that is shared or has
// many such requests.
func (c *Call) Close(cancel bool) {
	defer c.release()
	c.queue.close(ErrClosed)
	if c.done || !cancel && !c.channel.crowded() {
		return
	}
	if !c.channel.withdraw(c) {
		return
	}
	defer c.connection.done()
	_ = c.connection.send(cancelled(c.id)) // an error has ended the connection
}

// withdraw takes a request off the channel if it is in flight, and reports whether it was.
// Its connection is open until done, so that the server can be told.
func (ch *channel) withdraw(c *Call) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.calls[c.id] != c {
		return false
	}
	ch.drop(c)
	c.connection.users++
	return true
}

// release ends the request's use of its session, or of its channel.
func (c *Call) release() {
	if c.session != nil {
		c.session.Release()
	} else {
		c.channel.release()
	}
}

// cancelled is the notification that cancels a request on the channel.
func cancelled(id int64) []byte {
	return protocol.Cancelled(idText(id))
}

// register gives the request a new id on the channel. It goes over the connection that
// it names, or else over that for everything new.
func (ch *channel) register(c *Call, in *Incoming) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.ended != nil {
		return unsent(ch.ended)
	}
	if c.connection == nil {
		c.connection = ch.current
	}
	if err := c.connection.stopped(); err != nil {
		return unsent(err)
	}
	if len(ch.calls) >= maxCalls {
		return ErrBusy
	}
	if s := c.session; s != nil {
		if s.ended != nil {
			return s.ended
		}
		id := string(c.clientID)
		if s.calls[id] != nil {
			return ErrDuplicate
		}
		s.calls[id] = c
		s.note(in)
	}
	ch.lastID++
	c.id = ch.lastID
	if c.clientID == nil {
		c.clientID = idText(c.id) // it is the bridge's own
	}
	ch.calls[c.id] = c
	c.connection.users++
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
	ch.drop(c)
	over := c.connection.isOver()
	ch.mu.Unlock()
	if over {
		c.connection.end(ErrClosed)
	}
}

// drop is forget under the lock. The caller ends the connection if that is over.
func (ch *channel) drop(c *Call) {
	if ch.calls[c.id] == c {
		delete(ch.calls, c.id)
		c.connection.users--
	}
	if c.session != nil && c.session.calls[string(c.clientID)] == c {
		delete(c.session.calls, string(c.clientID))
	}
}

// callOf returns the request in flight with this id on the connection.
func (l *connection) callOf(raw []byte) *Call {
	// Some servers return a number as a string, or with the fraction .0.
	text := strings.TrimSuffix(strings.Trim(string(raw), `"`), ".0")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	l.channel.mu.Lock()
	defer l.channel.mu.Unlock()
	if c := l.channel.calls[id]; c != nil && c.connection == l {
		return c
	}
	return nil
}
