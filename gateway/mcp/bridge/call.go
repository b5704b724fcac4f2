package bridge

import (
	"context"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Call is a request in flight.
type Call struct {
	peer    *peer
	session *Session // nil without sessions
	queue   *queue

	id       int64  // on the channel
	clientID []byte // as it stood in the request
	token    []byte // the client's progress token, likewise; nil if none

	streams bool                             // the client takes messages before the answer
	listen  bool                             // it is subscriptions/listen
	hello   func([]byte, *envelope.Envelope) // takes the answer to the channel's handshake; nil if it is none
	done    bool                             // the answer was taken; of its goroutine
}

// Incoming is a message from a client.
type Incoming struct {
	Envelope *envelope.Envelope
	Message  []byte
	// Streams: the client takes a stream of messages for an answer.
	Streams bool
}

func newCall(p *peer, s *Session, in Incoming) *Call {
	c := &Call{
		peer:     p,
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

// call sends the request, under an id of its own.
func (p *peer) call(s *Session, in Incoming) (*Call, error) {
	c := newCall(p, s, in)
	if err := p.register(c); err != nil {
		return nil, err
	}
	return c, c.send(in)
}

func (c *Call) send(in Incoming) error {
	id := strconv.AppendInt(nil, c.id, 10)
	message := envelope.Replace(make([]byte, 0, len(in.Message)+16), in.Message,
		envelope.Part{Span: in.Envelope.ID, Text: id},
		envelope.Part{Span: in.Envelope.MetaProgressToken, Text: id})
	if err := c.peer.send(message); err != nil {
		c.peer.forget(c)
		return err
	}
	return nil
}

// Next waits for the next message that belongs to the request. After the final
// one there are no more. The error is that of ctx, [ErrGone], [ErrSlow], or
// [ErrClosed].
func (c *Call) Next(ctx context.Context) (Item, error) {
	item, err := c.queue.take(ctx)
	c.done = err == nil && item.Final
	return item, err
}

// Close ends the waiting. If the answer has not come, the request goes on, and
// its answer is dropped; with cancel it is cancelled. So is one on a channel
// that others need too, or that has many of the kind.
func (c *Call) Close(cancel bool) {
	defer c.release()
	c.queue.close(ErrClosed)
	if c.done || !cancel && !c.peer.crowded() {
		return
	}
	if c.peer.callOf(strconv.AppendInt(nil, c.id, 10)) != c {
		return
	}
	c.peer.forget(c)
	_ = c.peer.send(cancelled(c.id)) // an error has ended the channel
}

// release ends the use of what the request is on.
func (c *Call) release() {
	if c.session != nil {
		c.session.Release()
	} else {
		c.peer.release()
	}
}

// cancelled is the notification that cancels a request on the channel.
func cancelled(id int64) []byte {
	return protocol.Cancelled(idText(id))
}
