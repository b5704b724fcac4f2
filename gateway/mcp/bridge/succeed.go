package bridge

import (
	"bytes"
	"context"
	"errors"
	"time"

	retry "vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// succession is the time between attempts to start a connection's successor.
var succession = retry.Backoff{Min: time.Second, Max: 15 * time.Second}

var (
	errOtherVersion = errors.New("the server answers the handshake with another version of the protocol than before")
	errOtherEra     = errors.New("the server does not know the era without sessions any more")
)

// succeed has a connection with newer credentials take this one's place. If it cannot be
// started, this one goes on, and succeed tries again as long as it does.
func (l *connection) succeed() {
	ch := l.channel
	select {
	case <-l.ready:
	case <-l.gone:
		return
	case <-ch.done:
		return
	}
	for failures := 0; ch.goesOnWith(l); {
		next := newest(l.credentials)
		r := ch.replaceWith(next)
		<-r.done
		switch {
		case !ch.goesOnWith(l):
			return
		case r.err == nil:
			continue // it was that by which this one took its predecessor's place
		}
		failures++
		ch.bridge.Log.Warn("cannot start the server with its new credentials: the one with the former goes on", "error", r.err)
		timer := time.NewTimer(succession.After(failures))
		select {
		case <-timer.C:
		case <-next.Superseded():
		case <-ch.done:
		}
		timer.Stop()
	}
}

// goesOnWith reports whether the channel goes on, and everything new goes over l.
func (ch *channel) goesOnWith(l *connection) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.ended == nil && ch.current == l && l.stopped() == nil
}

// replace makes a connection with the credentials, and puts it in the current one's place.
// It counts in no bound of the pool: it comes for one that is there.
func (ch *channel) replace(c Credentials) error {
	ready := make(chan struct{})
	ch.mu.Lock()
	if ch.ended != nil {
		defer ch.mu.Unlock()
		return ch.ended
	}
	l := ch.addConnection(c, ready)
	ch.mu.Unlock()
	err := l.dial()
	if err == nil {
		err = l.verify()
	}
	if err == nil {
		err = l.takeOver()
	}
	if err != nil {
		l.end(err)
		return err
	}
	close(ready)
	return nil
}

// verify makes sure that the server works, as the first connection's did: it answers the
// client's own handshake, or knows the era without sessions.
func (l *connection) verify() error {
	ch := l.channel
	if ch.key.handshake == noHandshake {
		stateless, _, err := l.probe()
		if err == nil && !stateless {
			err = errOtherEra
		}
		return err
	}
	if ch.handshake.err != nil {
		return ch.handshake.err // it could not be sent
	}
	ctx, cancel := l.ctx, context.CancelFunc(func() {})
	if after := ch.bridge.HandshakeTimeout; after > 0 {
		ctx, cancel = context.WithTimeout(ctx, after)
	}
	defer cancel()
	item, err := l.ask(ctx, ch.handshake.request.withID)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errNoHandshake
	case err != nil:
		return err
	case item.Failed:
		return ErrRefused
	}
	if version := versionIn(item.Message); !bytes.Equal(version.Of(item.Message), ch.handshake.version.Of(ch.handshake.answer)) {
		return errOtherVersion
	}
	return nil
}

// told is what a connection's server has been told about the sessions.
type told struct {
	initialized bool
	level       *Incoming
	subscribed  set
}

// takeOver tells the server what the current one knows of the sessions, and puts the
// connection in its place. Nobody waits for the answers, which are dropped.
func (l *connection) takeOver() error {
	t := &told{subscribed: make(set)}
	for {
		missing, err := l.tryTakeOver(t)
		if err != nil || len(missing) == 0 {
			return err
		}
		for _, message := range missing {
			if err := l.send(message); err != nil {
				return err
			}
		}
	}
}

// tryTakeOver puts the connection in the current one's place, unless messages are missing
// that its server has to get first.
func (l *connection) tryTakeOver(t *told) (missing [][]byte, err error) {
	ch := l.channel
	ch.mu.Lock()
	switch {
	case l.closed != nil:
		err = l.closed
	default:
		missing = ch.missing(t)
	}
	if err != nil || len(missing) > 0 {
		ch.mu.Unlock()
		return missing, err
	}
	old := ch.current
	ch.current, old.replaced = l, true
	ch.latest = l.credentials // so that those before, with all that came after them, are not kept
	listening := ch.endListening(old)
	over := old.isOver()
	ch.mu.Unlock()
	if over {
		old.end(ErrClosed)
		return nil, nil
	}
	for _, c := range listening {
		_ = old.send(cancelled(c.id)) // an error has ended the connection
	}
	return nil, nil
}

// missing returns the messages without which a server does not know what the current one
// does. ch.mu is held.
func (ch *channel) missing(t *told) [][]byte {
	var messages [][]byte
	request := func(method string, uri string) {
		messages = append(messages, protocol.Request(ch.nextID(), method, protocol.Object(protocol.Member("uri", []byte(uri)))))
	}
	if ch.handshake.confirmed && !t.initialized {
		t.initialized = true
		messages = append(messages, protocol.Notification(protocol.MethodInitialized, nil))
	}
	if ch.level != t.level {
		t.level = ch.level
		messages = append(messages, ch.level.withID(ch.nextID()))
	}
	wanted := make(set)
	for s := range ch.members {
		for uri := range s.subscribed {
			wanted.add(uri)
		}
	}
	for uri := range wanted {
		if _, found := t.subscribed[uri]; !found {
			t.subscribed.add(uri)
			request(protocol.MethodSubscribe, uri)
		}
	}
	for uri := range t.subscribed {
		if _, found := wanted[uri]; !found {
			t.subscribed.remove(uri)
			request(protocol.MethodUnsubscribe, uri)
		}
	}
	return messages
}

// nextID is the id of a request whose answer is dropped. ch.mu is held.
func (ch *channel) nextID() []byte {
	ch.lastID++
	return idText(ch.lastID)
}

// endListening ends the connection's subscriptions in the stateless era, in good order, so
// that clients open them again. ch.mu is held.
func (ch *channel) endListening(l *connection) []*Call {
	var ended []*Call
	for _, c := range ch.calls {
		if c.listen && c.connection == l {
			ch.drop(c)
			c.queue.close(ErrClosed)
			ended = append(ended, c)
		}
	}
	return ended
}

// clone returns a copy that outlives the request.
func (in *Incoming) clone() *Incoming {
	e := *in.Envelope
	return &Incoming{Envelope: &e, Message: clone(in.Message), Streams: in.Streams}
}

// withID returns the message with another id, which is also its progress token if it has
// one.
func (in *Incoming) withID(id []byte) []byte {
	return envelope.Replace(make([]byte, 0, len(in.Message)+16), in.Message,
		envelope.Part{Span: in.Envelope.ID, Text: id},
		envelope.Part{Span: in.Envelope.MetaProgressToken, Text: id})
}
